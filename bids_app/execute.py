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
from bids_app import resume
from bids_app.errors import Exit, exit_of_os_error
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
    waiting = [
        resume.with_present_inputs(job)
        for job in jobs
        if not _is_settled(job, needs.get(job.id, {}), context)
    ]
    while waiting:
        waiting = _run_process(waiting, folder, context, threads)
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


def _run_process(jobs: list[Job], folder: Path, context: Context, threads: int) -> list[Job]:
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
            _settle(*pending.pop(0), log, context)
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
    except LaunchError as failure:  # what keeps one job from starting keeps all of them
        for job, _ in pending:
            write_state(job.id, context.states, state=FAILED, error=_refusal(failure, log))
        return []
    collect()
    if not pending:
        return []
    job, _ = pending.pop(0)
    write_state(job.id, context.states, state=FAILED, error=_death(status, log))
    return [job for job, _ in pending]


def _what_is_read(jobs: Sequence[Job], context: Context) -> tuple[str, ...]:
    """List what a container must see: the datasets, and files outside of them.

    Those are files the user gives, and what symbolic links inside a dataset lead to.
    """
    folders = sorted({root for root in context.roots.values() if Path(root).is_dir()})
    inside = tuple(f"{os.path.realpath(folder)}/" for folder in folders)
    real = {os.path.realpath(path) for job in jobs for path in job.input_paths}
    return (*folders, *sorted(path for path in real if not path.startswith(inside)))


def _settle(job: Job, folder: Path, log: Path, context: Context) -> None:
    """Sink a job that ended, or say why it failed; its scratch folder goes once it is sunk."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    cost = {key: result[key] for key in ("seconds", "peak_memory_gb")}
    error = result["error"]
    if error is None:
        try:
            sink(job, specs.load(job.stage), folder, result, roots=context.root_paths)
        except OSError as failure:
            code = exit_of_os_error(failure, Exit.CANNOT_CREATE)
            error = {
                "type": type(failure).__name__,
                "message": f"cannot write into {context.roots[job.stage]}: {failure}",
                "traceback": "",
                "exit_code": int(code),
            }
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
    gone = [p for p in job.input_paths if not p.startswith(made) and not Path(p).exists()]
    if not gone:
        return {}
    return {
        "type": "FileNotFoundError",
        "message": f"{gone[0]}: no longer there; is the folder still mounted?",
        "traceback": "",
        "exit_code": int(Exit.MISSING_FILE),
        "log": "",
    }


def _refusal(failure: LaunchError, log: Path) -> dict[str, Any]:
    """Describe a process that could not be started."""
    return {
        "type": type(failure).__name__,
        "message": str(failure),
        "traceback": "",
        "exit_code": int(Exit.MISSING_FILE),
        "log": _tail(log),
    }


def _death(status: int, log: Path) -> dict[str, Any]:
    """Describe a process that ended without a word about the job it was at."""
    if status == -signal.SIGKILL:
        code, reason = Exit.TEMPORARY, "was killed, most likely because memory ran out; give --mem"
    elif status < 0:
        code, reason = Exit.SOFTWARE, f"died of signal {signal.Signals(-status).name}"
    else:
        code, reason = Exit.SOFTWARE, f"ended with status {status} before the job did"
    return {
        "type": "StageError",
        "message": f"the stage's process {reason}",
        "traceback": "",
        "exit_code": int(code),
        "log": _tail(log),
    }


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
