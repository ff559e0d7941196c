"""Writing so that a file is whole or absent, also when several runs share a folder."""

import csv
import fcntl
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSING = "n/a"
STAGING = "logs/.part"  # inside a dataset, so that a rename into place never crosses file systems
STALE_SECONDS = 24 * 3600

Row = Mapping[str, str]


def place(source: Path, target: Path, *, root: Path) -> None:
    """Copy a file into a dataset: staged, flushed to disk, then renamed to its final name."""
    part = _staged(target, root)
    shutil.copyfile(source, part)
    _settle(part, target)


def write_text(text: str, target: Path, *, root: Path) -> None:
    """Write text into a dataset, whole or not at all; an equal file is left alone."""
    if target.is_file() and target.read_bytes() == text.encode():
        return
    part = _staged(target, root)
    part.write_text(text, encoding="utf-8")
    _settle(part, target)


def write_json(data: Any, target: Path, *, root: Path) -> None:
    """Write JSON into a dataset, whole or not at all."""
    write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", target, root=root)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a dataset's lock: files that many jobs write are read, changed and written under it."""
    folder = root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated table as one mapping per row; no file is an empty table."""
    if not path.is_file():
        return []
    # newline="" leaves line ends to csv; utf-8-sig forgives the byte order mark that Excel writes.
    with open(path, encoding="utf-8-sig", newline="") as handle:
        return [
            {k: v for k, v in row.items() if k is not None and v is not None}
            for row in csv.DictReader(handle, delimiter="\t")
        ]


def merge_table(path: Path, rows: Sequence[Row], *, key: str, root: Path) -> None:
    """Merge rows into a dataset's table: cells are replaced row by row, sorted by ``key``.

    Columns keep their order; new ones follow; cells that nobody filled are ``n/a``.
    """
    with locked(root):
        table = {row.get(key, ""): dict(row) for row in read_table(path)}
        for row in rows:
            table.setdefault(row[key], {}).update(row)
        columns = dict.fromkeys([key, *(name for row in table.values() for name in row)])
        buffer = io.StringIO()
        writer = csv.DictWriter(
            buffer, list(columns), restval=MISSING, delimiter="\t", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(table[name] for name in sorted(table))
        write_text(buffer.getvalue(), path, root=root)


def remove_stale_parts(root: Path) -> None:
    """Remove what killed runs left half-copied; what is fresh may belong to a run at work."""
    for part in (root / STAGING).glob("*"):
        if time.time() - part.stat().st_mtime > STALE_SECONDS:
            part.unlink(missing_ok=True)


def _staged(target: Path, root: Path) -> Path:
    folder = root / STAGING
    folder.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    return folder / f"{os.getpid()}.{target.name}"


def _settle(part: Path, target: Path) -> None:
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(part, target)
