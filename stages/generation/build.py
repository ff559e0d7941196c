"""From parameters, or from the card of a trained model, to a generator."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.generation.adapters import choose_weights, load_weights, put_weights
from stages.generation.checkpoint import load_checkpoint, require_base
from stages.generation.codec import Codec, build_codec
from stages.generation.generator import STABLE_DIFFUSION, Generator
from stages.generation.latent import build_latent
from stages.generation.scratch import build_scratch

JOINT, SEPARATE = "joint", "separate"
#: What torch calls processors' instructions for products of bfloat16.
NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")


def build_generator(
    kind: str,
    base: str | None,
    *,
    size: int,
    width: int,
    seed: int,
    gradient_checkpointing: bool = False,
    codec: Codec | None = None,
    voxel_mm: float = 0.0,
) -> Generator:
    """Make an untrained model from scratch, in a codec's latents if given, or load a checkpoint."""
    if codec is not None:
        return build_latent(codec, voxel_mm=voxel_mm, width=width, seed=seed)
    if kind != STABLE_DIFFUSION:
        return build_scratch(size=size, width=width, seed=seed)
    return load_checkpoint(
        require_base(base), size=size, gradient_checkpointing=gradient_checkpointing
    )


def load_generator(
    card: Mapping[str, Any], weights: str, base: str | None, *, group: str, device: torch.device
) -> Generator:
    """Load a trained model: that of one group, where groups have models of their own.

    Raises
    ------
    FileNotFoundError
        It was fine-tuned from a checkpoint that is not given.
    ValueError
        The weights are not those of the card's model.
    """
    codec = None
    if told := card.get("Codec"):
        mean = torch.zeros(told["Shape"])
        codec = build_codec(
            mean, width=told["Width"], latent_channels=told["LatentChannels"], seed=0
        )
    generator = build_generator(
        card["Kind"],
        base,
        size=card["Size"],
        width=card["Width"],
        seed=0,
        codec=codec,
        voxel_mm=card.get("VoxelMm", 0.0),
    )
    trained = choose_weights(
        generator, text_encoder=card["TextEncoderTrained"], lora_rank=card["LoraRank"], seed=0
    )
    own = group if card["Models"] == SEPARATE else ""
    try:
        put_weights(trained | codec_tensors(generator), load_weights(weights, group=own))
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error
    if codec is not None:
        codec.to(device)
    generator.denoiser.to(device).eval()
    generator.text_encoder.to(device).eval()
    return generator


def codec_tensors(generator: Generator) -> dict[str, Tensor]:
    """List all that a trained codec consists of, by name; nothing where the codec is fixed."""
    own = {} if generator.codec is None else generator.codec.state_dict()
    return {f"codec.{name}": tensor for name, tensor in own.items()}


def read_card(path: str) -> dict[str, Any]:
    """Read the card of a trained model.

    Raises
    ------
    ValueError
        No JSON object.
    """
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path}: no model card ({error}); train again or copy it again"
        ) from error


def choose_device() -> torch.device:
    """Take the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(wanted: str, device: torch.device) -> str:
    """Settle what ``auto`` is: bfloat16 where it is native, since it is slow where it is not."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_native = any(torch.cpu.get_capabilities().get(name) for name in NATIVE_BFLOAT16)
    return "bfloat16" if is_native else "float32"
