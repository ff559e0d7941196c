"""Counts of true by predicted class as square matrices, shaded by the share of each row.

A table with the columns ``label``, ``predicted`` and ``n`` (one row per pair of classes) becomes
one matrix for each combination of its other columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TRUE, PREDICTED, COUNT = "label", "predicted", "n"
MOST_CLASSES = 12  # larger ones are read as a table
SHADES = 10


@dataclass(frozen=True)
class Matrix:
    """One matrix; ``cells[i][j]`` are count, share of row i in percent, and shade 0 … SHADES."""

    name: str
    classes: tuple[str, ...]
    cells: tuple[tuple[tuple[int, int, int], ...], ...]


def find_matrices(rows: Sequence[Mapping[str, str]]) -> tuple[Matrix, ...]:
    """Make matrices of a table that counts true by predicted classes; none of any other table.

    >>> rows = [{"label": a, "predicted": b, "n": n} for a, b, n in ("FF3", "FM1", "MF0", "MM4")]
    >>> matrix, = find_matrices(rows)
    >>> matrix.classes, matrix.cells[0]
    (('F', 'M'), ((3, 75, 8), (1, 25, 2)))
    """
    if not rows or not {TRUE, PREDICTED, COUNT} <= rows[0].keys():
        return ()
    groups: dict[str, dict[tuple[str, str], int]] = {}
    others = [name for name in rows[0] if name not in (TRUE, PREDICTED, COUNT, "item")]
    for row in rows:
        if not row[COUNT].isdigit():
            return ()
        name = " ".join(row[other] for other in others)
        pair = row[TRUE], row[PREDICTED]
        counts = groups.setdefault(name, {})
        counts[pair] = counts.get(pair, 0) + int(row[COUNT])
    matrices = []
    for name, counts in groups.items():
        classes = tuple(dict.fromkeys(label for pair in counts for label in pair))
        if len(classes) > MOST_CLASSES:
            return ()
        matrices.append(Matrix(name, classes, _cells(classes, counts)))
    return tuple(matrices)


def _cells(
    classes: Sequence[str], counts: Mapping[tuple[str, str], int]
) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    lines = []
    for true in classes:
        line = [counts.get((true, predicted), 0) for predicted in classes]
        total = max(sum(line), 1)
        lines.append(tuple((n, round(100 * n / total), round(SHADES * n / total)) for n in line))
    return tuple(lines)
