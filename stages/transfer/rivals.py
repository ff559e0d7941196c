"""What boosting is compared with: a linear probe, and a network trained on."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.transfer.network import MiniVGG, apply
from stages.transfer.training import Batch, train

Bools = NDArray[np.bool_]

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
PROBE_FOLDS = 3
TUNING_RATE = 0.2  # of the rate of pre-training: what was learnt is not to be undone


def probe_linearly(
    X: NDArray[Any], y: Bools, owners: NDArray[Any], Z: NDArray[Any], seed: int
) -> NDArray[Any]:
    """Fit a logistic regression, its penalty chosen by folds of whole cases; score ``Z``."""
    groups = np.unique(owners, return_inverse=True)[1]
    folds = min(PROBE_FOLDS, len(np.unique(groups[y])), len(np.unique(groups[~y])))
    if folds < 2:
        rule: Any = LogisticRegression(C=PENALTIES[1], max_iter=500)
    else:
        parts = list(GroupKFold(folds).split(X, y, groups))
        parts = [(a, b) for a, b in parts if len(set(y[a])) == 2 and len(set(y[b])) == 2]
        rule = LogisticRegression(C=PENALTIES[1], max_iter=500)
        if parts:
            rule = LogisticRegressionCV(
                Cs=list(PENALTIES), cv=parts, scoring="roc_auc", max_iter=500, l1_ratios=(0,),
                use_legacy_attributes=False, random_state=seed,
            )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_pipeline(StandardScaler(), rule).fit(X, y)
    return np.asarray(model.decision_function(Z))


def fit_platt(scores: NDArray[Any], y: Bools) -> tuple[float, float]:
    """Fit P(lesion) = 1 / (1 + exp(−(slope · score + offset))) (Platt 1999)."""
    model = LogisticRegression(C=1e4).fit(scores[:, None], y)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def fine_tune(
    net: MiniVGG,
    known: tuple[NDArray[np.uint8], Bools],
    patches: NDArray[np.uint8],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> NDArray[Any]:
    """Train a copy of the whole network on lesions, with mirrored patches; score ``patches``.

    Both classes are drawn equally often in each epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tuned = copy.deepcopy(net)
        tuned.head = torch.nn.Linear(tuned.head.in_features, 2)
    tuned = tuned.to("cuda" if torch.cuda.is_available() else "cpu")
    images, is_lesion = known
    lesions, normals = np.flatnonzero(is_lesion), np.flatnonzero(~is_lesion)

    def draw(rng: np.random.Generator) -> Batch:
        half = max(len(lesions), len(normals))
        rows = np.concatenate([rng.choice(lesions, half), rng.choice(normals, half)])
        return mirror(images[rows], rng), is_lesion[rows].astype(np.int64)

    train(
        tuned,
        draw,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=TUNING_RATE * learning_rate,
        seed=seed,
        signature="fine-tuning",
    )
    logits = apply(tuned, patches)
    return logits[:, 1] - logits[:, 0]


def mirror(patches: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror each patch along axes drawn at random, in all planes that show the axis."""
    mirrored = patches.copy()
    for shown in (((0, 1), (1, 1)), ((0, 2), (2, 1)), ((1, 2), (2, 2))):  # x, y, z
        rows = np.flatnonzero(rng.random(len(patches)) < 0.5)
        for channel, axis in shown:
            mirrored[rows, channel] = np.flip(mirrored[rows, channel], axis)
    return mirrored
