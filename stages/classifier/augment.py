"""Random small movements, flips and intensity changes of a whole batch at once.

The same as MONAI's RandAffine, RandFlip and RandGaussianNoise with these ranges, but one call of
``grid_sample`` moves the batch. What was drawn is returned by ``draw``, then applied by ``move``.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

STRENGTH = {  # rotation (degrees), scale, shift (share of the side), noise (standard deviations)
    "none": (0.0, 0.0, 0.0, 0.0),
    "rigid": (5.0, 0.0, 0.02, 0.05),
    "light": (5.0, 0.03, 0.02, 0.05),
    "strong": (12.0, 0.08, 0.05, 0.1),
}


class Movement(NamedTuple):
    """What happens to a batch: output → input coordinates, and the noise's size."""

    matrix: Tensor  # (B, d, d + 1), in units of half a side
    noise: float


def draw(
    size: int, dims: int, strength: str, *, may_flip: bool, generator: torch.Generator
) -> Movement:
    """Draw one movement per image; rotation about each axis, one scale, a shift along each axis."""
    degrees, scale, shift, noise = STRENGTH[strength]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    angles = uniform(size, 3 if dims == 3 else 1) * math.radians(degrees)
    matrix = torch.eye(dims).repeat(size, 1, 1)
    axes = [(0, 1), (0, 2), (1, 2)] if dims == 3 else [(0, 1)]
    for number, (a, b) in enumerate(axes):
        turn = torch.eye(dims).repeat(size, 1, 1)
        cosine, sine = angles[:, number].cos(), angles[:, number].sin()
        turn[:, a, a], turn[:, b, b] = cosine, cosine
        turn[:, a, b], turn[:, b, a] = -sine, sine
        matrix = matrix @ turn
    matrix = matrix * (1 + scale * uniform(size, 1, 1))
    flip = torch.rand(size, generator=generator) < (0.5 if may_flip else 0.0)
    # grid_sample's last coordinate runs along the first voxel axis after the channels' last: x
    # (left-right, RAS+) is the first voxel axis and so the last coordinate.
    matrix[:, :, -1] *= torch.where(flip, -1.0, 1.0)[:, None]
    return Movement(torch.cat([matrix, 2 * shift * uniform(size, dims, 1)], dim=2), noise)


def move(images: Tensor, movement: Movement, generator: torch.Generator) -> Tensor:
    """Apply a movement to scaled images, (B, C, …); what enters from outside is 0."""
    matrix = _in_voxels(movement.matrix, images.shape[2:]).to(images)
    grid = nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, align_corners=False)
    if movement.noise:
        noise = torch.randn(moved.shape, generator=generator)
        moved = moved + movement.noise * noise.to(moved) * (moved != 0)
    return moved


def _in_voxels(matrix: Tensor, shape: torch.Size) -> Tensor:
    """Make a movement rigid in voxels though sides differ: coordinates are in half sides."""
    half = torch.tensor([side / 2 for side in reversed(shape)])
    linear = matrix[:, :, :-1] * half[None, None, :] / half[None, :, None]
    return torch.cat([linear, matrix[:, :, -1:]], dim=2)
