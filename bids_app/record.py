"""What a run leaves of itself: its log, settings, crash files, status and reports."""

import fcntl
import shutil
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bids_app import files, layout, log, report, show, status
from bids_app.config import Config
from bids_app.errors import AppError, Exit, exit_of_os_error, tell_os_error
from specs import Spec

logger = log.logger
ALIVE, ENDED = "alive", "ended"  # in a run's scratch folder: locked while its processes live


@dataclass(frozen=True)
class Run:
    """One run: its name, where its log, settings and status go, and a sign that it is alive.

    ``started``: by the clock that nobody sets. ``synthetic``: the raw data say of themselves that a
    program made them up.
    """

    id: str
    dir: Path
    scratch: Path
    started: float
    synthetic: bool
    alive: IO[str]


def start_run(config: Config) -> Run:
    """Make the folders of a run, start its log and write its settings."""
    name = f"run-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
    run_dir, scratch = config.out_dir / "logs" / name, config.work_dir / name
    started, synthetic = time.monotonic(), layout.is_synthetic(config.bids_dir)
    _remove_scratch(config.work_dir, ended=config.clean_workdir)
    for folder in (run_dir, scratch):
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            code = exit_of_os_error(error, Exit.CANNOT_CREATE)
            raise AppError(code, f"cannot create {folder}: {tell_os_error(error)}") from error
    this = Run(name, run_dir, scratch, started, synthetic, _show_alive(scratch))
    files.remove_stale_parts(config.out_dir)
    log.add_file(this.dir / "app.log")
    logger.log(log.IMPORTANT, "%s → %s (%s)", config.bids_dir, config.out_dir, name)
    logger.info("%d cores, %.1f GB of memory", config.nprocs, config.memory_gb)
    files.write_text(config.to_toml(), this.dir / "config.toml", root=config.out_dir)
    return this


def finish_run(
    config: Config,
    this: Run,
    stages: Sequence[Spec],
    participants: Sequence[str],
    roots: Mapping[str, Path],
    outcome: status.Outcome,
    code: Exit,
    reason: str,
    invalid: Mapping[str, list[str]],
) -> None:
    """Write the status and the reports, sum up, and tidy the scratch folder."""
    summary = {
        "run": this.id,
        "exit_code": int(code),
        "reason": reason,
        "seconds": round(time.monotonic() - this.started, 1),
        "levels": list(config.levels),
        "stages": [spec.name for spec in stages],
        "recipe": config.recipe,
        "synthetic": this.synthetic,
        "jobs": {
            "done": outcome.done,
            "skipped": outcome.skipped,
            "blocked": outcome.blocked,
            "failed": len(outcome.failures),
        },
        "participants": outcome.participants,
        "failures": outcome.failures,
        "invalid_outputs": dict(invalid),
        "report_problem": "",
    }
    for failure in outcome.failures:
        if "job" in failure:
            text = f"{failure['reason']}\n\n{failure['traceback']}\n{failure['log']}\n"
            path = this.dir / f"crash-{failure['job']}.txt"
            files.write_text(text, path, root=config.out_dir)
            if config.debug:
                logger.debug("%s", text)
    files.write_json(summary, this.dir / "status.json", root=config.out_dir)
    if not config.boilerplate_only:
        with files.locked(config.out_dir):  # else an older view could replace a newer one
            problem = report.try_write(config.out_dir, stages, roots, participants)
        summary["report_problem"] = problem
        files.write_json(summary, this.dir / "status.json", root=config.out_dir)
    with suppress(OSError):
        (this.scratch / ALIVE).rename(this.scratch / ENDED)
    this.alive.close()
    if config.rm_workdir_on_success and code is Exit.OK:
        shutil.rmtree(this.scratch, ignore_errors=True)
        with suppress(OSError):  # others may work beside us
            config.work_dir.rmdir()
    show.print_summary(summary, config.out_dir, this.dir)


def _show_alive(scratch: Path) -> IO[str]:
    """Leave a file that is locked as long as any process of this run lives."""
    part = scratch / f".{ALIVE}"
    handle = open(part, "w", encoding="utf-8")  # noqa: SIM115 (closed when the run has ended)
    fcntl.flock(handle, fcntl.LOCK_EX)
    handle.write(socket.gethostname())
    handle.flush()
    part.rename(scratch / ALIVE)
    return handle


def _remove_scratch(work_dir: Path, *, ended: bool) -> None:
    """Remove what killed runs left, and if asked what ended runs left; never what is in use.

    Only runs of this machine can be told to be dead, by their locks.
    """
    for scratch in work_dir.glob("run-*"):
        is_over = ended and (scratch / ENDED).exists()
        with suppress(OSError), open(scratch / ALIVE, encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_over = handle.read() == socket.gethostname()
        if is_over:
            shutil.rmtree(scratch, ignore_errors=True)
