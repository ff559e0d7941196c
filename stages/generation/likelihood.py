"""Kernel densities of slices in a space of principal components.

    log p(z) = log 1/n sum_i N(z; z_i, h^2 I)

The number of components is the one whose probabilistic PCA (Tipping & Bishop 1999) gives left-out
participants the highest likelihood in pixel space, where all numbers of components can be compared;
the bandwidth h the one whose density gives them the highest likelihood. A density in many
dimensions favours whichever group is tighter or larger, for real slices too: hence the reference
rows (see ``verdicts``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.model_selection import GroupKFold

Array = NDArray[np.float64]

MOST_COMPONENTS = 256
FOLDS = 5
BANDWIDTHS = np.geomspace(0.1, 3.0, 25)  # times the median distance to the nearest neighbour


@dataclass(frozen=True)
class Space:
    """Principal components: mean (D,), axes (k, D) of unit length."""

    mean: Array
    axes: Array

    def project(self, X: Array) -> Array:
        """Give the scores, (n, D) → (n, k)."""
        return (X - self.mean) @ self.axes.T

    def residual(self, X: Array) -> Array:
        """Give each row's distance from the space, (n,)."""
        centred = X - self.mean
        inside = self.project(X)
        return np.sqrt(np.maximum((centred**2).sum(1) - (inside**2).sum(1), 0))


@dataclass(frozen=True)
class Density:
    """A Gaussian kernel density: points (n, k), bandwidth h."""

    points: Array
    bandwidth: float

    def log_likelihood(self, Z: Array) -> Array:
        """Give nats per row, (m, k) → (m,)."""
        return _log_density(_square_distances(Z, self.points), self.bandwidth, Z.shape[1])

    def leave_one_out(self) -> Array:
        """Give nats of the density's own points, each left out in turn, (n,)."""
        square = _square_distances(self.points, self.points)
        np.fill_diagonal(square, np.inf)
        n = len(self.points)
        found = _log_density(square, self.bandwidth, self.points.shape[1])
        return found + np.log(n / (n - 1))


def fit_space(X: Array, components: int) -> Space:
    """Fit principal components to rows, (n, D); at most n - 1 of them."""
    mean = X.mean(0)
    _, singular, axes = np.linalg.svd(X - mean, full_matrices=False)
    usable = int((singular > singular[0] * 1e-8).sum())
    return Space(mean, axes[: max(1, min(components, usable))])


def choose_components(X: Array, people: Sequence[str]) -> tuple[int, list[dict[str, float]]]:
    """Choose the number of components by cross-validation over people.

    Returns
    -------
    components : int
    table : list of dict
        Number of components and mean log-likelihood of left-out rows, nats.
    """
    folds = _folds(X, people)
    most = min(MOST_COMPONENTS, min(len(fit) for fit, _ in folds) - 2, X.shape[1] - 1)
    numbers = sorted({int(k) for k in np.geomspace(1, max(most, 1), 16).round()})
    total = np.zeros(len(numbers))
    for fit, test in folds:
        total += _ppca_scores(X[fit], X[test], numbers).sum(0)
    means = total / len(X)
    table = [
        {"components": k, "log_likelihood": float(v)} for k, v in zip(numbers, means, strict=True)
    ]
    return numbers[int(means.argmax())], table


def choose_bandwidth(Z: Array, people: Sequence[str]) -> tuple[float, list[dict[str, float]]]:
    """Choose the bandwidth of a density of rows, (n, k), by cross-validation over people."""
    square = _square_distances(Z, Z)
    nearest = np.sqrt(np.where(np.eye(len(Z), dtype=bool), np.inf, square).min(1))
    grid = BANDWIDTHS * max(float(np.median(nearest)), 1e-6)
    means = np.zeros(len(grid))
    for fit, test in _folds(Z, people):
        among = square[np.ix_(test, fit)]
        means += [_log_density(among, h, Z.shape[1]).sum() / len(Z) for h in grid]
    table = [
        {"bandwidth": float(h), "log_likelihood": float(v)}
        for h, v in zip(grid, means, strict=True)
    ]
    return float(grid[int(means.argmax())]), table


def _ppca_scores(fit: Array, test: Array, numbers: Sequence[int]) -> Array:
    """Score rows under probabilistic PCA for several numbers of components, (m, numbers)."""
    n, D = fit.shape
    mean = fit.mean(0)
    _, singular, axes = np.linalg.svd(fit - mean, full_matrices=False)
    values = singular**2 / (n - 1)
    scores = ((test - mean) @ axes.T) ** 2
    whole = ((test - mean) ** 2).sum(1)
    found = []
    for k in numbers:
        noise = max(float(values[k:].sum()) / (D - k), 1e-12)
        kept = np.maximum(values[:k], noise)
        inside = (scores[:, :k] / kept).sum(1)
        outside = np.maximum(whole - scores[:, :k].sum(1), 0) / noise
        constant = D * np.log(2 * np.pi) + np.log(kept).sum() + (D - k) * np.log(noise)
        found.append(-0.5 * (constant + inside + outside))
    return np.stack(found, 1)


def _folds(X: Array, people: Sequence[str]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    count = len(set(people))
    if count < 2:
        raise ValueError("cross-validation needs at least two participants in training")
    return list(GroupKFold(min(FOLDS, count)).split(X, groups=list(people)))


def _square_distances(A: Array, B: Array) -> Array:
    square = (A**2).sum(1)[:, None] - 2 * A @ B.T + (B**2).sum(1)
    return np.maximum(square, 0)


def _log_density(square: Array, h: float, k: int) -> Array:
    terms = logsumexp(-square / (2 * h**2), axis=1)
    return np.asarray(terms) - np.log(square.shape[1]) - k / 2 * np.log(2 * np.pi * h**2)
