"""Look for copies of training slices among synthetic ones.

Distances are between pixels at the size at which slices are judged. A synthetic slice is a near
copy if a training slice is nearer to it than half the smallest distance that any held-out real
slice has to a training slice. Half is fixed beforehand: held-out slices are other people, so by
this rule none of them is a copy.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

COPY_SHARE = 0.5


def nearest(slices: Array, among: Array) -> tuple[Array, NDArray[np.intp]]:
    """Find for each row of (n, D) its nearest row of (m, D): root mean square distance, place."""
    square = (slices**2).sum(1)[:, None] - 2 * slices @ among.T + (among**2).sum(1)
    place = square.argmin(1)
    exact = ((slices - among[place]) ** 2).mean(1)  # the expansion above loses small distances
    return np.sqrt(exact), place


def audit_copies(
    made: Array, train: Array, held_out: Array, *, redraws: int, seed: int
) -> tuple[dict[str, Any], NDArray[np.bool_], NDArray[np.intp], Array]:
    """Look for copies.

    Parameters
    ----------
    made, train, held_out : array, (n, D)
        Pixels, 0 to 1.

    Returns
    -------
    numbers : dict
        Median nearest distances, their ratio (below 1: synthetic slices are nearer to training
        slices than other people are), share of near copies, and how well training slices are told
        from held-out ones by their nearest synthetic slice (AUC; .5: not at all).
    is_copy : array, (n,)
    place : array, (n,)
        The nearest training slice.
    distance : array, (n,)
    """
    distance, place = nearest(made, train)
    reference, _ = nearest(held_out, train)
    limit = COPY_SHARE * float(reference.min())
    is_copy = distance <= limit
    member, _ = nearest(train, made)
    other, _ = nearest(held_out, made)
    low, high = _auc_interval(other, member, redraws, seed)
    numbers = {
        "n": len(made),
        "nearest_training_rms": float(np.median(distance)),
        "held_out_nearest_training_rms": float(np.median(reference)),
        "ratio": float(np.median(distance) / max(float(np.median(reference)), 1e-12)),
        "copy_limit_rms": limit,
        "copies": int(is_copy.sum()),
        "copy_rate": float(is_copy.mean()),
        "membership_auc": _auc(other, member),
        "membership_auc_low": low,
        "membership_auc_high": high,
        "n_training": len(train),
        "n_held_out": len(held_out),
    }
    return numbers, is_copy, place, distance


def _auc(larger: Array, smaller: Array) -> float:
    return float(stats.mannwhitneyu(larger, smaller).statistic / (len(larger) * len(smaller)))


def _auc_interval(x: Array, y: Array, redraws: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    draws = [_auc(rng.choice(x, len(x)), rng.choice(y, len(y))) for _ in range(redraws)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
