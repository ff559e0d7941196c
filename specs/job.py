"""One execution of one step, fully resolved, and its way through JSON.

A job is all that a stage process gets, and it is the provenance of what the process writes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

_MAPPINGS = ("key", "inputs", "outputs", "params")


@dataclass(frozen=True)
class Job:
    """A step with each path, each parameter and the seed.

    Paths are absolute text. An optional input that is not there is None; an input of many files is
    a list. ``key`` holds the entities and listed parameters that tell this job from its siblings.
    """

    stage: str
    step: str
    version: str
    level: str
    key: Mapping[str, Any]
    inputs: Mapping[str, str | list[str] | None]
    outputs: Mapping[str, str]
    params: Mapping[str, Any]
    seed: int

    @property
    def id(self) -> str:
        """Name that is unique in a run and safe as a file's name."""
        key = "_".join(f"{name}-{value}" for name, value in self.key.items())
        return ".".join(part for part in (self.stage, self.step, key) if part)

    @property
    def participant(self) -> str:
        """Label of the participant, without ``sub-``; empty for jobs over the whole group."""
        return str(self.key.get("sub", ""))

    @property
    def input_paths(self) -> list[str]:
        """All files the job reads, in the order of the spec."""
        paths: list[str] = []
        for value in self.inputs.values():
            paths += [value] if isinstance(value, str) else value or []
        return paths

    def into(self, folder: Path) -> "Job":
        """Return the same job writing into a folder of its own, under the final file names."""
        outputs = {
            name: str(folder / name / Path(path).name) for name, path in self.outputs.items()
        }
        return replace(self, outputs=outputs)


@dataclass(frozen=True)
class Batch:
    """Jobs of one step that one process runs one after another, so that imports are paid once.

    ``folders`` holds one scratch folder per job; the process writes outputs and ``result.json``
    there. ``threads`` is how many threads numerical libraries may use.
    """

    jobs: tuple[Job, ...]
    folders: tuple[str, ...]
    threads: int

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Batch":
        """Read from JSON.

        Raises
        ------
        ValueError
            Not a batch: names the file and what is wrong with it.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            jobs = tuple(Job(**job) for job in data["jobs"])
            folders = tuple(data["folders"])
            _check_types(jobs, folders)
            return cls(jobs=jobs, folders=folders, threads=int(data["threads"]))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"{path}: no batch of jobs: {error}") from error


def _check_types(jobs: tuple[Job, ...], folders: tuple[str, ...]) -> None:
    """Refuse fields of other types than a job's, and folders that are not one per job."""
    if len(folders) != len(jobs) or not all(isinstance(folder, str) for folder in folders):
        raise ValueError(f"{len(jobs)} jobs need as many folders, found {len(folders)}")
    for job in jobs:
        for name, value in vars(job).items():
            kind = {"seed": int}.get(name, dict if name in _MAPPINGS else str)
            if type(value) is not kind:
                raise TypeError(f"{name}: found {type(value).__name__}, expected {kind.__name__}")
        paths = [p for v in job.inputs.values() for p in (v if isinstance(v, list) else [v or ""])]
        if not all(isinstance(path, str) for path in (*paths, *job.outputs.values())):
            raise TypeError("inputs and outputs: expected paths")
