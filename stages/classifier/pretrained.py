"""Weights that somebody trained before: taken where they fit, refused where they leak."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.classifier import portable
from stages.classifier.program import Member
from stages.classifier.tables import Row

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """Weights of a network by name, and who they were learnt from, if a card says so."""

    path: Path
    weights: dict[str, Tensor]
    participants: tuple[str, ...]
    images: frozenset[str]

    def put_into(self, member: Member) -> None:
        """Copy weights whose names and shapes agree into a member.

        Raises
        ------
        ValueError
            None agrees.
        """
        own = member.network.state_dict()
        fitting = {k: v for k, v in self.weights.items() if k in own and own[k].shape == v.shape}
        if not fitting:
            raise ValueError(
                f"{self.path}: none of its {len(self.weights)} weights fits this network; give"
                " weights of the same network (names as in its state dict)"
            )
        member.network.load_state_dict({**own, **fitting})
        logger.info("%s: %d of %d weights taken", self.path, len(fitting), len(own))

    def refuse_seen(self, rows: Sequence[Row]) -> None:
        """Refuse to test on who or what the weights were learnt from.

        Raises
        ------
        ValueError
            A held-out participant or image that pretraining saw.
        """
        for row in rows:
            name = f"bids::{row['participant_id']}"
            if name in self.participants or row["image_hash"] in self.images:
                raise ValueError(
                    f"leak: {self.path}: {row['participant_id']} ({row['filename']}) is to be"
                    " tested on but was seen in pretraining; leave the participant out or give"
                    " other weights"
                )


def read_pretrained(path: Path) -> Pretrained:
    """Read a safetensors file; a ``model.json`` beside it says who was seen, and its checksum.

    Raises
    ------
    ValueError
        Not safetensors (nothing else is opened: pickled files can run programs), or damaged.
    """
    card = path.parent / portable.CARD
    if path.name == portable.WEIGHTS and card.exists():
        program, known = portable.read_program(path.parent)
        state = program.members[0].network.state_dict()  # type: ignore[union-attr]
        people = tuple(known["TrainingParticipants"])
        return Pretrained(path, dict(state), people, frozenset(known["TrainingImages"]))
    try:
        weights = load_file(path)
    except (SafetensorError, torch.serialization.pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path}: no safetensors file ({error}); convert it, other formats can run programs"
            " and are not opened"
        ) from error
    logger.warning("%s: no card beside it, so nobody knows whom it has seen", path)
    return Pretrained(path, weights, (), frozenset())
