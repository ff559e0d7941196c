"""How well any model could predict: the noise ceiling from repeats of the test stimulus.

Responses are signal + noise, the noise independent between repeats. With N repeats the signal power
is SP = (N Var(mean) − mean Var) / (N − 1) (Sahani & Linden 2003), and the best correlation with the
mean response is √(SP / Var(mean)) (Schoppe et al. 2016, eq. 7).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def noise_ceiling(repeats: Floats) -> Floats:
    """Compute the best correlation that a model can reach with the repeats' mean.

    Parameters
    ----------
    repeats : array, (repeats, samples, voxels)
        Responses to the same stimulus, at least two.

    Returns
    -------
    ceiling : array, (voxels,)
        0 to 1; 0 where repeats share nothing or do not vary.

    Raises
    ------
    ValueError
        Fewer than two repeats.
    """
    n = len(repeats)
    if n < 2:
        raise ValueError(f"{n} repeat of the test stimulus: a noise ceiling needs two at least")
    of_mean = repeats.mean(0, dtype=np.float64).var(0)
    each = repeats.var(1, dtype=np.float64).mean(0)
    signal = np.maximum((n * of_mean - each) / (n - 1), 0)
    return np.sqrt(np.divide(signal, of_mean, out=np.zeros_like(of_mean), where=of_mean > 0)).clip(
        0, 1
    )


def split_half(repeats: Floats) -> Floats:
    """Correlate the mean of even with the mean of odd repeats, voxel by voxel, (voxels,)."""
    halves = [repeats[start::2].mean(0) for start in (0, 1)]
    a, b = (half - half.mean(0) for half in halves)
    norms = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), norms, out=np.zeros_like(norms), where=norms > 0)


def relative(r: Floats, ceiling: Floats, *, least: float) -> Floats:
    """Divide r by the ceiling where that is at least ``least``; elsewhere NaN (not estimable)."""
    return np.where(ceiling >= least, r / np.where(ceiling >= least, ceiling, 1), np.nan)
