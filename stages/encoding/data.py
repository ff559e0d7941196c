"""One participant's data, ready to be fitted: runs split, cleaned and aligned with features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.delays import Condition
from stages.encoding.design import Sampling, build_design, keep_volumes, refuse_overlap
from stages.encoding.feature_file import Series, load_features
from stages.encoding.grids import Grid
from stages.encoding.provenance import REAL
from stages.encoding.recordings import STIM, Run
from stages.encoding.responses import Responses, gather, load_run

Floats = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """All that the conditions share: responses, runs, kept volumes, features by space."""

    responses: Responses
    train: list[Run]
    test: list[Run]
    keep_train: list[NDArray[np.bool_]]
    keep_test: list[NDArray[np.bool_]]
    series: dict[str, dict[str, Series]]
    provenance: dict[str, str]
    sampling: Sampling

    def design(self, condition: Condition) -> tuple[Floats, Floats]:
        """Build training and test features of a condition."""
        series = self.series.get(condition.model, {})
        return (
            build_design(condition, self.train, self.keep_train, series, self.sampling),
            build_design(condition, self.test, self.keep_test, series, self.sampling),
        )


def load_spaces(
    paths: Sequence[Path], conditions: Sequence[Condition]
) -> tuple[dict[str, dict[str, Series]], dict[str, str]]:
    """Load the feature spaces that conditions name."""
    wanted = {condition.model for condition in conditions}
    series, provenance = {}, {STIM: REAL}
    available = []
    for path in paths:
        model = path.name.removeprefix("desc-").partition("_")[0]
        available.append(model)
        if model in wanted:
            series[model], about = load_features(path)
            provenance[model] = about["provenance"]
    absent = sorted(wanted - series.keys() - {STIM})
    if absent:
        raise ValueError(
            f"no features of {', '.join(absent)}; there are {', '.join(available) or 'none'}; add"
            " them to --encoding-model and run step features"
        )
    return series, {model: origin for model, origin in provenance.items() if model in wanted}


def prepare(
    runs: Sequence[Run],
    grid: Grid,
    conditions: Sequence[Condition],
    series: dict[str, dict[str, Series]],
    provenance: dict[str, str],
    folder: Path,
    *,
    test: Sequence[str],
    longest_lag_s: float,
    drops: tuple[int, int],
    sampling: Sampling,
    high_pass_hz: float,
    confounds: Sequence[str],
) -> Data:
    """Split runs, clean them, and keep the volumes that all conditions can explain."""
    tests = [run for run in runs if run.is_test(test)]
    trains = [run for run in runs if not run.is_test(test)]
    if not tests or not trains:
        some = ", ".join(sorted({e.stimulus for r in runs for e in r.events})[:4]) or "no stimuli"
        raise ValueError(
            f"{len(runs)} runs, of which {len(tests)} are for testing by {', '.join(test)}; both"
            f" training and test runs are needed: name test stimuli or runs with --encoding-test"
            f" (shown: {some}; first run: {runs[0].bold.name})"
        )
    for features in series.values():
        refuse_overlap(trains, tests, features)
    loaded = [
        load_run(run, grid, folder / f"run{i}.npy", high_pass_hz=high_pass_hz, confounds=confounds)
        for i, run in enumerate([*trains, *tests])
    ]
    varies = np.logical_and.reduce([v for _, v in loaded])
    cleaned = [s for s, _ in loaded]
    model = conditions[0].model
    keeps = []
    for part, arrays, drop in (
        (trains, cleaned[: len(trains)], drops[0]),
        (tests, cleaned[len(trains) :], drops[1]),
    ):
        lengths = [array.shape[1] for array in arrays]
        keeps.append(
            keep_volumes(part, lengths, model, series.get(model, {}), longest_lag_s, drop=drop)
        )
    groups: dict[Any, list[int]] = {}
    for index, run in enumerate(tests):
        groups.setdefault((run.signature, int(keeps[1][index].sum())), []).append(index)
    responses = gather(
        list(zip(cleaned[: len(trains)], keeps[0], strict=True)),
        list(zip(cleaned[len(trains) :], keeps[1], strict=True)),
        list(groups.values()),
        varies,
        folder / "train.npy",
    )
    first = [members[0] for members in groups.values()]
    return Data(
        responses=responses,
        train=trains,
        test=[tests[index] for index in first],
        keep_train=keeps[0],
        keep_test=[keeps[1][index] for index in first],
        series=series,
        provenance=provenance,
        sampling=sampling,
    )
