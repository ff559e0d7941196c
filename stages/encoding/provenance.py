"""Where numbers are from, which every output says: real data and trained weights, or not."""

from collections.abc import Iterable

REAL = "real"
RANDOM = "random-weights"
SYNTHETIC = "synthetic"


def join_origins(origins: Iterable[str]) -> str:
    """Name where data are from: ``real``, or everything that they are instead.

    >>> join_origins(["real", "random-weights+synthetic", "synthetic"])
    'random-weights+synthetic'
    """
    words = {word for origin in origins for word in origin.split("+")} - {REAL}
    return "+".join(sorted(words)) or REAL
