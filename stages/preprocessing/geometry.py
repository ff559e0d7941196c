"""Geometry of a volume: canonical orientation, what changed, and where the neck begins.

Arrays are ordered (x, y, z) towards RAS+ after :func:`to_canonical`; affines take voxel indices to
world millimetres. Cropping and reorientation never move anatomy in world coordinates: only the
voxel grid changes, and the affine with it.
"""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Height of head that is kept, from the vertex down; the value of FSL's robustfov.
HEAD_HEIGHT_MM = 170.0
#: Space kept below the lowest brain voxel when the brain reaches further than that height.
BRAIN_MARGIN_MM = 10.0


def to_canonical(data: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Permute and flip voxel axes so that they run closest to right, anterior, superior.

    No interpolation: an oblique volume stays oblique.

    Parameters
    ----------
    data : array, (i, j, k)
        A volume in any orientation.
    affine : array, (4, 4)
        Voxel to world, mm.

    Returns
    -------
    data : array, (x, y, z)
        The same values, RAS+.
    affine : array, (4, 4)
        Voxel to world of the permuted grid.

    Examples
    --------
    >>> data, affine = to_canonical(np.arange(2).reshape(2, 1, 1), np.diag([-2.0, 1.0, 1.0, 1.0]))
    >>> data.ravel().tolist(), affine[0].tolist()
    ([1, 0], [2.0, 0.0, 0.0, -2.0])
    """
    orientation = nib.orientations.io_orientation(affine)
    moved = nib.orientations.apply_orientation(data, orientation)
    return moved, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)


def zooms(affine: NDArray[Any]) -> NDArray[np.float64]:
    """Return the voxel edge lengths in mm, (3,)."""
    return np.asarray(np.sqrt((np.asarray(affine, float)[:3, :3] ** 2).sum(axis=0)))


def describe(
    shape: tuple[int, ...], affine: NDArray[Any], sform_code: int, qform_code: int
) -> dict[str, Any]:
    """Record the geometry that later audits need.

    The slice count is read along the axis with the largest voxels (the usual slice direction of an
    anisotropic acquisition), or along the last stored axis when the voxels are isotropic.

    Parameters
    ----------
    shape : (i, j, k)
        Voxels along each stored axis.
    affine : array, (4, 4)
        Voxel to world, mm.
    sform_code, qform_code : int
        NIfTI codes of the two transforms in the header.

    Returns
    -------
    dict
        ``shape`` and ``zooms`` (joined by ``x``), ``orientation`` (axis codes such as ``RAS``),
        ``n_slices``, ``sform_code``, ``qform_code``.
    """
    sizes = zooms(affine)
    slice_axis = int(np.argmax(sizes)) if sizes.max() > 1.05 * sizes.min() else 2
    return {
        "shape": "x".join(str(int(n)) for n in shape),
        "zooms": "x".join(f"{size:.4g}" for size in sizes),
        "orientation": "".join(str(code) for code in nib.aff2axcodes(affine)),
        "n_slices": int(shape[slice_axis]),
        "sform_code": int(sform_code),
        "qform_code": int(qform_code),
    }


def neck_cut(
    data: NDArray[Any],
    affine: NDArray[Any],
    mask: NDArray[np.bool_],
    *,
    head_height_mm: float = HEAD_HEIGHT_MM,
) -> int:
    """Find the lowest axial slice to keep: a fixed height below the vertex, never inside the brain.

    A fixed height, as in FSL's ``robustfov``, keeps the number of slices from depending on the size
    of the brain, which a tight box around the brain would do.

    Parameters
    ----------
    data : array, (x, y, z)
        RAS+ intensities; only their foreground matters.
    affine : array, (4, 4)
        Voxel to world, mm.
    mask : bool array, (x, y, z)
        The brain.
    head_height_mm : float
        Height kept below the vertex, mm.

    Returns
    -------
    int
        Index of the first slice to keep; 0 when the field of view is short already.

    Raises
    ------
    ValueError
        When the mask is empty.
    """
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    if slices.size == 0:
        raise ValueError("the brain mask is empty, so the neck cannot be told from the head")
    height = float(zooms(affine)[2])
    vertex = max(_vertex(data), int(slices[-1]))
    lowest_head = vertex + 1 - round(head_height_mm / height)
    lowest_brain = int(slices[0]) - round(BRAIN_MARGIN_MM / height)
    return max(0, min(lowest_head, lowest_brain))


def crop_below(
    data: NDArray[Any], affine: NDArray[Any], first_slice: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Drop the axial slices below ``first_slice`` and move the affine's origin with them."""
    shift = np.eye(4)
    shift[2, 3] = first_slice
    return data[:, :, first_slice:], np.asarray(affine, float) @ shift


def _vertex(data: NDArray[Any]) -> int:
    """Return the highest slice with at least 1 % of its area in the largest bright object."""
    step = tuple(slice(None, None, max(1, size // 64)) for size in data.shape[:2])
    coarse = data[step]
    bright = coarse > 0.2 * np.percentile(coarse, 98)
    labels, count = ndimage.label(bright)
    if count == 0:
        return data.shape[2] - 1
    head = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    area = head.mean(axis=(0, 1))
    return int(np.flatnonzero(area > 0.01)[-1])
