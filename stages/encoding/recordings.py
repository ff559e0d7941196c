"""Which files make one run: BOLD series, what was shown during it, and what else was recorded."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.delays import Shown
from stages.encoding.feature_file import Series
from stages.encoding.stimuli import read_series
from stages.encoding.tables import number, read_rows

STIM = "stim"  # the feature space of series that were recorded with the run (_stim.tsv.gz)
SCANNER = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo")


@dataclass(frozen=True)
class Event:
    """One presentation, s from the first volume; duration None: until the stimulus ends."""

    onset_s: float
    duration_s: float | None
    stimulus: str


@dataclass(frozen=True)
class Run:
    """One BOLD series and the files that go with it."""

    bold: Path
    tr_s: float
    events: tuple[Event, ...]
    stim: Path | None
    confounds: Path | None

    @property
    def signature(self) -> tuple[Any, ...]:
        """Equal for runs that showed the same at the same times: repeats of one another."""
        return self.events or (self.bold.name,)

    def is_test(self, patterns: Sequence[str]) -> bool:
        """Tell whether a stimulus that it showed, or its file's name, matches a pattern.

        The file's name counts without its participant.
        """
        # Without the participant, whose label may be anything.
        name = self.bold.name.partition("_")[2]
        names = [name, *(event.stimulus for event in self.events)]
        return any(fnmatch(name, pattern) for name in names for pattern in patterns)


def read_runs(
    bold: Sequence[Path], events: Sequence[Path], stims: Sequence[Path], confounds: Sequence[Path]
) -> list[Run]:
    """Gather runs in the order of their names.

    Raises
    ------
    ValueError
        TR missing or different between runs.
    """
    runs = []
    for path in sorted(bold):
        found = match(path, events)
        runs.append(
            Run(
                bold=path,
                tr_s=read_tr(path),
                events=tuple(read_events(found)) if found else (),
                stim=match(path, stims),
                confounds=match(path, confounds),
            )
        )
    if len({run.tr_s for run in runs}) > 1:
        told = ", ".join(f"{run.bold.name}: {run.tr_s:g} s" for run in runs)
        raise ValueError(f"RepetitionTime differs between runs ({told}); fit them separately")
    return runs


def read_tr(path: Path) -> float:
    """Read the time between volumes, s, from the JSON beside a series.

    Raises
    ------
    ValueError
        Neither RepetitionTime nor SamplingFrequency in it, or one that is not positive.
    FileNotFoundError
        No JSON.
    """
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    if not sidecar.is_file():
        raise FileNotFoundError(f"{sidecar}: missing; it must give RepetitionTime (s)")
    try:
        about = dict(json.loads(sidecar.read_text(encoding="utf-8-sig")).items())
        tr_s = about.get("RepetitionTime")
        if tr_s is None and about.get("SamplingFrequency"):
            tr_s = 1 / float(about["SamplingFrequency"])
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{sidecar}: it must give RepetitionTime (s) as JSON ({error})") from error
    if not isinstance(tr_s, int | float) or not 0 < tr_s < math.inf:
        raise ValueError(f"{sidecar}: RepetitionTime is {tr_s!r}, expected seconds above 0")
    return float(tr_s)


def is_synthetic(path: Path) -> bool:
    """Tell whether the JSON beside a series says that it was made up."""
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    return bool(json.loads(sidecar.read_text(encoding="utf-8-sig")).get("Synthetic"))


def read_events(path: Path) -> list[Event]:
    """Read presentations with a stim_file from events.tsv, in order of onset.

    Raises
    ------
    ValueError
        Columns are missing, or an onset is no number.
    """
    rows = read_rows(path)
    absent = [c for c in ("onset", "duration") if rows and c not in rows[0]]
    if absent:
        raise ValueError(f"{path}: no column {' and '.join(absent)}")
    events = []
    for row in rows:
        stimulus = (row.get("stim_file") or "n/a").strip()
        if stimulus == "n/a":
            continue
        try:
            duration = None if row["duration"] in ("n/a", "") else float(row["duration"])
            events.append(Event(float(row["onset"]), duration, stimulus.removeprefix("stimuli/")))
        except ValueError as error:
            raise ValueError(f"{path}: onset or duration of {stimulus}: {error}") from error
    return sorted(events, key=lambda event: event.onset_s)


def read_confounds(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Read fMRIPrep's confounds: names and (volumes, columns); missing first values become 0."""
    rows = read_rows(path)
    names = list(rows[0]) if rows else []
    try:
        table = np.array([[number(row[name]) for name in names] for row in rows], float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}; every cell must be a number or n/a") from error
    return names, np.nan_to_num(table.reshape(len(rows), len(names)))


def show(run: Run, model: str, series: Mapping[str, Series]) -> list[Shown]:
    """List what a run showed with the features of one space.

    Parameters
    ----------
    series : mapping
        Stimulus → its features; for the space ``stim`` the run's own series is read instead.

    Raises
    ------
    ValueError
        A stimulus without features, or one that ends before its event does.
    """
    if model == STIM:
        if run.stim is None:
            raise ValueError(f"{run.bold}: no _stim.tsv.gz belongs to it, which {STIM!r} needs")
        features, rate_hz, start_s = read_series(run.stim)
        return [Shown(run.stim.name, start_s, len(features) / rate_hz, rate_hz, features)]
    if not run.events:
        raise ValueError(f"{run.bold}: no events.tsv with a stim_file belongs to it")
    shown = []
    for event in run.events:
        if event.stimulus not in series:
            some = ", ".join(list(series)[:5])
            raise ValueError(
                f"{run.bold.name}: {event.stimulus} was shown, but {model} has features of {some}"
                " only; put the file into stimuli/ and run step features again"
            )
        item = series[event.stimulus]
        length = item.duration_s if event.duration_s is None else event.duration_s
        if length > item.duration_s + run.tr_s:
            raise ValueError(
                f"{run.bold.name}: {event.stimulus} was on for {length:g} s by its event, but lasts"
                f" only {item.duration_s:g} s; correct the duration or give the whole stimulus"
            )
        if not np.isfinite(length):
            raise ValueError(f"{run.bold.name}: the image {event.stimulus} needs a duration")
        shown.append(
            Shown(
                event.stimulus,
                event.onset_s + item.start_s,
                length - item.start_s,
                item.rate_hz,
                item.features,
            )
        )
    return shown


def match(path: Path, others: Sequence[Path]) -> Path | None:
    """Find the file of the same run: the one that shares most entities and contradicts none."""
    own = _entities(path)
    best, score = None, -1
    for other in others:
        theirs = {k: v for k, v in _entities(other).items() if k in SCANNER}
        if all(own.get(k) == v for k, v in theirs.items()) and len(theirs) > score:
            best, score = other, len(theirs)
    return best


def _entities(path: Path) -> dict[str, str]:
    pairs = (part.partition("-") for part in path.name.split(".")[0].split("_")[:-1])
    return {key: value for key, dash, value in pairs if dash}
