"""What a run leaves of itself: its log, settings, crash files, status and reports."""

import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bids_app import files, layout, log, report, show, status
from bids_app.config import Config
from bids_app.errors import AppError, Exit, exit_of_os_error
from specs import Spec

logger = log.logger


@dataclass(frozen=True)
class Run:
    """One run: its name and where its log, settings and status go."""

    id: str
    dir: Path
    scratch: Path
    started: float


def start_run(config: Config) -> Run:
    """Make the folders of a run, start its log and write its settings."""
    name = f"run-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
    this = Run(name, config.out_dir / "logs" / name, config.work_dir / name, time.time())
    if config.clean_workdir:
        for old in config.work_dir.glob("run-*"):
            shutil.rmtree(old, ignore_errors=True)
    for folder in (this.dir, this.scratch):
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            code = exit_of_os_error(error, Exit.CANNOT_CREATE)
            raise AppError(code, f"cannot create {folder}: {error.strerror}") from error
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
        "seconds": round(time.time() - this.started, 1),
        "levels": list(config.levels),
        "stages": [spec.name for spec in stages],
        "recipe": config.recipe,
        "synthetic": layout.is_synthetic(config.bids_dir),
        "jobs": {
            "done": outcome.done,
            "skipped": outcome.skipped,
            "blocked": outcome.blocked,
            "failed": len(outcome.failures),
        },
        "participants": outcome.participants,
        "failures": outcome.failures,
        "invalid_outputs": dict(invalid),
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
        summary["report_problem"] = report.try_write(config.out_dir, stages, roots, participants)
        files.write_json(summary, this.dir / "status.json", root=config.out_dir)
    if config.rm_workdir_on_success and code is Exit.OK:
        shutil.rmtree(this.scratch, ignore_errors=True)
        with suppress(OSError):  # others may work beside us
            config.work_dir.rmdir()
    show.print_summary(summary, config.out_dir, this.dir)
