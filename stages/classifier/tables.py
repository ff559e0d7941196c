"""Tab-separated tables as BIDS has them: ``n/a`` for what is not there."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MISSING = ("", "n/a", "N/A", "NaN", "nan")

Row = dict[str, str]


def read_rows(path: str | Path) -> list[Row]:
    """Read rows as text; missing values become ``n/a``.

    Raises
    ------
    ValueError
        No tab-separated text in UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return [
                {
                    k: "n/a" if v is None or v.strip() in MISSING else v.strip()
                    for k, v in row.items()
                    if k
                }
                for row in csv.DictReader(stream, delimiter="\t")
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; save it as tab-separated text in UTF-8") from error


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; columns are those of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def read_people(path: str | Path) -> dict[str, Row]:
    """Read participants.tsv as participant (``sub-01``) → row.

    Raises
    ------
    ValueError
        No ``participant_id`` column, or a participant with two rows.
    """
    people: dict[str, Row] = {}
    for row in read_rows(path):
        if "participant_id" not in row:
            raise ValueError(
                f"{path}: no column participant_id, found {', '.join(row)}; is it tab-separated?"
            )
        name = "sub-" + row["participant_id"].removeprefix("sub-")
        if name in people:
            raise ValueError(f"{path}: {name} has two rows; keep one")
        people[name] = row
    return people


def number(text: str) -> float:
    """Turn a cell into a number; what is none is NaN.

    >>> number("n/a"), number("3.5")
    (nan, 3.5)
    """
    try:
        return float(text)
    except ValueError:
        return math.nan


def _cell(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
