"""The denoising loss on people who are held out of training, and the weights that do best there.

These people are taken from the training part; held-out test people are never looked at.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from stages.generation.denoising import FIRST

BEST = "best"  # which weights are kept: not the last but those of the best look
LAST_STEP, LEAST_LOSS = "the last step", "least loss on validation participants"  # why kept
LEVELS = 8  # noise levels at which each slice is looked at
BATCH = 32


class Drawable(Protocol):
    """Images to train or to look at, with the number of each one's prompt, (n,)."""

    @property
    def prompt(self) -> Tensor:
        """Which of the prompts."""

    def draw(self, picks: Tensor, draws: torch.Generator, mine: Tensor) -> Tensor:
        """Draw latents of some images, and make those that ``mine`` takes of them."""


class Validation:
    """What the loss on validation people was, and the running-mean weights when it was least.

    Noise and noise levels are drawn once, evenly over all levels, so that two looks differ by the
    weights alone.

    Attributes
    ----------
    seen : list of [step, loss]
        All looks, in order.
    best : dict
        Name → weights at the least loss.
    """

    def __init__(
        self,
        material: Drawable,
        *,
        levels: int,
        latent_shape: tuple[int, ...],
        every: int,
        seed: int,
    ) -> None:
        draws = torch.Generator().manual_seed(seed)
        picks = torch.arange(len(material.prompt)).repeat(LEVELS)
        everything = torch.arange(len(picks))
        even = (everything + torch.rand(len(picks), generator=draws)) / len(picks)
        self._times = (even * levels).long()[torch.randperm(len(picks), generator=draws)]
        self._noise = torch.randn((len(picks), *latent_shape), generator=draws)
        self._latents = material.draw(picks, draws, everything)
        self._numbers = material.prompt[picks] + FIRST
        self.every = every
        self.seen: list[list[float]] = []
        self.best: dict[str, Tensor] = {}

    @property
    def best_step(self) -> int:
        """When the loss was least; the first of equals."""
        return int(min(self.seen, key=lambda look: look[1])[0])

    @torch.no_grad()
    def look(
        self,
        step: int,
        errors: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        weights: Mapping[str, Tensor],
        device: torch.device,
    ) -> float:
        """Measure the loss, and keep the weights if it was never less.

        Parameters
        ----------
        errors
            (latents, noise, times, numbers of prompts) → error of each image.
        weights
            Those that ``errors`` is computed with.

        Raises
        ------
        ValueError
            The loss is no number any more.
        """
        parts = zip(
            *(
                whole.split(BATCH)
                for whole in (self._latents, self._noise, self._times, self._numbers)
            ),
            strict=True,
        )
        each = torch.cat([errors(*(t.to(device) for t in part)) for part in parts])
        loss = each.double().mean().item()
        if not math.isfinite(loss):
            raise ValueError(f"validation loss {loss} at step {step}; lower learning_rate")
        if loss < min((value for _, value in self.seen), default=math.inf):
            self.best = {name: value.detach().clone() for name, value in weights.items()}
        self.seen.append([step, loss])
        return loss
