"""Tables as pages show them: numbers to sort by, intervals beside their values, flags in colour.

A column ``x`` with ``x_low`` and ``x_high`` beside it (or ``ci_low`` and ``ci_high`` beside
``value``) becomes one column "0.81 [0.70, 0.90]" with a small picture of the interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bids_app.files import MISSING
from bids_app.report_matrices import Matrix, find_matrices

FLAGS = {
    "pass": "pass", "done": "pass", "true": "", "warn": "warn", "fail": "fail", "failed": "fail",
}  # fmt: skip
LOW_HIGH = (
    ("{}_low", "{}_high"), ("{}_ci_low", "{}_ci_high"), ("{}_lower", "{}_upper"),
    ("{}_ci_lower", "{}_ci_upper"),
)  # fmt: skip
BARE = (("ci_low", "ci_high"), ("low", "high"), ("ci_lower", "ci_upper"))
BASELINES = ("baseline", "chance", "majority")
#: Pictures of intervals in tables of at most so many rows.
PICTURED_ROWS = 200
WIDTH = 80.0  # of such a picture, in its own units


@dataclass(frozen=True)
class Cell:
    """What stands in one cell: text, value to sort by, class of colour, link, interval picture."""

    text: str
    sort: str = ""
    flag: str = ""
    link: str = ""
    interval: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Table:
    """A table ready to be shown; ``source`` is the file it was read from, inside its dataset."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[str] = frozenset()
    source: str = ""
    caption: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)
    matrices: tuple[Matrix, ...] = field(default_factory=tuple)


def make_table(
    name: str,
    rows: Sequence[Mapping[str, str]],
    *,
    source: str = "",
    caption: str = "",
    links: Mapping[str, Mapping[str, str]] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Turn rows of a tab-separated table into what a page shows.

    Parameters
    ----------
    links
        Column → text of a cell → where it leads.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    bounds = find_intervals(columns)
    hidden = {column for pair in bounds.values() for column in pair}
    shown = [column for column in columns if column not in hidden]
    scales = {
        column: _scale(rows, column, *pair)
        for column, pair in bounds.items()
        if len(rows) <= PICTURED_ROWS
    }
    body = tuple(
        tuple(
            _cell(row, column, bounds.get(column), scales.get(column), (links or {}).get(column))
            for column in shown
        )
        for row in rows
    )
    numeric = frozenset(
        column for index, column in enumerate(shown) if _is_numeric([r[index] for r in body])
    )
    matrices = find_matrices(rows)
    return Table(name, tuple(shown), body, numeric, source, caption, tuple(notes), matrices)


def find_intervals(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Match columns with those that bound them.

    >>> find_intervals(["metric", "value", "ci_low", "ci_high", "n"])
    {'value': ('ci_low', 'ci_high')}
    >>> find_intervals(["auc", "auc_low", "auc_high"])
    {'auc': ('auc_low', 'auc_high')}
    """
    found = {}
    for column in columns:
        for low, high in LOW_HIGH:
            pair = low.format(column), high.format(column)
            if pair[0] in columns and pair[1] in columns:
                found[column] = pair
                break
    for low, high in BARE:
        if low in columns and high in columns and columns.index(low) > 0:
            before = columns[columns.index(low) - 1]
            value = "value" if "value" in columns else before
            found.setdefault(value, (low, high))
            break
    return found


def number(text: str) -> float | None:
    """Read a number; None for anything else, also for nan and infinity."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def shorten(text: str) -> str:
    """Round a number with many digits to four that count; leave other text as it is.

    >>> shorten("0.123456789"), shorten("0.079424"), shorten("1790.8"), shorten("sub-01")
    ('0.1235', '0.07942', '1790.8', 'sub-01')
    """
    value = number(text)
    digits = len(text.lstrip("-").replace(".", "").lstrip("0"))
    is_long = not text.isdigit() and digits > (4 if value is not None and abs(value) < 1 else 5)
    if value is None or not is_long:
        return text
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"


def _cell(
    row: Mapping[str, str],
    column: str,
    bounds: tuple[str, str] | None,
    scale: tuple[float, float] | None,
    links: Mapping[str, str] | None,
) -> Cell:
    raw = row.get(column, MISSING)
    text = shorten(raw)
    picture = None
    if bounds:
        low, high = (row.get(name, MISSING) for name in bounds)
        if number(low) is not None and number(high) is not None:
            text = f"{text} [{shorten(low)}, {shorten(high)}]"
            picture = _picture(row, raw, low, high, scale)
    return Cell(
        text=text,
        sort=raw if number(raw) is not None else "",
        flag=FLAGS.get(raw.lower(), ""),
        link=(links or {}).get(raw, ""),
        interval=picture,
    )


def _scale(
    rows: Sequence[Mapping[str, str]], column: str, low: str, high: str
) -> tuple[float, float] | None:
    """Find the range that a column's values, intervals and baselines span."""
    names = [column, low, high, *BASELINES]
    found = [number(row.get(name, "")) for row in rows for name in names]
    values = [value for value in found if value is not None]
    return (min(values), max(values)) if values and min(values) < max(values) else None


def _picture(
    row: Mapping[str, str], value: str, low: str, high: str, scale: tuple[float, float] | None
) -> Mapping[str, float] | None:
    """Place value, interval and baseline on a strip that is WIDTH wide."""
    if scale is None or number(value) is None:
        return None
    span = scale[1] - scale[0]

    def place(text: str) -> float:
        return round(4 + (WIDTH - 8) * (float(text) - scale[0]) / span, 1)

    picture = {"value": place(value), "low": place(low), "high": place(high)}
    baseline = next((row[b] for b in BASELINES if number(row.get(b, "")) is not None), None)
    if baseline is None and scale[0] < 0 < scale[1]:
        baseline = "0"  # no difference
    return picture | ({"baseline": place(baseline)} if baseline is not None else {})


def _is_numeric(cells: Sequence[Cell]) -> bool:
    filled: list[Any] = [cell for cell in cells if cell.text not in (MISSING, "", "nan")]
    return bool(filled) and all(cell.sort for cell in filled)
