"""Tables of people and scans: read with their mistakes named, matched by name, written as TSV."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MISSING = ("", "n/a", "N/A", "NaN", "nan")
#: Entities that a derivative adds to the name of the scan it was made from.
DERIVED = ("desc", "space", "res", "label")

Row = dict[str, str]


def read_table(path: str | Path) -> list[Row]:
    """Read a tab- or comma-separated table; missing values become ``n/a``.

    Raises
    ------
    ValueError
        No such text in UTF-8.
    """
    delimiter = "," if str(path).endswith(".csv") else "\t"
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            return [
                {
                    k: "n/a" if v is None or v.strip() in MISSING else v.strip()
                    for k, v in row.items()
                    if k
                }
                for row in csv.DictReader(handle, delimiter=delimiter)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: {error}; save it as a table in UTF-8") from error


def write_table(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as TSV; columns are those of all rows in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="n/a", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)


def read_people(path: str | Path) -> dict[str, Row]:
    """Read participants.tsv as participant → row.

    Raises
    ------
    ValueError
        No ``participant_id`` column, or a participant who has two rows.
    """
    people: dict[str, Row] = {}
    for row in read_table(path):
        if "participant_id" not in row:
            raise ValueError(
                f"{path}: no column participant_id, found {', '.join(row)}; is it tab-separated?"
            )
        name = "sub-" + row["participant_id"].removeprefix("sub-")
        if name in people:
            raise ValueError(f"{path}: {name} has two rows; keep one")
        people[name] = row
    return people


def read_column(people: Mapping[str, Row], column: str, *, path: str | Path) -> dict[str, str]:
    """Read one column, participant → value.

    Raises
    ------
    ValueError
        No such column; lists those there are and the nearest.
    """
    known = list(dict.fromkeys(name for row in people.values() for name in row))
    if column not in known:
        near = difflib.get_close_matches(column, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{path}: no column {column!r}{hint}; columns: {', '.join(known)}")
    return {name: row.get(column, "n/a") for name, row in people.items()}


def read_sidecars(paths: Sequence[str]) -> list[tuple[set[str], dict[str, Any]]]:
    """Read JSON sidecars with the entities in their names, the more general first.

    Raises
    ------
    ValueError
        A sidecar that is no JSON object.
    """
    found = []
    for path in paths:
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: found {type(content).__name__}, expected names and values")
        found.append((set(Path(path).name.split(".")[0].split("_")), content))
    return sorted(found, key=lambda pair: len(pair[0]))


def inherit(scan: str, sidecars: Sequence[tuple[set[str], dict[str, Any]]]) -> dict[str, Any]:
    """Join the sidecars that speak of a scan, the most specific having the last word (BIDS)."""
    own = set(scan.split("_"))
    merged: dict[str, Any] = {}
    for entities, content in sidecars:
        if entities <= own:
            merged |= content
    return merged


def scan_key(path: str | Path) -> str:
    """Name the scan that a file was made from, ``sub-01_ses-1_T1w``.

    >>> scan_key("derivatives/sub-01/anat/sub-01_run-1_desc-preproc_T1w.nii.gz")
    'sub-01_run-1_T1w'
    >>> scan_key("sub-01_run-1_desc-brain_mask.nii.gz")
    'sub-01_run-1_T1w'
    """
    *pairs, _ = Path(path).name.split(".")[0].split("_")
    kept = [pair for pair in pairs if pair.split("-")[0] not in DERIVED]
    return "_".join([*kept, "T1w"])


def participant_of(path: str | Path) -> str:
    """Name the participant of a file, ``sub-01``."""
    return Path(path).name.split("_")[0]


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
