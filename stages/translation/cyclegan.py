"""CycleGAN's losses, image pool and learning rate; pure.

Two networks are asked together what they can be asked together: identity and translation are one
batch for a generator, real and made images one for a discriminator. Instance normalisation treats
every image alone, so the numbers are those of separate passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Networks:
    """G: X → Y, F: Y → X, and who tells real from made in each domain."""

    G: nn.Module
    F: nn.Module
    D_X: nn.Module
    D_Y: nn.Module

    def named(self) -> dict[str, nn.Module]:
        """List the networks by name."""
        return {"G": self.G, "F": self.F, "D_X": self.D_X, "D_Y": self.D_Y}

    @property
    def generators(self) -> list[nn.Module]:
        """G and F."""
        return [self.G, self.F]

    @property
    def discriminators(self) -> list[nn.Module]:
        """D_X and D_Y."""
        return [self.D_X, self.D_Y]


@dataclass
class Pool:
    """Keep up to ``size`` earlier translations; half of the images asked for are earlier ones.

    Shrivastava et al. 2017; a discriminator thereby remembers what it was shown before.
    """

    size: int
    images: list[Tensor] = field(default_factory=list)

    def exchange(self, made: Tensor, rng: np.random.Generator) -> Tensor:
        """Store new images, (B, 1, …), and return as many, new or from the store."""
        if self.size == 0:
            return made
        given = []
        for image in made:
            if len(self.images) < self.size:
                self.images.append(image.clone())
                given.append(image)
            elif rng.random() < 0.5:
                index = int(rng.integers(self.size))
                given.append(self.images[index])
                self.images[index] = image.clone()
            else:
                given.append(image)
        return torch.stack(given)


def adversarial_loss(scores: Tensor, *, is_real: bool) -> Tensor:
    """Least-squares loss: mean (scores − 1)² where they should say real, mean scores² else."""
    return ((scores - 1.0) if is_real else scores).square().mean()


def generator_losses(
    nets: Networks, x: Tensor, y: Tensor, *, cycle_weight: float, identity_weight: float
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Compute both generators' losses on real images x and y, each (B, 1, …).

    Returns
    -------
    losses : dict
        adversarial_G, adversarial_F, cycle_X, cycle_Y, identity_X, identity_Y; their sum is
        minimised. ``identity_weight`` is a share of ``cycle_weight``.
    made_y, made_x : tensor
        G(x) and F(y).
    """
    b, c = len(x), len(y)
    if identity_weight:
        made_y, same_y = nets.G(torch.cat([x, y])).split([b, c])
        made_x, same_x = nets.F(torch.cat([y, x])).split([c, b])
    else:
        made_y, made_x = nets.G(x), nets.F(y)
    losses = {
        "adversarial_G": adversarial_loss(nets.D_Y(made_y), is_real=True),
        "adversarial_F": adversarial_loss(nets.D_X(made_x), is_real=True),
        "cycle_X": cycle_weight * (nets.F(made_y) - x).abs().mean(),
        "cycle_Y": cycle_weight * (nets.G(made_x) - y).abs().mean(),
    }
    if identity_weight:
        weight = cycle_weight * identity_weight
        losses["identity_X"] = weight * (same_x - x).abs().mean()
        losses["identity_Y"] = weight * (same_y - y).abs().mean()
    return losses, made_y, made_x


def discriminator_loss(D: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """Compute a discriminator's loss, halved so that it learns slower than the generators."""
    real_scores, made_scores = D(torch.cat([real, made])).split([len(real), len(made)])
    return 0.5 * (
        adversarial_loss(real_scores, is_real=True) + adversarial_loss(made_scores, is_real=False)
    )


def rate_factor(epoch: int, *, epochs: int, decay_epochs: int) -> float:
    """Give the share of the learning rate at an epoch, counted from 0.

    Constant for ``epochs``, then linear to 0 within ``decay_epochs``.

    >>> [rate_factor(e, epochs=2, decay_epochs=2) for e in range(4)]
    [1.0, 1.0, 0.6666666666666667, 0.33333333333333337]
    """
    return 1.0 - max(0, epoch + 1 - epochs) / (decay_epochs + 1)
