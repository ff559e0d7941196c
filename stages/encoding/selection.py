"""Each voxel's penalty by cross-validation over training runs.

Folds are whole runs: neighbouring volumes are alike, so random folds would test on what was trained
on. Features are standardised by each fold's training part alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.encoding.gram import factorise
from stages.encoding.ridge import Floats, correlate, make_operator


@dataclass(frozen=True)
class Selection:
    """What cross-validation found: ``r`` is (penalties, voxels), ``chosen`` indexes penalties."""

    r: Floats
    chosen: NDArray[np.intp]

    @property
    def best(self) -> Floats:
        """Cross-validated correlation at each voxel's chosen penalty, (voxels,)."""
        return np.asarray(np.take_along_axis(self.r, self.chosen[None], axis=0)[0])


def assign_folds(runs: NDArray[Any], *, folds: int) -> NDArray[np.intp]:
    """Give each training sample a fold such that no run is cut where there are enough runs.

    A training set of fewer runs than ``folds`` is cut into contiguous pieces of runs instead.

    Parameters
    ----------
    runs : array of int, (samples,)
        Run of each sample.
    folds : int
        How many folds, at least 2.

    Returns
    -------
    fold : array of int, (samples,)
    """
    labels = list(dict.fromkeys(runs.tolist()))
    fold = np.zeros(len(runs), dtype=np.intp)
    if len(labels) >= folds:
        for number, label in enumerate(labels):
            fold[runs == label] = number * folds // len(labels)
        return fold
    pieces = -(-folds // len(labels))
    for number, label in enumerate(labels):
        members = np.flatnonzero(runs == label)
        for piece, part in enumerate(np.array_split(members, pieces)):
            fold[part] = number * pieces + piece
    return fold


def standardise(X: Floats, *others: Floats, scale: Floats | None = None) -> list[Floats]:
    """Z-score features by the mean and deviation of the first array alone.

    Features without variance in the first array become 0 everywhere.

    Parameters
    ----------
    X, *others : array, (samples, features)
    scale : array, (features,), optional
        Multiplies the result.

    Returns
    -------
    standardised : list of array, float32
    """
    mean = X.mean(0, dtype=np.float64)
    deviation = X.std(0, dtype=np.float64)
    is_flat = deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
    factor = np.where(is_flat, 0.0, 1.0 / np.where(is_flat, 1.0, deviation))
    factor = factor if scale is None else factor * scale
    return [_scaled(array, mean, factor) for array in (X, *others)]


def select_penalties(
    X: Floats,
    Y: Floats,
    fold: NDArray[np.intp],
    penalties: Sequence[float],
    *,
    scale: Floats | None = None,
    device: torch.device | str = "cpu",
) -> Selection:
    """Choose each voxel's penalty by its mean correlation over held-out folds.

    Parameters
    ----------
    X : array, (samples, features)
        Training features, not standardised.
    Y : array, (samples, voxels)
        Training responses.
    fold : array of int, (samples,)
        From ``assign_folds``.
    penalties : sequence of float
        α > 0.
    scale : array, (features,), optional
        Multiplies the standardised features: a larger one is penalised less.
    device : torch.device or str
        Where the products run.
    """
    total = np.zeros((len(penalties), Y.shape[1]))
    labels = np.unique(fold)
    for label in labels:
        held_out = fold == label
        train, test = standardise(X[~held_out], X[held_out], scale=scale)
        factor = factorise(torch.from_numpy(train).to(device))
        one_run = np.zeros(len(test), dtype=int)
        operator = make_operator(
            factor, torch.from_numpy(test).to(device), penalties, voxels=Y.shape[1], blocks=one_run
        )
        total += correlate(operator, _Rows(Y, ~held_out), _Rows(Y, held_out))
    mean = (total / len(labels)).astype(np.float32)
    return Selection(mean, mean.argmax(0))


def _scaled(array: Floats, mean: Floats, factor: Floats) -> Floats:
    """Apply (array − mean) factor in float32, with no copy of the whole in float64."""
    scaled = array.astype(np.float32)
    scaled -= mean.astype(np.float32)
    scaled *= factor.astype(np.float32)
    return scaled


class _Rows:
    """Some samples of an array that may be a memory map: rows are taken chunk by chunk."""

    def __init__(self, array: Floats, rows: NDArray[np.bool_]) -> None:
        self._array, self._rows = array, np.flatnonzero(rows)
        self.shape = (len(self._rows), array.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[slice, slice]) -> Floats:
        _, columns = key
        # Voxels are rows in memory, and stay so: nothing is turned around on the way.
        return np.take(self._array[:, columns].T, self._rows, axis=1).T
