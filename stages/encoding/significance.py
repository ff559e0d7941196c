"""Is a correlation more than chance, and how sure is its mean: blocks of time, permuted or redrawn.

Volumes are autocorrelated, so blocks of consecutive volumes move as one. The correlation of
block-permuted responses is a sum over pairs of blocks of cross-products that are computed once,
which makes a thousand permutations as cheap as one pass over the data.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

VOXEL_CHUNK = 1024


def permutation_p(
    predicted: Floats, measured: Floats, *, block: int, permutations: int, rng: np.random.Generator
) -> Floats:
    """Test each voxel's correlation against block-permuted responses, one-sided.

    p = (1 + number of permutations with a correlation as large) / (1 + permutations) (Phipson &
    Smyth 2010). Samples that fill no whole block are left out.

    Parameters
    ----------
    predicted, measured : array, (samples, voxels)
    block : int
        Samples per block.
    permutations : int
    rng : numpy.random.Generator

    Returns
    -------
    p : array, (voxels,)

    Raises
    ------
    ValueError
        Fewer than five blocks, which have too few orders.
    """
    count = len(predicted) // block
    if count < 5:
        raise ValueError(
            f"{len(predicted)} test samples make {count} blocks of {block}, too few to permute"
            " (5 at least); use shorter blocks or a longer test run"
        )
    orders = np.stack([rng.permutation(count) for _ in range(permutations)])
    p = np.ones(predicted.shape[1])
    for start in range(0, len(p), VOXEL_CHUNK):
        voxels = slice(start, start + VOXEL_CHUNK)
        x, y = (
            _unit(array[: count * block, voxels]).reshape(count, block, -1)
            for array in (predicted, measured)
        )
        products = np.einsum("itv,jtv->ijv", x, y, optimize=False)
        observed = np.einsum("iiv->v", products)
        exceed = np.zeros(products.shape[2])
        for order in orders:
            # The same set of values is summed in another order: equal sums may differ by rounding.
            exceed += products[order, np.arange(count)].sum(0) >= observed - 1e-7
        p[voxels] = (1 + exceed) / (1 + permutations)
    return p


def false_discovery(p: Floats, is_tested: NDArray[np.bool_]) -> Floats:
    """Adjust p values for the number of voxels tested (Benjamini & Hochberg 1995).

    Parameters
    ----------
    p : array, (voxels,)
    is_tested : array of bool, (voxels,)
        Voxels that vary; the others get q = 1.
    """
    from scipy.stats import false_discovery_control

    q = np.ones(len(p))
    if is_tested.any():
        q[is_tested] = false_discovery_control(p[is_tested])
    return q


def mean_interval(
    predicted: Floats,
    measured: Floats,
    is_counted: NDArray[np.bool_],
    *,
    block: int,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Bootstrap the mean correlation over voxels by redrawing blocks of time, 95 % interval.

    Parameters
    ----------
    predicted, measured : array, (samples, voxels)
    is_counted : array of bool, (voxels,)
        Voxels that enter the mean.
    block, draws : int
        Samples per block; bootstrap samples.

    Returns
    -------
    low, high : float
    """
    counted = np.flatnonzero(is_counted)
    starts = np.arange(0, len(predicted), block)
    drawn = rng.integers(0, len(starts), (draws, len(starts)))
    weights = np.stack([np.bincount(row, minlength=len(starts)) for row in drawn]).astype(float)
    sizes = np.diff([*starts, len(predicted)])
    total = weights @ sizes
    sums = np.zeros(draws)
    for begin in range(0, len(counted), VOXEL_CHUNK):
        voxels = counted[begin : begin + VOXEL_CHUNK]
        x, y = (np.asarray(array[:, voxels], dtype=np.float64) for array in (predicted, measured))
        moments = (x, y, x * x, y * y, x * y)
        ex, ey, exx, eyy, exy = (
            weights @ np.add.reduceat(moment, starts, axis=0) / total[:, None] for moment in moments
        )
        variance = np.maximum(exx - ex**2, 0) * np.maximum(eyy - ey**2, 0)
        norm = np.sqrt(variance)
        r = np.divide(exy - ex * ey, norm, out=np.zeros_like(norm), where=norm > 0)
        sums += r.sum(1)
    low, high = np.quantile(sums / max(len(counted), 1), [0.025, 0.975])
    return float(low), float(high)


def _unit(columns: Floats) -> Floats:
    """Centre columns and give them length 1; columns without variance stay 0."""
    columns = np.asarray(columns, dtype=np.float32)
    columns = columns - columns.mean(0)
    norms = np.linalg.norm(columns, axis=0)
    return np.divide(columns, norms, out=np.zeros_like(columns), where=norms > 0)
