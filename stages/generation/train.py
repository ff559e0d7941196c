"""The training loop, in the open: draw, noise, predict, weigh, step."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.generation.denoising import EMPTY, FIRST, PRIOR, Denoising
from stages.generation.generator import Generator
from stages.generation.state import load_state, save_state
from stages.generation.team import ALONE, Team
from stages.generation.validation import Drawable, Validation

logger = logging.getLogger(__name__)

CLIP_NORM = 1.0
WEIGHT_DECAY = 1e-2
ENCODE_BATCH = 8
STEPS_PER_SEED = 1_000_003  # more than a training has


@dataclass(frozen=True)
class Settings:
    """How to train; see the spec for each."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    min_snr: float
    drop_prompt: float
    ema_decay: float
    prior_weight: float
    balance: bool
    precision: str


@dataclass(frozen=True)
class Material:
    """Images as latents, with the number of each one's prompt.

    Attributes
    ----------
    mean, spread : tensor, (n, c, h, w) or (n, c, h, w, d)
        Of the latents' distribution; spread is 0 where the codec is exact.
    prompt : tensor, (n,), int64
        Which of the prompts.
    """

    mean: Tensor
    spread: Tensor
    prompt: Tensor

    def draw(self, picks: Tensor, draws: torch.Generator, mine: Tensor) -> Tensor:
        """Draw latents of some images, and make those that ``mine`` takes of them.

        What is drawn does not depend on ``mine``.
        """
        noise = torch.randn(self.mean[picks].shape, generator=draws)
        return self.mean[picks[mine]] + self.spread[picks[mine]] * noise[mine]


def encode_material(generator: Generator, images: Tensor, prompt: Tensor) -> Material:
    """Encode images once, since the codec is never trained, and keep the latents on the CPU."""
    pairs = [generator.encode(b.to(generator.device)) for b in images.split(ENCODE_BATCH)]
    mean, spread = (torch.cat([pair[i].cpu() for pair in pairs]) for i in (0, 1))
    return Material(mean, spread, prompt)


def draw_picks(prompt: Tensor, *, count: int, balance: bool, draws: torch.Generator) -> Tensor:
    """Draw images with replacement; with ``balance`` every prompt is equally likely."""
    if not balance:
        return torch.randint(len(prompt), (count,), generator=draws)
    share = 1.0 / torch.bincount(prompt).double()[prompt]
    return torch.multinomial(share, count, replacement=True, generator=draws)


