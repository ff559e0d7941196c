"""What a generator of slices or volumes is, whatever it is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.generation.slices import Pixels, to_pixels

SCRATCH, STABLE_DIFFUSION, LATENT_VOLUME = "scratch", "stable-diffusion", "latent-volume"


@dataclass
class Generator:
    """A diffusion model with all that stands between it and prompts and slices.

    Attributes
    ----------
    kind
        scratch, stable-diffusion or latent-volume.
    denoiser : module
        (latents (B, c, h, w), times (B,), states) → prediction, (B, c, h, w); of volumes, latents
        are (B, c, h, w, d) and images (B, 1, x, y, z).
    text_encoder : module
        Tokens → states.
    tokenize
        Prompts → tokens, one row each.
    encode
        Images (B, 1, s, s), -1 to 1 → mean and standard deviation of latents.
    decode
        Latents → images (B, 1, s, s).
    noising : DDPMScheduler
        How noise is added, and what the denoiser predicts of it.
    latent_shape
        (c, h, w) or (c, h, w, d).
    to_slices
        Images → mid-coronal slices, (B, 160, 160), uint8.
    codec : module or None
        What encodes and decodes, where it is trained here and kept with the weights.
    """

    kind: str
    denoiser: nn.Module
    text_encoder: nn.Module
    tokenize: Callable[[Sequence[str]], Tensor]
    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor], Tensor]
    noising: Any
    latent_shape: tuple[int, ...]
    to_slices: Callable[[Tensor], Pixels] = to_pixels
    codec: nn.Module | None = None

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.denoiser.parameters()).device

    def states(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts."""
        return self.text_encoder(self.tokenize(prompts).to(self.device))

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """List all weights that training could change, by name; the image codec is never one."""
        parts = {"unet": self.denoiser, "text_encoder": self.text_encoder}
        return {
            f"{part}.{name}": parameter
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
        }


def add_noise(alphas: Tensor, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Mix latents with noise: sqrt(a_t) z + sqrt(1 - a_t) e."""
    a = _each(alphas[times], latents)
    return a.sqrt() * latents + (1 - a).sqrt() * noise


def aim(kind: str, alphas: Tensor, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Say what the denoiser should have answered: the noise (epsilon) or the velocity.

    Raises
    ------
    ValueError
        Another kind of prediction.
    """
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        a = _each(alphas[times], latents)
        return a.sqrt() * noise - (1 - a).sqrt() * latents
    raise ValueError(f"prediction type {kind!r}: expected epsilon or v_prediction")


def min_snr_weights(kind: str, alphas: Tensor, times: Tensor, gamma: float) -> Tensor:
    """Weigh noise levels by min(SNR, gamma) / SNR, or / (SNR + 1) for velocity (Hang et al. 2023).

    ``gamma`` 0 weighs all alike.
    """
    if gamma == 0:
        return torch.ones(len(times), device=alphas.device)
    snr = alphas[times] / (1 - alphas[times]).clamp(min=1e-8)
    return snr.clamp(max=gamma) / (snr + 1 if kind == "v_prediction" else snr.clamp(min=1e-8))


def _each(values: Tensor, latents: Tensor) -> Tensor:
    """Shape values, (B,), to multiply latents, (B, ...), one by one."""
    return values.view(-1, *[1] * (latents.ndim - 1))
