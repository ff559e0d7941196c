"""Training a network to name patches; stops and goes on with the same numbers."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.transfer.network import MiniVGG

logger = logging.getLogger(__name__)

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]  # patches (n, 3, s, s), classes (n,)
Draw = Callable[[np.random.Generator], Batch]

GAIN, OFFSET, NOISE = 0.2, 0.1, 0.02  # random changes of brightness, of the range 0..1
WEIGHT_DECAY = 0.01
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Progress:
    """How far a training is: epochs done, and loss and accuracy of each."""

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def train(
    net: MiniVGG,
    draw: Draw,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    signature: str,
    state: Path | None = None,
    checkpoint: Path | None = None,
    minutes: float = 0.0,
) -> Progress:
    """Train in place by cross-entropy with AdamW, the rate falling to 0 along a cosine.

    All that is random in an epoch depends on ``(seed, epoch)``, so that a training that was
    stopped and goes on gives the same network as one that was not.

    Parameters
    ----------
    net : MiniVGG
        On the device where it is to be trained.
    draw : callable
        Random generator → patches and classes of one epoch.
    epochs : int
        At the end; those of the checkpoint count.
    signature : str
        Names data and settings; a checkpoint of others is refused.
    state : Path, optional
        Written after each epoch, whole or not at all.
    checkpoint : Path, optional
        A state to go on from.
    minutes : float
        Stop after the epoch that exceeds this; 0 for no limit.

    Raises
    ------
    ValueError
        The checkpoint is of another training; an epoch has fewer than two patches.
    """
    optimizer = torch.optim.AdamW(net.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    progress = Progress()
    if checkpoint is not None:
        progress = load_state(checkpoint, net, optimizer, signature)
        logger.info("goes on from epoch %d", progress.epoch)
    device = next(net.parameters()).device
    started = time.monotonic()
    while progress.epoch < epochs:
        patches, classes = draw(np.random.default_rng([seed, progress.epoch]))
        if len(patches) < 2:
            raise ValueError(f"{len(patches)} patches to train with; give more participants")
        net.train()
        total, right, count = 0.0, 0, 0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed * 100_003 + progress.epoch)
            order = torch.randperm(len(patches))
            # Batch norm cannot use a single patch: a batch of one is left out.
            starts = [s for s in range(0, len(order), batch_size) if len(order) - s > 1]
            for index, start in enumerate(starts):
                part = order[start : start + batch_size]
                x = jitter(torch.from_numpy(patches)[part].float() / 255).to(device)
                y = torch.from_numpy(classes)[part].to(device)
                done = (progress.epoch + index / len(starts)) / epochs
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * done))
                logits = net(x)
                loss = nn.functional.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(part)
                right += int((logits.argmax(1) == y).sum())
                count += len(part)
        progress.epoch += 1
        progress.losses.append(total / count)
        progress.accuracies.append(right / count)
        logger.info(
            "epoch %d of %d: loss %.4f, accuracy %.3f (%d patches, %.0f s in all)",
            *(progress.epoch, epochs, total / count, right / count, count),
            time.monotonic() - started,
        )
        if state is not None:
            save_state(state, net, optimizer, progress, signature)
        if minutes and time.monotonic() - started > 60 * minutes:
            break
    return progress


def jitter(patches: Tensor) -> Tensor:
    """Change brightness and contrast of each patch at random and add noise; stays in 0..1."""
    shape = (len(patches), 1, 1, 1)
    gain = 1 + GAIN * (2 * torch.rand(shape) - 1)
    offset = OFFSET * (2 * torch.rand(shape) - 1)
    noisy = patches * gain + offset + NOISE * torch.randn_like(patches)
    return noisy.clamp(0, 1)


def save_state(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, signature: str
) -> None:
    """Write network, moments of the optimiser and progress, whole or not at all."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name in MOMENTS:
            tensors[f"adam.{index}.{name}"] = torch.as_tensor(moments[name])
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    about = {
        "epoch": progress.epoch,
        "losses": progress.losses,
        "accuracies": progress.accuracies,
        "signature": signature,
    }
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"about": json.dumps(about)})
    os.replace(part, path)


def load_state(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, signature: str
) -> Progress:
    """Put a state into network and optimiser; return its progress.

    Raises
    ------
    ValueError
        A state of other data or settings, or no state.
    """
    with safe_open(path, framework="pt") as file:
        about: dict[str, Any] = json.loads((file.metadata() or {}).get("about", "{}"))
        if about.get("signature") != signature:
            raise ValueError(
                f"{path}: a training of {about.get('signature', 'nothing known')}; this is"
                f" {signature}; leave the checkpoint out to begin anew"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not iterable itself)
    net.load_state_dict({n[4:]: t for n, t in tensors.items() if n.startswith("net.")})
    described = optimizer.state_dict()
    for index in described["param_groups"][0]["params"]:
        described["state"][index] = {name: tensors[f"adam.{index}.{name}"] for name in MOMENTS}
    optimizer.load_state_dict(described)
    return Progress(about["epoch"], about["losses"], about["accuracies"])
