"""What is told of a training: the parts of a model's card, and losses by step."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.generation.build import JOINT
from stages.generation.compress import Compressed
from stages.generation.validation import BEST, LAST_STEP, LEAST_LOSS, Validation


def list_people(people: NDArray[Any]) -> list[str]:
    """Name each participant once, as BIDS URIs."""
    return [f"bids::{person}" for person in dict.fromkeys(people.tolist())]


def tell_kept(name: str, keep: str, steps: int, look: Validation | None) -> dict[str, Any]:
    """Say of which step the weights are, and why."""
    told: dict[str, Any] = {"Model": name or JOINT, "Step": steps, "Why": LAST_STEP}
    if look is not None:
        least = min(loss for _, loss in look.seen)
        found = {"Least": least, "LeastStep": look.best_step, "Last": look.seen[-1][1]}
        told |= {"ValidationLoss": found}
        if keep == BEST:
            told |= {"Step": look.best_step, "Why": LEAST_LOSS}
    return told


def loss_rows(
    history: dict[str, NDArray[np.float64]],
    looks: dict[str, Validation],
    compressed: Compressed | None,
) -> list[dict[str, Any]]:
    """List losses by step: of the codec, then of each model, with the looks at validation."""
    rows: list[dict[str, Any]] = [
        {"model": "codec", "step": step, "loss": error, "kl": kl}
        for step, (error, kl) in enumerate(compressed.losses if compressed else [], 1)
    ]
    for name, values in history.items():
        seen = {int(step): loss for step, loss in looks[name].seen} if name in looks else {}
        for step, (own, prior) in enumerate(values, 1):
            row = {"model": name or JOINT, "step": step, "loss": float(own)}
            row |= {"prior_loss": float(prior)}
            rows.append(row | ({"validation_loss": seen.get(step)} if seen else {}))
    return rows


def describe_base(base: str | None) -> dict[str, str]:
    """Name the checkpoint and hash the weights of its network."""
    folder = Path(str(base))
    weights = sorted((folder / "unet").glob("*.safetensors"))
    return {"Folder": folder.name} | {f"unet/{p.name}": digest(p) for p in weights}


def digest(path: Path) -> str:
    """Hash a file, SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
