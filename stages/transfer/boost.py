"""Step boost: learn lesions from frozen features, and judge cases that were not learnt from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.transfer import figures, provenance, splits
from stages.transfer.booster import Stumps, fit_stumps, start_weights
from stages.transfer.files import Cases, read, read_cases, write
from stages.transfer.models import load_model
from stages.transfer.rivals import fine_tune, fit_platt, probe_linearly
from stages.transfer.tables import Row, write_rows

logger = logging.getLogger(__name__)

INNER_FOLDS = 5
SHOWN_FEATURES, SHOWN_PATCHES = 4, 12


def run(
    *,
    candidates: list[str],
    features: str,
    model: str,
    card: str,
    booster: str,
    scores: str,
    selected: str,
    figure: str,
    source: str,
    weak_learners: int,
    start: str,
    folds: int,
    test_fraction: float,
    finetune_epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Write the booster, the scores of held-out cases, the features chosen and their patches.

    Raises
    ------
    ValueError
        One class only, a participant or patch in both parts, or a network that learnt from the
        cases it is tested on.
    """
    cases = read_cases(candidates)
    arrays, about = read(features)
    X = arrays["features"]
    net, network = load_model(model, card)
    origin = provenance.join([network["Provenance"], *(a["origin"] for a in cases.about)])
    tested = draw_parts(cases.has_lesion, folds, test_fraction, seed)
    taught = [p.removeprefix("bids::") for p in network["TrainingParticipants"]]
    splits.check_apart(taught, set().union(*tested))
    n = len(X)
    staged = np.full((n, weak_learners), np.nan, dtype=np.float32)
    probed, tuned = np.full(n, np.nan), np.full(n, np.nan)
    for part, names in enumerate(tested):
        is_test = np.isin(cases.cases, sorted(names))
        train, test = np.flatnonzero(cases.used & ~is_test), np.flatnonzero(is_test)
        _check_leaks(cases, train, test)
        y = cases.lesions[train] > 0
        stumps = fit_stumps(X[train], y, weak_learners, start_weights(y, start))
        staged[test] = stage_fully(stumps, X[test], weak_learners)
        probed[test] = probe_linearly(X[train], y, cases.cases[train], X[test], seed)
        if finetune_epochs:
            tuned[test] = fine_tune(
                net,
                (cases.patches[train], y),
                cases.patches[test],
                epochs=finetune_epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                seed=seed,
            )
        logger.info(
            "%s, part %d: %d training rows, %d test rows", source, part, len(train), len(test)
        )
    held = np.isfinite(staged[:, 0])
    kept = {
        "staged": staged[held],
        "probe": probed[held],
        "finetuned": tuned[held],
        "lesions": cases.lesions[held],
        "used": cases.used[held],
        "places_mm": cases.places_mm[held],
        "rows": np.flatnonzero(held),
    }
    judged = [a for a in cases.about if any(a["participant"] in names for names in tested)]
    summary = {
        "source": source,
        "layer": about["layer"],
        "origin": origin,
        "cases": cases.cases[held].tolist(),
        "judged": judged,
        "n_train": len(cases.about) - len(judged) if folds < 2 else len(cases.about),
        "n_test": len(judged),
        "folds": folds,
    }
    write(scores, kept, summary)
    # What is handed on learns from the training part alone; with folds, from everybody.
    is_taught = cases.used & (~np.isin(cases.cases, sorted(tested[0])) if folds < 2 else True)
    train = np.flatnonzero(is_taught)
    y = cases.lesions[train] > 0
    final = fit_stumps(X[train], y, weak_learners, start_weights(y, start))
    inner = _inner_scores(X[train], y, cases.cases[train], weak_learners, start, seed)
    slope, offset = fit_platt(inner, y)
    taught = sorted(set(cases.cases[train]))
    write(
        booster,
        {**vars(final), "platt": np.array([slope, offset])},
        {
            "source": source,
            "layer": about["layer"],
            "participants": [f"bids::{name}" for name in taught],
            "lesion_share": float(y.mean()),
            "spacing_mm": cases.about[0]["spacing_mm"],
            "origin": origin,
        },
    )
    write_rows(selected, list_selected(final, X[train], y, source))
    _draw(Path(figure), final, X[train], cases, train, source, origin)


