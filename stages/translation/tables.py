"""Tab-separated tables as BIDS has them: ``n/a`` for what is not there."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MISSING = ("", "n/a", "N/A", "NaN", "nan")

Row = dict[str, str]


def read_rows(path: str | Path) -> list[Row]:
    """Read a table as text; missing values become ``n/a``."""
    with open(path, encoding="utf-8-sig", newline="") as stream:
        return [
            {
                key: "n/a" if value is None or value.strip() in MISSING else value.strip()
                for key, value in row.items()
                if key
            }
            for row in csv.DictReader(stream, delimiter="\t")
        ]


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; columns are those of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def number(text: str) -> float:
    """Turn a cell into a number; what is none becomes NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def participant_of(path: str | Path) -> str:
    """Name the participant of a file, ``sub-01``."""
    return Path(path).name.split("_")[0]


def entity_of(path: str | Path, name: str) -> str:
    """Read one entity from a file's name; empty if it has none.

    >>> entity_of("sub-01_stat-diff_desc-toOld_T1wmap.nii.gz", "desc")
    'toOld'
    """
    pairs = Path(path).name.partition(".")[0].split("_")
    return next((p.partition("-")[2] for p in pairs if p.startswith(f"{name}-")), "")


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
