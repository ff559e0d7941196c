"""Run a batch of jobs where a node runs: start the process, collect, sink, say what happened.

A job that fails does not stop its siblings: its state says why, and jobs that need its outputs
are not started. States are one small file per job in a folder shared with the main process, which
works as well on a cluster's file system as here.
"""

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import specs
from bids_app import files, resume
from bids_app.errors import CLEANED, Exit, exit_of_os_error, remedy_for, tell_os_error
from bids_app.launch import Launch, LaunchError
from bids_app.runners import RUNNERS
from bids_app.sink import sink
from specs.job import Batch, Job

RESULT = "result.json"  # written by the stage process in each job's folder
LOG = "output.txt"
LOG_LINES = 40
DONE, UNCHANGED, IDLE, FAILED, BLOCKED = "done", "unchanged", "idle", "failed", "blocked"
GOOD = (DONE, UNCHANGED, IDLE)


class StageError(RuntimeError):
    """A stage process failed; the message holds its reason and the end of its output."""


@dataclass(frozen=True)
class Context:
    """What all batches of a run share; plain values, so that a node can carry it anywhere."""

    roots: Mapping[str, str]  # source → folder of its dataset
    states: str  # folder with one file per job that started or ended
    runner: str
    images: Mapping[str, str]  # stage → container image, for runners that use one
    gpus: int  # how many a job may use at most
    stop_on_first_crash: bool

    @property
    def root_paths(self) -> dict[str, Path]:
        """The datasets' folders as paths."""
        return {source: Path(root) for source, root in self.roots.items()}


def execute(
    jobs: list[Job],
    needs: Mapping[str, Mapping[str, str]],
    folder: Path,
    context: Context,
    *,
    threads: int,
) -> dict[str, str]:
    """Run jobs of one step and put their results into the stage's dataset.

    Parameters
    ----------
    needs
        Job id → jobs of this run whose outputs it reads → the input that reads them.
    folder
        Scratch folder of this batch; emptied of what succeeded.
    threads
        How many threads numerical libraries may use.

    Returns
    -------
    states : dict
        Job id → done, unchanged, idle (nothing to do), failed or blocked.

    Raises
    ------
    StageError
        A job failed and the run is to stop at the first crash.
    """
    rest = {job.id: job for job in jobs}
    while rest:
        # What another run is at is waited for, and then found to be done.
        with files.claimed(context.root_paths[jobs[0].stage], list(rest)) as claimed:
            waiting = [
                resume.with_present_inputs(rest[id])
                for id in rest
                if id in claimed and not _is_settled(rest[id], needs.get(id, {}), context)
            ]
            digests = _hash_inputs(waiting, context)
            waiting = [job for job in waiting if job.id in digests]
            while waiting:
                waiting = _run_process(waiting, digests, folder, context, threads)
        rest = {id: job for id, job in rest.items() if id not in claimed}
    states = {job.id: read_state(job.id, context.states)["state"] for job in jobs}
    if context.stop_on_first_crash and FAILED in states.values():
        first = next(id for id, state in states.items() if state == FAILED)
        error = read_state(first, context.states)["error"]
        raise StageError(f"{first}: {error['message']}\n{error['log']}")
    return states


def write_state(job_id: str, states: str, **state: Any) -> None:
    """Say how a job stands: ``.started`` while it runs, ``.ended`` with its outcome."""
    name = "started" if state["state"] == "started" else "ended"
    part = Path(states) / f".{job_id}.{name}"
    part.write_text(json.dumps({"job": job_id, **state}), encoding="utf-8")
    part.replace(Path(states) / f"{job_id}.{name}")


def was_started(job_id: str, states: str) -> bool:
    """Tell whether a process got to a job."""
    return (Path(states) / f"{job_id}.started").exists()


def read_state(job_id: str, states: str) -> dict[str, Any]:
    """Read a job's outcome; a job without one has the state '' (not ended)."""
    path = Path(states) / f"{job_id}.ended"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {"state": ""}


