"""Members of one model: trained one after another, or the linear reference in one step."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.classifier import linear
from stages.classifier.calibration import Bias, fit_bias, fit_temperature
from stages.classifier.data import Data
from stages.classifier.penalties import parse_penalty
from stages.classifier.pretrained import Pretrained
from stages.classifier.program import Member, Program, build_member
from stages.classifier.training import Outcome, Recipe, fit, score
from stages.classifier.training_set import Parts

Indices = NDArray[np.intp]


class Job:
    """What fitting needs."""

    def __init__(
        self,
        architecture: Mapping[str, Any],
        data: Data,
        parts: Parts,
        inner: Sequence[Indices],
        recipe: Recipe,
        seed: int,
        stem: str,
    ) -> None:
        self.architecture, self.data, self.parts = architecture, data, parts
        self.inner, self.recipe, self.seed, self.stem = inner, recipe, seed, stem

    def build(self, number: int) -> Member:
        """Build an untrained member; its number decides the random weights."""
        a = self.architecture
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1000 + number)
            return build_member(
                a["network"], a["shape"], classes=a["classes"], bins=a["bins"], options=a["options"]
            )


class Found:
    """Trained members, and what each said of its own validation rows."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.validation: list[tuple[Indices, NDArray[np.float32]]] = []
        self.history: list[dict[str, Any]] = []
        self.penalty = "none"
        self.kept: list[int] = []


def fit_members(
    job: Job, choices: Sequence[tuple[str, float] | None], given: Pretrained | None
) -> Found:
    """Train every member; of several penalties keep the one whose validation loss is least."""
    found = Found()
    for number in range(job.architecture["members"]):
        validation = job.inner[number % len(job.inner)]
        train = np.setdiff1d(job.parts.learn, validation)
        best: Outcome | None = None
        # Later members take the penalty that the first one chose.
        for choice in choices if number == 0 else [_parse(found.penalty)]:
            name = "none" if choice is None else f"{choice[0]}@{choice[1]:g}"
            member = job.build(number)
            if given:
                given.put_into(member)
            outcome = fit(
                member,
                job.data,
                train,
                validation,
                replace(job.recipe, penalty=choice),
                seed=job.seed * 1000 + number,
                state=Path(f"{job.stem}-{number}-{name}.safetensors"),
            )
            label = {"member": number, "regulariser": name}
            found.history += [
                {**label, **row, "is_kept": row["epoch"] == outcome.kept_epoch}
                for row in outcome.history
            ]
            if best is None or outcome.loss < best.loss:
                best = outcome
                found.penalty = name
        if best is None:
            raise ValueError("no penalty to try; give --classifier-penalties")
        found.members.append(best.member)
        found.kept.append(best.kept_epoch)
        if len(validation):
            scores = score(best.member, job.data, validation, job.recipe.batch_size)
            found.validation.append((validation, scores.numpy()))
    return found


def fit_linear(job: Job) -> Found:
    """Fit the linear reference on all rows to learn from; inner parts give unbiased outputs."""
    found = Found()
    for validation in [v for v in job.inner if len(v)]:
        member = job.build(0)
        train = np.setdiff1d(job.parts.learn, validation)
        if len(torch.unique(job.data.labels[train])) < 2:
            continue
        linear.fit_member(member, _all(job.data, train), job.data.labels[train], seed=job.seed)
        scores = score(member, job.data, validation, job.recipe.batch_size)
        found.validation.append((validation, scores.numpy()))
    member = job.build(0)
    learn = job.parts.learn
    fitted = linear.fit_member(member, _all(job.data, learn), job.data.labels[learn], seed=job.seed)
    found.members.append(member)
    found.history.append({"member": 0, "regulariser": f"l2 {fitted.strength:.3g}", "epoch": 0})
    return found


def calibrate(found: Found, labels: torch.Tensor) -> tuple[float, Bias]:
    """Fit temperature, or the bias of brain age, on validation rows."""
    if not found.validation:
        return 1.0, Bias(0.0, 1.0)
    rows = np.concatenate([rows for rows, _ in found.validation])
    outputs = np.concatenate([outputs for _, outputs in found.validation]).astype(np.float64)
    true = labels[rows].numpy()
    if labels.is_floating_point():
        return 1.0, fit_bias(true.astype(np.float64), outputs[:, 0])
    return fit_temperature(outputs, true), Bias(0.0, 1.0)


def list_outputs(
    program: Program, job: Job, found: Found
) -> list[tuple[str, int, NDArray[np.float32]]]:
    """List (set, row, output) for every row: as seen in training, validation, fold and test."""
    listed = []
    for name, rows in (
        ("train", job.parts.learn),
        ("fold", job.parts.fold),
        ("test", job.parts.test),
    ):
        for start in range(0, len(rows), job.recipe.batch_size):
            part = rows[start : start + job.recipe.batch_size]
            raw = torch.from_numpy(np.ascontiguousarray(job.data.images[part]))
            with torch.no_grad():
                outputs = program.eval()(raw).numpy()
            listed += [(name, int(i), o) for i, o in zip(part, outputs, strict=True)]
    for rows, outputs in found.validation:
        listed += [("validation", int(i), o) for i, o in zip(rows, outputs, strict=True)]
    return listed


def _all(data: Data, rows: Indices) -> torch.Tensor:
    raw = torch.from_numpy(np.ascontiguousarray(data.images[rows]))
    return data.scale(raw)


def _parse(penalty: str) -> tuple[str, float] | None:
    return None if penalty == "none" else parse_penalty(penalty)