def train(
    generator: Generator,
    weights: Mapping[str, nn.Parameter],
    material: Drawable,
    prompts: Sequence[str],
    settings: Settings,
    *,
    seed: int,
    prior: Material | None = None,
    prior_prompt: str = "",
    state: Path | None = None,
    save_every: int = 200,
    on_grid: Callable[[int, Generator], None] | None = None,
    grid_every: int = 0,
    validation: Validation | None = None,
    team: Team = ALONE,
) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Train, going on from a saved state where there is one.

    What is drawn in a step follows from seed and step alone, so an interrupted training gives the
    same numbers as one that was not (bit by bit on a CPU with the same number of threads).

    Parameters
    ----------
    weights
        What is trained, by name.
    prompts
        Texts that ``material.prompt`` numbers.
    prior, prior_prompt
        Images of the untouched model and their prompt; the loss on them counts
        ``settings.prior_weight`` (Ruiz et al. 2023, eq. 2).
    on_grid
        Called with the step and the generator every ``grid_every`` steps.
    validation
        Looks at the running mean of weights, and keeps the best.
    team
        Processes that share each batch; numbers are those of one process, but for rounding.

    Returns
    -------
    averages : dict
        Name → running mean of the weights (the weights themselves with decay 0).
    losses : list
        Per step: loss on slices, loss on prior images.

    Raises
    ------
    ValueError
        The saved state is past the number of steps, or a batch cannot be shared evenly.
    """
    size = settings.batch_size
    if size % team.size:
        raise ValueError(
            f"batch_size {size} cannot be shared evenly by {team.size} processes; give a multiple"
        )
    device = generator.device
    optimiser = torch.optim.AdamW(
        list(weights.values()),
        lr=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    averages = {name: p.detach().clone() for name, p in weights.items() if settings.ema_decay}
    start = 0
    before: list[list[float]] = []
    if state is not None and state.is_file():
        start, before = load_state(
            state, weights=weights, averages=averages, optimiser=optimiser, validation=validation
        )
        if start > settings.steps:
            raise ValueError(
                f"{state}: holds {start} steps, more than the {settings.steps} asked for; remove it"
            )
        logger.info("goes on after step %d of %d", start, settings.steps)
    is_text_trained = any(name.startswith("text_encoder.") for name in weights)
    denoising = Denoising(
        generator,
        ["", prior_prompt, *prompts],
        is_text_trained=is_text_trained,
        min_snr=settings.min_snr,
        precision=settings.precision,
    )
    shared = team.share_gradients(denoising, may_leave_out=is_text_trained)
    levels = len(denoising.alphas)
    own = torch.arange(team.rank, size, team.size)  # this process's share
    mine = own if prior is None else torch.cat([own, own + size])
    found: list[Tensor] = []

    def rows() -> list[list[float]]:
        return before + (torch.stack(found).tolist() if found else [])

    generator.denoiser.train()
    for step in range(start, settings.steps):
        draws = torch.Generator().manual_seed(_mix(seed, step))
        picks = draw_picks(material.prompt, count=size, balance=settings.balance, draws=draws)
        latents, numbers = material.draw(picks, draws, own), material.prompt[picks] + FIRST
        if prior is not None:
            others = torch.randint(len(prior.mean), (size,), generator=draws)
            latents = torch.cat([latents, prior.draw(others, draws, own)])
            numbers = torch.cat([numbers, torch.full_like(others, PRIOR)])
        noise = torch.randn((len(numbers), *latents.shape[1:]), generator=draws)
        times = torch.randint(levels, (len(numbers),), generator=draws)
        is_dropped = torch.rand(len(numbers), generator=draws) < settings.drop_prompt
        numbers = torch.where(is_dropped, EMPTY, numbers)

        each = shared(*(t.to(device) for t in (latents, noise[mine], times[mine], numbers[mine])))
        own_loss = each[: len(own)].mean()
        prior_loss = each[len(own) :].mean() if prior is not None else each.new_zeros(())
        loss = own_loss + settings.prior_weight * prior_loss

        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights.values(), CLIP_NORM)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / (settings.warmup + 1))
        optimiser.step()
        _update_averages(averages, weights, decay=min(settings.ema_decay, (1 + step) / (10 + step)))
        found.append(team.mean(torch.stack([own_loss, prior_loss]).detach()))

        done = step + 1
        if not team.is_first:  # saves, draws and looks for all
            continue
        if validation is not None and done % validation.every == 0:
            with _averaged(weights, averages):
                validation.look(done, denoising, averages or weights, device)
        if state is not None and (done % save_every == 0 or done == settings.steps):
            save_state(
                state,
                step=done,
                weights=weights,
                averages=averages,
                optimiser=optimiser,
                losses=rows(),
                validation=validation,
            )
        if on_grid is not None and grid_every and done % grid_every == 0:
            with _averaged(weights, averages):
                on_grid(done, generator)
            logger.info("step %d of %d, loss %.4f", done, settings.steps, found[-1][0].item())
    generator.denoiser.eval()
    final = averages or {name: parameter.detach() for name, parameter in weights.items()}
    return final, rows()


class _averaged:  # noqa: N801 (reads as a word where it is used)
    """Put the running means in place of the weights for a while."""

    def __init__(self, weights: Mapping[str, nn.Parameter], averages: Mapping[str, Tensor]) -> None:
        self._pairs = [(weights[name], average) for name, average in averages.items()]
        self._kept: list[Tensor] = []

    def __enter__(self) -> None:
        self._kept = [parameter.detach().clone() for parameter, _ in self._pairs]
        with torch.no_grad():
            for parameter, average in self._pairs:
                parameter.copy_(average)

    def __exit__(self, *_error: object) -> None:
        with torch.no_grad():
            for (parameter, _), kept in zip(self._pairs, self._kept, strict=True):
                parameter.copy_(kept)


@torch.no_grad()
def _update_averages(
    averages: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter], *, decay: float
) -> None:
    if averages:
        means = list(averages.values())
        torch._foreach_lerp_(means, [weights[name].detach() for name in averages], 1 - decay)


def _mix(seed: int, step: int) -> int:
    """Make one number of seed and step that no other pair of reasonable size shares."""
    return (seed * STEPS_PER_SEED + step) % 2**63
