"""Which annotation belongs to which image, by the entities in their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# Entities that say how a derivative was made rather than what was scanned.
DERIVED = ("desc", "label", "seg", "res", "den", "space", "atlas", "stat", "hemi")


def pair(
    images: Sequence[str], annotations: Sequence[str], suffixes: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Give each annotation to the image whose entities agree with its own.

    An annotation may lack entities (``sub-01_points.tsv`` fits every image of sub-01). Of several
    images that agree in all it has, it goes to the one whose suffix comes first in ``suffixes``.

    Raises
    ------
    ValueError
        An annotation that fits no image, or several of one suffix.
    """
    pairs: dict[str, list[str]] = {path: [] for path in images}
    for annotation in annotations:
        own = _entities(annotation)
        fitting = [p for p in images if own.items() <= _entities(p).items()]
        if not fitting:
            raise ValueError(
                f"{annotation}: no image has its entities ({_tell(own)}); images:"
                f" {', '.join(Path(p).name for p in images) or 'none'}"
            )
        for suffix in suffixes:
            best = [path for path in fitting if _suffix(path) == suffix]
            if best:
                fitting = best
                break
        if len(fitting) > 1:
            raise ValueError(
                f"{annotation}: fits {len(fitting)} images"
                f" ({', '.join(Path(p).name for p in fitting)}); name it like the one it is of"
            )
        pairs[fitting[0]].append(annotation)
    return {path: found for path, found in pairs.items() if found}


def _suffix(path: str) -> str:
    return Path(path).name.partition(".")[0].rpartition("_")[2]


def _entities(path: str) -> dict[str, str]:
    stem = Path(path).name.partition(".")[0]
    words = [word.partition("-") for word in stem.split("_")[:-1]]
    return {key: value for key, dash, value in words if dash and key not in DERIVED}


def _tell(entities: dict[str, str]) -> str:
    return ", ".join(f"{key}-{value}" for key, value in entities.items())
