"""A Stable Diffusion checkpoint as diffusers saves it, checked file by file before it is loaded.

Nothing is downloaded and no pickle is opened: weights must be safetensors.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.generation.generator import STABLE_DIFFUSION, Generator

WEIGHTS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
FILES = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    *(f"{part}/config.json" for part in WEIGHTS),
)
#: A tokenizer comes as either of these.
TOKENIZERS = (("tokenizer/vocab.json", "tokenizer/merges.txt"), ("tokenizer/tokenizer.json",))
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
LAYOUT = (
    "model_index.json, scheduler/scheduler_config.json, tokenizer/{tokenizer_config.json,"
    " vocab.json, merges.txt}, and config.json with *.safetensors in text_encoder/, unet/ and vae/"
)


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


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a whole Stable Diffusion 1.x or 2.x checkpoint.

    Raises
    ------
    FileNotFoundError
        A file is missing: names it and the layout expected.
    ValueError
        Weights are there as pickles alone, or it is a checkpoint of another kind.
    """
    if folder.is_file():
        word = "a pickle can run programs" if folder.suffix in PICKLES else "one file is not enough"
        raise ValueError(
            f"{folder}: found a file, expected a folder ({word}); convert it with diffusers'"
            " convert_original_stable_diffusion_to_diffusers.py --to_safetensors"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one with {LAYOUT}")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        missing.append(next(n for n in TOKENIZERS[0] if not (folder / n).is_file()))
    if missing:
        raise FileNotFoundError(
            f"{folder}: {' and '.join(missing)} missing; expected a folder with {LAYOUT}"
        )
    for part in WEIGHTS:
        _find_weights(folder, part)
    kind = _read(folder / "model_index.json").get("_class_name", "")
    if kind != "StableDiffusionPipeline":
        raise ValueError(
            f"{folder}: model_index.json names {kind or 'no pipeline'}, expected"
            " StableDiffusionPipeline (Stable Diffusion 1.x or 2.x; SDXL and SD 3 are other models)"
        )
    _check_agreement(folder)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a checkpoint.

    Raises
    ------
    ValueError
        Not that of the checkpoint's text encoder.
    """
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    config = _read(folder / "text_encoder/config.json")
    known, expected = len(tokenizer), config["vocab_size"]
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

    def load(kind: Any, part: str) -> Any:
        variant = "fp16" if ".fp16." in _find_weights(folder, part).name else None
        return kind.from_pretrained(
            folder / part,
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            torch_dtype=torch.float32,
        ).eval()

    vae, unet = load(AutoencoderKL, "vae"), load(UNet2DConditionModel, "unet")
    clip = load(CLIPTextModel, "text_encoder")
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
    clip = CLIPTextModel.from_pretrained(
        folder / "text_encoder", local_files_only=True, use_safetensors=True
    ).eval()
    read = _tokenize(tokenizer)

    def embed(prompt: str) -> NDArray[np.float64]:
        with torch.no_grad():
            return clip(read([prompt])).pooler_output[0].double().numpy()

    return lambda prompt: list(tokenizer.tokenize(prompt)), embed


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


def _check_agreement(folder: Path) -> None:
    """Refuse parts that do not fit one another."""
    text, unet, vae = (_read(folder / part / "config.json") for part in WEIGHTS)
    if unet.get("cross_attention_dim") != text.get("hidden_size"):
        raise ValueError(
            f"{folder}: unet/ reads texts of {unet.get('cross_attention_dim')} numbers,"
            f" text_encoder/ gives {text.get('hidden_size')}; take both from one checkpoint"
        )
    if unet.get("in_channels") != vae.get("latent_channels"):
        raise ValueError(
            f"{folder}: unet/ takes {unet.get('in_channels')} channels, vae/ gives"
            f" {vae.get('latent_channels')}; checkpoints for inpainting or scaling do not serve"
        )


def _find_weights(folder: Path, part: str) -> Path:
    stem = WEIGHTS[part]
    names = (f"{stem}.safetensors", f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.json")
    for name in names:
        if (folder / part / name).is_file():
            return folder / part / name
    pickles = sorted(p.name for p in (folder / part).glob("*") if p.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"{folder / part}: found only {', '.join(pickles)}; a pickle can run programs, so"
            f" only {names[0]} is read; load it where you trust it and save it with"
            " safe_serialization=True"
        )
    raise FileNotFoundError(f"{folder}: {part}/{names[0]} missing; expected {LAYOUT}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); copy the checkpoint again") from error
