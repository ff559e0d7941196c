"""The training loop of CycleGAN, in the open; stops and goes on with the same numbers."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.translation import checkpoint
from stages.translation.cyclegan import (
    Networks,
    Pool,
    discriminator_loss,
    generator_losses,
    rate_factor,
)

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
BETAS = (0.5, 0.999)
ENLARGE = 286 / 256  # published augmentation: enlarge, then cut a random window of the first size


@dataclass(frozen=True)
class Settings:
    """How to train; names and published values are those of the spec's parameters."""

    epochs: int
    decay_epochs: int
    batch_size: int
    learning_rate: float
    cycle_weight: float
    identity_weight: float
    pool_size: int
    augment: bool
    precision: str
    seed: int


@dataclass(frozen=True)
class Samples:
    """Training images of one domain.

    Attributes
    ----------
    images : array, (n, 1, …)
        In −1 … 1.
    places : array, (n,)
        Which slice of its participant each is.
    """

    images: Array
    places: NDArray[np.int64]


def train(
    nets: Networks,
    x: Samples,
    y: Samples,
    settings: Settings,
    *,
    state_path: Path,
    identity: str,
    run_as: Networks | None = None,
    on_epoch: Callable[[int, list[dict[str, float]]], None] = lambda epoch, losses: None,
) -> list[dict[str, float]]:
    """Train until the schedule ends; return the mean losses of every epoch.

    Parameters
    ----------
    nets
        Initialised networks, on their device; changed in place.
    state_path
        Where the state is kept after every epoch, and taken up from.
    identity
        What else must be equal for a state to be taken up (the data, the architecture).
    run_as
        The same networks wrapped (compiled, on several devices).
    on_epoch
        Called after every epoch with its number and the losses so far.

    Raises
    ------
    ValueError
        The losses diverge; the state of the epoch before is kept, and named.
    """
    run_as = run_as or nets
    device = next(nets.G.parameters()).device
    kind = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    layout = _layout(kind, x.images.ndim)
    for network in nets.named().values():
        network.to(memory_format=layout)  # type: ignore[call-overload]
    adam = {"lr": settings.learning_rate, "betas": BETAS}
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(itertools.chain(*(n.parameters() for n in group)), **adam)  # type: ignore[arg-type]
        for group in (nets.generators, nets.discriminators)
    ]
    pools = [Pool(settings.pool_size), Pool(settings.pool_size)]
    rng = np.random.default_rng(settings.seed)
    losses: list[dict[str, float]] = []
    tag = f"{asdict(settings)} {identity}"
    state = checkpoint.load_state(state_path, tag)
    if state:
        losses, rng = _restore(state, nets, optimisers, pools, device)
        logger.info("goes on after epoch %d", len(losses))
    total = settings.epochs + settings.decay_epochs
    for epoch in range(len(losses), total):
        factor = rate_factor(epoch, epochs=settings.epochs, decay_epochs=settings.decay_epochs)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * factor
        sums: dict[str, Tensor] = {}
        batches = _batches(x, y, settings.batch_size, rng)
        for rows_x, rows_y in batches:
            real_x = _prepare(x.images[rows_x], settings.augment, rng, device)
            real_y = _prepare(y.images[rows_y], settings.augment, rng, device)
            real_x, real_y = (a.contiguous(memory_format=layout) for a in (real_x, real_y))
            with torch.autocast(device.type, kind, enabled=kind != torch.float32):
                terms = _step(run_as, optimisers, pools, real_x, real_y, settings, rng)
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + term.detach()
        means = {name: float(value) / len(batches) for name, value in sums.items()}
        if not all(math.isfinite(value) for value in means.values()):
            bad = ", ".join(name for name, value in means.items() if not math.isfinite(value))
            kept = f"the state after epoch {epoch} is kept in {state_path}" if epoch else "no state"
            raise ValueError(
                f"training diverged in epoch {epoch + 1} ({bad} not finite); {kept}; lower"
                " --translation-learning-rate"
            )
        losses.append({"epoch": epoch + 1, "learning_rate": adam["lr"] * factor} | means)  # type: ignore[operator]
        checkpoint.save_state(state_path, _describe(tag, nets, optimisers, pools, rng, losses))
        logger.info("epoch %d of %d: %s", epoch + 1, total, _tell(means))
        on_epoch(epoch + 1, losses)
    return losses


