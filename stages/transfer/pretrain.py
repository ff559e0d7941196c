"""Step pretrain: train one network on one source, and say how well it learnt it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.transfer import figures, provenance, splits
from stages.transfer.detection import average_shape
from stages.transfer.files import Prepared, read_about, read_prepared
from stages.transfer.landmark_source import LandmarkTask, look_up
from stages.transfer.landmarks import choose_spread
from stages.transfer.models import load_weights, save_model
from stages.transfer.natural_images import SIDE, ProxyTask, read_cifar10
from stages.transfer.network import MiniVGG, apply, build, count_parameters
from stages.transfer.search import search_architectures
from stages.transfer.tables import Row, write_rows
from stages.transfer.tasks import CIFAR10, LANDMARK, PROXY, RANDOM, WEIGHTS, parse_source
from stages.transfer.training import Progress, train

logger = logging.getLogger(__name__)

VERSION = "1"
PATCHES, CANDIDATES = "_patches.safetensors", "_candidates.safetensors"


def run(
    *,
    material: list[str],
    cifar10: str | None,
    network: str | None,
    checkpoint: str | None,
    model: str,
    card: str,
    state: str,
    confusion: str,
    search: str,
    figure: str,
    source: str,
    epochs: int,
    minutes: float,
    batch_size: int,
    learning_rate: float,
    patch_size: int,
    width: int,
    depth: int,
    shift_mm: float,
    exclusion_mm: float,
    background: int,
    presence: float,
    images_per_epoch: int,
    search_epochs: int,
    test_fraction: float,
    seed: int,
) -> None:
    """Write weights and card, with the accuracy on test participants, and what is confused.

    Raises
    ------
    ValueError
        An unknown source, too few landmarks, one scan under two names, or a checkpoint of
        another training.
    FileNotFoundError
        The source needs a file that was not given.
    """
    kind = parse_source(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    about: dict[str, Any] = {
        "Name": source,
        "Task": "feature extraction",
        "Input": {"Size": patch_size, "Content": "three orthogonal planes, 0..1"},
        "TrainingParticipants": [],
        "Version": VERSION,
        "Licence": "that of the images it was trained on",
        "Provenance": provenance.REAL,
        "Epochs": 0,
    }
    if kind.name == RANDOM:
        net = build(2, size=patch_size, width=width, depth=depth, seed=seed)
        _finish(model, card, net, about | {"Provenance": provenance.RANDOM}, [])
        return
    if kind.name == WEIGHTS:
        if network is None:
            raise FileNotFoundError("source weights: give the file with --weights network=PATH")
        net = load_weights(network, patch_size)
        _finish(model, card, net, about | {"Weights": Path(network).name}, [])
        return
    task: Any
    tested: Any = None
    if kind.name == LANDMARK:
        people = _by_participant(path for path in material if path.endswith(PATCHES))
        cases = [read_about(path) for path in material if path.endswith(CANDIDATES)]
        lesion_cases = {case["participant"]: bool(case["lesions"]) for case in cases}
        held = splits.split_all(people, lesion_cases, test_fraction, seed)
        training = [item for name in people if name not in held for item in people[name]]
        testing = [item for name in people if name in held for item in people[name]]
        if not training:
            raise ValueError(
                f"source {source}: no participant with landmarks to train with; give label maps or"
                " points with -d landmarks=PATH, or choose other sources with --transfer-source"
            )
        splits.check_apart([i.participant for i in training], [i.participant for i in testing])
        names = choose_spread([item.places for item in training], kind.landmarks, presence)
        settings: dict[str, Any] = {
            "size": patch_size,
            "shift_mm": shift_mm,
            "exclusion_mm": exclusion_mm,
            "background": background or max(kind.landmarks // 3, 1),
        }
        task = LandmarkTask(training, names, **settings)
        tested = LandmarkTask(testing, names, **settings) if testing else None
        _report_missing(training + testing, names)
        about |= {
            "Landmarks": average_shape([item.places for item in training], names),
            "TrainingParticipants": [
                f"bids::{p}" for p in sorted({i.participant for i in training})
            ],
            "Provenance": provenance.join(item.origin for item in training),
        }
        about["Input"]["SpacingMm"] = round(float(training[0].volume.zooms.mean()), 4)
        if search_epochs:
            write_rows(
                search,
                search_architectures(
                    training, names, settings, search_epochs, batch_size, learning_rate, seed
                ),
            )
    elif kind.name == PROXY:
        _check_side(source, patch_size)
        task = ProxyTask()
    elif kind.name == CIFAR10:
        _check_side(source, patch_size)
        if cifar10 is None:
            raise FileNotFoundError(
                "source cifar10: give cifar-10-binary.tar.gz or its folder with --weights"
                " cifar10=PATH; it is never downloaded"
            )
        task = read_cifar10(cifar10, images_per_epoch)
    net = build(len(task.classes), size=patch_size, width=width, depth=depth, seed=seed).to(device)
    logger.info("%s: %d classes, %d parameters", source, len(task.classes), count_parameters(net))
    signature = (
        f"{source}, {len(task.classes)} classes, {epochs} epochs, batch {batch_size}, rate"
        f" {learning_rate:g}, {patch_size} pixels, width {width}, depth {depth}, seed {seed}"
    )
    given = Path(checkpoint) if checkpoint and _is_of(checkpoint, source) else None
    progress = train(
        net,
        task.draw,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        signature=signature,
        state=Path(state),
        checkpoint=given,
        minutes=minutes,
    )
    about |= {
        "Classes": task.classes,
        "Epochs": progress.epoch,
        "Finished": progress.epoch >= epochs,
    }
    if kind.name == LANDMARK:
        rows, table = _judge_landmarks(net, task, tested, seed)
        write_rows(confusion, table)
    else:
        images, classes = task.test
        guessed = apply(net, images).argmax(1)
        rows = [_row("top1", "all", guessed == classes), _row("chance", "all", None)]
        rows[-1]["value"] = 1 / len(task.classes)
    for row in rows:
        row |= {"source": source, "classes": len(task.classes), "epochs": progress.epoch}
        row["provenance"] = about["Provenance"]
    if progress.epoch >= epochs:
        Path(state).unlink(missing_ok=True)  # only an unfinished training can go on
    _finish(model, card, net, about, rows)
    _draw(figure, progress, rows, source, about["Provenance"])


def _judge_landmarks(
    net: MiniVGG, task: LandmarkTask, tested: LandmarkTask | None, seed: int
) -> tuple[list[Row], list[Row]]:
    """Measure accuracy on the participants held out, and what is taken for what."""
    if tested is None:
        return [], []
    known, known_classes, owners, known_places = task.examine(seed)
    patches, classes, people, places = tested.examine(seed)
    splits.check_no_duplicates(known, patches, (owners, people))
    last = len(task.names)
    guessed = apply(net, patches).argmax(1)
    looked_up = look_up((known_classes, known_places), places, last)
    is_mark = classes < last
    rows = []
    for measure, guess in (("top1", guessed), ("position_only", looked_up)):
        is_right = guess == classes
        rows.append(_row(measure, "all", is_right, people))
        rows.append(_row(measure, "landmarks", is_right[is_mark], np.array(people)[is_mark]))
        rows.append(_row(measure, "background", is_right[~is_mark], np.array(people)[~is_mark]))
    table = []
    for index, name in enumerate(task.classes):
        own = guessed[classes == index]
        if not len(own):
            continue
        others, counts = np.unique(own[own != index], return_counts=True)
        row: Row = {"landmark": name, "n": len(own), "recall": float((own == index).mean())}
        if len(others):
            other = int(others[counts.argmax()])
            row["taken_for"], row["times"] = task.classes[other], int(counts.max())
            pair = [places[classes == k].mean(0) for k in (index, other)]
            if index < last and other < last:
                row["apart_mm"] = float(np.linalg.norm(pair[0] - pair[1]))
        table.append(row)
    return rows, table


def _row(measure: str, part: str, is_right: Any, people: Any = None) -> Row:
    """Average over patches; the interval is a bootstrap over participants."""
    if is_right is None:
        return {"measure": measure, "part": part, "value": None}
    row: Row = {"measure": measure, "part": part, "value": float(np.mean(is_right))}
    row["n_patches"] = len(is_right)
    if people is None:
        return row
    names, index = np.unique(np.asarray(people), return_inverse=True)
    right, count = np.bincount(index, is_right), np.bincount(index)
    draws = np.random.default_rng(0).integers(0, len(names), (2000, len(names)))
    values = right[draws].sum(1) / count[draws].sum(1)
    row["ci_low"], row["ci_high"] = (float(v) for v in np.quantile(values, [0.025, 0.975]))
    row["n_participants"] = len(names)
    return row


def _by_participant(paths: Iterable[str]) -> dict[str, list[Prepared]]:
    people: dict[str, list[Prepared]] = {}
    for item in read_prepared(paths):
        people.setdefault(item.participant, []).append(item)
    zooms: NDArray[Any] = np.array([i.volume.zooms.mean() for p in people.values() for i in p])
    if len(zooms) and np.ptp(zooms) > 0.01 * zooms.max():
        raise ValueError(
            f"volumes are prepared at {zooms.min():g} to {zooms.max():g} mm; run step patches"
            " again for all participants with one --transfer-landmark-spacing-mm"
        )
    return people


def _report_missing(items: Iterable[Prepared], names: list[str]) -> None:
    for item in items:
        absent = [name for name in names if name not in item.names]
        if absent:
            logger.info("%s: without landmarks %s", item.image, ", ".join(absent))


def _check_side(source: str, size: int) -> None:
    if size != SIDE:
        raise ValueError(f"source {source} has patches of {SIDE} pixels; patch size is {size}")


def _is_of(checkpoint: str, source: str) -> bool:
    """Tell whether a state is of this source; one file is given for all jobs of the step."""
    import json

    from safetensors import safe_open

    with safe_open(checkpoint, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
    return str(about.get("signature", source)).startswith(f"{source},")


def _finish(model: str, card: str, net: MiniVGG, about: dict[str, Any], rows: list[Row]) -> None:
    about["Accuracy"] = rows
    about["Parameters"] = count_parameters(net)
    save_model(model, card, net, about)


def _draw(figure: str, progress: Progress, rows: list[Row], source: str, origin: str) -> None:
    value = next((row["value"] for row in rows if row["measure"] == "top1"), float("nan"))
    title = f"{source}: learning"
    figures.draw_training(Path(figure), progress.losses, progress.accuracies, value, title, origin)
