"""Tables: tab-separated, ``n/a`` where there is no value."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; columns are all keys in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with Path(path).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_text(row.get(column)) for column in columns])


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read rows as texts; cells that a short row lacks are ``n/a``.

    Raises
    ------
    ValueError
        No tab-separated text in UTF-8.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t", restval="n/a"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; save it as tab-separated text in UTF-8") from error


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
