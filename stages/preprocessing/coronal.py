"""One coronal slice through the middle of a head whose posture has been corrected.

The head is turned and moved, never scaled, until it lies as the template does; the slice is then a
plane of constant y in that frame, 160 x 160 samples of 1 mm. Columns of the picture run from the
person's left to the right, rows from top to bottom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.preprocessing import itk

#: Samples along x and z, and the coordinates of the first: the template's brain spans x from -72 to
#: 72 mm and z from -72 to 82 mm, its coronal middle z from -45 to 80 mm.
SIZE = 160
FIRST_X_MM = -79.5
FIRST_Z_MM = -69.5
#: Intensities above this percentile of the brain are white in the picture.
WHITE_PERCENTILE = 99.5


def cut(
    data: NDArray[Any], affine: NDArray[Any], posture: NDArray[Any], y_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Sample the coronal plane.

    Parameters
    ----------
    data : array, (x, y, z)
        A brain.
    affine : array, (4, 4)
        Voxel to world, mm.
    posture : array, (4, 4)
        Rigid; takes points of the upright frame to world points of the head, mm.
    y_mm : float
        Where to cut, in the upright frame; negative is behind the anterior commissure.

    Returns
    -------
    plane : array, (160, 1, 160), float32
        Values along x and z; at least 0, for splines overshoot.
    grid : array, (4, 4)
        Voxel to the upright frame, mm; 1 mm voxels.
    """
    grid = np.eye(4)
    grid[:3, 3] = FIRST_X_MM, y_mm, FIRST_Z_MM
    plane = itk.resample(data, affine, posture, (SIZE, 1, SIZE), grid, order=3)
    return np.maximum(plane, 0), grid


def to_picture(plane: NDArray[Any]) -> tuple[Image.Image, float]:
    """Turn a plane into an 8-bit grey picture; also return the intensity that became white.

    Raises
    ------
    ValueError
        When the plane is empty: the brain does not reach it.
    """
    inside = plane[plane > 0]
    if inside.size == 0:
        raise ValueError("the coronal plane misses the brain; choose another coordinate")
    white = float(np.percentile(inside, WHITE_PERCENTILE))
    grey = np.rint(np.clip(plane[:, 0] / white, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(grey.T[::-1])), white
