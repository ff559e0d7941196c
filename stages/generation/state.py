"""The state of a training, whole or absent on disk, without pickles."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.generation.validation import Validation


def fingerprint(*parts: Any) -> str:
    """Hash what determines a training, so that no other one is gone on with.

    Tensors count by shape and content.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(str(tuple(part.shape)).encode())
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def save_state(
    path: Path,
    *,
    step: int,
    weights: Mapping[str, nn.Parameter],
    averages: Mapping[str, Tensor],
    optimiser: Optimizer,
    losses: Sequence[Sequence[float]],
    validation: Validation | None = None,
) -> None:
    """Write all that the next step depends on; draws follow from seed and step alone.

    What validation found so far, and the weights that it keeps, go along.
    """
    tensors = {"losses": torch.tensor(losses, dtype=torch.float64)}
    for name, parameter in weights.items():
        tensors[f"weight/{name}"] = parameter
        for key, value in optimiser.state[parameter].items():
            tensors[f"{key}/{name}"] = value
    tensors |= {f"average/{name}": value for name, value in averages.items()}
    if validation is not None:
        tensors["validation"] = torch.tensor(validation.seen, dtype=torch.float64).reshape(-1, 2)
        tensors |= {f"best/{name}": value for name, value in validation.best.items()}
    whole = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        stream.write(save(whole, {"step": str(step)}))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def load_state(
    path: Path,
    *,
    weights: Mapping[str, nn.Parameter],
    averages: Mapping[str, Tensor],
    optimiser: Optimizer,
    validation: Validation | None = None,
) -> tuple[int, list[list[float]]]:
    """Take up a training where it stopped; return the steps done and their losses."""
    with safe_open(path, "pt") as stream, torch.no_grad():
        names = set(stream.keys())
        for name, parameter in weights.items():
            parameter.copy_(stream.get_tensor(f"weight/{name}"))
            found = {
                key: stream.get_tensor(f"{key}/{name}")
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}/{name}" in names
            }
            optimiser.state[parameter] = {k: v.to(parameter.device) for k, v in found.items()}
        for name, average in averages.items():
            average.copy_(stream.get_tensor(f"average/{name}"))
        if validation is not None:
            validation.seen = stream.get_tensor("validation").tolist()
            kept = [name.removeprefix("best/") for name in names if name.startswith("best/")]
            validation.best = {
                name: stream.get_tensor(f"best/{name}").to(weights[name].device) for name in kept
            }
        return int(stream.metadata()["step"]), stream.get_tensor("losses").tolist()
