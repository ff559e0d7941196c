"""Volumes ↔ what the networks see: slices of a plane, or whole volumes, at some voxel size.

Axes lie along the world's, so resampling is one small matrix per axis. Going down, a voxel is the
mean over its box (exact for blocks of whole voxels); going up, differences are interpolated
linearly and fade to 0 beyond the outermost slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
MULTIPLE = 4  # generators halve the resolution twice


class Axis(NamedTuple):
    """Voxel centres along one world axis: ``start``, ``start + step``, …, mm."""

    n: int
    start: float
    step: float

    @property
    def centres(self) -> Matrix:
        """Centres, mm, (n,)."""
        return np.asarray(self.start + self.step * np.arange(self.n), dtype=np.float64)


@dataclass(frozen=True)
class Grid:
    """What the networks see of a volume.

    Attributes
    ----------
    axes
        World x, y, z. In two dimensions the axis across the plane lists the slices.
    plane
        axial, coronal, sagittal, or ``volume``.
    thickness_mm
        What a slice averages over.
    """

    axes: tuple[Axis, Axis, Axis]
    plane: str
    thickness_mm: float

    @property
    def dims(self) -> int:
        """2 for slices, 3 for volumes."""
        return 3 if self.plane == "volume" else 2

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of what a network sees at once."""
        return tuple(a.n for i, a in enumerate(self.axes) if i != PLANES.get(self.plane, -1))

    @property
    def affine(self) -> Matrix:
        """Voxel → world of the slices as a volume, mm."""
        affine = np.diag([*(a.step for a in self.axes), 1.0])
        affine[:3, 3] = [a.start for a in self.axes]
        return affine

    def to_json(self) -> dict[str, Any]:
        """Describe the grid in plain values."""
        axes = [list(axis) for axis in self.axes]
        return {"Axes": axes, "Plane": self.plane, "ThicknessMm": self.thickness_mm}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Grid:
        """Read what ``to_json`` wrote."""
        x, y, z = (Axis(int(n), float(s), float(d)) for n, s, d in data["Axes"])
        return cls((x, y, z), data["Plane"], float(data["ThicknessMm"]))


def axes_of(shape: Sequence[int], affine: Matrix) -> tuple[Axis, Axis, Axis]:
    """Describe a volume's grid, axis by axis."""
    x, y, z = (Axis(int(n), float(affine[i, 3]), float(affine[i, i])) for i, n in enumerate(shape))
    return x, y, z


