"""What a network can be trained on first, by name: ``landmark60``, ``naturalproxy`` and others."""

from __future__ import annotations

import re
from typing import NamedTuple

LANDMARK = "landmark"
CIFAR10 = "cifar10"
PROXY = "naturalproxy"
RANDOM = "random"
WEIGHTS = "weights"
PLAIN = (CIFAR10, PROXY, RANDOM, WEIGHTS)


class Kind(NamedTuple):
    """A source: its kind and, for landmarks, how many."""

    name: str
    landmarks: int = 0


def parse_source(source: str) -> Kind:
    """Read the name of a source.

    >>> parse_source("landmark60")
    Kind(name='landmark', landmarks=60)

    Raises
    ------
    ValueError
        No such source.
    """
    if source in PLAIN:
        return Kind(source)
    found = re.fullmatch(rf"{LANDMARK}(\d+)", source)
    if not found or int(found[1]) < 2:
        raise ValueError(
            f"source {source!r}: expected {LANDMARK} and a number (landmark60), or one of"
            f" {', '.join(PLAIN)}"
        )
    return Kind(LANDMARK, int(found[1]))
