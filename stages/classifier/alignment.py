"""Alignments as preprocessing writes them, ITK affines: read, measured, used to turn heads.

A head turned upright keeps its size, which tells much of sex and which alignment by 12 parameters
takes away, and needs no cohort: a person alone is placed as all others were.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import io, ndimage
from scipy.io.matlab import MatReadError

from stages.classifier.images import Volume

KINDS = ("AffineTransform_double_3_3", "MatrixOffsetTransformBase_double_3_3")
SHAPE = (96, 120, 88)  # 192 × 240 × 176 mm, room for any head above the template's lower border
SPACING_MM = 2.0
FIRST_MM = (-95.0, -128.0, -72.0)  # middle of the first voxel, from the anterior commissure, RAS+
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_alignment(path: str | Path) -> NDArray[np.float64]:
    """Read an ITK affine in MATLAB's format as (4, 4), target's world → head's world, RAS+, mm.

    Raises
    ------
    ValueError
        No such file format, or an affine that turns space inside out.
    """
    try:
        entries = io.loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise ValueError(f"{path}: no readable alignment ({error}); make it again") from error
    kinds = [kind for kind in KINDS if kind in entries]
    values = np.ravel(entries[kinds[0]]) if kinds else np.zeros(0)
    middle = np.ravel(entries.get("fixed", np.zeros(0)))
    if values.size != 12 or middle.size != 3:
        raise ValueError(f"{path}: no ITK affine; run preprocessing again")
    affine = np.eye(4)
    affine[:3, :3] = values[:9].reshape(3, 3)
    affine[:3, 3] = values[9:] + middle - affine[:3, :3] @ middle  # ITK turns about ``fixed``
    if not np.isfinite(affine).all() or np.linalg.det(affine) <= 0:
        raise ValueError(f"{path}: an affine without a volume; run preprocessing again")
    return LPS_TO_RAS @ affine @ LPS_TO_RAS


def volume_ratio(alignment: NDArray[np.float64]) -> float:
    """Say how much larger a head is than the template it was aligned with."""
    return float(np.linalg.det(alignment[:3, :3]))


def keep_head(volume: Volume) -> Volume:
    """Set to 0 what is not head: noise around it, and with it where the field of view ends.

    Head is the largest connected part above t₂ + 0.1 (t₉₈ - t₂), percentiles of voxels that are not
    0 (Smith 2002, Hum Brain Mapp 17:143-155), with the holes in it.

    Raises
    ------
    ValueError
        Nothing but zeros.
    """
    values = volume.data[volume.data != 0]
    if not values.size:
        raise ValueError("no voxel differs from 0; run preprocessing on the head again")
    low, high = np.percentile(values, [2, 98])
    parts, _ = ndimage.label(volume.data > low + 0.1 * (high - low))
    sizes = np.bincount(parts.ravel())[1:]
    if not sizes.size:
        return volume
    head = ndimage.binary_fill_holes(parts == 1 + int(sizes.argmax()))
    return Volume(np.where(head, volume.data, 0).astype(np.float32), volume.affine)


def turn_upright(volume: Volume, alignment: NDArray[np.float64]) -> Volume:
    """Sample a head by straight lines between voxels on the grid on which all heads lie alike.

    Parameters
    ----------
    volume
        3D, in the head's own frame.
    alignment
        Rigid, upright world → head's world.
    """
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = FIRST_MM
    to_voxels = np.linalg.inv(volume.affine) @ alignment @ affine
    data = ndimage.affine_transform(
        volume.data, to_voxels[:3, :3], to_voxels[:3, 3], SHAPE, order=1, cval=0.0
    )
    return Volume(data.astype(np.float32), affine)
