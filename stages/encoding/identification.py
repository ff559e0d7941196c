"""Which moment was it: comparing predicted with measured patterns over voxels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


def pattern_correlations(predicted: Floats, measured: Floats) -> Floats:
    """Correlate each predicted pattern with each measured one over voxels.

    Parameters
    ----------
    predicted, measured : array, (samples, voxels)

    Returns
    -------
    r : array, (samples, samples)
        Predicted in rows, measured in columns.
    """
    predicted, measured = (_standard(array) for array in (predicted, measured))
    return np.asarray(predicted @ measured.T)


def two_way_accuracy(r: Floats) -> float:
    """Share of pairs in which the right pattern fits better than the wrong one; chance is 0.5.

    Ties count half. Kay et al. 2008 identify among many; pairs make the number independent of how
    many patterns there are.

    Parameters
    ----------
    r : array, (samples, samples)
        From ``pattern_correlations``.
    """
    own = np.diag(r)[:, None]
    wins = (own > r).sum() + 0.5 * ((own == r).sum() - len(r))
    return float(wins / (len(r) * (len(r) - 1)))


def rank_accuracy(r: Floats) -> float:
    """Share of samples whose own pattern fits best of all; chance is 1 / samples."""
    return float((r.argmax(1) == np.arange(len(r))).mean())


def _standard(patterns: Floats) -> Floats:
    patterns = patterns - patterns.mean(1, keepdims=True)
    norms = np.linalg.norm(patterns, axis=1, keepdims=True)
    return np.divide(patterns, norms, out=np.zeros_like(patterns), where=norms > 0)
