"""The state of an unfinished training: whole or not there, bit for bit, nothing pickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def save_state(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write tensors and notes under one name, replacing what was there in one step."""
    part = path.with_suffix(".part")
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    save_file(plain, part, {"notes": json.dumps(notes)})
    part.replace(path)


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``save_state`` wrote.

    Raises
    ------
    ValueError
        No such file format; delete the file to begin anew.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = json.loads((file.metadata() or {})["notes"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: no training state ({error}); delete it to begin anew") from error
    return tensors, notes


def pack_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's moments and step counts into named tensors."""
    return {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def unpack_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put packed tensors back; learning rates are the schedule's matter."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        word, _, rest = key.partition(".")
        if word == "optimiser":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Choose the tensors under a prefix, without it."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
