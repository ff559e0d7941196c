"""A small network that tells the groups of slices apart, trained on real slices."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 64
BATCH = 16
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-2
SHIFT = 2  # pixels by which slices are moved at random in training
PREDICT_BATCH = 64


class Judge(nn.Module):
    """Three strided convolutions, a grid of 5 x 5 means, 64 features, a score for each group."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in (16, 32, 48):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.GroupNorm(8, width), nn.ReLU()]
            before = width
        self.maps = nn.Sequential(*layers)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(before * 25, FEATURES), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, groups))

    def describe(self, images: Tensor) -> Tensor:
        """Give the features, (B, 1, s, s) → (B, 64)."""
        return self.features(functional.adaptive_avg_pool2d(self.maps(images), 5))

    def forward(self, images: Tensor) -> Tensor:
        """Score the groups, (B, 1, s, s) → (B, groups)."""
        return self.head(self.describe(images))


def train_judge(
    images: Tensor, labels: NDArray[np.intp], *, groups: int, epochs: int, seed: int
) -> Judge:
    """Train for a fixed number of epochs; groups weigh alike, nothing is chosen by looking.

    Parameters
    ----------
    images : tensor, (n, 1, s, s), -1 to 1
    labels : array, (n,)
        0 … groups-1.
    """
    target = torch.from_numpy(labels.astype(np.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # first weights, order, shifts, dropout
        judge = Judge(groups).to(images.device)
        count = torch.bincount(target, minlength=groups).clamp(min=1).float()
        loss_of = nn.CrossEntropyLoss(weight=(len(target) / (groups * count)).to(images.device))
        optimiser = torch.optim.AdamW(
            judge.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        steps = epochs * -(-len(target) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        judge.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(target)).split(BATCH):
                shift = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
                moved = torch.roll(images[batch], shift, (2, 3))
                loss = loss_of(judge(moved), target[batch].to(images.device))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
    return judge.eval()


@torch.no_grad()
def score(judge: Judge, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give log-probabilities of the groups, (n, groups), and features, (n, 64)."""
    logits, features = [], []
    for batch in images.split(PREDICT_BATCH):
        described = judge.describe(batch)
        features.append(described)
        logits.append(judge.head(described))
    found = functional.log_softmax(torch.cat(logits).double(), 1).cpu().numpy()
    return found, torch.cat(features).double().cpu().numpy()


def balanced_accuracy(labels: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
    """Average the share of right answers over the groups that there are."""
    return float(np.mean([(predicted[labels == g] == g).mean() for g in np.unique(labels)]))
