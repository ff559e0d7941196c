"""Drawing slices from a generator by DDIM with classifier-free guidance (Song et al. 2021)."""

import hashlib
from collections.abc import Sequence

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from stages.generation.generator import Generator


def draw_seed(*words: object) -> int:
    """Make a seed that depends on nothing but the names of what is drawn and the run's seed."""
    text = "/".join(map(str, words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


@torch.no_grad()
def sample(
    generator: Generator,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    batch: int,
) -> Tensor:
    """Draw one image per prompt; its noise follows from its own seed alone.

    Parameters
    ----------
    prompts, seeds
        In parallel.
    guidance
        e(empty) + guidance (e(prompt) - e(empty)); 1 uses the prompt alone.

    Returns
    -------
    images : tensor, (n, 1, s, s), float32, about -1 to 1
    """
    was_training = generator.denoiser.training
    generator.denoiser.eval()
    images = []
    for start in range(0, len(prompts), batch):
        some = slice(start, start + batch)
        images.append(_sample_batch(generator, prompts[some], seeds[some], steps, guidance))
    generator.denoiser.train(was_training)
    return torch.cat(images)


def _sample_batch(
    generator: Generator, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float
) -> Tensor:
    scheduler = DDIMScheduler.from_config(generator.noising.config)
    scheduler.set_timesteps(steps)
    latents = torch.stack(
        [
            torch.randn(generator.latent_shape, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    ).to(generator.device)
    states = generator.states(prompts)
    is_guided = guidance > 1
    if is_guided:
        states = torch.cat([generator.states([""] * len(prompts)), states])
    for time in scheduler.timesteps:
        both = torch.cat([latents, latents]) if is_guided else latents
        times = time.expand(len(both)).to(generator.device)
        predicted = generator.denoiser(both, times, states)
        if is_guided:
            empty, full = predicted.chunk(2)
            predicted = empty + guidance * (full - empty)
        latents = scheduler.step(predicted, time, latents).prev_sample
    return generator.decode(latents).float().cpu()