def _step(
    nets: Networks,
    optimisers: list[torch.optim.Optimizer],
    pools: list[Pool],
    x: Tensor,
    y: Tensor,
    settings: Settings,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Improve the generators on real x and y, then the discriminators on old and new made ones."""
    for network in nets.discriminators:
        network.requires_grad_(False)
    terms, made_y, made_x = generator_losses(
        nets,
        x,
        y,
        cycle_weight=settings.cycle_weight,
        identity_weight=settings.identity_weight,
    )
    optimisers[0].zero_grad()
    torch.stack(list(terms.values())).sum().backward()
    optimisers[0].step()

    for network in nets.discriminators:
        network.requires_grad_(True)
    terms["D_Y"] = discriminator_loss(nets.D_Y, y, pools[0].exchange(made_y.detach(), rng))
    terms["D_X"] = discriminator_loss(nets.D_X, x, pools[1].exchange(made_x.detach(), rng))
    optimisers[1].zero_grad()
    (terms["D_Y"] + terms["D_X"]).backward()
    optimisers[1].step()
    return terms


def _batches(
    x: Samples, y: Samples, size: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Deal all images of x, each with one of y drawn from those of the same slice if there are any.

    An epoch is as long as the larger domain, as published.
    """
    n = max(len(x.images), len(y.images))
    order = np.concatenate([rng.permutation(len(x.images)) for _ in range(-(-n // len(x.images)))])
    order = order[:n]
    partner = np.empty_like(order)
    for place in np.unique(x.places[order]):
        here = np.flatnonzero(x.places[order] == place)
        pool = np.flatnonzero(y.places == place)
        pool = pool if len(pool) else np.arange(len(y.images))
        rounds = [rng.permutation(pool) for _ in range(-(-len(here) // len(pool)))]
        partner[here] = np.concatenate(rounds)[: len(here)]
    return [(order[i : i + size], partner[i : i + size]) for i in range(0, n, size)]


def _layout(kind: torch.dtype, ndim: int) -> torch.memory_format:
    """Choose how images lie in memory: channels last is faster in half precision alone."""
    is_last = kind == torch.bfloat16 and ndim == 4
    return torch.channels_last if is_last else torch.contiguous_format


def _prepare(
    images: Array, augment: bool, rng: np.random.Generator, device: torch.device
) -> Tensor:
    batch = torch.from_numpy(images).to(device)
    if not augment:
        return batch
    sides = batch.shape[2:]
    larger = [round(side * ENLARGE) for side in sides]
    mode = "bilinear" if len(sides) == 2 else "trilinear"
    batch = torch.nn.functional.interpolate(batch, larger, mode=mode, align_corners=False)
    for axis, (side, large) in enumerate(zip(sides, larger, strict=True)):
        batch = batch.narrow(axis + 2, int(rng.integers(large - side + 1)), side)
    return batch.contiguous()


def _describe(
    tag: str,
    nets: Networks,
    optimisers: list[torch.optim.Optimizer],
    pools: list[Pool],
    rng: np.random.Generator,
    losses: list[dict[str, float]],
) -> dict[str, Any]:
    return {
        "settings": tag,
        "networks": {name: network.state_dict() for name, network in nets.named().items()},
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "pools": [list(pool.images) for pool in pools],
        "rng": checkpoint.rng_to_text(rng),
        "losses": losses,
    }


def _restore(
    state: dict[str, Any],
    nets: Networks,
    optimisers: list[torch.optim.Optimizer],
    pools: list[Pool],
    device: torch.device,
) -> tuple[list[dict[str, float]], np.random.Generator]:
    for name, network in nets.named().items():
        network.load_state_dict(state["networks"][name])
    for optimiser, own in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(own)
    for pool, images in zip(pools, state["pools"], strict=True):
        pool.images = [image.to(device) for image in images]
    return list(state["losses"]), checkpoint.rng_from_text(state["rng"])


def _tell(means: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in means.items())
