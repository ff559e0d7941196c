"""Comparing within the voxel: which lag, which feature space, and what each explains alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.encoding.banded import fit_banded, partition_variance
from stages.encoding.evaluation import voxel_correlations
from stages.encoding.gram import factorise
from stages.encoding.responses import Responses
from stages.encoding.ridge import centre, make_operator, predict
from stages.encoding.selection import select_penalties, standardise

Floats = NDArray[Any]
Designs = Mapping[str, tuple[Floats, Floats]]  # name → training and test features


def score_lags(
    designs: Designs,
    responses: Responses,
    fold: NDArray[np.intp],
    penalties: Sequence[float],
    *,
    device: str,
) -> Floats:
    """Cross-validate designs on training runs alone, (designs, voxels)."""
    return np.stack(
        [
            select_penalties(X, responses.train, fold, penalties, device=device).best
            for X, _ in designs.values()
        ]
    )


def split_by_ridge(
    designs: Designs,
    responses: Responses,
    fold: NDArray[np.intp],
    penalties: Sequence[float],
    *,
    device: str,
) -> dict[str, Floats]:
    """Compute each space's unique and their shared part of the test R², (voxels,) each.

    All spaces together are fitted, and all but one; every space has the same total variance in
    these fits, whatever its number of features.
    """

    def score(names: Sequence[str]) -> Floats:
        X, T = (np.hstack([designs[name][part] for name in names]) for part in (0, 1))
        widths = [designs[name][0].shape[1] for name in names]
        # The mean square of the scale is 1, so that the grid of penalties keeps its meaning.
        scale = np.repeat([np.sqrt(sum(widths) / len(widths) / w) for w in widths], widths)
        chosen = select_penalties(
            X, responses.train, fold, penalties, scale=scale, device=device
        ).chosen
        train, test = (torch.from_numpy(a).to(device) for a in standardise(X, T, scale=scale))
        operator = make_operator(
            factorise(train), test, penalties, voxels=len(responses.varies), blocks=responses.blocks
        )
        predicted = predict(operator, responses.train, chosen)
        return voxel_correlations(predicted, responses.test, responses.blocks)

    without = {name: score([n for n in designs if n != name]) for name in designs}
    return partition_variance(score(list(designs)), without)


def split_by_bands(
    designs: Designs,
    responses: Responses,
    fold: NDArray[np.intp],
    penalties: Sequence[float],
    *,
    iterations: int,
    seed: int,
    device: str,
) -> tuple[Floats, dict[str, Floats]]:
    """Fit banded ridge; return its test correlation and each band's part of R², (voxels,) each."""
    measured = centre(responses.test, responses.blocks)
    predicted, shares = fit_banded(
        designs,
        responses.train,
        measured,
        fold,
        penalties,
        iterations=iterations,
        seed=seed,
        device=device,
    )
    return voxel_correlations(predicted, measured, responses.blocks), shares
