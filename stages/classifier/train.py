"""Step train: fit one network for one target and arm with one fold held out."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.classifier import networks, portable
from stages.classifier.card import describe_input, describe_model
from stages.classifier.data import Data
from stages.classifier.images import Grid, cut_plane
from stages.classifier.members import Job, calibrate, fit_linear, fit_members, list_outputs
from stages.classifier.penalties import parse_penalty
from stages.classifier.pretrained import read_pretrained
from stages.classifier.program import Program, standardise
from stages.classifier.reading import describe_predictions
from stages.classifier.tables import read_rows, write_rows
from stages.classifier.training import Recipe
from stages.classifier.training_set import deal_inner, read_labels, read_parts

logger = logging.getLogger(__name__)


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
    widths: list[int],
    convolutions: int,
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
    if stack.shape[1] > 1:
        options["channels"] = stack.shape[1]
    if network in networks.SIZED:
        options |= {"widths": widths, "convolutions": convolutions}
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
        found = fit_linear(job) if network == "linear" else fit_members(job, choices, given)
        program = Program(found.members, architecture)
        temperature, bias = calibrate(found, labels)
        outputs = list_outputs(program, job, found)
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


def _as_it_is(images: torch.Tensor) -> torch.Tensor:
    return images


def _state_stem(folder: Path, identity: Sequence[Any]) -> str:
    """Name a training's state by all that determines it, so that no other takes it for its own."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return str(folder / hashlib.sha256(text.encode()).hexdigest()[:20])
