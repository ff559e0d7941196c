"""A network as files: weights as safetensors, and a card of what it is and who trained it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stages.transfer.network import MiniVGG, build

CARD = "model.json"


def save_model(path: str | Path, card_path: str | Path, net: MiniVGG, card: dict[str, Any]) -> None:
    """Write weights and card; the card carries the weights' SHA-256."""
    weights = {n: t.detach().cpu().contiguous() for n, t in net.state_dict().items()}
    save_file(weights, path)
    full = {**card, "SHA256": {"model.safetensors": _digest(path)}}
    Path(card_path).write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a model's card.

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


def load_model(path: str | Path, card_path: str | Path) -> tuple[MiniVGG, dict[str, Any]]:
    """Read a network that step pretrain wrote.

    Raises
    ------
    ValueError
        The weights are not those of the card.
    """
    card = read_card(card_path)
    if card["SHA256"]["model.safetensors"] != _digest(path):
        raise ValueError(
            f"{path}: its SHA-256 is not the one in {Path(card_path).name}; the file was changed"
            " or damaged: run pretrain again"
        )
    net = _empty(load_file(path), card["Input"]["Size"])
    net.load_state_dict(load_file(path))
    return net, card


def load_weights(path: str | Path, size: int) -> MiniVGG:
    """Read a mini-VGG of any origin: safetensors, or a state dict of torch (no code is run).

    Width, depth and classes follow from the weights' shapes.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Unreadable, or weights of another network; names the first that does not fit.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; give weights with --weights network=PATH")
    try:
        if str(path).endswith(".safetensors"):
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as weights: {error}") from error
    except Exception as error:
        # torch refuses pickled code by pickle.UnpicklingError; nothing was run.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ValueError(
            f"{path}: holds code or objects besides weights and is not opened; save the state dict"
        ) from error
    if not isinstance(weights, dict):
        raise ValueError(f"{path}: a {type(weights).__name__}, expected a state dict")
    try:
        net = _empty(weights, size)
        net.load_state_dict(weights)
    except (KeyError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"{path}: not the weights of a mini-VGG for {size}×{size} patches: {error}; names are"
            " blocks.0.weight … fc.weight … head.bias"
        ) from error
    return net


def _empty(weights: dict[str, Any], size: int) -> MiniVGG:
    """Make the network whose shapes the weights have."""
    convolutions = [n for n, t in weights.items() if n.startswith("blocks.") and t.ndim == 4]
    width = weights["blocks.0.weight"].shape[0]
    classes = weights["head.weight"].shape[0]
    return build(classes, size=size, width=width, depth=len(convolutions) // 2, seed=0)


def _digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
