"""Whom to draw and onto which grid: mode and median shape, the slice axis, arms and their draws.

Shapes are voxel counts along (x, y, z). Participants are counted, not images.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Arm:
    """One way to make a cohort comparable.

    Attributes
    ----------
    geometry : str
        How images are placed: a key of ``placement.GEOMETRIES``, or ``template`` for images that
        preprocessing has registered already.
    pool : {"all", "mode"}
        Draw from everybody, or only from those whose shape is the most frequent one.
    draw : {"everyone", "random", "balanced"}
        Everybody of the pool, a simple random sample, or equally many of each class.
    """

    geometry: str
    pool: str
    draw: str


#: "cluster", "stratified" and "resize" are the three extraction methods of the study sex-slices,
#: "zerobackground" is that of the work it doubts.
ARMS: Mapping[str, Arm] = {
    "zerobackground": Arm("zerobackground", "all", "everyone"),
    "cluster": Arm("native", "mode", "random"),
    "stratified": Arm("native", "mode", "balanced"),
    "resize": Arm("resize", "all", "balanced"),
    "croppad": Arm("croppad", "all", "everyone"),
    "isotropic": Arm("isotropic", "all", "everyone"),
    "template": Arm("template", "all", "everyone"),
}


def find_slice_axis(shapes: NDArray[np.integer]) -> int:
    """Find the axis whose length varies most, (n, 3) → 0, 1 or 2; the first of equals.

    >>> find_slice_axis(np.array([[160, 256, 181], [170, 256, 181]]))
    0
    """
    return int(np.argmax(np.var(np.asarray(shapes, dtype=float), axis=0)))


def find_mode(shapes: NDArray[np.integer]) -> tuple[Shape, int]:
    """Find the most frequent shape and how often it occurs; of equals, that with most voxels.

    >>> find_mode(np.array([[170, 256, 181], [165, 256, 181], [170, 256, 181]]))
    ((170, 256, 181), 2)
    """
    counts = Counter(_as_shape(row) for row in np.asarray(shapes))
    shape, count = max(counts.items(), key=lambda item: (item[1], np.prod(item[0]), item[0]))
    return shape, count


def find_median(shapes: NDArray[np.integer]) -> Shape:
    """Find the median length of each axis; of an even number, the lower of the middle two.

    A length that lies between two voxel counts could not be resized to.

    >>> find_median(np.array([[160, 256, 181], [165, 256, 181], [170, 256, 180], [171, 256, 181]]))
    (165, 256, 181)
    """
    return _as_shape([statistics.median_low(column) for column in np.asarray(shapes).T.tolist()])


def draw_random(count: int, number: int, rng: np.random.Generator, *, pool: str) -> list[int]:
    """Draw ``number`` of ``count`` people without looking at their label; 0 means all of them.

    Raises
    ------
    ValueError
        There are fewer; says how many, and of which ``pool``.
    """
    if number > count:
        raise ValueError(f"{number} participants asked of {pool}, which has {count}; ask for fewer")
    return sorted(rng.permutation(count)[: number or count].tolist())


def draw_per_class(
    labels: Sequence[str], wanted: Mapping[str, int], rng: np.random.Generator, *, pool: str
) -> list[int]:
    """Draw a number of each class.

    Parameters
    ----------
    labels
        Class of each person of the pool.
    wanted
        Class → number; classes that are not named are not drawn.
    pool
        What the people are drawn from, for the message.

    Returns
    -------
    list of int
        Positions in ``labels``, ascending.

    Raises
    ------
    ValueError
        A class has too few people; says how many each class has.
    """
    chosen: list[int] = []
    have = Counter(labels)
    for name in sorted(wanted):
        if wanted[name] > have[name]:
            listed = ", ".join(f"{c} {n}" for c, n in sorted(have.items())) or "nobody"
            raise ValueError(
                f"{wanted[name]} participants of class {name!r} asked of {pool}, which has"
                f" {have[name]} ({listed}); ask for fewer or take an arm that draws from all shapes"
            )
        members = np.flatnonzero(np.asarray(labels) == name)
        chosen += rng.permutation(members)[: wanted[name]].tolist()
    return sorted(chosen)


def draw_arm(
    name: str,
    labels: Sequence[str],
    in_mode: Sequence[bool],
    *,
    n_random: int,
    n_per_class: int,
    quota: Mapping[str, int],
    rng: np.random.Generator,
) -> list[int]:
    """Draw the cohort of an arm.

    Parameters
    ----------
    name
        Key of ``ARMS``.
    labels, in_mode
        Class of each person, and whether their image has the most frequent shape.
    n_random
        Size of a random draw; 0 is everybody of the pool.
    n_per_class
        Size of each class in a balanced draw; 0 is the size of the smallest class.
    quota
        Class → number, in place of a random draw; empty for none.

    Returns
    -------
    list of int
        Positions in ``labels``, ascending.

    Raises
    ------
    ValueError
        More asked for than there are.
    """
    arm = ARMS[name]
    members = [i for i, inside in enumerate(in_mode) if inside or arm.pool == "all"]
    classes = [labels[i] for i in members]
    pool = "the shape that most have" if arm.pool == "mode" else "all shapes"
    where = f"arm {name}: {pool}"
    if arm.draw == "everyone":
        return members
    if arm.draw == "random" and not quota:
        picked = draw_random(len(members), n_random, rng, pool=where)
    else:
        wanted = dict(quota) if arm.draw == "random" else _balance(labels, classes, n_per_class)
        picked = draw_per_class(classes, wanted, rng, pool=where)
    return [members[i] for i in picked]


def parse_quota(text: str) -> dict[str, int]:
    """Read ``M=682,F=118``.

    Raises
    ------
    ValueError
        Not of that form.

    >>> parse_quota("M=682, F=118")
    {'M': 682, 'F': 118}
    """
    quota = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, number = (word.strip() for word in part.partition("="))
        if not (name and equals and number.isdigit()):
            raise ValueError(f"quota: found {part!r}, expected CLASS=NUMBER, as in M=682,F=118")
        quota[name] = int(number)
    return quota


def cut_values(values: Sequence[str], cuts: Sequence[float]) -> list[str]:
    """Turn numbers into two classes: below the first cut, and from the last on.

    Returns
    -------
    list of str
        ``below45``, ``from50``, or empty for a value that is missing or lies between the cuts.

    >>> cut_values(["44.9", "45", "50", "n/a"], [45, 50])
    ['below45', '', 'from50', '']
    """
    low, high = min(cuts), max(cuts)
    classes = []
    for text in values:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        lower, upper = f"below{low:g}", f"from{high:g}"
        classes.append(lower if value < low else upper if value >= high else "")
    return classes


def _balance(labels: Sequence[str], classes: Sequence[str], n_per_class: int) -> dict[str, int]:
    have = Counter(classes)
    names = sorted(set(labels))
    # A class that the pool lacks makes the smallest size 0: an error later, not an empty cohort.
    least = min(have[name] for name in names)
    return dict.fromkeys(names, n_per_class or max(least, 1))


def _as_shape(row: Sequence[int] | NDArray[np.integer]) -> Shape:
    x, y, z = (int(n) for n in row)
    return x, y, z
