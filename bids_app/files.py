"""Writing so that a file is whole or absent, also when several runs share a folder."""

import csv
import fcntl
import hashlib
import io
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

MISSING = "n/a"
STAGING = "logs/.part"  # inside a dataset, so that a rename into place never crosses file systems
STALE_SECONDS = 24 * 3600
FRESH_SECONDS = 60  # between making a part and locking it less than this passes

Row = Mapping[str, str]


def place(source: Path, target: Path, *, root: Path) -> None:
    """Copy a file into a dataset: staged, flushed to disk, then renamed to its final name."""
    with open(source, "rb") as handle, _staged(target, root) as part:
        shutil.copyfileobj(handle, part, 2**20)


def write_text(text: str, target: Path, *, root: Path) -> None:
    """Write text into a dataset, whole or not at all; an equal file is left alone."""
    if target.is_file() and target.read_bytes() == text.encode():
        return
    with _staged(target, root) as part:
        part.write(text.encode())


def write_json(data: Any, target: Path, *, root: Path) -> None:
    """Write JSON into a dataset, whole or not at all."""
    write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", target, root=root)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    ValueError
        The content is no JSON: names the file and, where there is one, the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}; correct it there") from error
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        why = "nested too deeply" if deep else "a number of thousands of digits"
        raise ValueError(f"{path}: not valid JSON: {why}; write the file anew") from error


def exists(path: str) -> bool:
    """Tell whether something is there and can be reached: no error for a closed folder."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises PermissionError)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold a dataset's lock: files that many jobs write are read, changed and written under it."""
    folder = root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def claimed(root: Path, names: Sequence[str]) -> Iterator[set[str]]:
    """Claim work in a dataset, so that no other run does the same; wait if all of it is claimed.

    Gives the names that were claimed, at least one. A claim ends with the process, however that
    ends: each is a lock on one byte of a file that stays empty.
    """
    folder = root / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".claims", "a") as handle:

        def claim(name: str, *, how: int) -> bool:
            place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
            try:
                fcntl.lockf(handle, how, 1, place)
            except (BlockingIOError, PermissionError):  # POSIX leaves the choice
                return False
            return True

        own = {name for name in names if claim(name, how=fcntl.LOCK_EX | fcntl.LOCK_NB)}
        if not own:  # holding nothing while waiting, runs cannot wait for one another in a circle
            claim(names[0], how=fcntl.LOCK_EX)
            own = {names[0]}
        yield own


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a tab-separated table as one mapping per row; no file is an empty table.

    Raises
    ------
    ValueError
        Not a text in UTF-8, or its quotes swallow the rest of it: names the file and the line.
    """
    if not path.is_file():
        return []
    # newline="" leaves line ends to csv; utf-8-sig forgives the byte order mark that Excel writes.
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t", strict=True)
        try:
            return [
                {k: v for k, v in row.items() if k is not None and v is not None} for row in reader
            ]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start});"
                " save it as tab-separated text in UTF-8"
            ) from error
        except csv.Error as error:
            raise ValueError(
                f"{path}: after line {reader.line_num}: {error}; a cell that begins with a quote"
                " must end with one"
            ) from error


def merge_table(path: Path, rows: Sequence[Row], *, key: str, root: Path) -> None:
    """Merge rows into a dataset's table: cells are replaced row by row, sorted by ``key``.

    Columns keep their order; new ones follow; cells that nobody filled are ``n/a``.

    Raises
    ------
    ValueError
        A row without the key, or a table on disk that cannot be read.
    """
    if not all(row.get(key) for row in rows):
        raise ValueError(f"{path}: a row has no {key!r}, by which rows are merged")
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
    """Remove what killed runs left half-copied; what is fresh may belong to a run at work.

    A part of this machine is in use as long as it is locked; one of another machine is given a day.
    """
    for part in (root / STAGING).glob("*"):
        with suppress(FileNotFoundError, BlockingIOError):  # settled meanwhile; still in use
            age = time.time() - part.stat().st_mtime
            is_own = part.name.startswith(f"{socket.gethostname()}.")
            if age > (FRESH_SECONDS if is_own else STALE_SECONDS):
                with open(part, "rb") as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()


@contextmanager
def _staged(target: Path, root: Path) -> Iterator[IO[bytes]]:
    """Give a file to write into that takes its final name when it is whole, and goes otherwise."""
    folder = root / STAGING
    for path in (target, folder / "any"):
        _refuse_outside(path, root)
    folder.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A process number would not do: containers and machines that share the folder repeat them.
    part = folder / f"{socket.gethostname()}.{uuid.uuid4().hex}"
    try:
        with open(part, "xb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _refuse_outside(path: Path, root: Path) -> None:
    """Refuse to write outside a dataset, also through a symbolic link inside it."""
    # The last part of the path is replaced, never followed.
    real = os.path.join(os.path.realpath(path.parent), path.name)
    if not real.startswith(os.path.realpath(root) + os.sep):
        raise PermissionError(f"{path}: outside of {root}; nothing is written there")
