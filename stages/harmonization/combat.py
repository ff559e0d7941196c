"""Remove site effects from volumes, or from features the user gives, and say what came of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.harmonization.batch_effects import apply_combat, fit_combat
from stages.harmonization.metadata import encode
from stages.harmonization.splits import TEST, TRAIN
from stages.harmonization.tables import (
    Row,
    participant_of,
    read_people,
    read_table,
    write_table,
)

logger = logging.getLogger(__name__)
Array = NDArray[np.float64]
FOLDS = 5


def run(
    *,
    table: str,
    participants: str,
    scans: list[str],
    features: str | None,
    model: str,
    harmonized: str,
    metrics: str,
    label: str,
    preserve: str,
    seed: int,
) -> None:
    """Fit on training participants, apply to all; with one site or no features say so and stop."""
    people = read_people(participants)
    scanned = read_table(table)
    split = {row["participant_id"]: row["split"] for row in scanned}
    site = {row["participant_id"]: row["site"] for row in scanned}
    if features:
        values = read_people(features)
        # Features may speak of people without images here: they are nobody's test set.
        site = {name: people[name].get("site", "n/a") for name in values if name in people} | site
    else:
        values = _read_volumes(scans)
    wanted = [column.strip() for column in preserve.split(",") if column.strip()]
    covariates = [column for column in wanted if column != label]
    names = [
        name
        for name in sorted(values)
        if site.get(name, "n/a") != "n/a"
        and split.get(name, TRAIN) != "n/a"
        and all(people.get(name, {}).get(c, "n/a") != "n/a" for c in covariates)
    ]
    names, lonely = _leave_out_lonely(names, site, split)
    columns = _complete_columns(values, names)
    sites = [site[name] for name in names]
    if len(set(sites)) < 2 or len(columns) < 2:
        reason = f"{len(set(sites))} sites, {len(columns)} features: nothing to harmonize"
        logger.info(reason)
        write_table(metrics, [{"item": "sites", "value": len(set(sites)), "note": reason}])
        return
    x = np.array([[float(values[name][c]) for c in columns] for name in names])
    kept = encode([people[name] for name in names], covariates)
    train = [i for i, name in enumerate(names) if split.get(name) != TEST]
    try:
        fitted = fit_combat(x[train], [sites[i] for i in train], kept[train])
    except ValueError as error:
        raise ValueError(f"{error}; other columns: --harmonization-preserve") from error
    cleaned = apply_combat(fitted, x, sites, kept)
    Path(model).write_text(
        json.dumps({"Features": columns, "Covariates": covariates, **fitted.to_json()}, indent=1)
    )
    rows = [
        {"participant_id": name, **dict(zip(columns, map(float, row), strict=True))}
        for name, row in zip(names, cleaned, strict=True)
    ]
    write_table(harmonized, rows)
    told = [{"item": "left_out", "value": len(lonely), "note": " ".join(lonely)}] if lonely else []
    write_table(metrics, _judge(x, cleaned, sites, names, people, covariates, seed) + told)


def site_auc(features: Array, sites: Sequence[str], seed: int) -> float:
    """Measure how well a linear model tells the site from features, (n, p): cross-validated AUC.

    Of each site against the rest; NaN where a site has fewer people than folds.
    """
    if min(list(sites).count(s) for s in set(sites)) < FOLDS:
        return float("nan")
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=3000))
    cuts = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    p = cross_val_predict(classifier, features, sites, cv=cuts, method="predict_proba")
    if p.shape[1] == 2:
        return float(roc_auc_score(np.asarray(sites) == sorted(set(sites))[1], p[:, 1]))
    return float(roc_auc_score(sites, p, multi_class="ovr"))


def _judge(
    before: Array,
    after: Array,
    sites: Sequence[str],
    names: Sequence[str],
    people: Mapping[str, Row],
    covariates: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"item": "participants", "value": len(names)},
        {"item": "sites", "value": len(set(sites)), "note": " ".join(sorted(set(sites)))},
        {"item": "features", "value": before.shape[1]},
        {"item": "site_auc_before", "value": site_auc(before, sites, seed)},
        {"item": "site_auc_after", "value": site_auc(after, sites, seed)},
    ]
    for column in covariates:
        numbers = encode([people[name] for name in names], [column])[:, :1]
        for when, data in (("before", before), ("after", after)):
            r = [abs(float(np.corrcoef(numbers[:, 0], f)[0, 1])) for f in data.T]
            rows.append({"item": f"mean_abs_r_{column}_{when}", "value": float(np.mean(r))})
    return rows


def _leave_out_lonely(
    names: Sequence[str], site: Mapping[str, str], split: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Leave out people whose site has fewer than two in training: its spread cannot be told."""
    training = [site[name] for name in names if split.get(name) != TEST]
    kept = [name for name in names if training.count(site[name]) >= 2]
    lonely = [name for name in names if name not in kept]
    if lonely:
        logger.warning("left out of ComBat, alone at their site: %s", ", ".join(lonely))
    return kept, lonely


def _read_volumes(paths: Sequence[str]) -> dict[str, Row]:
    """Take the volumes of each participant's first scan."""
    found: dict[str, Row] = {}
    for path in sorted(paths):
        for row in read_table(path):
            volumes = {k: v for k, v in row.items() if k.endswith("_ml") and v != "n/a"}
            if volumes:
                found.setdefault(participant_of(row["filename"]), volumes)
    return found


def _complete_columns(values: Mapping[str, Row], names: Sequence[str]) -> list[str]:
    """List the numeric columns that everybody has and that vary."""
    columns = []
    for column in dict.fromkeys(c for name in names for c in values[name]):
        try:
            numbers = [float(values[name].get(column, "n/a")) for name in names]
        except ValueError:
            continue
        if np.isfinite(numbers).all() and np.ptp(numbers) > 0:
            columns.append(column)
    return columns