def make_grid(
    source: tuple[Axis, Axis, Axis],
    *,
    plane: str,
    slices_mm: Sequence[float],
    stack_mm: float,
    spacing_mm: float,
    size: int,
    box: tuple[Sequence[int], Sequence[int]],
) -> Grid:
    """Choose the networks' grid.

    Parameters
    ----------
    source
        Grid of the images.
    plane
        axial, coronal, sagittal, or volume.
    slices_mm
        Where slices are cut, unless ``stack_mm`` > 0: then every so many mm through the box.
    spacing_mm
        Voxel size within the plane; rounded to whole voxels of the source, at least one.
    size
        Voxels per side; 0 for the smallest multiple of 4 that holds the box.
    box
        First and last voxel, (3,) each, in which any image is not 0.

    Raises
    ------
    ValueError
        A slice outside the images.
    """
    across = PLANES.get(plane, -1)
    axes = []
    for i, axis in enumerate(source):
        if i == across:
            axes.append(_place_slices(axis, slices_mm, stack_mm, (box[0][i], box[1][i]), plane))
            continue
        block = max(1, round(spacing_mm / axis.step))
        extent = int(box[1][i]) - int(box[0][i]) + 1
        need = -(-extent // block) + 2  # a voxel of margin on both sides
        n = -(-(size or need) // MULTIPLE) * MULTIPLE
        middle = (int(box[0][i]) + int(box[1][i])) / 2
        first = round(middle - n * block / 2 + 0.5)
        step = block * axis.step
        axes.append(Axis(n, axis.start + axis.step * (first + (block - 1) / 2), step))
    x, y, z = axes
    thickness = max(spacing_mm, source[across].step) if across >= 0 else 0.0
    return Grid((x, y, z), plane, thickness)


def gather(volume: Array, source: tuple[Axis, ...], grid: Grid) -> Array:
    """Resample a volume, (X, Y, Z), for the networks: (slices, 1, a, b) or (1, 1, x, y, z)."""
    weights = [
        box_weights(axis, own, grid.thickness_mm if i == PLANES.get(grid.plane, -1) else own.step)
        for i, (axis, own) in enumerate(zip(source, grid.axes, strict=True))
    ]
    return to_samples(resample(volume, weights), grid)


def scatter(samples: Array, grid: Grid, target: tuple[Axis, ...]) -> Array:
    """Resample differences, as ``gather`` shapes them, on a volume's grid; 0 where nothing is."""
    weights = []
    for own, axis in zip(grid.axes, target, strict=True):
        if own.n == 1:  # a single slice is a slab of its thickness
            inside = np.abs(axis.centres - own.start) <= grid.thickness_mm / 2
            weights.append(inside.astype(np.float32)[:, None])
        else:
            weights.append(linear_weights(own, axis))
    return resample(to_volume(samples, grid), weights)


def to_samples(volume: Array, grid: Grid) -> Array:
    """Put slices first, (x, y, z) → (slices, 1, a, b); a volume becomes (1, 1, x, y, z)."""
    if grid.dims == 3:
        return volume[None, None]
    return np.ascontiguousarray(np.moveaxis(volume, PLANES[grid.plane], 0)[:, None])


def to_volume(samples: Array, grid: Grid) -> Array:
    """Undo ``to_samples``."""
    if grid.dims == 3:
        return samples[0, 0]
    return np.ascontiguousarray(np.moveaxis(samples[:, 0], 0, PLANES[grid.plane]))


def resample(volume: Array, weights: Sequence[Array]) -> Array:
    """Multiply every axis by its matrix, (n_out, n_in)."""
    for i, matrix in enumerate(weights):
        volume = np.moveaxis(np.tensordot(matrix, volume, axes=(1, i)), 0, i)
    return np.ascontiguousarray(volume, dtype=np.float32)


def box_weights(source: Axis, target: Axis, width: float) -> Array:
    """Average over boxes of ``width`` mm around the target's centres, (target.n, source.n).

    What of a box lies outside of the source counts as 0.
    """
    low, high = (target.centres[:, None] + s * width / 2 for s in (-1, 1))
    left, right = (source.centres[None] + s * source.step / 2 for s in (-1, 1))
    overlap = np.minimum(high, right) - np.maximum(low, left)
    return (np.clip(overlap, 0, None) / width).astype(np.float32)


def linear_weights(source: Axis, target: Axis) -> Array:
    """Interpolate linearly between the source's centres, (target.n, source.n); 0 beyond a step."""
    distance = np.abs(target.centres[:, None] - source.centres[None]) / source.step
    return np.clip(1 - distance, 0, None).astype(np.float32)


def _place_slices(
    axis: Axis, slices_mm: Sequence[float], stack_mm: float, box: tuple[int, int], plane: str
) -> Axis:
    low, high = (axis.start + axis.step * edge for edge in box)
    if stack_mm > 0:
        count = max(1, int((high - low) // stack_mm))
        start = (low + high) / 2 - stack_mm * (count - 1) / 2
        return Axis(count, _snap(start, axis), stack_mm)
    positions = sorted(set(slices_mm))
    for position in positions:
        if not low <= position <= high:
            raise ValueError(
                f"slice at {position:g} mm: the images are empty there; {plane} slices lie between"
                f" {low:g} and {high:g} mm"
            )
    steps = set(np.diff(positions).round(3))
    if len(steps) > 1:
        listed = ", ".join(f"{p:g}" for p in positions)
        raise ValueError(f"slices_mm {listed}: give slices at equal distances")
    return Axis(len(positions), positions[0], float(steps.pop()) if steps else axis.step)


def _snap(position: float, axis: Axis) -> float:
    return axis.start + axis.step * round((position - axis.start) / axis.step)
