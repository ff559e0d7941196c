"""AdaBoost with decision stumps: one fit gives the whole curve over numbers of weak learners.

Round t takes the stump (feature, threshold, sign) that fits the weighted training set best, with
weight α_t = ln((1 − ε_t) / ε_t), and doubts what it got wrong: w ← w · exp(α_t [wrong]). The score
after t rounds is Σ α_s h_s / Σ α_s with h = ±1 (Freund & Schapire 1997; Viola & Jones 2001 read it
as selecting features). It is scikit-learn's ``AdaBoostClassifier`` over trees of depth one, round
by round: the best stump is that of the lowest Gini impurity, its sides say the class that weighs
more.

Sorting is done once. In each round a histogram of the weights over 256 bins per feature bounds from
above how good a split inside each bin can be: with left weights (a, b) of the classes the criterion
a²/(a+b) + b²/(a+b) + (right side) is convex, so inside a bin it is at most its maximum over the
four corners of what a and b can be there. Only bins whose bound exceeds the best bin border are
looked into; the result is that of looking everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 256
SMALL = 2**21  # features × samples up to which all splits are looked at, in one sweep
BLOCK = 32  # features at a time
SAME = 1e-7  # values nearer than this are one value, as in scikit-learn's trees
SLACK = 1e-9  # relative; bounds and borders are summed in another order than splits


@dataclass(frozen=True)
class Stumps:
    """An ensemble: per round feature, threshold, class (±1) on both sides, weight and error."""

    features: NDArray[np.int64]
    thresholds: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    weights: Floats
    errors: Floats

    def vote(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """Return each round's vote, ±1, (n, rounds); X is (n, features)."""
        values = np.asarray(X, dtype=np.float32)[:, self.features]
        return np.where(values <= self.thresholds, self.left, self.right)

    def stage(self, X: NDArray[Any]) -> Floats:
        """Return the scores after 1, 2, … rounds, (n, rounds), each in −1..1."""
        total = np.cumsum(self.weights)
        return np.cumsum(self.vote(X) * self.weights, axis=1) / total


@dataclass(frozen=True)
class _Sorted:
    """Training values prepared once: order and bins of every feature."""

    order: NDArray[np.int32]  # (features, n): samples by value
    values: NDArray[np.float32]  # (features, n): their values
    starts: NDArray[np.int64]  # (features, bins + 1): where bins begin; the last is n
    codes: NDArray[np.intp]  # (features, n): 2 · bin + class, by sample


def start_weights(y: NDArray[np.bool_], start: str) -> Floats:
    """Weigh the patches before the first round; the sum is 1.

    ``balanced`` gives both classes the same sum (Viola & Jones 2001), ``equal`` every patch the
    same. With few lesions among many normal patches an ``equal`` start makes the first stumps say
    normal on both sides, which tells nothing.
    """
    if start == "equal":
        return np.full(len(y), 1.0 / len(y))
    return np.where(y, 0.5 / max(y.sum(), 1), 0.5 / max((~y).sum(), 1))


def fit_stumps(
    X: NDArray[Any], y: NDArray[Any], rounds: int, weights: Floats | None = None
) -> Stumps:
    """Fit an ensemble.

    Parameters
    ----------
    X : array, (n, features)
        Taken as float32.
    y : array, (n,), bool
        True for lesions.
    rounds : int
        Weak learners; fewer if one of them is perfect or none is better than guessing.
    weights : array, (n,), optional
        Before the first round, with a sum of 1; the same for all if not given.

    Raises
    ------
    ValueError
        One class only, values that are not finite, or no feature that varies.
    """
    X = np.asarray(X, dtype=np.float32)
    y = np.asarray(y, dtype=bool)
    if y.all() or not y.any():
        raise ValueError(
            f"all {len(y)} training patches are {'lesions' if y.all() else 'normal'}; boosting"
            " needs both classes: are the lesion masks given, and not empty?"
        )
    if not np.isfinite(X).all():
        raise ValueError(
            f"{int((~np.isfinite(X)).sum())} features are not finite; check the patches"
        )
    prepared = _prepare(X, y)
    if not (prepared.values[:, -1] > prepared.values[:, 0] + SAME).any():
        raise ValueError(f"none of {X.shape[1]} features varies over {len(y)} patches")
    w = np.full(len(y), 1.0 / len(y)) if weights is None else weights
    found: list[tuple[int, float, int, int, float, float]] = []
    for index in range(rounds):
        feature, threshold, left, right = _best_stump(prepared, y, w)
        is_wrong = (np.where(X[:, feature] <= threshold, left, right) > 0) != y
        error = float(np.average(is_wrong, weights=w))
        if error <= 0:
            found.append((feature, threshold, left, right, 1.0, 0.0))
            break
        if error >= 0.5:
            if not found:
                raise ValueError("no stump is better than guessing; there is nothing to boost")
            break
        alpha = float(np.log((1 - error) / error))
        found.append((feature, threshold, left, right, alpha, error))
        if index < rounds - 1:
            w = np.exp(np.log(w) + alpha * is_wrong)
            w /= w.sum()
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return Stumps(*columns)


