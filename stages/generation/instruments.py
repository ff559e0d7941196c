"""What slices are measured with: densities, a network and fences, made from real slices alone."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.generation import verdicts
from stages.generation.build import choose_device
from stages.generation.judge import Judge, balanced_accuracy, score, train_judge
from stages.generation.likelihood import (
    Density,
    Space,
    choose_bandwidth,
    choose_components,
    fit_space,
)
from stages.generation.slices import Pixels, blur, load_stack, to_tensor
from stages.generation.tables import Row, read_rows
from stages.generation.verdicts import Judged

logger = logging.getLogger(__name__)

Labels = NDArray[Any]


@dataclass(frozen=True)
class Slices:
    """Slices of one origin: pixels (n, 160, 160), group and participant of each."""

    pixels: Pixels
    groups: Labels
    people: Labels

    def of(self, group: str) -> Pixels:
        """Take those of one group."""
        return self.pixels[self.groups == group]

    def at(self, size: int) -> "Slices":
        """Bring them down to a model's resolution and back."""
        return Slices(blur(self.pixels, size), self.groups, self.people)


@dataclass(frozen=True)
class Instruments:
    """What slices are measured with, all of it made from training and held-out real slices."""

    size: int
    groups: list[str]
    space: Space
    densities: list[Density]
    judge: Judge
    least: NDArray[np.float64]
    most: float

    def images(self, pixels: Pixels) -> Any:
        """Bring slices to the size and device at which they are judged."""
        return to_tensor(pixels, self.size).to(next(self.judge.parameters()).device)

    def rows(self, pixels: Pixels) -> NDArray[np.float64]:
        """Turn slices into rows of pixels, 0 to 1."""
        return flatten(pixels, self.size)

    def judge_slices(self, pixels: Pixels, origin: str, condition: str, group: str) -> Judged:
        """Find out all that the tables say of some slices."""
        X = self.rows(pixels)
        Z = self.space.project(X)
        found = np.stack([d.log_likelihood(Z) for d in self.densities], 1)
        outlier = verdicts.flag_outliers(found, self.space.residual(X), self.least, self.most)
        return Judged(origin, condition, group, found, self.score(pixels)[0], outlier)

    def score(self, pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the network's log-probabilities and features."""
        return score(self.judge, self.images(pixels))


def flatten(pixels: Pixels, size: int) -> NDArray[np.float64]:
    """Turn slices into rows of size² pixels, 0 to 1."""
    return (to_tensor(pixels, size).flatten(1).double().numpy() + 1) / 2


def read_real(cohort: str, pixels: Pixels) -> tuple[Slices, Slices]:
    """Sort real slices into training and held-out ones."""
    parts = []
    for part in ("train", "test"):
        rows = [row for row in read_rows(cohort) if row["split"] == part]
        places = [int(row["place"]) for row in rows]
        parts.append(
            Slices(
                pixels[places],
                np.array([row["group"] for row in rows]),
                np.array([row["participant_id"] for row in rows]),
            )
        )
    return parts[0], parts[1]


def read_samples(samples: list[str], tables: list[str]) -> dict[str, tuple[Slices, list[Row]]]:
    """Read synthetic slices and their rows, by condition."""
    made = {}
    by_folder = {str(Path(path).parent): path for path in tables}
    for path in samples:
        rows = read_rows(by_folder[str(Path(path).parent)])
        pixels = load_stack(path)[[int(row["place"]) for row in rows]]
        labels = np.array([row["image"] for row in rows])
        made[rows[0]["condition"]] = (
            Slices(pixels, np.array([row["group"] for row in rows]), labels),
            rows,
        )
    return made


def make_instruments(
    train: Slices,
    held_out: Slices,
    groups: list[str],
    size: int,
    components: int,
    epochs: int,
    seed: int,
) -> tuple[Instruments, dict[str, Any]]:
    """Fit densities and network on training slices, and the fences on held-out ones."""
    X, people = flatten(train.pixels, size), train.people.tolist()
    chosen, tried = choose_components(X, people)
    space = fit_space(X, components or chosen)
    Z = space.project(X)
    densities = []
    bandwidths: dict[str, dict[str, Any]] = {}
    for group in groups:
        own = train.groups == group
        h, curve = choose_bandwidth(Z[own], train.people[own].tolist())
        densities.append(Density(Z[own], h))
        bandwidths[group] = {"Bandwidth": h, "Curve": curve}
    numbers = np.array([groups.index(g) for g in train.groups])
    images = to_tensor(train.pixels, size).to(choose_device())
    judge = train_judge(images, numbers, groups=len(groups), epochs=epochs, seed=seed)
    T = flatten(held_out.pixels, size)
    found = np.stack([d.log_likelihood(space.project(T)) for d in densities], 1)
    least, most = verdicts.find_fences(found, space.residual(T))
    tools = Instruments(size, groups, space, densities, judge, least, most)
    truth = np.array([groups.index(g) for g in held_out.groups])
    about = {
        "Components": len(space.axes),
        "ComponentsChosenBy": "given" if components else "cross-validated probabilistic PCA",
        "ComponentsCurve": tried,
        "Densities": bandwidths,
        "Fences": {
            "Rule": "Q1 - 3 IQR of held-out real slices under every density, or residual above"
            " Q3 + 3 IQR",
            "LogLikelihood": dict(zip(groups, least.tolist(), strict=True)),
            "Residual": most,
        },
        "FeatureNetwork": "judge: three strided convolutions trained on these training slices",
        "JudgeBalancedAccuracyHeldOut": balanced_accuracy(
            truth, tools.score(held_out.pixels)[0].argmax(1)
        ),
        "JudgeBalancedAccuracyTraining": balanced_accuracy(
            numbers, tools.score(train.pixels)[0].argmax(1)
        ),
        "DensityBalancedAccuracyHeldOut": balanced_accuracy(truth, found.argmax(1)),
        "HeldOut": len(truth),
        "TrainingParticipants": [f"bids::{p}" for p in dict.fromkeys(people)],
    }
    logger.info(
        "%d components, bandwidths %s; held-out balanced accuracy: network %.2f, densities %.2f",
        len(space.axes),
        {g: round(b["Bandwidth"], 3) for g, b in bandwidths.items()},
        about["JudgeBalancedAccuracyHeldOut"],
        about["DensityBalancedAccuracyHeldOut"],
    )
    return tools, about
