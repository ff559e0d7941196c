"""A Stable Diffusion checkpoint, loaded from its folder.

Nothing is downloaded and no pickle is opened: weights must be safetensors.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.generation.generator import STABLE_DIFFUSION, Generator
from stages.generation.layout import LAYOUT, SDXL, TIME_IDS, check_folder, load_part
from stages.generation.texts import load_encoder


class Denoiser(nn.Module):
    """Stable Diffusion's U-Net, called as our generators are."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Predict from noisy latents (B, 4, h, w), times (B,) and token states (B, L, d)."""
        return self.unet(latents, times, encoder_hidden_states=states, return_dict=False)[0]


class DenoiserXL(nn.Module):
    """SDXL's U-Net, told that the image is whole and of its own size."""

    def __init__(self, unet: nn.Module, *, size: int) -> None:
        super().__init__()
        self.unet = unet
        self.sizes = [size, size, 0, 0, size, size]  # original, corner of the crop, wanted
        config: Any = unet.config
        told = config.projection_class_embeddings_input_dim
        self.pooled = told - TIME_IDS * config.addition_time_embed_dim

    def forward(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Predict from noisy latents (B, 4, h, w), times (B,), states (B, L + 1, d)."""
        sizes = torch.tensor([self.sizes], dtype=latents.dtype, device=latents.device)
        told = {
            "text_embeds": states[:, -1, : self.pooled],
            "time_ids": sizes.expand(len(latents), -1),
        }
        return self.unet(
            latents,
            times,
            encoder_hidden_states=states[:, :-1],
            added_cond_kwargs=told,
            return_dict=False,
        )[0]


def load_checkpoint(folder: Path, *, size: int, gradient_checkpointing: bool = False) -> Generator:
    """Load a checkpoint for images of an edge of ``size`` pixels; see ``check_folder`` for errors.

    Raises
    ------
    ValueError
        A size that the image codec cannot halve often enough.
    """
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    kind = check_folder(folder)
    tokenize, text_encoder = load_encoder(folder)
    vae = load_part(AutoencoderKL, folder, "vae")
    unet = load_part(UNet2DConditionModel, folder, "unet")
    for module in (vae, unet, text_encoder):
        module.requires_grad_(False)
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    step = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    if size % step:
        raise ValueError(f"size {size}: this checkpoint needs a multiple of {step}")
    noising = DDPMScheduler.from_pretrained(
        folder / "scheduler",
        local_files_only=True,
        clip_sample=False,  # latents have no bounds, and not every scheduler's file says so
    )
    return Generator(
        kind=STABLE_DIFFUSION,
        denoiser=DenoiserXL(unet, size=size) if kind == SDXL else Denoiser(unet),
        text_encoder=text_encoder,
        tokenize=tokenize,
        encode=_encode(vae),
        decode=_decode(vae),
        noising=noising,
        latent_shape=(vae.config.latent_channels, size // factor, size // factor),
    )


def require_base(base: str | None) -> Path:
    """Return the checkpoint's folder.

    Raises
    ------
    FileNotFoundError
        None was given: says how to, and the layout expected.
    """
    if base is None:
        raise FileNotFoundError(
            "generator stable-diffusion needs a checkpoint: --weights base=PATH, a folder with"
            f" {LAYOUT}; nothing is downloaded. Without one choose --generation-generator scratch"
        )
    return Path(base)


def _encode(vae: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        vae.to(images.device)
        with torch.no_grad():
            found = vae.encode(images.repeat(1, 3, 1, 1)).latent_dist
        scale = vae.config.scaling_factor
        return found.mean * scale, found.std * scale

    return encode


def _decode(vae: Any) -> Callable[[Tensor], Tensor]:
    def decode(latents: Tensor) -> Tensor:
        vae.to(latents.device)
        with torch.no_grad():
            images = vae.decode(latents / vae.config.scaling_factor).sample
        return images.clamp(-1, 1).mean(1, keepdim=True)

    return decode
