"""What is going on, for people: a live bar per step on a terminal, milestone lines otherwise."""

import json
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from specs.job import Job

POLL_SECONDS = 0.2
MILESTONE_SECONDS = 30.0

logger = logging.getLogger("brainstages")


class Monitor:
    """Follow the states that jobs leave in a folder, in a thread, until left.

    ``states`` holds what was seen: job id → the content of its ``.ended`` file.
    """

    def __init__(self, jobs: Sequence[Job], folder: Path) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        self._jobs = {job.id: job for job in jobs}
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._spoken = time.monotonic()
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "Monitor":
        if sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.description:28}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[now]}"),
                console=Console(stderr=True),
            )
            for job in self._jobs.values():
                name = _step_name(job)
                if name not in self._bars:
                    total = sum(_step_name(other) == name for other in self._jobs.values())
                    self._bars[name] = self._progress.add_task(name, total=total, now="")
            self._progress.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        if self._progress is not None:
            self._progress.stop()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        """Take in jobs that ended since the last look."""
        for path in sorted(self._folder.glob("*.ended")):
            job_id = path.name.removesuffix(".ended")
            if job_id in self._jobs and job_id not in self.states:
                state = json.loads(path.read_text(encoding="utf-8"))
                self.states[job_id] = state
                self._tell(self._jobs[job_id], state)
        if self._progress is not None:
            self._show_running(self._progress)
        elif time.monotonic() - self._spoken > MILESTONE_SECONDS:
            self._spoken = time.monotonic()
            logger.log(25, "%d of %d jobs ended", len(self.states), len(self._jobs))

    def _tell(self, job: Job, state: dict[str, Any]) -> None:
        if self._progress is not None:
            self._progress.advance(self._bars[_step_name(job)])
        seconds = f" in {state['seconds']:.1f} s" if "seconds" in state else ""
        if state["state"] == "failed":
            logger.error("%s failed%s: %s", job.id, seconds, state["error"]["message"])
        elif state["state"] == "blocked":
            logger.info("%s was not started, since %s failed", job.id, state["by"])
        else:
            logger.info("%s %s%s", job.id, state["state"], seconds)

    def _show_running(self, progress: Progress) -> None:
        now: dict[str, list[str]] = {name: [] for name in self._bars}
        for path in self._folder.glob("*.started"):
            job_id = path.name.removesuffix(".started")
            if job_id in self._jobs and job_id not in self.states:
                job = self._jobs[job_id]
                now[_step_name(job)].append(f"sub-{job.participant}" if job.participant else "…")
        for name, labels in now.items():
            progress.update(self._bars[name], now=" ".join(labels[:3]))


def _step_name(job: Job) -> str:
    return f"{job.stage} {job.step}"
