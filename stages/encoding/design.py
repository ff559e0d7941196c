"""Design matrices: every condition's features for the volumes that all conditions share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.delays import (
    Condition,
    Shown,
    convolve_features,
    sample_features,
    usable_volumes,
)
from stages.encoding.feature_file import Series
from stages.encoding.recordings import Run, show

Floats = NDArray[Any]
OVERLAP = 0.01  # share of test frames that may be found in training: titles, logos
TAIL_S = 20.0  # how long a run may go on after its last stimulus and lag


@dataclass(frozen=True)
class Sampling:
    """How features are taken at volumes: ``window_s`` 0 is the nearest frame, else a mean."""

    window_s: float
    combine: str


def keep_volumes(
    runs: Sequence[Run],
    lengths: Sequence[int],
    model: str,
    series: Mapping[str, Series],
    longest_lag_s: float,
    *,
    drop: int,
) -> list[NDArray[np.bool_]]:
    """Tell for each run which volumes can be explained; see ``usable_volumes``."""
    return [
        usable_volumes(
            show(run, model, series),
            np.arange(length) * run.tr_s,
            longest_lag_s,
            drop=drop,
            tolerance_s=TAIL_S,
            where=str(run.bold),
        )
        for run, length in zip(runs, lengths, strict=True)
    ]


def build_design(
    condition: Condition,
    runs: Sequence[Run],
    keeps: Sequence[NDArray[np.bool_]],
    series: Mapping[str, Series],
    sampling: Sampling,
) -> Floats:
    """Stack the runs' features for the kept volumes, (samples, features), float32.

    Raises
    ------
    MemoryError
        There is not enough for it.
    """
    width = show(runs[0], condition.model, series)[0].features.shape[1]
    width *= condition.columns if sampling.combine == "concatenate" else 1
    samples = sum(int(keep.sum()) for keep in keeps)
    refuse_too_large(samples, width, available_bytes=free_memory(), what=condition.name)
    parts = []
    for run, keep in zip(runs, keeps, strict=True):
        times_s = np.flatnonzero(keep) * run.tr_s
        shown: list[Shown] = show(run, condition.model, series)
        if condition.is_hrf:
            parts.append(convolve_features(shown, times_s, window_s=sampling.window_s))
            continue
        parts.append(
            sample_features(
                shown,
                times_s,
                condition.lags_s,
                window_s=sampling.window_s,
                combine=sampling.combine,
            )
        )
    return np.vstack(parts)


def refuse_too_large(samples: int, features: int, *, available_bytes: float, what: str) -> None:
    """Refuse a design that would not fit in memory, before it is made.

    Needed are three copies of the features in float32 (as they are, standardised, and a fold's),
    and six matrices of the smaller Gram matrix' size in float64.

    Raises
    ------
    MemoryError
        Says how much is needed and how to need less.
    """
    needed = 3 * samples * features * 4 + 6 * min(samples, features) ** 2 * 8
    if needed > available_bytes:
        raise MemoryError(
            f"{what}: {samples} samples of {features} features need {needed / 1e9:.1f} GB, but"
            f" {available_bytes / 1e9:.1f} GB are free; use fewer lags, --encoding-combine mean, or"
            " a layer with fewer features"
        )


def free_memory() -> float:
    """Tell how many bytes are free, by the kernel's estimate; infinite where it gives none."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    fields = dict(line.split(":") for line in lines)
    return float(fields["MemAvailable"].split()[0]) * 1024


def refuse_overlap(train: Sequence[Run], test: Sequence[Run], series: Mapping[str, Series]) -> None:
    """Refuse to test on what was trained on.

    Raises
    ------
    ValueError
        A stimulus is shown in both, or frames of test stimuli are among the training frames.
    """
    shown = [{event.stimulus for run in runs for event in run.events} for runs in (train, test)]
    both = sorted(shown[0] & shown[1])
    if both:
        raise ValueError(
            f"{', '.join(both[:3])}: shown in training and in test runs, so the test would be of"
            " memory; leave those runs out or change --encoding-test"
        )
    seen = {
        int(f) for name in shown[0] & series.keys() for f in series[name].fingerprints if f != 0
    }
    for name in sorted(shown[1] & series.keys()):
        prints = series[name].fingerprints
        prints = prints[prints != 0]
        share = float(np.mean([int(f) in seen for f in prints])) if len(prints) else 0.0
        if share > OVERLAP:
            raise ValueError(
                f"{name}: {share:.0%} of its frames are also in training stimuli, so the test would"
                " be of memory; cut them out of either"
            )
