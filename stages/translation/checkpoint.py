"""What training needs to go on as if it had never stopped; and finished weights with their card."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from stages.translation.grids import Grid
from stages.translation.networks import Generator

CARD_VERSION = "1"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state, whole or not at all."""
    part = path.with_name(path.name + ".part")
    torch.save(dict(state), part)
    os.replace(part, path)


def load_state(path: Path, settings: str) -> dict[str, Any] | None:
    """Read a training state, if it is of a training with the same settings; nothing else.

    Only tensors and plain values are read; a file that would run code is refused by torch.

    Raises
    ------
    ValueError
        A file that is no such state.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own errors share no base class
        # torch's own message advises to load it unsafely, which is not to be passed on.
        raise ValueError(f"{path}: no training state; delete it to begin anew") from error
    return state if state.get("settings") == settings else None


def rng_to_text(rng: np.random.Generator) -> str:
    """Write a generator's state as text, which a state file may hold."""
    return json.dumps(rng.bit_generator.state)


def rng_from_text(text: str) -> np.random.Generator:
    """Restore a generator."""
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(text)
    return rng


def save_weights(path: Path, networks: Mapping[str, nn.Module]) -> None:
    """Write all networks' weights as safetensors, ``G.layers.1.weight`` and so on."""
    weights = {
        f"{name}.{key}": value.detach().cpu().contiguous().clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    save_file(weights, path)


def write_card(path: Path, weights: Path, card: Mapping[str, Any]) -> None:
    """Write what the weights are, and their SHA-256."""
    full = {**card, "SHA256": {weights.name: _sha256(weights)}, "Version": CARD_VERSION}
    path.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")


def read_card(path: Path) -> dict[str, Any]:
    """Read a card.

    Raises
    ------
    ValueError
        No card, or not one of this version.
    """
    try:
        card = dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: no model card ({error}); train again") from error
    if card.get("Version") != CARD_VERSION:
        raise ValueError(
            f"{path}: format version {card.get('Version')}, this release reads {CARD_VERSION};"
            " train again"
        )
    return card


def load_generators(weights: Path, card: Mapping[str, Any]) -> dict[str, Generator]:
    """Build G and F around their weights, after checking that the card speaks of this file.

    Raises
    ------
    ValueError
        Another file than the card's, or one that does not fit it.
    """
    found, wanted = _sha256(weights), card["SHA256"].get(weights.name, "nothing")
    if found != wanted:
        raise ValueError(
            f"{weights}: SHA-256 {found[:12]}…, its card says {wanted[:12]}…; the file is damaged"
            " or another one, train again or copy both"
        )
    made = {}
    try:
        tensors = load_file(weights)
        for name in ("G", "F"):
            made[name] = Generator(**card["Architecture"])
            own = {k[2:]: v for k, v in tensors.items() if k.startswith(f"{name}.")}
            made[name].load_state_dict(own)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{weights}: weights do not fit the card ({error})") from error
    return {name: network.eval() for name, network in made.items()}


def grid_of(card: Mapping[str, Any]) -> Grid:
    """Read the grid that the networks see."""
    return Grid.from_json(card["Grid"])


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
