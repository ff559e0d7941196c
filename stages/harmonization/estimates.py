"""Numbers with their uncertainty: balanced accuracy, bootstrap intervals, equivalence, permutation.

People are the unit: whatever is resampled, a person's predictions stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval and the number of people it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __sub__(self, other: Estimate) -> Estimate:
        """Subtract an independent estimate: squared half-widths add."""
        value = self.value - other.value
        down = np.hypot(self.value - self.low, other.high - other.value)
        up = np.hypot(self.high - self.value, other.value - other.low)
        return Estimate(value, value - float(down), value + float(up), min(self.n, other.n))

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def balanced_accuracy(truth: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
    """Average over the classes the share of their members that was found; chance is 1 / classes."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


def majority_accuracy(truth: NDArray[np.intp]) -> float:
    """Give the accuracy of always naming the most frequent class."""
    return float(np.bincount(truth).max() / len(truth))


def bootstrap(
    truth: NDArray[np.intp], predicted: NDArray[np.intp], rng: np.random.Generator
) -> Estimate:
    """Estimate balanced accuracy with a percentile interval over people drawn anew.

    Draws are made within classes, so that no draw lacks one.
    """
    draws = _draw_within(truth, rng)
    is_right = truth == predicted
    per_class = [is_right[picked].mean(axis=1) for picked in draws]
    low, high = np.quantile(np.mean(per_class, axis=0), [0.025, 0.975])
    return Estimate(balanced_accuracy(truth, predicted), float(low), float(high), len(truth))


def compare_arms(
    right_a: dict[str, bool],
    right_b: dict[str, bool],
    labels: dict[str, str],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Give the difference of two arms' balanced accuracies and its standard error.

    Parameters
    ----------
    right_a, right_b
        Person → whether the arm's model was right; the arms may share some people, whose results
        are drawn together.
    labels
        Person → class.

    Returns
    -------
    difference, standard_error : float
    """
    people = sorted({*right_a, *right_b})
    names, classes = np.unique([labels[p] for p in people], return_inverse=True)
    table = np.array(
        [[right_a.get(p, np.nan), right_b.get(p, np.nan)] for p in people], dtype=float
    )
    draws = _draw_within(classes, rng)
    a, b = (
        np.mean([np.nanmean(table[picked, arm], axis=1) for picked in draws], axis=0)
        for arm in (0, 1)
    )
    observed = [
        np.mean([np.nanmean(table[classes == c, arm]) for c in range(len(names))]) for arm in (0, 1)
    ]
    return float(observed[0] - observed[1]), float(np.nanstd(a - b, ddof=1))


def equivalence_p(difference: float, standard_error: float, margin: float) -> float:
    """Give p of two one-sided tests that |difference| is at least ``margin`` (Schuirmann 1987).

    Normal approximation. A small p says: equal, to within the margin. That two arms do not differ
    significantly does not say that.
    """
    if standard_error == 0:
        return 0.0 if abs(difference) < margin else 1.0
    lower = stats.norm.sf((difference + margin) / standard_error)
    upper = stats.norm.cdf((difference - margin) / standard_error)
    return float(max(lower, upper))


def permute_within(
    truth: NDArray[np.intp],
    predicted: NDArray[np.intp],
    strata: Sequence[str],
    rng: np.random.Generator,
    *,
    permutations: int,
) -> float:
    """Give p that predictions tell the label beyond what the stratum (geometry) tells.

    Labels change places within strata only; a model that reads nothing but the stratum is then as
    right as before. Strata of one person, or of one class, cannot say anything.

    Returns
    -------
    float
        (1 + number of permutations at least as good) / (1 + permutations).
    """
    observed = balanced_accuracy(truth, predicted)
    groups = [np.flatnonzero(np.asarray(strata) == name) for name in sorted(set(strata))]
    hits = 0
    for _ in range(permutations):
        shuffled = truth.copy()
        for members in groups:
            shuffled[members] = truth[rng.permutation(members)]
        hits += balanced_accuracy(shuffled, predicted) >= observed - 1e-12
    return (1 + hits) / (1 + permutations)


def _draw_within(classes: NDArray[np.intp], rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Draw people with replacement within each class: per class (RESAMPLES, members)."""
    return [
        rng.choice(members, size=(RESAMPLES, len(members)))
        for members in (np.flatnonzero(classes == c) for c in np.unique(classes))
    ]