def _prepare(X: NDArray[np.float32], y: NDArray[np.bool_]) -> _Sorted:
    n, p = X.shape
    order = np.empty((p, n), dtype=np.int32)
    values = np.empty((p, n), dtype=np.float32)
    starts = np.empty((p, BINS + 1), dtype=np.int64)
    codes = np.empty((p, n), dtype=np.intp)
    wanted = np.linspace(0, n, BINS + 1).astype(np.int64)
    for j in range(p):
        order[j] = np.argsort(X[:, j], kind="stable")
        values[j] = X[order[j], j]
        # Equals stay together, and a long run of them (0 after a ReLU) is a bin of its own.
        picks = values[j][np.minimum(wanted, n - 1)]
        first = np.searchsorted(values[j], picks, side="left")
        is_again = np.append(False, first[1:] == first[:-1])
        first[is_again] = np.searchsorted(values[j], picks[is_again], side="right")
        first[0], first[-1] = 0, n
        starts[j] = first
        bins = np.repeat(np.arange(BINS), np.diff(starts[j]))
        codes[j, order[j]] = 2 * bins
        codes[j] += y
    return _Sorted(order, values, starts, codes)


def _best_stump(s: _Sorted, y: NDArray[np.bool_], w: Floats) -> tuple[int, float, int, int]:
    """Find the split of lowest impurity over all features; classes of its sides as ±1."""
    find = _sweep if s.values.size <= SMALL else _search
    j, cut = find(s, y, w)
    low, high = s.values[j, cut - 1], s.values[j, cut]
    threshold = float(low) / 2 + float(high) / 2
    if threshold in (float(high), np.inf, -np.inf):
        threshold = float(low)
    is_left = np.zeros(len(y), dtype=bool)
    is_left[s.order[j, :cut]] = True
    sides = []
    for side in (is_left, ~is_left):
        lesion, normal = w[side & y].sum(), w[side & ~y].sum()
        sides.append(1 if lesion > normal else -1)
    return j, threshold, sides[0], sides[1]


def _sweep(s: _Sorted, y: NDArray[np.bool_], w: Floats) -> tuple[int, int]:
    """Look at every split; returns feature and number of samples on the left."""
    normal, lesion = np.where(y, 0.0, w), np.where(y, w, 0.0)
    total = np.array([normal.sum(), lesion.sum()])
    best, where = -np.inf, (0, 1)
    for start in range(0, len(s.order), BLOCK):  # a block's arrays stay in the cache
        order, values = s.order[start : start + BLOCK], s.values[start : start + BLOCK]
        a, b = (own[order[:, :-1]].cumsum(1) for own in (normal, lesion))
        purity = _purity(a, b, total)
        purity[values[:, 1:] <= values[:, :-1] + np.float32(SAME)] = -np.inf
        flat = int(purity.argmax())
        if purity.flat[flat] > best:
            best = float(purity.flat[flat])
            j, cut = divmod(flat, purity.shape[1])
            where = (start + j, cut + 1)
    return where


def _search(s: _Sorted, y: NDArray[np.bool_], w: Floats) -> tuple[int, int]:
    """Look only where a better split can be; returns what ``_sweep`` would."""
    p = len(s.codes)
    histogram = np.empty((p, BINS, 2))
    for j in range(p):
        histogram[j] = np.bincount(s.codes[j], w, 2 * BINS).reshape(BINS, 2)
    total = histogram[0].sum(0)
    ends = np.cumsum(histogram, axis=1)  # (features, bins, class): weights left of a bin's end
    begins = ends - histogram
    # Where a bin's border may be split at: the next value is larger by more than SAME.
    n = s.values.shape[1]
    at = s.starts[:, 1:]
    rows = np.arange(p)[:, None]
    before, after = s.values[rows, np.clip(at - 1, 0, n - 1)], s.values[rows, np.minimum(at, n - 1)]
    is_split = (at > 0) & (at < n) & (after > before + np.float32(SAME))
    border = np.where(is_split, _purity(ends[..., 0], ends[..., 1], total), -np.inf)
    best = float(border.max())
    bound = np.full(border.shape, -np.inf)
    for a in (begins[..., 0], ends[..., 0]):
        for b in (begins[..., 1], ends[..., 1]):
            np.maximum(bound, _purity(a, b, total), out=bound)
    inner = s.values[rows, np.clip(s.starts[:, :-1], 0, n - 1)]
    bound[before <= inner + np.float32(SAME)] = -np.inf  # a bin of one value has no inside
    place = np.unravel_index(int(border.argmax()), border.shape)
    where = (int(place[0]), int(at[place]))
    # The most promising bins first: each find may spare looking into the others.
    slack = SLACK * max(abs(best), 1.0) if np.isfinite(best) else 0.0
    candidates = np.flatnonzero(bound.ravel() >= best - slack)
    for flat in candidates[np.argsort(-bound.ravel()[candidates], kind="stable")]:
        if bound.flat[flat] < best - slack:
            break
        j, k = divmod(int(flat), BINS)
        first, stop = int(s.starts[j, k]), int(s.starts[j, k + 1])
        members = s.order[j, first : stop - 1]
        value = s.values[j, first:stop]
        own, is_lesion = w[members], y[members]
        a = begins[j, k, 0] + np.cumsum(np.where(is_lesion, 0.0, own))
        b = begins[j, k, 1] + np.cumsum(np.where(is_lesion, own, 0.0))
        is_open = value[1:] > value[:-1] + np.float32(SAME)
        purity = np.where(is_open, _purity(a, b, total), -np.inf)
        if len(purity) and purity.max() > best:
            best = float(purity.max())
            where = (j, first + int(purity.argmax()) + 1)
    return where


def _purity(a: Floats, b: Floats, total: Floats) -> Floats:
    """Σ over sides of (a² + b²) / (a + b): the larger, the lower the Gini impurity."""
    left, c, d = a + b, total[0] - a, total[1] - b
    right = c + d
    tiny = np.finfo(float).tiny
    return (a * a + b * b) / np.maximum(left, tiny) + (c * c + d * d) / np.maximum(right, tiny)
