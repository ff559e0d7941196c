"""A small 3D network that shows what an image gives away; not a model to keep."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from torch import nn

Array = NDArray[np.float32]
BATCH = 16
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2


class SmallNet(nn.Module):
    """Three strided convolutions and a linear layer over all positions.

    The last map is flattened, not averaged: where things lie in the grid is one of the shortcuts
    that it must be able to see.
    """

    def __init__(self, classes: int, grid: int, channels: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, size = 1, grid
        for width in channels:
            layers += [nn.Conv3d(before, width, 3, 2, 1), nn.GroupNorm(4, width), nn.ReLU()]
            before, size = width, (size + 1) // 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(before * size**3, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score volumes, (B, 1, g, g, g) → (B, classes)."""
        return self.head(self.features(x))


def train(
    images: torch.Tensor, labels: torch.Tensor, *, classes: int, epochs: int, seed: int
) -> SmallNet:
    """Train for a fixed number of epochs; classes weigh alike, nothing is chosen by looking.

    Parameters
    ----------
    images : tensor, (n, 1, g, g, g), float32
    labels : tensor, (n,), int64
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initial weights and dropout
        network = SmallNet(classes, images.shape[-1])
        count = torch.bincount(labels, minlength=classes).clamp(min=1).float()
        loss_of = nn.CrossEntropyLoss(weight=len(labels) / (classes * count))
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        steps = epochs * -(-len(labels) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        network.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(labels)).split(BATCH):
                optimiser.zero_grad(set_to_none=True)
                loss = loss_of(network(images[batch]), labels[batch])
                loss.backward()
                optimiser.step()
                schedule.step()
    return network.eval()


def cross_predict(
    images: Array,
    labels: NDArray[np.intp],
    *,
    variants: Mapping[str, Array],
    folds: int,
    epochs: int,
    seed: int,
) -> dict[str, NDArray[np.intp]]:
    """Predict each image, and variants of it, by a network that never saw its person.

    Parameters
    ----------
    images : array, (n, g, g, g)
        One per person.
    labels : array, (n,)
        0 … classes-1, each at least ``folds`` times.
    variants
        Name → the same images after something was done to them.

    Returns
    -------
    dict
        ``image`` and each variant's name → predicted class, (n,).
    """
    classes = int(labels.max()) + 1
    stacks = {"image": images, **variants}
    predicted = {name: np.zeros(len(labels), dtype=np.intp) for name in stacks}
    target = torch.from_numpy(labels.astype(np.int64))
    cuts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(images, labels)
    for number, (fit, test) in enumerate(cuts):
        mean, deviation = images[fit].mean(), max(float(images[fit].std()), 1e-6)

        def prepared(stack: Array, members: NDArray[np.intp]) -> torch.Tensor:
            return torch.from_numpy((stack[members] - mean) / deviation)[:, None]  # noqa: B023

        network = train(
            prepared(images, fit), target[fit], classes=classes, epochs=epochs, seed=seed + number
        )
        with torch.no_grad():
            for name, stack in stacks.items():
                predicted[name][test] = network(prepared(stack, test)).argmax(dim=1).numpy()
    return predicted
