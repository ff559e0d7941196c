"""The linear reference: regularised logistic or ridge regression on voxels of a coarse grid."""

from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import nn

from stages.classifier.networks import Linear
from stages.classifier.program import Member

Array = NDArray[np.float64]
STRENGTHS = tuple(10.0**k for k in range(-6, 2))  # logistic C, times the number of voxels
RIDGES = tuple(10.0**k for k in range(-3, 6))  # ridge penalty, times the number of voxels
FOLDS = 5


class LinearFit(NamedTuple):
    """Weights on raw features, so that scores = X w + b."""

    weights: Array  # (k, p)
    offsets: Array  # (k,)
    strength: float


def fit_logistic(X: Array, labels: NDArray[np.intp], *, classes: int, seed: int) -> LinearFit:
    """Fit logistic regression, its strength chosen by balanced accuracy within the rows given.

    X = U S Vᵀ is turned into US (n, n): the penalised solution lies in the rows' span, so nothing
    is lost and what is fitted has n columns and not p.

    Parameters
    ----------
    X : array, (n, p)
    labels : array, (n,)
        0 … classes-1, each present.
    """
    scores, basis, mean, deviation = _reduce(X)
    folds = min(FOLDS, int(np.bincount(labels, minlength=classes).min()))
    best = STRENGTHS[len(STRENGTHS) // 2] / X.shape[1]
    if folds >= 2:
        cuts = StratifiedKFold(folds, shuffle=True, random_state=seed)
        candidates = [strength / X.shape[1] for strength in STRENGTHS]
        marks = [
            cross_val_score(_logistic(c), scores, labels, cv=cuts, scoring="neg_log_loss").mean()
            for c in candidates
        ]
        best = candidates[int(np.argmax(marks))]
    model = _logistic(best).fit(scores, labels)
    weights, offsets = model.coef_, model.intercept_
    if classes == 2:  # one row of log odds → a score for each class
        weights, offsets = np.vstack([-weights, weights]) / 2, np.hstack([-offsets, offsets]) / 2
    return _expand(weights, offsets, basis, mean, deviation, best)


def fit_ridge(X: Array, y: Array) -> LinearFit:
    """Fit ridge regression, its penalty chosen by leave-one-out error within the rows given."""
    scores, basis, mean, deviation = _reduce(X)
    model = RidgeCV(alphas=[r * X.shape[1] for r in RIDGES]).fit(scores, y)
    weights = np.atleast_2d(model.coef_)
    return _expand(
        weights, np.atleast_1d(model.intercept_), basis, mean, deviation, float(model.alpha_)
    )


def fit_member(
    member: Member, images: torch.Tensor, labels: torch.Tensor, *, seed: int
) -> LinearFit:
    """Fit a linear member in place on scaled images, (n, C, …)."""
    network = cast(Linear, member.network)
    with torch.no_grad():
        X = network.pool(images).flatten(1).double().numpy()
        if member.head.is_quantity:
            found = fit_ridge(X, labels.double().numpy())
            member.head.scale.fill_(1.0)
            member.head.centres.zero_()
        else:
            classes = network.head.out_features
            found = fit_logistic(X, labels.numpy(), classes=classes, seed=seed)
        _put(network.head, found)
    member.eval()
    return found


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")


def _reduce(X: Array) -> tuple[Array, Array, Array, Array]:
    """Standardise columns and rotate rows into their span."""
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    deviation = np.where(deviation < 1e-8 * max(float(deviation.max()), 1e-30), np.inf, deviation)
    U, S, Vt = np.linalg.svd((X - mean) / deviation, full_matrices=False)
    return U * S, Vt, mean, deviation


def _expand(
    weights: Array, offsets: Array, basis: Array, mean: Array, deviation: Array, strength: float
) -> LinearFit:
    """Turn weights on rotated rows into weights on raw features."""
    raw = (weights @ basis) / deviation
    return LinearFit(raw, offsets - raw @ mean, strength)


def _put(layer: nn.Linear, found: LinearFit) -> None:
    layer.weight.copy_(torch.from_numpy(found.weights))
    layer.bias.copy_(torch.from_numpy(found.offsets))
