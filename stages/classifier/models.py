"""Which models may judge an image: those that fit it and have not seen its person."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.classifier.portable import read_card

Card = Mapping[str, Any]


def has_seen(card: Card, participant: str, image_hash: str) -> bool:
    """Tell whether a person or an image influenced a model."""
    return f"bids::{participant}" in card["TrainingParticipants"] or image_hash in card.get(
        "TrainingImages", ()
    )


def choose_models(
    paths: Sequence[str], participant: str, image_hash: str, arm: str
) -> list[tuple[Path, Card]]:
    """Choose per target and network: the joined model if it may judge, else the folds that may.

    The joined model has seen everybody in the cohort, so they are judged by the one fold that was
    trained without them.
    """
    groups: dict[tuple[str, str], list[tuple[Path, Card]]] = {}
    for path in map(Path, paths):
        card = read_card(path)
        if card["Arm"] == arm and not has_seen(card, participant, image_hash):
            groups.setdefault((card["Target"], card["Network"]), []).append((path, card))
    chosen = []
    for (target, network), found in sorted(groups.items()):
        joined = [pair for pair in found if pair[1]["Name"] == f"{target}{arm}{network}"]
        chosen += joined or sorted(found, key=lambda pair: str(pair[1]["Name"]))
    return chosen
