"""How the numbers of a group's scans spread: a strip with a box for each quantity, far ones named.

A scan is far if it lies more than 1.5 interquartile ranges outside the box (Tukey, 1977). That is a
hint where to look, no verdict: of normally distributed values 0.7 % are.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bids_app.report_tables import number

FENCE = 1.5
LEAST_VALUES = 3  # different ones, to speak of a spread
DRAWN = 100  # with more scans than that, far ones alone are drawn
WIDTH, MARGIN = 260.0, 6.0  # of a strip, in its own units


@dataclass(frozen=True)
class Dot:
    """A scan's value: place on the strip, the participant, what it is, whether it is far."""

    x: float
    label: str
    text: str
    is_far: bool


@dataclass(frozen=True)
class Strip:
    """One quantity: numbers as text, the box's left, middle and right on the strip, and dots."""

    name: str
    n: int
    median: str
    quartiles: tuple[str, str]
    ends: tuple[str, str]
    box: tuple[float, float, float]
    dots: tuple[Dot, ...]

    @property
    def far(self) -> int:
        """How many scans are far."""
        return sum(dot.is_far for dot in self.dots)


def find_strips(rows: Sequence[Mapping[str, str]], column: str = "participant_id") -> list[Strip]:
    """Make a strip of each numeric column of a table of scans, those with far scans first.

    >>> values = [1, 2, 3, 4, 99]
    >>> rows = [{"participant_id": f"sub-{i}", "ml": str(v)} for i, v in enumerate(values)]
    >>> strip, = find_strips(rows)
    >>> strip.median, strip.quartiles, [dot.label for dot in strip.dots if dot.is_far]
    ('3', ('2', '4'), ['sub-4'])
    """
    strips = []
    for name in dict.fromkeys(key for row in rows for key in row if key != column):
        pairs = [(number(row.get(name, "")), row.get(column, "")) for row in rows]
        values = [(value, label) for value, label in pairs if value is not None]
        if len({value for value, _ in values}) >= LEAST_VALUES:
            strips.append(_strip(name, values))
    return sorted(strips, key=lambda strip: -strip.far)


def _strip(name: str, values: Sequence[tuple[float, str]]) -> Strip:
    alone = sorted(value for value, _ in values)
    low, middle, high = statistics.quantiles(alone, n=4, method="inclusive")
    reach = FENCE * (high - low)

    def place(value: float) -> float:
        share = (value - alone[0]) / (alone[-1] - alone[0])
        return round(MARGIN + (WIDTH - 2 * MARGIN) * share, 1)

    dots = [
        Dot(place(value), label, _tell(value), not low - reach <= value <= high + reach)
        for value, label in values
    ]
    return Strip(
        name=name,
        n=len(values),
        median=_tell(middle),
        quartiles=(_tell(low), _tell(high)),
        ends=(_tell(alone[0]), _tell(alone[-1])),
        box=(place(low), place(middle), place(high)),
        dots=tuple(dot for dot in dots if dot.is_far or len(dots) <= DRAWN),
    )


def _tell(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"
