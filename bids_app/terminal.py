"""The live view of a run: a line for the whole and one per stage, with pace, time left, and who.

Expected times come from the specs. They are off by a factor on any one machine, which is measured
while the run goes: what is left is expected to be off by the factor that what is done was.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import IO, cast

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import specs
from bids_app.log import Listener
from specs.job import Job

ALL = "all"
BAR_WIDTH, SHORT_BAR = 24, 8
LEAST_WORDS = 30
REFRESHES_PER_SECOND = 4
SHOWN_RUNNING = 3
LEAST_MINUTES = 0.001  # of a job whose spec promises to take no time


class Pace:
    """How far some jobs are, how fast they go, and how long the rest will take."""

    def __init__(self, minutes: dict[str, float]) -> None:
        """Take the expected minutes of each job, by its id."""
        self.minutes = {id: max(value, LEAST_MINUTES) for id, value in minutes.items()}
        self.ended: set[str] = set()
        self._all_minutes, self._done_minutes = sum(self.minutes.values()), 0.0
        self._began: float | None = None
        self._last = 0.0

    def begin(self, now: float) -> None:
        """Start the clock, unless it runs."""
        self._began = now if self._began is None else self._began

    def end(self, job_id: str, now: float) -> None:
        """Count a job as ended, however it did."""
        self.begin(now)
        if job_id not in self.ended:
            self.ended.add(job_id)
            self._done_minutes += self.minutes[job_id]
        self._last = now

    def elapsed_s(self, now: float) -> float:
        """Tell the seconds since the first job began, until the last ended if all have."""
        if self._began is None:
            return 0.0
        return (self._last if len(self.ended) == len(self.minutes) else now) - self._began

    def per_minute(self, now: float) -> float | None:
        """Tell how many jobs end in a minute; None before the first did."""
        elapsed = self.elapsed_s(now)
        return 60 * len(self.ended) / elapsed if self.ended and elapsed > 0 else None

    def left_s(self, now: float) -> float | None:
        """Tell the seconds that the rest will take, at the speed so far.

        The speed is that up to the last end, and time is counted down from there: what is at work
        now has an unknown part of it done. None before a speed is known, and when the rest takes
        longer than it promised.

        >>> pace = Pace({"a": 1, "b": 1, "c": 6})
        >>> pace.begin(100.0)
        >>> pace.end("a", 110.0)
        >>> pace.left_s(110.0), pace.left_s(150.0), pace.left_s(200.0)
        (70.0, 30.0, None)
        """
        if len(self.ended) == len(self.minutes):
            return 0.0
        if not self.ended or self._began is None or self._last <= self._began:
            return None
        share = (self._all_minutes - self._done_minutes) / self._done_minutes
        left = (self._last - self._began) * share - (now - self._last)
        return left if left > 0 else None


class Board:
    """The view of a run's jobs; drawn again and again between ``start`` and ``stop``."""

    def __init__(
        self,
        jobs: Sequence[Job],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._clock = clock
        groups: dict[str, list[Job]] = {ALL: list(jobs)}
        for job in jobs:
            groups.setdefault(job.stage, []).append(job)
        self.paces = {
            name: Pace({job.id: _expected_minutes(job) for job in group})
            for name, group in groups.items()
        }
        self.paces[ALL].begin(clock())
        self._running: list[Job] = []
        self._failed = 0
        shown_on = console or Console(file=cast(IO[str], Listener(sys.stderr)))
        self._live = Live(
            get_renderable=lambda: self.render(shown_on.width),
            console=shown_on,
            refresh_per_second=REFRESHES_PER_SECOND,
        )

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Leave the last view standing."""
        self._running = []
        self._live.stop()

    def end(self, job_id: str, *, failed: bool) -> None:
        """Count a job as ended."""
        now, stage = self._clock(), self._jobs[job_id].stage
        self._failed += failed
        for name in (ALL, stage):
            self.paces[name].end(job_id, now)

    def show_running(self, job_ids: Iterable[str]) -> None:
        """Say which jobs are at work now."""
        self._running = [self._jobs[id] for id in job_ids]
        for job in self._running:
            self.paces[job.stage].begin(self._clock())

    def render(self, width: int) -> Table:
        """Draw: name, bar, ended of all, pace, time taken, time left, what is at work.

        Where there is little room, the bar gets shorter first and then the words are cut.
        """
        now = self._clock()
        rows = [self._row(name, pace, now) for name, pace in self.paces.items()]
        used = sum(max(len(row[i]) for row in rows) + 1 for i in range(5))
        bar = BAR_WIDTH if width - used - BAR_WIDTH > LEAST_WORDS else SHORT_BAR
        table = Table.grid(padding=(0, 1, 0, 0))
        for column in range(6):
            table.add_column(no_wrap=True, justify="right" if column > 1 else "left")
        table.add_column(no_wrap=True)
        for (name, *numbers), pace in zip(rows, self.paces.values(), strict=True):
            words = self._words(name)
            words.truncate(max(width - used - bar - 2, 1), overflow="ellipsis")
            table.add_row(
                Text(name, style="bold" if name == ALL else ""),
                ProgressBar(total=len(pace.minutes) or 1, completed=len(pace.ended), width=bar),
                *numbers,
                words,
            )
        return table

    def _row(self, name: str, pace: Pace, now: float) -> tuple[str, str, str, str, str]:
        total, ended = len(pace.minutes), len(pace.ended)
        left = None if ended == total else pace.left_s(now)
        return (
            name,
            f"{ended}/{total}",
            _tell_pace(pace.per_minute(now)),
            tell_seconds(pace.elapsed_s(now)),
            "" if left is None else f"{tell_seconds(left)} left",
        )

    def _words(self, name: str) -> Text:
        """Say who is at work in a stage; for the whole, how many participants are through."""
        if name != ALL:
            at_work = [job for job in self._running if job.stage == name]
            words = [f"{job.step} {_who(job)}".strip() for job in at_work[:SHOWN_RUNNING]] + [
                "…"
            ] * (len(at_work) > SHOWN_RUNNING)
            return Text(", ".join(words), style="dim")
        left = {j.participant for id, j in self._jobs.items() if id not in self.paces[name].ended}
        people = {job.participant for job in self._jobs.values() if job.participant}
        text = Text(f"{len(people - left)} of {len(people)} participants" if people else "")
        if self._failed:
            text.append(f"  {self._failed} failed", style="bold red")
        return text


def tell_seconds(seconds: float) -> str:
    """Say a time briefly.

    >>> tell_seconds(8.2), tell_seconds(95), tell_seconds(7300)
    ('8 s', '1:35', '2:01:40')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes}:{rest:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    )


def _tell_pace(per_minute: float | None) -> str:
    if per_minute is None:
        return ""
    return f"{per_minute / 60:.1f}/s" if per_minute >= 120 else f"{per_minute:.1f}/min"


def _who(job: Job) -> str:
    return f"sub-{job.participant}" if job.participant else ""


def _expected_minutes(job: Job) -> float:
    return specs.load(job.stage).steps[job.step].resources.minutes
