"""Finds a brain by thresholding and morphology: the way out when the networks fail.

In the manner of early T1 strippers (Shattuck et al. 2001, BSE): what is as bright as tissue and
hangs together after thin bridges through the skull are eroded is the brain. It needs a head that is
bright on a dark background; the mask is rough, and holds no more of the fluid around the brain than
closing adds.

References
----------
Otsu N. A threshold selection method from gray-level histograms. IEEE Trans SMC 9:62-66, 1979.
Shattuck DW, et al. Magnetic resonance image tissue classification. NeuroImage 13:856-876, 2001.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.preprocessing.brain_quality import clean

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def strip(head: Array) -> Mask:
    """Find the brain in a head on a grid of about 4 mm.

    Parameters
    ----------
    head : array, (x, y, z)
        Bright on dark.

    Returns
    -------
    bool array, (x, y, z)
    """
    foreground = head[head > otsu(head)]
    if foreground.size == 0:
        return np.zeros(head.shape, bool)
    # The second threshold parts bone and fluid from tissue; a little lower, since dim tissue is
    # common.
    tissue = head > 0.8 * otsu(foreground)
    core = clean(ndimage.binary_erosion(tissue, iterations=2))
    grown = ndimage.binary_dilation(core, iterations=3, mask=tissue | core)
    # Padded, as closing erodes what touches the border.
    closed = ndimage.binary_closing(np.pad(grown, 4), iterations=4)[4:-4, 4:-4, 4:-4]
    return clean(np.asarray(closed))


def otsu(values: Array) -> float:
    """Return the threshold with the greatest variance between the two classes (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    share = np.cumsum(counts)[:-1] / counts.sum()
    part = np.cumsum(counts * middles)[:-1] / counts.sum()
    total = np.sum(counts * middles) / counts.sum()
    weight = share * (1 - share)
    between = np.where(weight > 0, (total * share - part) ** 2 / np.where(weight > 0, weight, 1), 0)
    return float(edges[1:-1][int(np.argmax(between))])
