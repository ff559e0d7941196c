"""Audit each arm for shortcuts and compare the arms; the verdict in one sentence."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from stages.harmonization import cohort, estimates, figures, nifti, views
from stages.harmonization.estimates import Estimate
from stages.harmonization.intensity import find_scale
from stages.harmonization.metadata import geometry_strata
from stages.harmonization.placement import place_stretched, resample
from stages.harmonization.shortcuts import ArmData, Evidence, audit_arm, judge
from stages.harmonization.tables import Row, read_table, scan_key, write_table

logger = logging.getLogger(__name__)
SEVERITY = ("PASS", "WARN", "FAIL")


def run(
    *,
    images: list[str],
    masks: list[str],
    greys: list[str],
    registered: list[str],
    table: str,
    plan: str,
    verdict: str,
    metrics: str,
    equivalence: str,
    figure: str,
    arm: list[str],
    audit_images: int,
    audit_grid: int,
    audit_folds: int,
    audit_epochs: int,
    margin: float,
    seed: int,
) -> None:
    """Write verdict, evidence, comparison of arms and figure."""
    todo = json.loads(Path(plan).read_text())
    rows = read_table(table)
    classes = sorted({row["class"] for row in rows if row["class"] != "n/a"})
    files = {
        "image": {Path(path).name: path for path in images},
        "mask": {scan_key(path): path for path in masks},
        "grey": {scan_key(path): path for path in greys},
        "registered": {scan_key(path): path for path in registered},
    }
    found: dict[str, Evidence] = {}
    for name in arm:
        members = _draw_members(rows, name, audit_images, seed)
        data = _load_arm(members, classes, name, todo, files, audit_grid, seed)
        found[name] = audit_arm(data, folds=audit_folds, epochs=audit_epochs, seed=seed)
        logger.info("%s: %s", name, judge(found[name])[0])

    judged = {name: judge(evidence) for name, evidence in found.items()}
    is_synthetic = all(row["provenance"] == "synthetic" for row in rows)
    report = {
        "Headline": _headline(judged),
        "Provenance": "synthetic" if is_synthetic else "real",
        "Classes": classes,
        "Arms": {
            name: {
                "Verdict": judged[name][0],
                "Reason": judged[name][1],
                **{k: v for k, v in asdict(evidence).items() if k != "right"},
            }
            for name, evidence in found.items()
        },
    }
    Path(verdict).write_text(json.dumps(report, indent=2) + "\n")
    write_table(metrics, [row for name in arm for row in _tell(name, found[name], judged[name][0])])
    write_table(equivalence, _compare(found, rows, margin, seed))
    drawn = {
        name: {
            "metadata": e.metadata,
            "size": e.size,
            "field of view": e.support,
            "image": e.image,
            "as many, any geometry": e.matched,
            "one geometry": e.constant,
        }
        for name, e in found.items()
    }
    title = f"Shortcut audit, {' vs '.join(classes)}{' (synthetic data)' if is_synthetic else ''}"
    verdicts = {name: word for name, (word, _) in judged.items()}
    flips = {name: evidence.flips for name, evidence in found.items()}
    figures.draw_audit(drawn, verdicts, flips, 1 / len(classes), title, Path(figure))


def _draw_members(rows: Sequence[Row], arm: str, most: int, seed: int) -> list[Row]:
    """Take one scan per participant of an arm's cohort, at most so many, classes in proportion.

    Raises
    ------
    ValueError
        The fingerprint does not know the arm, or the arm is empty.
    """
    first: dict[str, Row] = {}
    for row in rows:
        if f"cohort_{arm}" not in row:
            raise ValueError(f"the fingerprint has no arm {arm!r}; run fingerprint with it")
        if row[f"cohort_{arm}"] == "yes":
            first.setdefault(row["participant_id"], row)
    members = list(first.values())
    if not members:
        raise ValueError(f"nobody was drawn into arm {arm!r}")
    if len(members) <= most:
        return members
    labels = [row["class"] for row in members]
    share = {name: round(most * labels.count(name) / len(labels)) for name in set(labels)}
    rng = np.random.default_rng(seed)
    return [members[i] for i in cohort.draw_per_class(labels, share, rng, pool=arm)]


def _load_arm(
    members: Sequence[Row],
    classes: Sequence[str],
    arm: str,
    plan: Mapping[str, Any],
    files: Mapping[str, Mapping[str, str]],
    grid: int,
    seed: int,
) -> ArmData:
    """Read the members' images and pool them to cubes as they look in the arm."""
    shapes = [tuple(int(row[f"shape_{a}"]) for a in "xyz") for row in members]
    others = _choose_others(shapes, np.random.default_rng(seed))
    seen = []
    for row, other in zip(members, others, strict=True):
        key = scan_key(row["filename"])
        try:
            seen.append(_load_views(row, key, arm, plan, files, grid, other))
        except ValueError as error:
            raise ValueError(f"{row['filename']}: {error}") from error
    grids = [
        "x".join([*map(str, s), row["zoom_x"]]) for s, row in zip(shapes, members, strict=True)
    ]
    is_swapped = all(view.swapped is not None for view in seen)
    return ArmData(
        people=[row["participant_id"] for row in members],
        labels=np.array([classes.index(row["class"]) for row in members], dtype=np.intp),
        rows=list(members),
        strata=geometry_strata(grids, [float(row["n_slices"]) for row in members]),
        images=np.stack([view.image for view in seen]),
        supports=np.stack([view.support for view in seen]),
        swapped=np.stack([v.swapped for v in seen if v.swapped is not None])
        if is_swapped
        else None,
        shifted=np.stack([v.shifted for v in seen if v.shifted is not None])
        if is_swapped
        else None,
    )


