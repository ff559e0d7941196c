"""2.5D patches: the three orthogonal planes through a point as three channels.

Pixel (i, j) of a patch of side ``s`` lies (i − s/2, j − s/2) voxels from the point, along x and y
(axial), x and z (coronal), y and z (sagittal), so that at whole voxels a patch is a mere slice.
Outside of the volume is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.transfer.volumes import Floats

PLANES = ((0, 1), (0, 2), (1, 2))
BLOCK = 256  # patches per call of the sampler: its places fit into the cache
AXIS_COUNT = 3


def cut_slices(data: NDArray[np.uint8], centres: NDArray[np.integer[Any]], size: int) -> Any:
    """Cut patches at whole voxels without interpolation.

    Parameters
    ----------
    data : array, (x, y, z), uint8
    centres : array, (n, 3), int      voxels, may be anywhere
    size : int                        side of the patches, pixels

    Returns
    -------
    patches : array, (n, 3, size, size), uint8
    """
    half = size // 2
    padded = np.pad(data, half)
    limits = np.array(data.shape) + 2 * half - size
    first = np.asarray(centres)
    is_near = ((first >= 0) & (first <= limits)).all(1)
    first = np.clip(first, 0, limits)
    span = np.arange(size)
    patches = np.empty((len(first), AXIS_COUNT, size, size), dtype=np.uint8)
    for channel, (a, b) in enumerate(PLANES):
        where: list[Any] = [first[:, i, None, None] + half for i in range(AXIS_COUNT)]
        where[a] = first[:, a, None, None] + span[:, None]
        where[b] = first[:, b, None, None] + span[None, :]
        patches[:, channel] = padded[tuple(where)]
    patches[~is_near] = 0
    return patches


def cut_turned(
    data: NDArray[np.uint8], centres: Floats, turns: Floats, size: int
) -> NDArray[np.uint8]:
    """Cut patches whose planes are turned and stretched first, by trilinear interpolation.

    Parameters
    ----------
    data : array, (x, y, z), uint8
    centres : array, (n, 3), float         voxels
    turns : array, (n, 3, 3)               from offsets in the patch to offsets in the volume
    size : int                             side of the patches, pixels

    Returns
    -------
    patches : array, (n, 3, size, size), uint8
    """
    # Places are linear in (turn, centre), so one matrix product gives those of all patches at once:
    # (n, 12) @ (12, pixels · 3). It is several times faster than turning each patch's grid.
    basis = torch.from_numpy(_list_offsets(size))
    scale = 2.0 / np.maximum(np.array(data.shape) - 1, 1)  # to −1..1 between outermost centres
    moves = np.concatenate([np.swapaxes(turns, 1, 2), np.asarray(centres)[:, None]], axis=1) * scale
    moves[:, 3] -= 1
    # grid_sample wants the last axis in the order z, y, x.
    moves = torch.from_numpy(moves[:, :, ::-1].reshape(len(moves), -1).astype(np.float32))
    image = torch.from_numpy(np.ascontiguousarray(data)).float()[None, None]
    patches = np.empty((len(centres), AXIS_COUNT, size, size), dtype=np.uint8)
    for start in range(0, len(centres), BLOCK):
        part = slice(start, start + BLOCK)
        places = (moves[part] @ basis).view(1, 1, -1, AXIS_COUNT * size**2, 3)
        found = torch.nn.functional.grid_sample(image, places, align_corners=True)
        found = found.view(-1, AXIS_COUNT, size, size).round_().clamp_(0, 255)
        patches[part] = found.to(torch.uint8).numpy()
    return patches


def draw_turns(
    rng: np.random.Generator, count: int, *, degrees: float, stretch: float
) -> NDArray[np.float64]:
    """Draw rotations about random axes, at most ``degrees``, times scales of 1 ± ``stretch``."""
    axes = rng.standard_normal((count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.deg2rad(rng.uniform(-degrees, degrees, count))
    cross = np.zeros((count, 3, 3))
    for (row, column), (axis, sign) in {
        (0, 1): (2, -1),
        (0, 2): (1, 1),
        (1, 0): (2, 1),
        (1, 2): (0, -1),
        (2, 0): (1, -1),
        (2, 1): (0, 1),
    }.items():
        cross[:, row, column] = sign * axes[:, axis]
    sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    turns = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)  # Rodrigues' formula
    return turns * rng.uniform(1 - stretch, 1 + stretch, count)[:, None, None]


def _list_offsets(size: int) -> NDArray[np.float32]:
    """List the pixels' offsets from the centre as a matrix, (12, 3 · size² · 3).

    Row 3 k + d adds the k-th offset (k = 3: one) to coordinate d of every pixel.
    """
    span = np.arange(size) - size // 2
    offsets = np.zeros((4, AXIS_COUNT, size, size))
    offsets[3] = 1
    for channel, (a, b) in enumerate(PLANES):
        offsets[a, channel] = span[:, None]
        offsets[b, channel] = span[None, :]
    rows = offsets.reshape(4, 1, -1, 1) * np.eye(3)[:, None, :]
    return rows.reshape(12, -1).astype(np.float32)
