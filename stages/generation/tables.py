"""Tab-separated tables as BIDS has them: ``n/a`` for what is not there."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, str]


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; columns are those of any row, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)


def read_rows(path: str | Path) -> list[Row]:
    """Read rows as text; cells that a short row lacks are ``n/a``.

    Raises
    ------
    ValueError
        No tab-separated text in UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t", restval="n/a"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; save it as tab-separated text in UTF-8") from error


def read_people(path: str | Path) -> dict[str, Row]:
    """Read participants.tsv as participant → row.

    Raises
    ------
    ValueError
        No column ``participant_id``.
    """
    people: dict[str, Row] = {}
    for row in read_rows(path):
        if "participant_id" not in row:
            raise ValueError(
                f"{path}: no column participant_id, found {', '.join(map(str, row))};"
                " is it tab-separated?"
            )
        people["sub-" + row["participant_id"].removeprefix("sub-")] = row
    return people


def _cell(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
