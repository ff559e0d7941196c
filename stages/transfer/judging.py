"""How well lesions are told: area under the ROC curve with what chance makes of it, and FROC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def measure_auc(scores: Floats, is_lesion: Bools) -> Floats:
    """Measure the area under the ROC curve: P(lesion scores higher) + ½ P(equal).

    Parameters
    ----------
    scores : array, (n,) or (n, stages)
    is_lesion : array, (n,), bool

    Returns
    -------
    auc : array, () or (stages,)
        NaN where one class is missing.
    """
    m, n = int(is_lesion.sum()), int((~is_lesion).sum())
    if not m or not n:
        return np.full(scores.shape[1:], np.nan)
    ranks = stats.rankdata(scores, axis=0)
    return (ranks[is_lesion].sum(0) - m * (m + 1) / 2) / (m * n)


def by_case(
    scores: Floats, is_lesion: Bools, cases: NDArray[Any] | Sequence[str]
) -> tuple[Floats, Bools]:
    """Take each case's highest score; a case with any lesion is a lesion case."""
    names, index = np.unique(np.asarray(cases), return_inverse=True)
    top = np.full((len(names), *scores.shape[1:]), -np.inf)
    np.maximum.at(top, index, scores)
    has_lesion = np.zeros(len(names), dtype=bool)
    np.logical_or.at(has_lesion, index, is_lesion)
    return top, has_lesion


def draw_cases(
    cases: NDArray[Any] | Sequence[str], draws: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw cases with replacement; returns for each draw the rows of the cases drawn."""
    names, index = np.unique(np.asarray(cases), return_inverse=True)
    rows = [np.flatnonzero(index == k) for k in range(len(names))]
    return [
        np.concatenate([rows[k] for k in rng.integers(0, len(names), len(names))])
        for _ in range(draws)
    ]


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], Floats], samples: Sequence[NDArray[np.int64]]
) -> tuple[Floats, Floats]:
    """Return the 2.5 and 97.5 % quantiles of a statistic of rows over bootstrap samples."""
    values = np.array([statistic(rows) for rows in samples])
    if not np.isfinite(values).any():
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
    return low, high


def compare_delong(first: Floats, second: Floats, is_lesion: Bools) -> tuple[float, float]:
    """Compare two correlated ROC areas (DeLong 1988); returns the difference and two-sided p.

    Patches of one case are taken as independent, which they are not: p is too small where cases
    have many; the bootstrap by case is the one to trust.
    """
    m, n = int(is_lesion.sum()), int((~is_lesion).sum())
    if m < 2 or n < 2:
        return float("nan"), float("nan")
    places = []
    for scores in (first, second):
        own_x, own_y = stats.rankdata(scores[is_lesion]), stats.rankdata(scores[~is_lesion])
        ranks = stats.rankdata(np.concatenate([scores[is_lesion], scores[~is_lesion]]))
        places.append(((ranks[:m] - own_x) / n, 1 - (ranks[m:] - own_y) / m))
    difference = float(places[0][0].mean() - places[1][0].mean())
    spread = np.var(places[0][0] - places[1][0], ddof=1) / m
    spread += np.var(places[0][1] - places[1][1], ddof=1) / n
    if spread <= 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, float(2 * stats.norm.sf(abs(difference) / np.sqrt(spread)))


def keep_peaks(places_mm: Floats, scores: Floats, apart_mm: float) -> NDArray[np.int64]:
    """Keep candidates that no higher one within ``apart_mm`` stands for; indices, best first."""
    tree = cKDTree(places_mm)
    is_open = np.ones(len(scores), dtype=bool)
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if is_open[index]:
            kept.append(int(index))
            is_open[tree.query_ball_point(places_mm[index], apart_mm)] = False
    return np.array(kept, dtype=np.int64)


def add_missed(
    scores: Floats,
    lesions: NDArray[np.int64],
    places_mm: Floats,
    cases: NDArray[Any],
    missed: Mapping[str, int],
) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[Any]]:
    """Add lesions that no candidate is on, by case, so that they count as never detected."""
    names = np.repeat(list(missed), list(missed.values()))
    return (
        np.append(np.asarray(scores, dtype=float), np.full(len(names), -np.inf)),
        np.append(lesions, lesions.max(initial=0) + 1 + np.arange(len(names))),
        np.vstack([places_mm, np.zeros((len(names), 3))]),
        np.append(cases, names) if len(names) else cases,
    )


def trace_froc(
    scores: Floats,
    lesions: NDArray[np.int64],
    places_mm: Floats,
    cases: NDArray[Any] | Sequence[str],
    apart_mm: float,
) -> tuple[Floats, Floats, Floats]:
    """Trace sensitivity over lesions against false positives per case.

    Parameters
    ----------
    scores : array, (n,)              one per candidate
    lesions : array, (n,), int        0 for none, else the number of the lesion within the case
    places_mm : array, (n, 3)
    cases : sequence of str           of each candidate
    apart_mm : float                  candidates nearer than this are one finding

    Returns
    -------
    thresholds, false_positives, sensitivity : arrays, (t,)
        From the highest threshold down. A lesion that no candidate is on counts as missed only
        if it is among ``lesions``; ``add_missed`` puts it there.
    """
    labels = np.asarray(cases)
    names = np.unique(labels)
    hits: list[float] = []  # best score of each lesion
    false: list[float] = []
    for name in names:
        rows = np.flatnonzero(labels == name)
        own = lesions[rows]
        hits += [float(scores[rows][own == k].max()) for k in np.unique(own[own > 0])]
        real = rows[np.isfinite(scores[rows])]
        kept = real[keep_peaks(places_mm[real], scores[real], apart_mm)] if len(real) else real
        false += scores[kept][lesions[kept] == 0].tolist()
    thresholds = np.unique(np.array([h for h in hits if np.isfinite(h)] + false))[::-1]
    hit, wrong = np.sort(np.array(hits)), np.sort(np.array(false))
    found = len(hit) - np.searchsorted(hit, thresholds)
    alarms = len(wrong) - np.searchsorted(wrong, thresholds)
    sensitivity = found / len(hit) if len(hit) else np.full(len(thresholds), np.nan)
    return thresholds, alarms / len(names), sensitivity


def read_froc(false_positives: Floats, sensitivity: Floats) -> dict[float, float]:
    """Read the highest sensitivity at no more than 1/8, 1/4, … 8 false positives per case."""
    return {
        rate: float(sensitivity[false_positives <= rate].max(initial=0.0)) for rate in FROC_RATES
    }
