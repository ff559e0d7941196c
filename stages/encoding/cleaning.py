"""Taking drift, motion and scale out of BOLD series, run by run, a chunk of voxels at a time."""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def drift_basis(volumes: int, tr_s: float, high_pass_hz: float) -> Floats:
    """Make a constant, a line and slow cosines (the discrete cosine transform below the cut-off).

    Parameters
    ----------
    volumes : int
        Length of the run.
    tr_s : float
        Repetition time, s.
    high_pass_hz : float
        Cut-off; 0: only the constant.

    Returns
    -------
    basis : array, (volumes, terms)
    """
    constant = np.ones((volumes, 1))
    if high_pass_hz == 0:
        return constant
    line = np.linspace(-1, 1, volumes)[:, None]
    terms = int(np.floor(2 * volumes * high_pass_hz * tr_s))
    orders = np.arange(1, terms + 1)
    cosines = np.cos(np.pi / volumes * (np.arange(volumes)[:, None] + 0.5) * orders)
    return np.hstack([constant, line, cosines])


def choose_confounds(columns: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """List the columns that match any pattern; the pattern ``none`` matches nothing.

    Raises
    ------
    ValueError
        A pattern that matches no column.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = [c for c in columns if fnmatch(c, pattern)] if pattern != "none" else []
        if not found and pattern != "none":
            some = ", ".join(list(columns)[:8])
            raise ValueError(f"no confound matches {pattern!r}; columns: {some} …")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def remove(series: Floats, regressors: Floats) -> Floats:
    """Subtract the least-squares fit of regressors from voxels × volumes.

    Regressors that repeat one another are of no harm.

    Parameters
    ----------
    series : array, (voxels, volumes)
    regressors : array, (volumes, terms)

    Returns
    -------
    cleaned : array, (voxels, volumes), float32
    """
    scale = np.linalg.norm(regressors, axis=0)
    left, strength, _ = np.linalg.svd(regressors / np.where(scale > 0, scale, 1), False)
    basis = left[:, strength > 1e-10 * strength[0]]
    series = np.asarray(series, dtype=np.float64)
    return (series - (series @ basis) @ basis.T).astype(np.float32)


def scale_by(series: Floats, deviation: Floats) -> Floats:
    """Divide voxels × volumes by each voxel's deviation; voxels without variance become 0.

    Parameters
    ----------
    series : array, (voxels, volumes)
        Without mean.
    deviation : array, (voxels,)
        The run's own for training runs; the training runs' mean for test runs, which must not
        give their own away.
    """
    with np.errstate(divide="ignore"):
        inverse = np.where(deviation > 0, 1 / deviation, 0.0)
    return (series * inverse[:, None]).astype(np.float32)


def is_constant(series: Floats, level: Floats) -> NDArray[np.bool_]:
    """Mark voxels whose cleaned series is rounding error beside the level they had.

    Parameters
    ----------
    series : array, (voxels, volumes)
        Cleaned.
    level : array, (voxels,)
        Largest absolute value before cleaning.
    """
    return np.asarray(series.std(axis=1) <= 1e-6 * np.maximum(np.abs(level), 1e-30))
