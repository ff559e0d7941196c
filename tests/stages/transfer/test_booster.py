"""The booster is scikit-learn's, faster; and it finds what was planted."""

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.class_weight import compute_sample_weight

from stages.transfer import booster
from stages.transfer.booster import fit_stumps, start_weights
from stages.transfer.judging import measure_auc


def make(seed: int, n: int, p: int, *, zeros: bool = False):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)).astype(np.float32)
    y = (X[:, : min(5, p)].sum(1) + 2 * rng.standard_normal(n)) > 0
    if zeros:
        X = np.maximum(X + 0.4, 0)
    return X, y, rng.standard_normal((200, p)).astype(np.float32)


@pytest.mark.parametrize("start", ["balanced", "equal"])
@pytest.mark.parametrize("small", [0, booster.SMALL], ids=["bounded", "swept"])
@pytest.mark.parametrize(
    ("n", "p", "rounds", "zeros"),
    [(60, 8, 10, False), (300, 20, 60, False), (700, 30, 80, True), (2500, 12, 50, True)],
)
def test_scores_after_every_round_are_those_of_scikit_learn(
    n, p, rounds, zeros, small, start, monkeypatch
):
    monkeypatch.setattr(booster, "SMALL", small)
    X, y, Z = make(n, n, p, zeros=zeros)
    y &= np.arange(n) % 2 == 0  # a quarter are lesions
    ours = fit_stumps(X, y, rounds, start_weights(y, start))
    stump = DecisionTreeClassifier(max_depth=1)
    theirs = AdaBoostClassifier(stump, n_estimators=rounds, random_state=0)
    theirs.fit(X, y, compute_sample_weight("balanced", y) if start == "balanced" else None)
    staged = np.stack(list(theirs.staged_decision_function(Z)), axis=1)
    assert staged.shape[1] == len(ours.features)
    assert np.abs(2 * ours.stage(Z) - staged).max() < 1e-6
    assert np.abs(ours.errors - theirs.estimator_errors_[: len(ours.errors)]).max() < 1e-9


def test_a_stump_is_the_best_of_all_that_there_are():
    X, y, _ = make(3, 80, 6)
    stump = fit_stumps(X, y, 1)

    def impurity(is_left):
        sides = [y[is_left], y[~is_left]]
        return sum(2 * s.mean() * (1 - s.mean()) * len(s) for s in sides if len(s)) / len(y)

    every = [impurity(X[:, j] <= v) for j in range(6) for v in X[:, j]]
    mine = impurity(X[:, stump.features[0]] <= stump.thresholds[0])
    assert mine == pytest.approx(min(every), abs=1e-12)


def test_a_perfect_stump_ends_the_ensemble():
    X = np.arange(40, dtype=np.float32)[:, None]
    stumps = fit_stumps(X, np.arange(40) >= 25, 10)
    assert len(stumps.features) == 1
    assert stumps.thresholds[0] == 24.5
    assert (stumps.stage(X)[:, 0] > 0).tolist() == (np.arange(40) >= 25).tolist()


def planted(seed: int, kind: str, n: int = 1500):
    """512 features: three strong, or all a little informative, or none."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.5
    X = rng.standard_normal((n, 512)).astype(np.float32)
    if kind == "sparse":
        X[:, :3] += 1.35 * y[:, None]
    elif kind == "dense":
        X += np.float32(0.22) * y[:, None]
    return X, y


def curve(kind: str) -> tuple[np.ndarray, list[int]]:
    X, y = planted(0, kind)
    stumps = fit_stumps(X[:1000], y[:1000], 200)
    return measure_auc(stumps.stage(X[1000:]), y[1000:]), stumps.features.tolist()


def test_few_strong_features_beat_many_weak_ones_only_with_few_stumps():
    sparse, picks = curve("sparse")
    dense, _ = curve("dense")
    null, _ = curve("null")
    assert set(picks[:3]) == {0, 1, 2}
    assert sparse[0] >= 0.70
    assert (sparse[:3] - dense[:3] >= 0.15).all()
    assert abs(sparse[-1] - dense[-1]) <= 0.05
    assert (np.abs(null[[0, 9, 49, 199]] - 0.5) <= 0.06).all()


def test_few_lesions_are_told_by_the_first_stump_only_if_classes_weigh_the_same():
    rng = np.random.default_rng(0)
    y = np.arange(1000) % 8 == 0
    X = rng.standard_normal((1000, 10)).astype(np.float32)
    X[:, 4] += 1.2 * y
    first = {s: fit_stumps(X, y, 1, start_weights(y, s)) for s in ("balanced", "equal")}
    assert first["equal"].left.tolist() == first["equal"].right.tolist() == [-1]
    assert measure_auc(first["equal"].stage(X)[:, 0], y) == 0.5
    assert first["balanced"].features.tolist() == [4]
    assert measure_auc(first["balanced"].stage(X)[:, 0], y) > 0.65


def test_one_class_and_useless_features_are_refused():
    X = np.zeros((10, 3))
    with pytest.raises(ValueError, match="all 10 training patches are normal"):
        fit_stumps(X, np.zeros(10), 5)
    with pytest.raises(ValueError, match="all 10 training patches are lesions"):
        fit_stumps(X, np.ones(10), 5)
    with pytest.raises(ValueError, match="none of 3 features varies"):
        fit_stumps(X, np.arange(10) < 5, 5)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 features are not finite"):
        fit_stumps(X, np.arange(10) < 5, 5)
