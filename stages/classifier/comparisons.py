"""Tell whether two models, or two ways of preparing images, differ or are equivalent."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stages.classifier.statistics import resample

Array = NDArray[np.float64]
Labels = NDArray[np.intp]


class Difference(NamedTuple):
    """A difference, its standard error and a two-sided p."""

    difference: float
    error: float
    p: float


class Equivalence(NamedTuple):
    """A difference with its 90 % interval, and p of both one-sided tests (their maximum)."""

    difference: float
    low: float
    high: float
    p: float


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Compare right decisions on the same images by McNemar's exact test.

    Returns
    -------
    only_first, only_second : int
        Images that only one of the two has right.
    p : float
        Two-sided binomial p; 1 where they never disagree.
    """
    a, b = int((first & ~second).sum()), int((second & ~first).sum())
    return a, b, float(stats.binomtest(a, a + b).pvalue) if a + b else 1.0


def delong(true: Labels, first: Array, second: Array) -> Difference:
    """Compare two AUCs on the same images (DeLong et al. 1988, by placements as Sun & Xu 2014).

    Parameters
    ----------
    true : array, (n,)
        0 or 1, both present.
    first, second : array, (n,)
        Scores of class 1.
    """
    areas, covariance = delong_covariance(true, np.stack([first, second]))
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-18:
        return Difference(difference, 0.0, 1.0 if abs(difference) < 1e-12 else 0.0)
    error = float(np.sqrt(variance))
    return Difference(difference, error, float(2 * stats.norm.sf(abs(difference) / error)))


def delong_covariance(true: Labels, scores: Array) -> tuple[Array, Array]:
    """Give the AUC of each row of scores, (k, n), and their covariance, (k, k)."""
    positive, negative = scores[:, true == 1], scores[:, true == 0]
    m, n = positive.shape[1], negative.shape[1]
    if m < 2 or n < 2:
        raise ValueError(f"classes of {m} and {n} images: DeLong's test needs two of each")
    both = np.concatenate([positive, negative], axis=1)
    ranks = np.stack([stats.rankdata(row) for row in both])
    own = np.stack([stats.rankdata(row) for row in positive])
    other = np.stack([stats.rankdata(row) for row in negative])
    above = (ranks[:, :m] - own) / n  # share of negatives below each positive
    below = 1 - (ranks[:, m:] - other) / m
    covariance = np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return above.mean(axis=1), covariance


def wilcoxon(first: Array, second: Array) -> float:
    """Compare absolute errors on the same images by Wilcoxon's signed ranks; two-sided p."""
    if np.allclose(first, second):
        return 1.0
    return float(stats.wilcoxon(first, second).pvalue)


def tost(
    first: tuple[Sequence[str], Callable[[NDArray[np.intp]], float], Sequence[object]],
    second: tuple[Sequence[str], Callable[[NDArray[np.intp]], float], Sequence[object]],
    *,
    margin: float,
    draws: int,
    rng: np.random.Generator,
) -> Equivalence:
    """Test by two one-sided tests whether two measures agree within a margin (Schuirmann 1987).

    The standard error of the difference is the bootstrap's over people; people who are in both are
    drawn once for both, so pairing counts where there is any.

    Parameters
    ----------
    first, second
        People (one per row), the measure of given rows, and each row's stratum.
    margin
        Largest difference that still counts as none.
    """
    value = first[1](np.arange(len(first[0]))) - second[1](np.arange(len(second[0])))
    strata = {
        f"{name}": s
        for people, _, found in (first, second)
        for name, s in zip(people, found, strict=True)
    }
    everyone = sorted(strata)
    rows = [_rows_of(people) for people, _, _ in (first, second)]
    differences = []
    for pick in resample(everyone, draws, rng, [strata[name] for name in everyone]):
        chosen = [
            np.array([r for i in pick for r in found.get(everyone[i], ())], dtype=np.intp)
            for found in rows
        ]
        if len(chosen[0]) and len(chosen[1]):
            differences.append(first[1](chosen[0]) - second[1](chosen[1]))
    error = max(float(np.nanstd(differences, ddof=1)), 1e-12)
    p = max(stats.norm.sf((value + margin) / error), stats.norm.sf((margin - value) / error))
    half = stats.norm.ppf(0.95) * error
    return Equivalence(float(value), float(value - half), float(value + half), float(p))


def _rows_of(people: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, name in enumerate(people):
        found.setdefault(name, []).append(index)
    return found