def draw_parts(
    has_lesion: dict[str, bool], folds: int, fraction: float, seed: int
) -> list[set[str]]:
    """Draw the test cases: one part of ``fraction``, or each fold once."""
    if folds < 2:
        return [splits.split_all([], has_lesion, fraction, seed)]
    fold = splits.deal_folds(has_lesion, folds, seed)
    return [{name for name, k in fold.items() if k == part} for part in range(folds)]


def stage_fully(stumps: Stumps, X: NDArray[Any], rounds: int) -> NDArray[Any]:
    """Return staged scores; an ensemble that ended early keeps its last score."""
    found = stumps.stage(X)
    return np.pad(found, ((0, 0), (0, rounds - found.shape[1])), mode="edge")


def list_selected(stumps: Stumps, X: NDArray[Any], y: NDArray[np.bool_], source: str) -> list[Row]:
    """List the features in the order in which they were chosen, and how often each was so far."""
    rows: list[Row] = []
    used: dict[int, int] = {}
    for index, feature in enumerate(map(int, stumps.features)):
        used[feature] = used.get(feature, 0) + 1
        is_right = (
            np.where(
                X[:, feature] <= stumps.thresholds[index], stumps.left[index], stumps.right[index]
            )
            > 0
        ) == y
        rows.append(
            {
                "source": source,
                "round": index + 1,
                "feature": feature,
                "threshold": float(stumps.thresholds[index]),
                "lesion_side": "above" if stumps.right[index] > stumps.left[index] else "below",
                "weight": float(stumps.weights[index]),
                "weighted_error": float(stumps.errors[index]),
                "training_accuracy": float(is_right.mean()),
                "times_so_far": used[feature],
            }
        )
    return rows


def _inner_scores(
    X: NDArray[Any], y: NDArray[np.bool_], owners: NDArray[Any], rounds: int, start: str, seed: int
) -> NDArray[Any]:
    """Score training rows by boosters that did not learn from their case, for calibration."""
    has_lesion = {str(name): bool(y[owners == name].any()) for name in np.unique(owners)}
    folds = min(INNER_FOLDS, sum(has_lesion.values()))
    inner = np.zeros(len(y))
    if folds < 2:
        return fit_stumps(X, y, rounds, start_weights(y, start)).stage(X)[:, -1]
    fold = splits.deal_folds(has_lesion, folds, seed)
    part = np.array([fold[str(name)] for name in owners])
    for k in range(folds):
        rest = part != k
        stumps = fit_stumps(X[rest], y[rest], rounds, start_weights(y[rest], start))
        inner[~rest] = stumps.stage(X[~rest])[:, -1]
    return inner


def _check_leaks(cases: Cases, train: NDArray[Any], test: NDArray[Any]) -> None:
    splits.check_apart(set(cases.cases[train]), set(cases.cases[test]))
    owners = (cases.cases[train].tolist(), cases.cases[test].tolist())
    splits.check_no_duplicates(cases.patches[train], cases.patches[test], owners)


def _draw(
    path: Path,
    stumps: Stumps,
    X: NDArray[Any],
    cases: Cases,
    train: NDArray[Any],
    source: str,
    origin: str,
) -> None:
    """Draw the patches with which the first features chosen say lesion most strongly."""
    patches, names = [], []
    chosen = list(dict.fromkeys(map(int, stumps.features)))[:SHOWN_FEATURES]
    for feature in chosen:
        at = int(np.flatnonzero(stumps.features == feature)[0])
        sign = 1 if stumps.right[at] > stumps.left[at] else -1
        for row in np.argsort(-sign * X[:, feature], kind="stable")[:SHOWN_PATCHES]:
            patches.append(cases.patches[train[row]])
            names.append(f"{feature}: {'lesion' if cases.lesions[train[row]] else 'normal'}")
    title = f"{source}: strongest training patches of the first features chosen"
    figures.draw_patches(path, np.array(patches), names, title, origin)
