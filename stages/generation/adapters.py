"""Which weights are trained, and how they are kept.

Weights are named as diffusers does, so that low-rank adapters of a joint model load into any of its
pipelines with ``load_lora_weights``.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from stages.generation.generator import STABLE_DIFFUSION, Generator

UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
ADAPTER = "default"


def choose_weights(
    generator: Generator, *, text_encoder: bool, lora_rank: int, seed: int
) -> dict[str, nn.Parameter]:
    """Say which weights are trained; all others are frozen.

    Low-rank adapters (W + B A with B = 0 at the start, scaled by 1) are added where asked for.

    Returns
    -------
    weights : dict
        Name → parameter.

    Raises
    ------
    ValueError
        Adapters or the text encoder are asked for of a model from scratch, which has neither.
    """
    if generator.kind != STABLE_DIFFUSION:
        if text_encoder or lora_rank:
            raise ValueError(
                "a model from scratch has no text encoder and no use for adapters; set text_encoder"
                " to false and lora_rank to 0, or choose generator stable-diffusion"
            )
        return generator.named_parameters()
    if lora_rank:
        _add_adapters(generator, text_encoder=text_encoder, rank=lora_rank, seed=seed)
    weights = {
        name: parameter
        for name, parameter in generator.named_parameters().items()
        if (text_encoder or not name.startswith("text_encoder."))
        and (not lora_rank or ".lora_" in name)
    }
    for name, parameter in generator.named_parameters().items():
        parameter.requires_grad_(name in weights)
    return weights


def save_weights(path: str | Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors under diffusers' names."""
    tensors = {
        public_name(k): v.detach().to("cpu", copy=True).contiguous() for k, v in weights.items()
    }
    Path(path).write_bytes(save(tensors))


def load_weights(path: str | Path, *, group: str = "") -> dict[str, Tensor]:
    """Read weights; of a file that holds one model per group, those of one group."""
    tensors = load(Path(path).read_bytes())
    if not group:
        return tensors
    return {k.removeprefix(f"{group}/"): v for k, v in tensors.items() if k.startswith(f"{group}/")}


def put_weights(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy saved weights into a model.

    Raises
    ------
    ValueError
        Names or shapes are not those of the model.
    """
    own = {public_name(name): parameter for name, parameter in weights.items()}
    if own.keys() != tensors.keys():
        odd = sorted(own.keys() ^ tensors.keys())
        raise ValueError(
            f"the weights are of another model: {len(odd)} names do not match, such as {odd[0]}"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != tensors[name].shape:
                raise ValueError(
                    f"the weights are of another model: {name} has shape"
                    f" {tuple(tensors[name].shape)}, expected {tuple(parameter.shape)}"
                )
            parameter.copy_(tensors[name])


def public_name(name: str) -> str:
    """Name a weight as diffusers does.

    >>> public_name("unet.unet.mid.to_q.lora_A.default.weight")
    'unet.mid.to_q.lora_A.weight'
    """
    name = name.replace("unet.unet.", "unet.").replace("text_encoder.clip.", "text_encoder.")
    name = name.replace("text_encoder.clip_2.", "text_encoder_2.")
    return name.replace(f".{ADAPTER}.", ".")


def _add_adapters(generator: Generator, *, text_encoder: bool, rank: int, seed: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    parts = [(generator.denoiser, UNET_TARGETS)]
    if text_encoder:
        parts.append((generator.text_encoder, TEXT_TARGETS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module, targets in parts:
            config = LoraConfig(
                r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets
            )
            inject_adapter_in_model(config, module, ADAPTER)
