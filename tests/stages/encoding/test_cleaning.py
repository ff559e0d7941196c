"""Drift and confounds leave; what is left is not touched; scales come from training alone."""

import numpy as np
import pytest
from nilearn.signal import clean

from stages.encoding.cleaning import (
    choose_confounds,
    drift_basis,
    is_constant,
    remove,
    scale_by,
)
from stages.encoding.responses import gather


def test_cleaning_equals_nilearn():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((5, 200)) + np.linspace(0, 5, 200)
    confounds = rng.standard_normal((200, 2))
    basis = drift_basis(200, 1.5, 0.01)
    ours = remove(series, np.hstack([basis, confounds]))
    # nilearn takes drift out of confounds first, then both from the series: the same projection.
    theirs = clean(
        series.T,
        detrend=False,
        standardize=None,
        filter=False,
        confounds=np.hstack([basis[:, 1:], confounds]),
        standardize_confounds=True,
    ).T
    np.testing.assert_allclose(ours, theirs - theirs.mean(1, keepdims=True), atol=1e-4)


def test_drift_leaves_and_fast_signal_stays():
    t = np.arange(300) * 2.0
    fast, slow = np.cos(2 * np.pi * 0.05 * (t + 1.0)), np.cos(2 * np.pi * 0.002 * t)
    basis = drift_basis(300, 2.0, 0.008)
    assert np.abs(remove(slow[None], basis)).max() < 0.1
    np.testing.assert_allclose(remove(fast[None], basis)[0], fast, atol=1e-4)


def test_without_cut_off_only_the_mean_leaves():
    series = np.linspace(0, 1, 50)[None]
    np.testing.assert_allclose(
        remove(series, drift_basis(50, 2.0, 0.0)), series - series.mean(), atol=1e-6
    )


def test_repeated_regressors_do_no_harm():
    rng = np.random.default_rng(0)
    series, one = rng.standard_normal((3, 40)), rng.standard_normal((40, 1))
    np.testing.assert_allclose(
        remove(series, np.hstack([one, one, one * 1e6, one * 0])), remove(series, one), atol=1e-5
    )


def test_confounds_are_chosen_by_pattern():
    columns = ["trans_x", "trans_y", "rot_x", "csf"]
    assert choose_confounds(columns, ["trans_?", "csf"]) == ["trans_x", "trans_y", "csf"]
    assert choose_confounds(columns, ["none"]) == []
    with pytest.raises(ValueError, match="no confound matches 'white"):
        choose_confounds(columns, ["white*"])


def test_constant_voxels_are_seen_in_spite_of_rounding():
    series = np.vstack([np.full(100, 12345.678), np.full(100, 0.0), np.arange(100.0)])
    cleaned = remove(series, drift_basis(100, 2.0, 0.008)[:, :1])
    assert is_constant(cleaned, np.abs(series).max(1)).tolist() == [True, True, False]


def test_test_runs_are_scaled_by_training_runs(tmp_path):
    """Twice as large a test series stays twice as large; every training run gets deviation 1."""
    rng = np.random.default_rng(0)
    train = [(k * rng.standard_normal((4, 50)).astype("f4"), np.ones(50, bool)) for k in (1, 10)]
    test = [(rng.standard_normal((4, 30)).astype("f4"), np.ones(30, bool)) for _ in range(2)]
    made = {}
    for factor in (1, 2):
        scaled = [(factor * series, kept) for series, kept in test]
        path = tmp_path / f"{factor}.npy"
        made[factor] = gather(train, scaled, [[0, 1]], np.ones(4, bool), path)
    np.testing.assert_allclose(made[2].test, 2 * made[1].test, rtol=1e-5)
    assert made[1].repeats.shape == (2, 30, 4)
    for run in (0, 1):
        np.testing.assert_allclose(made[1].train[made[1].runs == run].std(0), 1, rtol=1e-4)


def test_voxels_without_deviation_become_zero():
    assert scale_by(np.ones((1, 3)), np.zeros(1)).tolist() == [[0, 0, 0]]
