"""A small search over patch size, depth and width, judged on training participants held back."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

from stages.transfer.files import Prepared
from stages.transfer.landmark_source import LandmarkTask
from stages.transfer.network import apply, build, count_parameters
from stages.transfer.splits import draw_test
from stages.transfer.tables import Row
from stages.transfer.training import train

logger = logging.getLogger(__name__)

SIZES = (24, 32)
DEPTHS = (1, 2, 3)
WIDTHS = (16, 32)
HELD_BACK = 0.25


def search_architectures(
    items: Sequence[Prepared],
    names: Sequence[str],
    settings: dict[str, Any],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> list[Row]:
    """Train each architecture for some epochs; the test participants are not looked at.

    Returns
    -------
    rows : list
        Size, depth, width, parameters, accuracy on a quarter of the training participants, and
        rank; the best first.
    """
    held = draw_test({item.participant: "" for item in items}, HELD_BACK, seed)
    kept = [item for item in items if item.participant not in held]
    back = [item for item in items if item.participant in held]
    if not kept or not back:
        raise ValueError(f"{len(items)} volumes are too few to search architectures with")
    rows: list[Row] = []
    for size, depth, width in itertools.product(SIZES, DEPTHS, WIDTHS):
        own = settings | {"size": size}
        task, judge = LandmarkTask(kept, names, **own), LandmarkTask(back, names, **own)
        net = build(len(task.classes), size=size, width=width, depth=depth, seed=seed)
        train(
            net,
            task.draw,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            signature="search",
        )
        patches, classes, _, _ = judge.examine(seed)
        top1 = float((apply(net, patches).argmax(1) == classes).mean())
        rows.append(
            {
                "patch_size": size,
                "depth": depth,
                "width": width,
                "parameters": count_parameters(net),
                "epochs": epochs,
                "validation_top1": top1,
                "n_patches": len(classes),
            }
        )
        logger.info("size %d, depth %d, width %d: %.3f", size, depth, width, top1)
    rows.sort(key=lambda row: -row["validation_top1"])
    return [row | {"rank": rank} for rank, row in enumerate(rows, start=1)]