def _is_settled(job: Job, needed: Mapping[str, str], context: Context) -> bool:
    """Settle a job that need not or cannot run.

    Blocked by the failure of a job whose output it cannot do without; idle, since a step before it
    found nothing to write; or unchanged, since what ran again before it wrote the same bytes.
    """
    step = specs.load(job.stage).steps[job.step]
    for maker, name in needed.items():
        is_vital = not step.inputs[name].many and not step.inputs[name].optional
        if is_vital and read_state(maker, context.states)["state"] not in GOOD:
            write_state(job.id, context.states, state=BLOCKED, by=maker)
            return True
    root = context.root_paths[job.stage]
    if resume.is_done(job, root, resume.ContentHashes()):
        write_state(job.id, context.states, state=UNCHANGED)
        return True
    present = resume.with_present_inputs(job)
    if resume.lacks_input(present):
        broken = [m for m in needed if read_state(m, context.states)["state"] not in GOOD]
        gone = _vanished(job, context)
        if gone:
            write_state(job.id, context.states, state=FAILED, error=gone)
        elif broken:
            write_state(job.id, context.states, state=BLOCKED, by=broken[0])
        else:
            digest = resume.job_hash(present, resume.ContentHashes())
            resume.write_record(job, root, {"hash": digest, "outputs": []})
            write_state(job.id, context.states, state=IDLE)
        return True
    return False


def _hash_inputs(jobs: Sequence[Job], context: Context) -> dict[str, str]:
    """Hash what determines each job's outputs, before it runs.

    Whoever changes an input while a job reads it so makes the next run do the job again. A job
    whose inputs cannot be read fails.
    """
    digests = {}
    hashes = resume.ContentHashes()  # of what jobs share, once; a file that changes is read again
    for job in jobs:
        try:
            digests[job.id] = resume.job_hash(job, hashes)
        except OSError as failure:
            code = Exit.MISSING_FILE if isinstance(failure, FileNotFoundError) else Exit.IO
            error = _error(failure, tell_os_error(failure), exit_of_os_error(failure, code))
            write_state(job.id, context.states, state=FAILED, error=error)
    return digests


def _run_process(
    jobs: list[Job], digests: Mapping[str, str], folder: Path, context: Context, threads: int
) -> list[Job]:
    """Run one stage process over the jobs; return those it did not get to.

    A process that is killed takes one job with it, the one it was at; the rest is tried again.
    """
    folders = [folder / f"{index:04d}" for index in range(len(jobs))]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    batch_file, log = folder / "batch.json", folder / LOG
    Batch(tuple(jobs), tuple(map(str, folders)), threads).write(batch_file)
    log.write_bytes(b"")
    pending = list(zip(jobs, folders, strict=True))
    write_state(jobs[0].id, context.states, state="started")

    def collect() -> None:
        while pending and (pending[0][1] / RESULT).exists():
            job, path = pending.pop(0)
            _settle(job, digests[job.id], path, log, context)
            if pending:
                write_state(pending[0][0].id, context.states, state="started")

    need = specs.load(jobs[0].stage).steps[jobs[0].step].resources
    launch = Launch(
        batch_file=batch_file,
        log=log,
        folder=folder,
        cache=Path(context.states).parent / "cache",
        read_only=_what_is_read(jobs, context),
        image=context.images.get(jobs[0].stage, ""),
        threads=threads,
        memory_gb=need.memory_gb,
        gpus=min(need.gpus, context.gpus),
    )
    try:
        status = RUNNERS[context.runner](launch, collect)
    except (LaunchError, OSError) as failure:  # what keeps one from starting keeps all of them
        if isinstance(failure, OSError):
            message, code = tell_os_error(failure), exit_of_os_error(failure, Exit.IO)
        else:
            message, code = str(failure), Exit.MISSING_FILE
        for job, _ in pending:
            error = _error(failure, message, code, log)
            write_state(job.id, context.states, state=FAILED, error=error)
        return []
    collect()
    if not pending:
        return []
    job, path = pending.pop(0)
    write_state(job.id, context.states, state=FAILED, error=_death(status, path, log))
    return [job for job, _ in pending]


