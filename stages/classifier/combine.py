"""Step combine: join the folds' models into one program, for people whom none of them has seen."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.classifier import portable
from stages.classifier.program import Member, Program

logger = logging.getLogger(__name__)


def run(
    *,
    predictions: list[str],
    model: str,
    weights: str,
    graph: str,
    target: str,
    arm: str,
    network: str,
    seed: int,
) -> None:
    """Write the model that averages the folds' outputs; its card lists everybody they have seen.

    Parameters
    ----------
    predictions
        Tables of the folds, each beside its fold's model.
    """
    folders = sorted(Path(path).parent for path in predictions)
    programs, cards = zip(*(portable.read_program(folder) for folder in folders), strict=True)
    joined = join(programs)
    card = join_cards(cards, f"{target}{arm}{network}")
    logger.info("%s: %d folds joined", card["Name"], len(folders))
    with tempfile.TemporaryDirectory(dir=Path(model).parent) as scratch:
        portable.write_model(Path(scratch), joined, card)
        for name, path in (
            (portable.CARD, model),
            (portable.WEIGHTS, weights),
            (portable.GRAPH, graph),
        ):
            shutil.move(Path(scratch) / name, path)


def join(programs: Sequence[Program]) -> Program:
    """Put the members of several programs into one, which averages them all.

    Raises
    ------
    ValueError
        Programs of different architecture.
    """
    first = {k: v for k, v in programs[0].architecture.items() if k != "members"}
    members: list[Member] = []
    for program in programs:
        if {k: v for k, v in program.architecture.items() if k != "members"} != first:
            raise ValueError(
                f"folds of different architecture: {json.dumps(first)} and"
                f" {json.dumps(program.architecture)}; train all folds with the same parameters"
            )
        members += [m for m in program.members if isinstance(m, Member)]
    return Program(members, {**first, "members": len(members)})


def join_cards(cards: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Say of several models what holds for their mean.

    Temperature is the geometric mean, bias the mean of the folds', metrics are kept fold by fold:
    the mean itself has no held-out participants.
    """
    merged = dict(cards[0])
    for key in ("TrainingParticipants", "TrainingImages"):
        merged[key] = sorted({item for card in cards for item in card[key]})
    merged["Name"] = name
    merged["Temperature"] = float(np.exp(np.mean([np.log(c["Temperature"]) for c in cards])))
    if "Bias" in merged:
        merged["Bias"] = {
            key: float(np.mean([card["Bias"][key] for card in cards]))
            for key in ("Intercept", "Slope")
        }
    merged["Metrics"] = {card["Name"]: card["Metrics"] for card in cards}
    return merged
