"""A target's images and labels as a job sees them: which rows to fit, to choose by, to test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.classifier.cohort import TEST, TRAIN
from stages.classifier.tables import Row
from stages.classifier.targets import REGRESSION

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Parts:
    """Rows of the stack: those that may be learnt from, the held-out fold, the test set."""

    learn: Indices
    fold: Indices
    test: Indices


def read_parts(rows: Sequence[Row], target: str, fold: int) -> Parts:
    """Choose rows of a cohort table by a target's split and fold."""
    split = np.array([row[f"{target}_split"] for row in rows])
    own = np.array([row[f"{target}_fold"] for row in rows])
    is_held = (split == TRAIN) & (own == str(fold))
    return Parts(
        np.flatnonzero((split == TRAIN) & ~is_held),
        np.flatnonzero(is_held),
        np.flatnonzero(split == TEST),
    )


def read_labels(rows: Sequence[Row], target: str, about: dict[str, Any]) -> torch.Tensor:
    """Turn labels into class numbers (int64) or quantities (float32); -1 where there is none."""
    cells = [row[f"{target}_label"] for row in rows]
    if about["Task"] == REGRESSION:
        return torch.tensor([-1.0 if c == "n/a" else float(c) for c in cells])
    index = {name: number for number, name in enumerate(about["Classes"])}
    return torch.tensor([index.get(c, -1) for c in cells])


def deal_inner(
    rows: Sequence[Row], learn: Indices, labels: torch.Tensor, *, parts: int, seed: int
) -> list[Indices]:
    """Deal the rows to learn from into inner parts, people together, classes spread evenly.

    Parts beyond the number of people are empty.
    """
    rng = np.random.default_rng(seed)
    people: dict[str, list[int]] = {}
    for index in learn:
        people.setdefault(rows[index]["participant_id"], []).append(int(index))
    names = list(people)
    shuffle = dict(zip(names, rng.permutation(len(names)), strict=True))
    ranked = sorted(names, key=lambda n: (float(labels[people[n][0]]), shuffle[n]))
    return [
        np.array(sorted(i for n in ranked[part::parts] for i in people[n]), dtype=np.intp)
        for part in range(parts)
    ]
