"""Tab-separated tables as BIDS has them: ``n/a`` for what is not there."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; columns are those of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read rows as text; cells that a short row lacks are ``n/a``.

    Raises
    ------
    ValueError
        No tab-separated text in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t", restval="n/a"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; save it as tab-separated text in UTF-8") from error


def number(text: str) -> float:
    """Turn a cell into a number; ``n/a`` is NaN."""
    return math.nan if text in ("n/a", "") else float(text)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
