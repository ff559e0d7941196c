"""Step train: fit one network for one target and arm with one fold held out."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.classifier import linear, networks, portable
from stages.classifier.calibration import Bias, fit_bias, fit_temperature
from stages.classifier.card import describe_input, describe_model
from stages.classifier.images import Grid, cut_plane
from stages.classifier.penalties import parse_penalty
from stages.classifier.pretrained import Pretrained, read_pretrained
from stages.classifier.program import Member, Program, build_member, standardise
from stages.classifier.reading import describe_predictions
from stages.classifier.tables import read_rows, write_rows
from stages.classifier.training import Data, Outcome, Recipe, fit, score
from stages.classifier.training_set import Parts, deal_inner, read_labels, read_parts

logger = logging.getLogger(__name__)
Indices = NDArray[np.intp]


def run(
    *,
    cohort: str,
    images: str,
    grid: str,
    pretrained: str | None,
    model: str,
    weights: str,
    graph: str,
    predictions: str,
    history: str,
    target: str,
    arm: str,
    network: str,
    fold: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    schedule: str,
    weight_decay: float,
    patience: int,
    keep: str,
    penalties: list[str],
    members: int,
    inner_folds: int,
    augment: str,
    flip: bool,
    balance: bool,
    precision: str,
    compile: bool,
    bins: int,
    linear_mm: float,
    plane: str,
    position: float,
    cache_gb: float,
    checkpoints: str,
    licence: str,
    seed: int,
) -> None:
    """Write the trained model as a folder, its predictions and learning curves.

    A fold that the cohort does not have writes nothing.
    """
    about = json.loads(Path(grid).read_text(encoding="utf-8"))
    task = about["Targets"][target]
    if fold >= task["Folds"]:
        logger.info(
            "target %s has %d folds; nothing to do for fold %d", target, task["Folds"], fold
        )
        return
    rows = read_rows(cohort)
    parts = read_parts(rows, target, fold)
    labels = read_labels(rows, target, task)
    layout = Grid.from_json(about["Grid"])
    stack: NDArray[np.float32] = np.load(images, mmap_mode="r")
    if network in networks.PLANAR:
        layout = replace(layout, plane=plane, position=position)
        stack = np.stack([cut_plane(volume, layout) for volume in stack])
    elif stack.nbytes <= cache_gb * 2**30:
        stack = np.array(stack)
    scaling = about["Intensity"]
    data = Data(stack, labels, standardise if scaling == "standardise" else _as_it_is)
    if network in networks.PENALISED:
        choices: list[tuple[str, float] | None] = [parse_penalty(text) for text in penalties]
    else:
        choices = [None]
    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        weight_decay=weight_decay,
        patience=patience,
        keep=keep,
        augment=augment,
        may_flip=flip,
        balance=balance,
        precision=precision,
        compile=compile,
    )
    given = read_pretrained(Path(pretrained)) if pretrained else None
    if given:
        given.refuse_seen([rows[i] for i in (*parts.fold, *parts.test)])
    options = _options(network, layout, linear_mm, batch_size)
    architecture = {
        "network": network,
        "shape": list(layout.input_shape),
        "classes": len(task["Classes"]),
        "bins": bins if network == "sfcn" and not task["Classes"] else 1,
        "options": options,
        "members": 1 if network == "linear" else members,
        "scaling": scaling,
    }
    inner = deal_inner(rows, parts.learn, labels, parts=inner_folds, seed=seed)
    with tempfile.TemporaryDirectory(dir=Path(model).parent) as scratch:
        folder = Path(checkpoints) if checkpoints else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        identity = [
            target,
            arm,
            network,
            fold,
            seed,
            repr(recipe),
            architecture,
            penalties,
            inner_folds,
        ]
        identity += [[rows[i]["image_hash"], float(labels[i])] for i in parts.learn]
        job = Job(architecture, data, parts, inner, recipe, seed, _state_stem(folder, identity))
        found = _fit_linear(job) if network == "linear" else _fit_members(job, choices, given)
        program = Program(found.members, architecture)
        temperature, bias = _calibrate(found, labels)
        outputs = _outputs(program, job, found)
        if not all(np.isfinite(output).all() for _, _, output in outputs):
            raise ValueError(
                f"{network} for {target}, arm {arm}, fold {fold}: outputs are not finite, training"
                " diverged; give a smaller --classifier-learning-rate"
            )
        table = describe_predictions(
            rows, outputs, target, task, temperature=temperature, bias=bias
        )
        write_rows(predictions, [{"fold": fold, **row} for row in table])
        write_rows(history, found.history)
        card = describe_model(
            f"{target}{arm}{network}fold{fold}",
            target=target,
            task=task,
            arm=arm,
            network=network,
            rows=[rows[i] for i in parts.learn],
            seen=given.participants if given else (),
            table=table,
            temperature=temperature,
            bias=bias,
            provenance=about["Provenance"],
            licence=licence,
        )
        card["Input"] = describe_input(about, layout, scaling)
        card["Grid"] = layout.to_json()
        card["Training"] = {"Penalty": found.penalty, "KeptEpochs": found.kept}
        target_folder = Path(scratch) / "model"
        target_folder.mkdir()
        portable.write_model(target_folder, program, card)
        for name, path in (
            (portable.CARD, model),
            (portable.WEIGHTS, weights),
            (portable.GRAPH, graph),
        ):
            shutil.move(target_folder / name, path)


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


def _fit_members(
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


def _fit_linear(job: Job) -> Found:
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


def _calibrate(found: Found, labels: torch.Tensor) -> tuple[float, Bias]:
    """Fit temperature, or the bias of brain age, on validation rows."""
    if not found.validation:
        return 1.0, Bias(0.0, 1.0)
    rows = np.concatenate([rows for rows, _ in found.validation])
    outputs = np.concatenate([outputs for _, outputs in found.validation]).astype(np.float64)
    true = labels[rows].numpy()
    if labels.is_floating_point():
        return 1.0, fit_bias(true.astype(np.float64), outputs[:, 0])
    return fit_temperature(outputs, true), Bias(0.0, 1.0)


def _outputs(
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
            raw = torch.from_numpy(np.ascontiguousarray(job.data.images[part]))[:, None]
            with torch.no_grad():
                outputs = program.eval()(raw).numpy()
            listed += [(name, int(i), o) for i, o in zip(part, outputs, strict=True)]
    for rows, outputs in found.validation:
        listed += [("validation", int(i), o) for i, o in zip(rows, outputs, strict=True)]
    return listed


def _options(network: str, layout: Grid, linear_mm: float, batch_size: int) -> dict[str, Any]:
    if network == "linear":
        coarse = max(1, round(linear_mm / min(layout.spacing_mm)))
        return {"blocks": min(coarse, min(layout.input_shape) // 2)}
    _, own = networks.NETWORKS[network]
    if own.get("norm") == "batch" and batch_size < 4:
        logger.warning(
            "batches of %d are too small for batch normalisation; groups of channels are normalised"
            " instead (give --classifier-batch-size 4 or more)",
            batch_size,
        )
        return {"norm": "group"}
    return {}


def _all(data: Data, rows: Indices) -> torch.Tensor:
    raw = torch.from_numpy(np.ascontiguousarray(data.images[rows]))[:, None]
    return data.scale(raw)


def _as_it_is(images: torch.Tensor) -> torch.Tensor:
    return images


def _parse(penalty: str) -> tuple[str, float] | None:
    return None if penalty == "none" else parse_penalty(penalty)


def _state_stem(folder: Path, identity: Sequence[Any]) -> str:
    """Name a training's state by all that determines it, so that no other takes it for its own."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return str(folder / hashlib.sha256(text.encode()).hexdigest()[:20])
