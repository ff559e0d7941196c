"""Intensities ↔ −1 … 1, the range of the networks; one scale per image.

The scale is twice the median of what is not 0, so that the middle of the tissue lies at 0 and
differences are in shares of it whatever the scanner's units; fractions of tissue keep theirs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
FRACTION = "probseg"


def find_scale(data: Array, path: str | Path) -> float:
    """Find what divides an image into 0 … 1.

    Raises
    ------
    ValueError
        An image that is 0 or constant inside.
    """
    inside = data[data != 0]
    if inside.size == 0:
        raise ValueError(f"{path}: the image is empty (0 everywhere); leave its participant out")
    if np.ptp(inside) == 0:
        raise ValueError(
            f"{path}: the image is constant ({inside[0]:g} inside); leave its participant out"
        )
    if Path(path).name.partition(".")[0].endswith(FRACTION):
        return 1.0
    return 2.0 * float(np.median(inside))


def to_network(data: Array, scale: float) -> Array:
    """Map 0 … scale to −1 … 1; what is beyond is clipped."""
    return (np.clip(data / scale, 0, 1) * 2 - 1).astype(np.float32)


def from_network(difference: Array, scale: float) -> Array:
    """Map a difference of network images to the image's own units."""
    return (difference * (scale / 2)).astype(np.float32)
