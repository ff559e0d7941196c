"""Grids of the brain networks: from an image's own voxels to the world's axes and back.

An affine takes voxel indices to world millimetres, RAS+. A world grid has cubic voxels along the
world's axes, so that a head whose header is right stands upright in it, however its voxels were
stored.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def shrink(volume: Floats, affine: Array, voxel_mm: float) -> tuple[Floats, Array]:
    """Average whole blocks of voxels, as many as stay below ``voxel_mm``, so that sampling does not
    alias.

    Parameters
    ----------
    volume : array, (x, y, z), float32
    affine : array, (4, 4)
    voxel_mm : float
        Of the grid that is sampled next.

    Returns
    -------
    volume : array, (x', y', z'), float32
    affine : array, (4, 4)
        Of the blocks; voxels left over at the far end of an axis are dropped.

    Examples
    --------
    >>> volume, affine = shrink(np.arange(4, dtype=np.float32).reshape(4, 1, 1), np.eye(4), 2.0)
    >>> volume.ravel().tolist(), affine[0].tolist()
    ([0.5, 2.5], [2.0, 0.0, 0.0, 0.5])
    """
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    factors = np.clip((voxel_mm / zooms + 0.01).astype(int), 1, volume.shape)
    for axis, f in enumerate(factors):
        if f > 1:
            rows = np.moveaxis(volume, axis, 0)[: volume.shape[axis] // f * f]
            total = rows[0::f].copy()
            for i in range(1, f):
                total += rows[i::f]
            volume = np.moveaxis(total / np.float32(f), 0, axis)
    moved = np.diag([*factors.astype(float), 1.0])
    moved[:3, 3] = (factors - 1) / 2  # the middle of a block, in the old voxels
    return volume, affine @ moved


def extend(volume: Floats, affine: Array) -> tuple[Floats, Array]:
    """Repeat the outermost voxels once, so that a coarser grid has values up to the last one."""
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3].sum(axis=1)
    return np.pad(volume, 1, mode="edge"), moved


def sample(
    volume: Floats, affine: Array, shape: tuple[int, ...], grid: Array, *, fill: float
) -> Floats:
    """Read a volume linearly at the voxels of another grid, ``fill`` outside of it."""
    matrix = np.linalg.inv(affine) @ grid
    linear = matrix[:3, :3]
    # A vector takes scipy's separable path, several times as fast as a matrix.
    separable = np.allclose(linear, np.diag(np.diag(linear)), atol=1e-9)
    with warnings.catch_warnings():
        # It only tells that a vector meant something else before 2016.
        warnings.filterwarnings("ignore", "The behavior of affine_transform", UserWarning)
        return np.asarray(
            ndimage.affine_transform(
                volume,
                np.diag(linear).copy() if separable else linear,
                matrix[:3, 3],
                shape,
                np.float32,
                order=1,
                mode="constant",
                cval=fill,
            )
        )


def world_grid(
    low: Array,
    high: Array,
    voxel_mm: float,
    *,
    smallest: tuple[int, ...],
    largest: int,
    multiple: int,
) -> tuple[tuple[int, ...], Array]:
    """Make a grid along the world's axes around the middle of a box.

    Parameters
    ----------
    low, high : array, (3,)
        Corners of the box, mm.
    voxel_mm : float
    smallest : tuple of int
        Least number of voxels per axis.
    largest, multiple : int
        Greatest number of voxels per axis, and what it is a multiple of.

    Returns
    -------
    shape : tuple of int
    affine : array, (4, 4)
    """
    need = np.ceil((high - low) / voxel_mm / multiple).astype(int) * multiple
    shape = np.clip(need, smallest, largest)
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = (low + high) / 2 - voxel_mm * (shape - 1) / 2
    return tuple(int(n) for n in shape), affine


def bounds_mm(mask: Mask, affine: Array) -> tuple[Array, Array]:
    """Return the lowest and the highest world coordinates of a mask's bounding box, outer faces."""
    slices = ndimage.find_objects(mask.astype(np.uint8))[0]
    faces = [(s.start - 0.5, s.stop - 0.5) for s in slices]
    corners = np.array(np.meshgrid(*faces)).reshape(3, -1)
    points = affine[:3, :3] @ corners + affine[:3, 3:]
    return points.min(axis=1), points.max(axis=1)


def to_native(values: Floats, grid: Array, shape: tuple[int, ...], affine: Array) -> Floats:
    """Bring values to the image's grid, working only on the box that they cover; 0 elsewhere."""
    ends = [(0, n - 1) for n in values.shape]
    to_voxel = np.linalg.inv(affine) @ grid
    corners = to_voxel[:3, :3] @ np.array(np.meshgrid(*ends)).reshape(3, -1) + to_voxel[:3, 3:]
    start = np.clip(np.floor(corners.min(axis=1)).astype(int), 0, shape)
    stop = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 1, start, shape)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    whole = np.zeros(shape, np.float32)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    if all(stop > start):
        whole[box] = sample(values, grid, tuple(stop - start), moved, fill=0.0)
    return whole
