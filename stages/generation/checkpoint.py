"""A Stable Diffusion checkpoint, loaded from its folder.

Nothing is downloaded and no pickle is opened: weights must be safetensors.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from stages.generation.generator import STABLE_DIFFUSION, Generator
from stages.generation.layout import COPY, LAYOUT, check_folder, find_weights, read_json


class Denoiser(nn.Module):
    """Stable Diffusion's U-Net, called as our generators are."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Predict from noisy latents (B, 4, h, w), times (B,) and token states (B, L, d)."""
        return self.unet(latents, times, encoder_hidden_states=states, return_dict=False)[0]


class TextEncoder(nn.Module):
    """CLIP's text encoder: tokens (B, L) → states (B, L, d)."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the last hidden states."""
        return self.clip(tokens)[0]


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a checkpoint.

    Raises
    ------
    ValueError
        Not that of the checkpoint's text encoder.
    """
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library knows no narrower kind
        raise ValueError(f"{folder / 'tokenizer'}: {error}; {COPY}") from error
    config = read_json(folder / "text_encoder/config.json")
    known, expected = len(tokenizer), config.get("vocab_size")
    if known != expected:
        raise ValueError(
            f"{folder / 'tokenizer'}: wrong tokenizer: it has {known} tokens, the text encoder"
            f" {expected}; take both from one checkpoint"
        )
    return tokenizer


def load_checkpoint(folder: Path, *, size: int, gradient_checkpointing: bool = False) -> Generator:
    """Load a checkpoint for images of an edge of ``size`` pixels; see ``check_folder`` for errors.

    Raises
    ------
    ValueError
        A size that the image codec cannot halve often enough.
    """
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

    check_folder(folder)
    tokenizer = load_tokenizer(folder)

    vae = _load_part(AutoencoderKL, folder, "vae")
    unet = _load_part(UNet2DConditionModel, folder, "unet")
    clip = _load_part(CLIPTextModel, folder, "text_encoder")
    for module in (vae, unet, clip):
        module.requires_grad_(False)
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    step = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    if size % step:
        raise ValueError(f"size {size}: this checkpoint needs a multiple of {step}")
    return Generator(
        kind=STABLE_DIFFUSION,
        denoiser=Denoiser(unet),
        text_encoder=TextEncoder(clip),
        tokenize=_tokenize(tokenizer),
        encode=_encode(vae),
        decode=_decode(vae),
        noising=DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
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


def load_text(
    folder: Path,
) -> tuple[Callable[[str], list[str]], Callable[[str], NDArray[np.float64]]]:
    """Load what reads prompts: into tokens as text, and into the embedding of the whole prompt."""
    from transformers import CLIPTextModel

    check_folder(folder)
    tokenizer = load_tokenizer(folder)
    clip = _load_part(CLIPTextModel, folder, "text_encoder")
    read = _tokenize(tokenizer)

    def embed(prompt: str) -> NDArray[np.float64]:
        with torch.no_grad():
            return clip(read([prompt])).pooler_output[0].double().numpy()

    return lambda prompt: list(tokenizer.tokenize(prompt)), embed


def _load_part(kind: Any, folder: Path, part: str) -> Any:
    """Load a part in float32, whole: libraries fill what a file lacks with random weights."""
    path = find_weights(folder, part)
    try:
        module, found = kind.from_pretrained(
            folder / part,
            local_files_only=True,
            use_safetensors=True,
            variant="fp16" if ".fp16." in path.name else None,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); {COPY}") from error
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{path}: {len(missing)} weights missing, such as {missing[0]}; {COPY}")
    return module.eval()


def _tokenize(tokenizer: Any) -> Callable[[Sequence[str]], Tensor]:
    def tokenize(prompts: Sequence[str]) -> Tensor:
        longest = tokenizer.model_max_length
        for prompt in prompts:
            count = len(tokenizer(prompt).input_ids)
            if count > longest:
                raise ValueError(
                    f"prompt {prompt!r}: {count} tokens with start and end, at most {longest}; the"
                    " rest would be cut off unseen, so shorten it"
                )
        padded = tokenizer(
            list(prompts), padding="max_length", max_length=longest, return_tensors="pt"
        )
        return padded.input_ids

    return tokenize


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
