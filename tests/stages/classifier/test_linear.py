"""The linear reference against scikit-learn on the raw features."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.classifier.linear import fit_logistic, fit_member, fit_ridge
from stages.classifier.program import build_member


def features(n=40, p=100, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, size=(n, p))
    X[:, 7] = 5.0  # a voxel that is the same in everybody
    y = (X[:, :5].sum(axis=1) + rng.normal(size=n) > 15).astype(np.intp)
    return X, y


def test_logistic_weights_are_scikit_learns_at_the_chosen_strength():
    X, y = features()
    found = fit_logistic(X, y, classes=2, seed=0)
    model = LogisticRegression(C=found.strength, class_weight="balanced", tol=1e-8, max_iter=9999)
    theirs = make_pipeline(StandardScaler(), model).fit(X, y)
    scores = X @ found.weights.T + found.offsets
    assert np.allclose(scores[:, 1] - scores[:, 0], theirs.decision_function(X), atol=1e-2)


def test_ridge_weights_are_scikit_learns_at_the_chosen_penalty():
    X, _ = features()
    y = X[:, :5].sum(axis=1) + np.random.default_rng(1).normal(size=len(X))
    found = fit_ridge(X, y)
    theirs = make_pipeline(StandardScaler(), Ridge(alpha=found.strength)).fit(X, y)
    new, _ = features(seed=5)
    assert np.allclose(new @ found.weights[0] + found.offsets, theirs.predict(new), atol=1e-6)


def test_the_member_says_what_the_fit_says():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(30, 1, 8, 8, 8)).astype(np.float32)
    labels = torch.from_numpy((images[:, 0, :4].mean(axis=(1, 2, 3)) > 0).astype(np.int64))
    member = build_member("linear", (8, 8, 8), classes=2, options={"blocks": 2})
    found = fit_member(member, torch.from_numpy(images), labels, seed=0)
    blocks = images[:, 0].reshape(30, 4, 2, 4, 2, 4, 2).mean(axis=(2, 4, 6)).reshape(30, -1)
    expected = blocks @ found.weights.T + found.offsets
    with torch.no_grad():
        assert np.allclose(member(torch.from_numpy(images)).numpy(), expected, atol=1e-4)


def test_several_classes_have_a_score_each():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 30))
    X[:, :3] += 4 * np.eye(3)[y]
    found = fit_logistic(X, y, classes=3, seed=0)
    assert ((X @ found.weights.T + found.offsets).argmax(axis=1) == y).mean() > 0.9
