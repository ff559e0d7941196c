"""How good predictions are: metrics, intervals over subjects, and what chance gives."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Labels = NDArray[np.intp]
CALIBRATION_BINS = 10


class Estimate(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def confusion(true: Labels, predicted: Labels, classes: int) -> NDArray[np.intp]:
    """Count true (rows) by predicted (columns)."""
    table = np.zeros((classes, classes), dtype=np.intp)
    np.add.at(table, (true, predicted), 1)
    return table


def accuracy(true: Labels, p: Array) -> float:
    """Share of right decisions."""
    return float((p.argmax(axis=1) == true).mean())


def balanced_accuracy(true: Labels, p: Array) -> float:
    """Mean over the classes that occur of the share found; 1/k by guessing."""
    table = confusion(true, p.argmax(axis=1), p.shape[1])
    size = table.sum(axis=1)
    return float((np.diag(table)[size > 0] / size[size > 0]).mean())


def auc(true: Labels, p: Array) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney); for several classes one against the rest.

    NaN where a class does not occur.
    """
    if p.shape[1] == 2:
        return _auc(p[true == 1, 1], p[true == 0, 1])
    return float(np.mean([_auc(p[true == k, k], p[true != k, k]) for k in range(p.shape[1])]))


def mcc(true: Labels, p: Array) -> float:
    """Matthews' correlation coefficient (Gorodkin's for several classes); 0 where undefined."""
    table = confusion(true, p.argmax(axis=1), p.shape[1]).astype(float)
    n, right = table.sum(), np.trace(table)
    t, q = table.sum(axis=1), table.sum(axis=0)
    bottom = np.sqrt(float(n**2 - q @ q) * float(n**2 - t @ t))
    return float((right * n - t @ q) / bottom) if bottom > 0 else 0.0


def brier(true: Labels, p: Array) -> float:
    """Mean squared error of the last class's probability; for several classes summed over them."""
    wanted = np.eye(p.shape[1])[true]
    error = ((p - wanted) ** 2).sum(axis=1).mean()
    return float(error / 2 if p.shape[1] == 2 else error)


def loss(true: Labels, p: Array) -> float:
    """Mean of -log of the probability of the true class."""
    return float(-np.log(np.clip(p[np.arange(len(true)), true], 1e-12, None)).mean())


def ece(true: Labels, p: Array) -> float:
    """Expected calibration error: |accuracy - confidence| in ten equal bins, weighted by size."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == true
    bin_of = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)
    error = 0.0
    for number in np.unique(bin_of):
        inside = bin_of == number
        error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


METRICS: dict[str, Callable[[Labels, Array], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "auc": auc,
    "mcc": mcc,
    "brier": brier,
    "ece": ece,
    "loss": loss,
}


def measure_quantity(true: Array, predicted: Array) -> dict[str, float]:
    """Measure predictions of a quantity: mean absolute error, its root mean square, r, R²."""
    error = predicted - true
    spread = float(((true - true.mean()) ** 2).mean())
    varies = len(true) > 2 and np.ptp(true) > 0 and np.ptp(predicted) > 0
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r": float(np.corrcoef(true, predicted)[0, 1]) if varies else float("nan"),
        "r2": 1 - float((error**2).mean()) / spread if spread > 0 else float("nan"),
        "bias": float(error.mean()),
    }


def resample(
    people: Sequence[str], draws: int, rng: np.random.Generator, strata: Sequence[object] = ()
) -> list[NDArray[np.intp]]:
    """Draw people with replacement, each with all their rows; within strata if given.

    Returns
    -------
    list
        Row numbers of each draw.
    """
    rows_of: dict[str, list[int]] = {}
    for index, name in enumerate(people):
        rows_of.setdefault(name, []).append(index)
    groups: dict[object, list[str]] = {}
    for name, rows in rows_of.items():
        groups.setdefault(strata[rows[0]] if len(strata) else 0, []).append(name)
    picks = []
    for _ in range(draws):
        chosen = [
            names[i] for names in groups.values() for i in rng.integers(len(names), size=len(names))
        ]
        picks.append(np.array([row for name in chosen for row in rows_of[name]], dtype=np.intp))
    return picks


def interval(value: float, draws: Sequence[float]) -> Estimate:
    """Take the 95 % percentile interval of bootstrap values; NaN ones do not count."""
    known = np.array([d for d in draws if np.isfinite(d)])
    if len(known) < 10:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def measure(
    true: Labels, p: Array, people: Sequence[str], *, draws: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Measure all metrics with intervals by bootstrap over people, within classes."""
    picks = resample(people, draws, rng, [int(t) for t in true])
    return {
        name: interval(metric(true, p), [metric(true[rows], p[rows]) for rows in picks])
        for name, metric in METRICS.items()
    }


def measure_quantities(
    true: Array, predicted: Array, people: Sequence[str], *, draws: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Measure a quantity's metrics with intervals by bootstrap over people."""
    picks = resample(people, draws, rng)
    own = measure_quantity(true, predicted)
    again = [measure_quantity(true[rows], predicted[rows]) for rows in picks]
    return {name: interval(value, [a[name] for a in again]) for name, value in own.items()}


def permutation_p(
    value: float,
    metric: Callable[[Labels], float],
    true: Labels,
    *,
    draws: int,
    rng: np.random.Generator,
) -> float:
    """Share of label permutations that reach a value (the value itself counts as one).

    The predictions stay and the labels are dealt anew: the null is that decisions and labels are
    unrelated, not that a network trained on permuted labels would do as well.
    """
    reached = sum(metric(rng.permutation(true)) >= value - 1e-12 for _ in range(draws))
    return (reached + 1) / (draws + 1)


def majority(true: Labels) -> float:
    """Accuracy of always naming the largest class."""
    return float(np.bincount(true).max() / len(true))


def by_group(
    columns: Mapping[str, Sequence[str]], metric: Callable[[NDArray[np.intp]], Mapping[str, float]]
) -> list[dict[str, object]]:
    """Apply a metric to the rows of each group of each column, ``n/a`` left out."""
    found: list[dict[str, object]] = []
    for column, cells in columns.items():
        for group in sorted({c for c in cells if c != "n/a"}):
            rows = np.flatnonzero(np.array([c == group for c in cells]))
            found.append({"column": column, "group": group, "n": len(rows), **metric(rows)})
    return found


def _auc(positive: Array, negative: Array) -> float:
    if not (len(positive) and len(negative)):
        return float("nan")
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))
