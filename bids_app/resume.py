"""Which jobs are done: told from content, never from dates, paths or the work folder.

A finished job leaves a record beside its outputs with a hash over what determines them: the
content of the inputs, the parameters, the seed and the stage's version. It need not run again
while that hash is the same and the outputs are there.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import specs
from bids_app import files
from specs.job import Job

RECORDS = "logs/jobs"


class ContentHashes:
    """SHA-256 of files' content, remembered between runs.

    A remembered hash counts only while the file's size, inode, modification and change time are
    what they were; anything else is read again. The change time cannot be set back by a user.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._changed = False
        if path is not None and path.is_file():
            with suppress(OSError, ValueError):  # a memory only: what is lost is read again
                known = files.read_json(path)
                self._known = known if isinstance(known, dict) else {}

    def of(self, path: str) -> str:
        """Hash a file's content, or the names and contents of a folder's files."""
        if os.path.isdir(path):
            parts = sorted(str(p) for p in Path(path).rglob("*") if p.is_file())
            pairs = [(os.path.relpath(p, path), self.of(p)) for p in parts]
            return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
        info = Path(path).stat()
        stamp = [info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns]
        known = self._known.get(path)
        if isinstance(known, list) and known[:-1] == stamp:
            return str(known[-1])
        try:
            with open(path, "rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            error.filename = path  # a read that fails does not say of what
            raise
        self._known[path] = [*stamp, digest]
        self._changed = True
        return digest

    def save(self, root: Path) -> None:
        """Keep what was learnt for the next run."""
        if self._path is not None and self._changed:
            files.write_text(json.dumps(self._known), self._path, root=root)


def with_present_inputs(job: Job) -> Job:
    """Return the job with what it can really read.

    Of many files those that are there: an optional output need not have been written, and a
    participant who failed must not hold up the group. One file that is not there becomes None.
    """
    inputs: dict[str, str | list[str] | None] = {}
    for name, value in job.inputs.items():
        if isinstance(value, list):
            inputs[name] = [path for path in value if files.exists(path)]
        else:
            inputs[name] = value if value is not None and files.exists(value) else None
    return replace(job, inputs=inputs)


def lacks_input(job: Job) -> bool:
    """Tell whether a job (with present inputs) lacks something that its step cannot do without."""
    needed = specs.load(job.stage).steps[job.step].inputs
    return any(not job.inputs[name] for name, item in needed.items() if not item.optional)


def job_hash(job: Job, hashes: ContentHashes) -> str:
    """Hash what determines a job's outputs.

    File names count (a participant is told by them), folders do not: a dataset may move.
    """
    inputs = {
        name: [(Path(path).name, hashes.of(path)) for path in _paths(value)]
        for name, value in job.inputs.items()
    }
    identity = {
        "stage": job.stage,
        "step": job.step,
        "version": job.version,
        "key": job.key,
        "params": job.params,
        "seed": job.seed,
        "inputs": inputs,
    }
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def is_done(job: Job, root: Path, hashes: ContentHashes) -> bool:
    """Tell whether a job's outputs are there and made from what it would be given now.

    ``root`` is the stage's dataset.
    """
    record = read_record(job, root)
    if record is None or not all((root / path).exists() for path in record["outputs"]):
        return False
    try:
        return bool(record["hash"] == job_hash(with_present_inputs(job), hashes))
    except OSError:
        return False  # an input that cannot be read: the job's own affair, not all the run's


def pending(jobs: Iterable[Job], roots: Mapping[str, Path], hashes: ContentHashes) -> list[Job]:
    """Choose the jobs that must run: not done, or fed by one that must run.

    ``jobs`` come in an order in which they can run.
    """
    made: set[str] = set()
    chosen = []
    for job in jobs:
        if not made.isdisjoint(job.input_paths) or not is_done(job, roots[job.stage], hashes):
            chosen.append(job)
            made.update(job.outputs.values())
    return chosen


def read_record(job: Job, root: Path) -> dict[str, Any] | None:
    """Read what a job left when it finished; None if it never did or the record is damaged."""
    try:
        record = json.loads((root / RECORDS / f"{job.id}.json").read_text(encoding="utf-8"))
        return record if isinstance(record.get("outputs"), list) and "hash" in record else None
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        return None


def write_record(job: Job, root: Path, record: Mapping[str, Any]) -> None:
    """Declare a job finished; the last thing that is written for it."""
    files.write_json(record, root / RECORDS / f"{job.id}.json", root=root)


def _paths(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []
