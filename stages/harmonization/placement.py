"""Put a volume on another grid: every geometry is one scaling and one shift per axis.

Along each axis, output voxel k looks at input position

    c(k) = scale · k + offset

so a geometry is three such axes, chains of geometries are products of small matrices, and a volume
is resampled by three matrix products: exact copies where scale is 1 and offset whole, trilinear
interpolation where voxels get smaller, a triangle filter as wide as an output voxel where they get
larger (no aliasing). What lies outside the field of view is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """One axis of a placement: ``size`` output voxels, looking at ``scale * k + offset``."""

    size: int
    scale: float = 1.0
    offset: float = 0.0

    def weights(self, n_in: int) -> Array:
        """Give the matrix, (size, n_in), whose rows sum to 1 in the field of view, else to 0."""
        centre = self.scale * np.arange(self.size)[:, None] + self.offset
        reach = max(1.0, self.scale)
        weight = np.maximum(0.0, 1.0 - np.abs(np.arange(n_in)[None, :] - centre) / reach)
        is_inside = self.covers(n_in)
        # At the rim, what the filter misses outside is made up for inside, so edges stay bright.
        weight[is_inside] /= weight[is_inside].sum(axis=1, keepdims=True)
        weight[~is_inside] = 0.0
        return weight.astype(np.float32)

    def covers(self, n_in: int) -> NDArray[np.bool_]:
        """Tell which output voxels have their centre in the field of view, (size,)."""
        centre = self.scale * np.arange(self.size) + self.offset
        return (centre >= -0.5) & (centre <= n_in - 0.5)


Placement = tuple[Axis, Axis, Axis]


def place_native(shape: Sequence[int]) -> Placement:
    """Leave the grid as it is."""
    return _axes(Axis(n) for n in shape)


def place_corner(shape: Sequence[int], target: Sequence[int]) -> Placement:
    """Paste at the first corner of a grid of zeros; what is longer is cut at the far end."""
    del shape  # the first corner is where it is, whatever the volume's size
    return _axes(Axis(size) for size in target)


def place_centred(shape: Sequence[int], target: Sequence[int]) -> Placement:
    """Crop or pad both ends alike, without interpolation."""
    return _axes(
        Axis(size, offset=float((n - size) // 2)) for n, size in zip(shape, target, strict=True)
    )


def place_stretched(shape: Sequence[int], target: Sequence[int]) -> Placement:
    """Stretch the field of view onto the target grid, edge to edge."""
    return _axes(
        Axis(size, scale=n / size, offset=0.5 * n / size - 0.5)
        for n, size in zip(shape, target, strict=True)
    )


def place_isotropic(
    centre: Sequence[float], zooms: Sequence[float], target: Sequence[int], spacing_mm: float
) -> Placement:
    """Sample at one voxel size in mm, with a point of the head in the middle of the grid.

    The size of the head stays; where it lay in the field of view, and how large that was, do not.

    Parameters
    ----------
    centre : (3,)
        Input voxel that comes to lie in the middle: the middle of the brain.
    zooms : (3,)
        Input voxel size, mm.
    target : (3,)
        Output voxels.
    spacing_mm : float
        Output voxel size.
    """
    return _axes(
        Axis(size, scale=spacing_mm / zoom, offset=middle - 0.5 * (size - 1) * spacing_mm / zoom)
        for middle, zoom, size in zip(centre, zooms, target, strict=True)
    )


@dataclass(frozen=True)
class Geometry:
    """What is known of an image that is to be placed.

    ``centre`` is the middle of the brain's bounding box, in voxels.
    """

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class Target:
    """A grid to place images on; ``spacing_mm`` counts for isotropic placement only."""

    shape: tuple[int, int, int]
    spacing_mm: float = 1.0


GEOMETRIES: Mapping[str, Callable[[Geometry, Target], Placement]] = {
    "native": lambda image, target: place_native(image.shape),
    "zerobackground": lambda image, target: place_corner(image.shape, target.shape),
    "croppad": lambda image, target: place_centred(image.shape, target.shape),
    "resize": lambda image, target: place_stretched(image.shape, target.shape),
    "isotropic": lambda image, target: place_isotropic(
        image.centre, image.zooms, target.shape, target.spacing_mm
    ),
}


def resample(data: Array, matrices: Sequence[Array]) -> Array:
    """Multiply each axis of a volume, (x, y, z), by its matrix, (new, old)."""
    out = data.astype(np.float32, copy=False)
    for axis, matrix in enumerate(matrices):
        if not _is_identity(matrix):
            moved = np.tensordot(matrix, out, axes=(1, axis))
            out = np.moveaxis(moved, 0, axis)
    return np.ascontiguousarray(out)


def place(data: Array, placement: Placement) -> Array:
    """Put a volume, (x, y, z), on a placement's grid; copy where nothing lies between voxels."""
    if all(axis.scale == 1 and float(axis.offset).is_integer() for axis in placement):
        return _copy(data, placement)
    sizes = zip(placement, data.shape, strict=True)
    return resample(data, [axis.weights(n) for axis, n in sizes])


def move_affine(affine: NDArray[np.float64], placement: Placement) -> NDArray[np.float64]:
    """Give the affine of the placed volume: anatomy keeps its world coordinates, (4, 4), mm."""
    inner = np.diag([*(axis.scale for axis in placement), 1.0])
    inner[:3, 3] = [axis.offset for axis in placement]
    return np.asarray(affine @ inner, dtype=np.float64)


def swap_geometry(image: Geometry, shape: Sequence[int]) -> tuple[Geometry, Placement]:
    """Scan the same head with another field of view: crop or pad its slices at both ends alike.

    Returns
    -------
    geometry : Geometry
        The image as it would then be described.
    placement : Placement
        From the image to that field of view.
    """
    placement = place_centred(image.shape, shape)
    x, y, z = (c - axis.offset for c, axis in zip(image.centre, placement, strict=True))
    size = (placement[0].size, placement[1].size, placement[2].size)
    return Geometry(size, image.zooms, (x, y, z)), placement


def _copy(data: Array, placement: Placement) -> Array:
    out = np.zeros([axis.size for axis in placement], dtype=np.float32)
    source, goal = [], []
    for axis, n in zip(placement, data.shape, strict=True):
        first = int(axis.offset)
        low, high = max(first, 0), min(first + axis.size, n)
        source.append(slice(low, max(low, high)))
        goal.append(slice(low - first, max(low, high) - first))
    out[tuple(goal)] = data[tuple(source)]
    return out


def _axes(axes: Sequence[Axis] | object) -> Placement:
    x, y, z = axes  # type: ignore[misc]
    return x, y, z


def _is_identity(matrix: Array) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool((matrix == np.eye(len(matrix))).all())
