"""An image as a classifier would get it, at full size or pooled to a small cube for the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.harmonization.nifti import Volume
from stages.harmonization.placement import (
    GEOMETRIES,
    Array,
    Axis,
    Geometry,
    Placement,
    Target,
    place,
    place_stretched,
    resample,
    swap_geometry,
)

Scale = Callable[[Array], Array]
GREY = 0.5


@dataclass(frozen=True)
class Views:
    """Small cubes, (g, g, g), of one image.

    ``support`` is the share of each voxel that was scanned; ``swapped`` the image after its head
    was put into another field of view, ``shifted`` after it was moved by one slice; None where the
    arm gives no other field of view to put it in.
    """

    image: Array
    support: Array
    swapped: Array | None
    shifted: Array | None


def describe(volume: Volume, mask: NDArray[np.bool_]) -> Geometry:
    """Say what a placement has to know of an image and its brain mask, (x, y, z).

    Raises
    ------
    ValueError
        Mask and image have different grids, or the mask is empty.
    """
    if mask.shape != volume.data.shape:
        raise ValueError(
            f"the brain mask has shape {_text(mask.shape)}, its image {_text(volume.data.shape)}"
        )
    if not mask.any():
        raise ValueError("the brain mask is empty")
    centre = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        centre.append(0.5 * float(inside[0] + inside[-1]))
    x, y, z = volume.data.shape
    return Geometry((x, y, z), volume.zooms, (centre[0], centre[1], centre[2]))


def keep_content(data: Array, mask: NDArray[np.bool_], grey: Array | None, content: str) -> Array:
    """Set to 0 what is not wanted of an image, (x, y, z).

    Parameters
    ----------
    grey : array, (x, y, z), optional
        Fraction of grey matter; needed for content ``gm``.
    content : {"brain", "head", "gm"}
        ``gm`` keeps the brain where grey matter is half of the voxel or more.

    Raises
    ------
    ValueError
        Grey matter is wanted and not given.
    """
    if content == "head":
        return data
    if content == "gm":
        if grey is None:
            raise ValueError("no grey-matter fractions for content gm; run preprocessing's segment")
        mask = mask & (grey >= GREY)
    return np.where(mask, data, np.float32(0))


def read_target(plan: Mapping[str, Any], arm: str) -> tuple[str, Target]:
    """Read an arm's geometry and grid from a plan.

    Raises
    ------
    ValueError
        The plan does not know the arm.
    """
    if arm not in plan["Arms"]:
        listed = ", ".join(plan["Arms"])
        raise ValueError(f"the plan has no arm {arm!r} (it has {listed}); run fingerprint with it")
    entry = plan["Arms"][arm]
    x, y, z = entry["Shape"] or (0, 0, 0)  # native: each image keeps its own
    return str(entry["Geometry"]), Target((x, y, z), float(entry["SpacingMm"]))


def render(data: Array, placement: Placement, scale: Scale) -> Array:
    """Map an image's values and put it on a grid; what was not scanned gets no signal's value."""
    background = scale(np.zeros(1, np.float32))[0]
    return place(scale(data) - background, placement) + background


def render_views(
    data: Array,
    image: Geometry,
    geometry: str,
    target: Target,
    scale: Scale,
    *,
    grid: int,
    slice_axis: int,
    other: Sequence[int] | None,
) -> Views:
    """Pool an image to a cube as it looks in an arm, after a swap and after a shift.

    Parameters
    ----------
    data : array, (x, y, z)
        Values as preprocessed.
    other : (3,), optional
        Voxel counts of the field of view to put the head in; None for no such view.
    """
    background = scale(np.zeros(1, np.float32))[0]
    mapped = scale(data) - background
    place_in = GEOMETRIES[geometry]

    def pooled(*steps: Placement) -> Array:
        last = [axis.size for axis in steps[-1]]
        chain = [*steps, place_stretched(last, [grid] * 3)]
        return resample(mapped, _multiply(chain, data.shape)) + background

    arm = place_in(image, target)
    covers = [axis.covers(n) for axis, n in zip(arm, data.shape, strict=True)]
    sizes = [len(line) for line in covers]
    to_cube = place_stretched(sizes, [grid] * 3)
    x, y, z = (
        axis.weights(n) @ line.astype(np.float32)
        for axis, n, line in zip(to_cube, sizes, covers, strict=True)
    )
    support = x[:, None, None] * y[:, None] * z
    if other is None:
        return Views(pooled(arm), support, None, None)
    swapped, into_other = swap_geometry(image, other)
    shift: list[Axis] = [
        Axis(n, offset=float(axis == slice_axis)) for axis, n in enumerate(data.shape)
    ]
    moved = Geometry(
        image.shape,
        image.zooms,
        (
            image.centre[0] - shift[0].offset,
            image.centre[1] - shift[1].offset,
            image.centre[2] - shift[2].offset,
        ),
    )
    return Views(
        pooled(arm),
        support,
        pooled(into_other, place_in(swapped, target)),
        pooled((shift[0], shift[1], shift[2]), place_in(moved, target)),
    )


def _multiply(chain: Sequence[Placement], shape: Sequence[int]) -> list[Array]:
    """Give one matrix per axis for a chain of placements, the first one applied first."""
    matrices = []
    for axis, n in enumerate(shape):
        sizes = [n, *(placement[axis].size for placement in chain[:-1])]
        steps = [p[axis].weights(size) for p, size in zip(chain, sizes, strict=True)]
        matrices.append(reduce(lambda done, step: step @ done, steps))
    return matrices


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
