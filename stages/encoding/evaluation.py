"""One condition from features to numbers: the honest way, and the way the study did it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.encoding.ceiling import noise_ceiling, relative, split_half
from stages.encoding.gram import factorise
from stages.encoding.identification import pattern_correlations, rank_accuracy, two_way_accuracy
from stages.encoding.responses import Responses
from stages.encoding.ridge import centre, correlate, make_operator, predict
from stages.encoding.selection import Selection, select_penalties, standardise
from stages.encoding.significance import false_discovery, mean_interval, permutation_p

Floats = NDArray[Any]
Q_LEVEL = 0.05
BOOTSTRAP_DRAWS = 500


@dataclass(frozen=True)
class Evaluation:
    """Test results of one condition, (voxels,) each, and what cross-validation had promised."""

    r: Floats
    q: Floats
    penalty: Floats
    promised: Floats
    summary: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """Test responses as predicted, (test samples, voxels), with what training runs chose.

    ``promised`` is the cross-validated correlation, ``penalty`` the penalty, (voxels,) each.
    """

    values: Floats
    promised: Floats
    penalty: Floats


def predict_selected(
    X: Floats,
    T: Floats,
    responses: Responses,
    fold: NDArray[np.intp],
    penalties: Sequence[float],
    *,
    device: str,
) -> tuple[Prediction, Selection]:
    """Choose penalties on training runs, then predict the test responses.

    Parameters
    ----------
    X, T : array, (training samples, features) and (test samples, features)
        Not standardised.
    responses : Responses
    fold : array of int, (training samples,)
    penalties : sequence of float
    device : str
    """
    selection = select_penalties(X, responses.train, fold, penalties, device=device)
    train, test = (torch.from_numpy(a).to(device) for a in standardise(X, T))
    operator = make_operator(
        factorise(train), test, penalties, voxels=len(responses.varies), blocks=responses.blocks
    )
    predicted = predict(operator, responses.train, selection.chosen)
    penalty = np.where(responses.varies, np.asarray(penalties)[selection.chosen], 0.0)
    return Prediction(predicted, selection.best, penalty), selection


def choose(first: Prediction | None, second: Prediction) -> Prediction:
    """Keep for each voxel the prediction that cross-validation on training runs promised more of.

    Its own ``promised`` is a maximum and so a little too high; the test is fair, as it had no say.
    """
    if first is None:
        return second
    is_better = second.promised > first.promised
    return Prediction(
        *(
            np.where(is_better, b, a)
            for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
        )
    )


def score_grid(
    X: Floats, T: Floats, responses: Responses, penalties: Sequence[float], *, device: str
) -> Floats:
    """Score every penalty on the test set, features as they are: the study's protocol.

    Returns
    -------
    r : array, (penalties, voxels)
    """
    factor = factorise(torch.from_numpy(X).to(device))
    operator = make_operator(
        factor,
        torch.from_numpy(T).to(device),
        penalties,
        voxels=len(responses.varies),
        blocks=responses.blocks,
    )
    return correlate(operator, responses.train, responses.test, blocks=responses.blocks)


def voxel_correlations(predicted: Floats, measured: Floats, blocks: Floats) -> Floats:
    """Correlate columns, their means removed within blocks; 0 where nothing varies."""
    x, y = (centre(array, blocks).astype(np.float64) for array in (predicted, measured))
    norms = np.sqrt((x * x).sum(0) * (y * y).sum(0))
    return np.divide((x * y).sum(0), norms, out=np.zeros(x.shape[1]), where=norms > 0)


def ceiling_of(responses: Responses) -> Floats | None:
    """Compute the noise ceiling, (voxels,); None without repeats."""
    return None if len(responses.repeats) < 2 else noise_ceiling(_centred_repeats(responses))


def halves_of(responses: Responses) -> Floats:
    """Correlate even with odd repeats, (voxels,): how reliable the measurement is."""
    return split_half(_centred_repeats(responses))


def _centred_repeats(responses: Responses) -> Floats:
    return np.stack([centre(repeat, responses.blocks) for repeat in responses.repeats])


def judge(
    prediction: Prediction,
    responses: Responses,
    *,
    block: int,
    permutations: int,
    least_ceiling: float,
    seed: int,
) -> Evaluation:
    """Test a prediction.

    Parameters
    ----------
    prediction : Prediction
    responses : Responses
    block : int
        Samples per block of permutations and bootstrap.
    permutations : int
    least_ceiling : float
        Voxels below it do not enter the mean of r / ceiling.
    seed : int
    """
    predicted = prediction.values
    rng = np.random.default_rng(seed)
    varies = responses.varies
    measured = centre(responses.test, responses.blocks)
    r = voxel_correlations(predicted, measured, responses.blocks)
    p = permutation_p(predicted, measured, block=block, permutations=permutations, rng=rng)
    q = false_discovery(p, varies)
    low, high = mean_interval(
        predicted, measured, varies, block=block, draws=BOOTSTRAP_DRAWS, rng=rng
    )
    patterns = pattern_correlations(predicted[:, varies], measured[:, varies])
    ceiling = ceiling_of(responses)
    ratio = np.nan if ceiling is None else _mean(relative(r, ceiling, least=least_ceiling)[varies])
    summary = {
        "mean_voxel_r": _mean(r[varies]),
        "ci_low": low,
        "ci_high": high,
        "mean_cv_r": _mean(prediction.promised[varies]),
        "median_penalty": float(np.median(prediction.penalty[varies])) if varies.any() else np.nan,
        "share_significant": _mean((q[varies] < Q_LEVEL).astype(float)),
        "mean_ceiling": np.nan if ceiling is None else _mean(ceiling[varies]),
        "mean_split_half_r": np.nan if ceiling is None else _mean(halves_of(responses)[varies]),
        "mean_r_over_ceiling": ratio,
        "mean_pattern_r": _mean(np.diag(patterns)),
        "two_way_accuracy": two_way_accuracy(patterns) if varies.sum() > 2 else np.nan,
        "rank_accuracy": rank_accuracy(patterns) if varies.sum() > 2 else np.nan,
        "n_voxels": float(varies.sum()),
        "n_constant": float((~varies).sum()),
        "n_train": float(len(responses.runs)),
        "n_test": float(len(responses.blocks)),
        "n_repeats": float(len(responses.repeats)),
    }
    return Evaluation(r, q, prediction.penalty, prediction.promised, summary)


def _mean(values: Floats) -> float:
    """Average what is known; NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
