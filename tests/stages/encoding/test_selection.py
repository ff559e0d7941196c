"""Penalties are chosen on training runs alone, folds are whole runs."""

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from stages.encoding.selection import assign_folds, select_penalties, standardise

PENALTIES = [0.1, 10.0, 1000.0, 1e5]


def test_folds_are_whole_runs_where_there_are_enough():
    fold = assign_folds(np.repeat([3, 1, 2, 9], 10), folds=2)
    assert fold.tolist() == [0] * 20 + [1] * 20


def test_a_single_run_is_cut_into_contiguous_pieces():
    fold = assign_folds(np.zeros(10, dtype=int), folds=3)
    assert fold.tolist() == [0] * 4 + [1] * 3 + [2] * 3


def test_cross_validation_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 12)) * 3 + 1
    Y = X @ rng.standard_normal((12, 6)) + 4 * rng.standard_normal((80, 6))
    fold = np.repeat([0, 1, 2, 3], 20)
    expected = np.zeros((len(PENALTIES), 6))
    for label in range(4):
        scaler = StandardScaler().fit(X[fold != label])
        for index, penalty in enumerate(PENALTIES):
            model = Ridge(alpha=penalty).fit(scaler.transform(X[fold != label]), Y[fold != label])
            predicted = model.predict(scaler.transform(X[fold == label]))
            for voxel in range(6):
                r = np.corrcoef(predicted[:, voxel], Y[fold == label][:, voxel])[0, 1]
                expected[index, voxel] += r / 4
    found = select_penalties(X, Y.astype("f4"), fold, PENALTIES)
    np.testing.assert_allclose(found.r, expected, atol=1e-5)
    assert (found.chosen == expected.argmax(0)).all()
    np.testing.assert_allclose(found.best, expected.max(0), atol=1e-5)


def test_standardisation_uses_the_first_array_alone():
    rng = np.random.default_rng(0)
    X, T = rng.standard_normal((50, 3)) * 5 + 2, rng.standard_normal((20, 3))
    X[:, 2] = 4.0
    train, test = standardise(X, T)
    np.testing.assert_allclose(
        test[:, :2], (T[:, :2] - X[:, :2].mean(0)) / X[:, :2].std(0), rtol=1e-4
    )
    assert (train[:, 2] == 0).all()
    assert (test[:, 2] == 0).all(), "a feature that never varied in training must not enter"
    shifted, _ = standardise(X, T + 100)
    np.testing.assert_array_equal(train, shifted)


def test_scale_lowers_the_penalty_of_a_feature():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2))
    Y = (X @ [[1.0], [0.1]]).astype("f4")
    fold = np.repeat([0, 1], 30)
    even, uneven = (
        select_penalties(X, Y, fold, [1000.0], scale=scale).r[0, 0]
        for scale in (None, np.array([0.01, 10.0]))
    )
    assert even > uneven
