"""What is going on, for people: a live view on a terminal, milestone lines otherwise."""

import json
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bids_app.terminal import Board, tell_seconds
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
        self._board = Board(jobs)
        self._is_live = sys.stderr.isatty()

    def __enter__(self) -> "Monitor":
        if self._is_live:
            self._board.start()
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
        if self._is_live:
            self._board.stop()

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
        if self._is_live:
            self._board.show_running(self._at_work())
        elif time.monotonic() - self._spoken > MILESTONE_SECONDS:
            self._spoken = time.monotonic()
            left = self._board.paces["all"].left_s(self._spoken)
            told = f", about {tell_seconds(left)} left" if left else ""
            logger.log(25, "%d of %d jobs ended%s", len(self.states), len(self._jobs), told)

    def _tell(self, job: Job, state: dict[str, Any]) -> None:
        self._board.end(job.id, failed=state["state"] == "failed")
        seconds = f" in {state['seconds']:.1f} s" if "seconds" in state else ""
        if state["state"] == "failed":
            logger.error("%s failed%s: %s", job.id, seconds, state["error"]["message"])
        elif state["state"] == "blocked":
            logger.info("%s was not started, since %s failed", job.id, state["by"])
        else:
            logger.info("%s %s%s", job.id, state["state"], seconds)

    def _at_work(self) -> list[str]:
        """List the jobs that were started and have not ended."""
        started = (path.name.removesuffix(".started") for path in self._folder.glob("*.started"))
        return sorted(id for id in started if id in self._jobs and id not in self.states)
