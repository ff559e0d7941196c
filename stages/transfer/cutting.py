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
BLOCK = 2048  # patches per call of the sampler, which bounds memory
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
    span = torch.arange(size, dtype=torch.float32) - size // 2
    grid = torch.zeros(AXIS_COUNT, size, size, 3)
    for channel, (a, b) in enumerate(PLANES):
        grid[channel, :, :, a] = span[:, None]
        grid[channel, :, :, b] = span[None, :]
    flat = grid.reshape(1, -1, 3)
    image = torch.from_numpy(np.ascontiguousarray(data)).float()[None, None]
    # grid_sample wants (z, y, x) order of the last axis, in −1..1 between outermost centres.
    scale = 2.0 / (torch.tensor(data.shape, dtype=torch.float32) - 1).clamp(min=1)
    patches = np.empty((len(centres), AXIS_COUNT, size, size), dtype=np.uint8)
    for start in range(0, len(centres), BLOCK):
        part = slice(start, start + BLOCK)
        turn = torch.as_tensor(np.asarray(turns[part]), dtype=torch.float32)
        centre = torch.as_tensor(np.asarray(centres[part]), dtype=torch.float32)
        places = flat @ turn.transpose(1, 2) + centre[:, None]
        places = (places * scale - 1).flip(-1)
        found = torch.nn.functional.grid_sample(
            image, places[None, None].reshape(1, 1, -1, flat.shape[1], 3), align_corners=True
        )
        shape = (len(centre), AXIS_COUNT, size, size)
        patches[part] = found.reshape(shape).round().clamp(0, 255).to(torch.uint8).numpy()
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
