"""The training loop, in the open: draw, noise, predict, weigh, step."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.generation.generator import Generator, add_noise, aim, min_snr_weights
from stages.generation.state import load_state, save_state

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
    mean, spread : tensor, (n, c, h, w)
        Of the latents' distribution; spread is 0 where the codec is exact.
    prompt : tensor, (n,), int64
        Which of the prompts.
    """

    mean: Tensor
    spread: Tensor
    prompt: Tensor

    def draw(self, picks: Tensor, draws: torch.Generator) -> Tensor:
        """Draw latents of some images."""
        noise = torch.randn(self.mean[picks].shape, generator=draws)
        return self.mean[picks] + self.spread[picks] * noise


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
    material: Material,
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

    Returns
    -------
    averages : dict
        Name → running mean of the weights (the weights themselves with decay 0).
    losses : list
        Per step: loss on slices, loss on prior images.

    Raises
    ------
    ValueError
        The saved state is past the number of steps.
    """
    device = generator.device
    optimiser = torch.optim.AdamW(
        list(weights.values()),
        lr=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )
    averages = {name: p.detach().clone() for name, p in weights.items() if settings.ema_decay}
    start = 0
    losses: list[list[float]] = []
    if state is not None and state.is_file():
        start, losses = load_state(state, weights=weights, averages=averages, optimiser=optimiser)
        if start > settings.steps:
            raise ValueError(
                f"{state}: holds {start} steps, more than the {settings.steps} asked for; remove it"
            )
        logger.info("goes on after step %d of %d", start, settings.steps)
    alphas = generator.noising.alphas_cumprod.to(device)
    kind = generator.noising.config.prediction_type
    is_text_trained = any(name.startswith("text_encoder.") for name in weights)
    texts = ["", prior_prompt, *prompts]  # the empty prompt is number 0, the prior's number 1
    tokens = generator.tokenize(texts).to(device)
    with torch.no_grad():
        all_states = generator.text_encoder(tokens)

    generator.denoiser.train()
    for step in range(start, settings.steps):
        draws = torch.Generator().manual_seed(_mix(seed, step))
        picks = draw_picks(
            material.prompt, count=settings.batch_size, balance=settings.balance, draws=draws
        )
        latents, numbers = material.draw(picks, draws), material.prompt[picks] + 2
        if prior is not None:
            others = torch.randint(len(prior.mean), (settings.batch_size,), generator=draws)
            latents = torch.cat([latents, prior.draw(others, draws)])
            numbers = torch.cat([numbers, torch.ones_like(others)])
        noise = torch.randn(latents.shape, generator=draws)
        times = torch.randint(len(alphas), (len(latents),), generator=draws)
        is_dropped = torch.rand(len(latents), generator=draws) < settings.drop_prompt
        numbers = torch.where(is_dropped, 0, numbers).to(device)
        latents, noise, times = latents.to(device), noise.to(device), times.to(device)

        states = (generator.text_encoder(tokens) if is_text_trained else all_states)[numbers]
        noisy = add_noise(alphas, latents, noise, times)
        with torch.autocast(device.type, torch.bfloat16, settings.precision == "bfloat16"):
            predicted = generator.denoiser(noisy, times, states)
        error = (predicted.float() - aim(kind, alphas, latents, noise, times)).square()
        each = min_snr_weights(kind, alphas, times, settings.min_snr) * error.mean((1, 2, 3))
        own_loss = each[: settings.batch_size].mean()
        prior_loss = each[settings.batch_size :].mean() if prior is not None else each.new_zeros(())
        loss = own_loss + settings.prior_weight * prior_loss

        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights.values(), CLIP_NORM)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, (step + 1) / (settings.warmup + 1))
        optimiser.step()
        _update_averages(averages, weights, decay=min(settings.ema_decay, (1 + step) / (10 + step)))
        losses.append([own_loss.item(), prior_loss.item()])

        done = step + 1
        if state is not None and (done % save_every == 0 or done == settings.steps):
            save_state(
                state,
                step=done,
                weights=weights,
                averages=averages,
                optimiser=optimiser,
                losses=losses,
            )
        if on_grid is not None and grid_every and done % grid_every == 0:
            with _averaged(weights, averages):
                on_grid(done, generator)
            logger.info("step %d of %d, loss %.4f", done, settings.steps, losses[-1][0])
    generator.denoiser.eval()
    final = averages or {name: parameter.detach() for name, parameter in weights.items()}
    return final, losses


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
