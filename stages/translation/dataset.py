"""Images on disk → what the networks train on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.translation import volumes
from stages.translation.grids import Grid, axes_of, gather
from stages.translation.intensities import find_scale, to_network
from stages.translation.tables import participant_of
from stages.translation.training import Samples

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
BOX_IMAGES = 20  # images looked at to find where they are not 0


@dataclass(frozen=True)
class Source:
    """The grid that all images share."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]


def find_box(paths: Sequence[str]) -> tuple[Source, tuple[list[int], list[int]]]:
    """Find the grid of the images and the first and last voxels, per axis, that are not 0."""
    first = volumes.load(paths[0])
    found = np.zeros(first.data.shape, dtype=bool)
    for path in paths[:: max(1, len(paths) // BOX_IMAGES)]:
        volume = volumes.load(path)
        volumes.check_same_grid(path, volume, first.data.shape, first.affine)
        found |= volume.data != 0
    if not found.any():
        raise ValueError(f"{paths[0]} and others: the images are empty (0 everywhere)")
    low, high = [], []
    for axis in range(3):
        occupied = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        low.append(int(occupied[0]))
        high.append(int(occupied[-1]))
    return Source(first.data.shape, first.affine), (low, high)


def read_samples(paths: Sequence[str], source: Source, grid: Grid) -> Array:
    """Read images as the networks see them, (n, slices, 1, …) in −1 … 1."""
    axes = axes_of(source.shape, source.affine)
    found = []
    for path in paths:
        volume = volumes.load(path)
        volumes.check_same_grid(path, volume, source.shape, source.affine)
        scale = find_scale(volume.data, path)
        found.append(gather(to_network(volume.data, scale) + 1, axes, grid) - 1)
    return np.stack(found)


def pool_slices(images: Array, *, name: str) -> Samples:
    """Join all participants' slices, (n, slices, 1, …), without those that show nothing.

    Raises
    ------
    ValueError
        No slice is left.
    """
    flat = images.reshape(-1, *images.shape[2:])
    places = np.tile(np.arange(images.shape[1]), len(images))
    is_constant = np.ptp(flat.reshape(len(flat), -1), axis=1) == 0
    if is_constant.all():
        raise ValueError(
            f"domain {name}: every slice is constant; choose other slices"
            " (--translation-slices-mm, --translation-plane)"
        )
    if is_constant.any():
        logger.warning("domain %s: %d constant slices left out", name, int(is_constant.sum()))
    return Samples(np.ascontiguousarray(flat[~is_constant]), places[~is_constant])


def by_participant(paths: Sequence[str]) -> Mapping[str, list[str]]:
    """Group images by participant."""
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(participant_of(path), []).append(path)
    return found
