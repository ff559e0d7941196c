"""Move training images a little each time they are drawn; what makes a group is left alone.

At strength 1 an image is shifted by up to 2.5 % of its edge (4 mm of 160), turned by up to 4
degrees, scaled by up to 4 % and its greys bent by an exponent of up to exp(0.1), all uniformly
drawn; black and white stay. Mirroring is a choice of its own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stages.generation.generator import Generator

SHIFT, ANGLE, SCALE, BEND = 0.025, math.radians(4), 0.04, 0.1


@dataclass(frozen=True)
class Moves:
    """What is done to each image of a batch.

    Attributes
    ----------
    theta : tensor, (B, 2, 3)
        Where each pixel is taken from, -1 to 1.
    exponent : tensor, (B,)
        Of the greys, which are 0 to 1.
    """

    theta: Tensor
    exponent: Tensor

    def of(self, some: Tensor) -> "Moves":
        """Take those of some images."""
        return Moves(self.theta[some], self.exponent[some])


def draw_moves(count: int, *, strength: float, flip: bool, draws: torch.Generator) -> Moves:
    """Draw what is done to a batch of images."""
    x, y, turn, grow, bend = strength * (2 * torch.rand(5, count, generator=draws) - 1)
    mirror = torch.rand(count, generator=draws) < 0.5 * flip
    theta = place_pixels(x, y, turn, grow, torch.where(mirror, -1.0, 1.0))
    return Moves(theta, torch.exp(BEND * bend))


def place_pixels(x: Tensor, y: Tensor, turn: Tensor, grow: Tensor, side: Tensor) -> Tensor:
    """Say where pixels are taken from, (B, 2, 3); all in units of strength 1; side -1 mirrors."""
    angle, size = ANGLE * turn, torch.exp(SCALE * grow)
    cosine, sine = torch.cos(angle) * size, torch.sin(angle) * size
    across = torch.stack([side * cosine, -sine, 2 * SHIFT * x], 1)
    down = torch.stack([side * sine, cosine, 2 * SHIFT * y], 1)
    return torch.stack([across, down], 1)


def move(images: Tensor, moves: Moves) -> Tensor:
    """Move images, (B, 1, s, s), -1 (black) to 1; what comes in from outside is black."""
    theta, exponent = moves.theta.to(images), moves.exponent.to(images)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    grey = functional.grid_sample((images + 1) / 2, grid, align_corners=False)
    return 2 * grey.clamp(0, 1) ** exponent.view(-1, 1, 1, 1) - 1


@dataclass(frozen=True)
class MovingMaterial:
    """Images of which every draw is another one, encoded as they are drawn; as ``Material``.

    Attributes
    ----------
    images : tensor, (n, 1, s, s)
    prompt : tensor, (n,), int64
        Which of the prompts.
    generator
        Encodes.
    """

    images: Tensor
    prompt: Tensor
    generator: Generator
    strength: float
    flip: bool

    def __post_init__(self) -> None:
        """Refuse what has another number of axes."""
        if self.images.ndim != 4:
            raise ValueError("augmentation and flip: for slices only; set them to 0 and false")

    def draw(self, picks: Tensor, draws: torch.Generator, mine: Tensor) -> Tensor:
        """Draw latents of some images, and make those that ``mine`` takes of them."""
        moves = draw_moves(len(picks), strength=self.strength, flip=self.flip, draws=draws)
        noise = torch.randn((len(picks), *self.generator.latent_shape), generator=draws)
        moved = move(self.images[picks[mine]], moves.of(mine))
        mean, spread = self.generator.encode(moved.to(self.generator.device))
        return mean.cpu() + spread.cpu() * noise[mine]
