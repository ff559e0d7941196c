"""Who trains and who tests: by participant, and no image in both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def draw_test(cases: Mapping[str, str], fraction: float, seed: int) -> set[str]:
    """Draw test participants: exactly the share, spread evenly over strata.

    Parameters
    ----------
    cases : mapping
        Participant → stratum (with lesion, without, landmarks only).
    fraction : float
        Share for testing; 1/3 of 150 is 50.
    seed : int
        The same participants and seed give the same split in every step.
    """
    rng = np.random.default_rng(seed)
    shuffled = [sorted(cases)[i] for i in rng.permutation(len(cases))]
    ordered = sorted(shuffled, key=lambda name: cases[name])  # stable: random within strata
    count = round(len(ordered) * fraction)
    marks = np.floor(np.arange(len(ordered) + 1) * count / max(len(ordered), 1) + 0.5)
    return {name for name, is_in in zip(ordered, np.diff(marks) > 0, strict=True) if is_in}


def split_all(
    landmark_people: Iterable[str], cases: Mapping[str, bool], fraction: float, seed: int
) -> set[str]:
    """Draw test participants among lesion cases, then among the others who have landmarks."""
    strata = {name: "lesion" if has_lesion else "none" for name, has_lesion in cases.items()}
    others = {name: "landmarks" for name in landmark_people if name not in cases}
    return draw_test(strata, fraction, seed) | draw_test(others, fraction, seed)


def deal_folds(cases: Mapping[str, bool], folds: int, seed: int) -> dict[str, int]:
    """Deal cases into folds, with and without lesion evenly.

    Raises
    ------
    ValueError
        Fewer cases than folds.
    """
    if len(cases) < folds:
        raise ValueError(f"{len(cases)} cases cannot be dealt into {folds} folds; ask for fewer")
    rng = np.random.default_rng(seed)
    shuffled = [sorted(cases)[i] for i in rng.permutation(len(cases))]
    ordered = sorted(shuffled, key=lambda name: cases[name])
    return {name: index % folds for index, name in enumerate(ordered)}


def check_apart(train: Iterable[str], test: Iterable[str]) -> None:
    """Refuse a participant who is in both parts.

    Raises
    ------
    ValueError
        Names the participants.
    """
    both = sorted(set(train) & set(test))
    if both:
        raise ValueError(
            f"{len(both)} participants are both in training and in testing ({', '.join(both[:5])});"
            " split by participant, all images of a person together"
        )


def check_no_duplicates(
    train: NDArray[np.uint8], test: NDArray[np.uint8], owners: tuple[Sequence[Any], Sequence[Any]]
) -> None:
    """Refuse patches that are in both parts, pixel by pixel; empty patches do not count.

    Raises
    ------
    ValueError
        Tells how many and whose; the same scan is probably there under two names.
    """
    seen = {digest: owners[0][i] for i, digest in _digests(train)}
    found = [(seen[digest], owners[1][i]) for i, digest in _digests(test) if digest in seen]
    if found:
        pairs = ", ".join(sorted({f"{a} and {b}" for a, b in found})[:5])
        raise ValueError(
            f"{len(found)} patches are both in training and in testing ({pairs}): the same scan"
            " under two names? keep one"
        )


def _digests(patches: NDArray[np.uint8]) -> Iterable[tuple[int, bytes]]:
    for index, patch in enumerate(patches):
        if patch.min() != patch.max():
            yield index, hashlib.blake2b(patch.tobytes(), digest_size=16).digest()
