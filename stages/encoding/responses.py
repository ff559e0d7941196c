"""Responses of all runs, cleaned and split into training and test, as files of voxels × volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.cleaning import (
    choose_confounds,
    drift_basis,
    is_constant,
    remove,
    scale_by,
)
from stages.encoding.grids import Grid
from stages.encoding.recordings import Run, read_confounds

Floats = NDArray[Any]
VOXEL_CHUNK = 4096


@dataclass(frozen=True)
class Responses:
    """Training and test responses, samples × voxels.

    ``train`` is a view of a memory map in which voxels are rows; ``runs`` names each training
    sample's run. ``repeats`` are (repeats, test samples, voxels); ``test`` is their mean.
    ``blocks`` names each test sample's run. ``varies`` is False for voxels that are constant in
    any run.
    """

    train: Floats
    runs: NDArray[np.intp]
    test: Floats
    repeats: Floats
    blocks: NDArray[np.intp]
    varies: NDArray[np.bool_]


def load_run(
    run: Run, grid: Grid, path: Path, *, high_pass_hz: float, confounds: Sequence[str]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Write one run's cleaned series to ``path``; return it as a map and each voxel's variation.

    Returns
    -------
    series : memory map, (voxels, volumes), float32
        Without drift, mean and confounds, in the units of the input.
    varies : array of bool, (voxels,)
        False for voxels that are constant or not finite; their series is 0.

    Raises
    ------
    ValueError
        Confounds of another length, or a confound that is not there.
    """
    parts = list(grid.read(run.bold))
    volumes = sum(part.shape[1] for part in parts)
    series = np.lib.format.open_memmap(path, "w+", np.float32, (grid.size, volumes))
    np.concatenate(parts, axis=1, out=series)
    del parts
    regressors = drift_basis(volumes, run.tr_s, high_pass_hz)
    if run.confounds is not None:
        names, table = read_confounds(run.confounds)
        if len(table) != volumes:
            raise ValueError(f"{run.confounds}: {len(table)} rows, but BOLD has {volumes} volumes")
        chosen = [names.index(name) for name in choose_confounds(names, confounds)]
        regressors = np.hstack([regressors, table[:, chosen]])
    varies = np.zeros(grid.size, dtype=bool)
    for start in range(0, grid.size, VOXEL_CHUNK):
        voxels = slice(start, start + VOXEL_CHUNK)
        raw = series[voxels]
        is_finite = np.isfinite(raw).all(axis=1)
        raw = np.where(is_finite[:, None], raw, 0)
        clean = remove(raw, regressors)
        is_fine = is_finite & ~is_constant(clean, np.abs(raw).max(axis=1))
        series[voxels] = np.where(is_fine[:, None], clean, 0)
        varies[voxels] = is_fine
    return series, varies


def gather(
    train: Sequence[tuple[Floats, NDArray[np.bool_]]],
    test: Sequence[tuple[Floats, NDArray[np.bool_]]],
    groups: Sequence[Sequence[int]],
    varies: NDArray[np.bool_],
    path: Path,
) -> Responses:
    """Scale runs and lay them behind one another.

    Parameters
    ----------
    train, test : sequence of (series, keep)
        Cleaned series, (voxels, volumes), and which volumes to keep.
    groups : sequence of sequence of int
        Test runs that are repeats of one another; each group is one block of the test set.
    varies : array of bool, (voxels,)
        Of all runs together.
    path : Path
        Where the training responses are written.
    """
    total = sum(int(keep.sum()) for _, keep in train)
    whole = np.lib.format.open_memmap(path, "w+", np.float32, (len(varies), total))
    deviation = np.zeros(len(varies))
    start = 0
    for series, keep in train:
        stop = start + int(keep.sum())
        for first in range(0, len(varies), VOXEL_CHUNK):
            voxels = slice(first, first + VOXEL_CHUNK)
            kept = np.asarray(series[voxels])[:, keep]
            kept -= kept.mean(1, keepdims=True)
            own = kept.std(1)
            deviation[voxels] += own * keep.sum() / total
            whole[voxels, start:stop] = scale_by(kept, own)
        start = stop
    count = min(len(group) for group in groups)
    repeats = np.concatenate(
        [
            np.stack([scale_by(np.asarray(s)[:, k], deviation).T for s, k in _pick(test, g, count)])
            for g in groups
        ],
        axis=1,
    )
    lengths = [int(test[group[0]][1].sum()) for group in groups]
    return Responses(
        train=whole.T,
        runs=np.repeat(np.arange(len(train)), [int(keep.sum()) for _, keep in train]),
        test=repeats.mean(0),
        repeats=repeats,
        blocks=np.repeat(np.arange(len(groups)), lengths),
        varies=varies,
    )


def _pick(test: Sequence[Any], group: Sequence[int], count: int) -> list[Any]:
    """Take as many repeats of each test stimulus as the one with the fewest has."""
    return [test[index] for index in group[:count]]