def _load_views(
    row: Row,
    key: str,
    arm: str,
    plan: Mapping[str, Any],
    files: Mapping[str, Mapping[str, str]],
    grid: int,
    other: tuple[int, ...] | None,
) -> views.Views:
    volume = nifti.load(files["image"][row["filename"]])
    inside = nifti.load(files["mask"][key]).data > 0
    scale = find_scale(volume.data[inside], plan["Intensity"])
    geometry, target = views.read_target(plan, arm)
    if geometry == "template":
        if key not in files["registered"]:
            raise FileNotFoundError(
                f"{row['filename']}: no image on the template's grid; arm template needs it"
            )
        data = scale(nifti.load(files["registered"][key]).data)
        to_cube = place_stretched(data.shape, [grid] * 3)
        cube = resample(data, [a.weights(n) for a, n in zip(to_cube, data.shape, strict=True)])
        return views.Views(cube, np.ones_like(cube), None, None)
    grey = nifti.load(files["grey"][key]).data if key in files["grey"] else None
    return views.render_views(
        views.keep_content(volume.data, inside, grey, str(plan["Content"])),
        views.describe(volume, inside),
        geometry,
        target,
        scale,
        grid=grid,
        slice_axis=int(plan["SliceAxis"]),
        other=None if geometry == "native" else other,
    )


def _choose_others(
    shapes: Sequence[tuple[int, ...]], rng: np.random.Generator
) -> list[tuple[int, ...] | None]:
    """Choose for each scan the field of view of another scan; None where all have the same."""
    kinds = sorted(set(shapes))
    if len(kinds) == 1:
        return [None] * len(shapes)
    return [
        [kind for kind in kinds if kind != shape][int(rng.integers(len(kinds) - 1))]
        for shape in shapes
    ]


def _headline(judged: Mapping[str, tuple[str, str]]) -> str:
    """Put the worst arm's verdict and reason first, then how the others stand."""
    order = sorted(judged, key=lambda name: -SEVERITY.index(judged[name][0]))
    worst = order[0]
    rest = "; ".join(f"{name} {judged[name][0]}" for name in order[1:])
    return f"{judged[worst][0]} for arm {worst}: {judged[worst][1]}.{f' {rest}.' if rest else ''}"


def _tell(arm: str, evidence: Evidence, verdict: str) -> list[dict[str, Any]]:
    """Give one row per quantity, each with its interval, n and the majority class's share."""
    rows = []
    for item, value in asdict(evidence).items():
        if item in ("right", "classes", "majority"):
            continue
        found = getattr(evidence, item)
        row: dict[str, Any] = {"arm": arm, "verdict": verdict, "item": item}
        if isinstance(found, Estimate):
            row |= {"value": found.value, "ci_low": found.low, "ci_high": found.high, "n": found.n}
        else:
            row |= {"value": value, "ci_low": None, "ci_high": None, "n": len(evidence.right)}
        rows.append(row | {"majority_accuracy": evidence.majority, "chance": 1 / evidence.classes})
    return rows


def _compare(
    found: Mapping[str, Evidence], rows: Sequence[Row], margin: float, seed: int
) -> list[dict[str, Any]]:
    """Test each pair of arms for equivalence of their image networks."""
    labels = {row["participant_id"]: row["class"] for row in rows}
    table = []
    for a, b in combinations(found, 2):
        rng = np.random.default_rng(seed)
        difference, error = estimates.compare_arms(found[a].right, found[b].right, labels, rng)
        p = estimates.equivalence_p(difference, error, margin)
        table.append(
            {
                "arm_a": a,
                "arm_b": b,
                "difference": difference,
                "standard_error": error,
                "margin": margin,
                "p_equivalence": p,
                "equivalent": "yes" if p < 0.05 else "not shown",
            }
        )
    return table or [{"arm_a": next(iter(found)), "arm_b": None}]