def _what_is_read(jobs: Sequence[Job], context: Context) -> tuple[str, ...]:
    """List what a container must see: the datasets, and files outside of them.

    Those are files the user gives, and what symbolic links inside a dataset lead to.
    """
    folders = sorted({root for root in context.roots.values() if Path(root).is_dir()})
    inside = tuple(f"{os.path.realpath(folder)}/" for folder in folders)
    real = {os.path.realpath(path) for job in jobs for path in job.input_paths}
    return (*folders, *sorted(path for path in real if not path.startswith(inside)))


def _settle(job: Job, digest: str, folder: Path, log: Path, context: Context) -> None:
    """Sink a job that ended, or say why it failed; its scratch folder goes once it is sunk."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    cost = {key: result[key] for key in ("seconds", "peak_memory_gb")}
    error = result["error"]
    if error is None:
        try:
            sink(job, specs.load(job.stage), folder, result, digest, roots=context.root_paths)
        except OSError as failure:
            message = f"cannot write into {context.roots[job.stage]}: {tell_os_error(failure)}"
            error = _error(failure, message, exit_of_os_error(failure, Exit.CANNOT_CREATE))
        except ValueError as failure:  # a table of the dataset that is damaged
            error = _error(failure, str(failure), Exit.DATA)
    if error is None:
        shutil.rmtree(folder, ignore_errors=True)
        write_state(job.id, context.states, state=DONE, **cost)
    else:
        write_state(job.id, context.states, state=FAILED, error=error | {"log": _tail(log)}, **cost)


def _vanished(job: Job, context: Context) -> dict[str, Any]:
    """Describe an input that no stage makes and that is not there any more; empty if there is none.

    An optional output that a stage did not write is no loss; a raw file is.
    """
    made = tuple(f"{context.roots[stage]}/" for stage in specs.names())
    gone = [p for p in job.input_paths if not p.startswith(made) and not files.exists(p)]
    if not gone:
        return {}
    what = "no longer there; is the folder still mounted?"
    if Path(gone[0]).is_symlink():
        what = "a link to what is not there; get the content (datalad get) or mount what it is in"
    return _error(FileNotFoundError(), f"{gone[0]}: {what}", Exit.MISSING_FILE)


def _death(status: int, folder: Path, log: Path) -> dict[str, Any]:
    """Describe a process that ended without a word about the job it was at, in its folder."""
    if not folder.is_dir():
        return _error(StageError(), f"{folder}: {CLEANED}", Exit.TEMPORARY)
    said = _tail(log).strip().splitlines()[-1:]
    if status == Exit.TEMPORARY:
        what = "".join(said) or "[Errno 28] nothing more can be written"
        code, reason = Exit.TEMPORARY, f"could not go on: {what}{remedy_for(what)}"
    elif status == -signal.SIGKILL:
        code, reason = Exit.TEMPORARY, "was killed, most likely because memory ran out; give --mem"
    elif status < 0:
        code, reason = Exit.SOFTWARE, f"died of signal {signal.Signals(-status).name}"
    else:
        code, reason = Exit.SOFTWARE, f"ended with status {status} before the job did"
    return _error(StageError(), f"the stage's process {reason}", code, log)


def _error(failure: Exception, message: str, code: Exit, log: Path | None = None) -> dict[str, Any]:
    """Describe why a job failed, as a stage's process does."""
    return {
        "type": type(failure).__name__,
        "message": message,
        "traceback": "",
        "exit_code": int(code),
        "log": _tail(log) if log else "",
    }


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
