"""Ceiling, permutation, intervals and identification against naive loops and analytic cases."""

import numpy as np
import pytest

from stages.encoding.banded import partition_variance
from stages.encoding.ceiling import noise_ceiling, relative, split_half
from stages.encoding.identification import pattern_correlations, rank_accuracy, two_way_accuracy
from stages.encoding.significance import false_discovery, mean_interval, permutation_p


def test_ceiling_is_the_correlation_of_signal_with_the_mean_of_repeats():
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((20000, 3)) * [0.0, 0.5, 2.0]
    repeats = signal + rng.standard_normal((5, 20000, 3))
    power = np.array([0.0, 0.25, 4.0])
    expected = np.sqrt(power / (power + 1 / 5))
    np.testing.assert_allclose(noise_ceiling(repeats)[1:], expected[1:], atol=0.01)
    assert noise_ceiling(repeats)[0] < 0.2


def test_ceiling_of_noiseless_and_constant_voxels():
    wave = np.sin(np.arange(50.0))[:, None] * [1.0, 0.0]
    np.testing.assert_allclose(noise_ceiling(np.stack([wave] * 3)), [1.0, 0.0])
    with pytest.raises(ValueError, match="two at least"):
        noise_ceiling(wave[None])


def test_ratio_to_the_ceiling_is_unknown_below_the_least():
    ratio = relative(np.array([0.3, 0.3]), np.array([0.6, 0.05]), least=0.1)
    assert ratio[0] == 0.5
    assert np.isnan(ratio[1])


def test_split_half_equals_numpy():
    repeats = np.random.default_rng(0).standard_normal((4, 30, 2)) + np.arange(30)[:, None]
    a, b = repeats[::2].mean(0)[:, 0], repeats[1::2].mean(0)[:, 0]
    assert split_half(repeats)[0] == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_permutations_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 60, 4))
    y[:, 0] += x[:, 0]
    p = permutation_p(x, y, block=10, permutations=50, rng=np.random.default_rng(7))
    orders = np.random.default_rng(7)
    exceed = np.zeros(4)
    observed = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(4)]
    for _ in range(50):
        moved = x.reshape(6, 10, 4)[orders.permutation(6)].reshape(60, 4)
        r = [np.corrcoef(moved[:, i], y[:, i])[0, 1] for i in range(4)]
        exceed += np.array(r) >= np.array(observed) - 1e-7
    np.testing.assert_allclose(p, (1 + exceed) / 51)


def test_p_values_of_autocorrelated_noise_are_uniform_with_blocks_and_not_without():
    rng = np.random.default_rng(0)
    kernel = np.ones(6) / 6
    x, y = (
        np.apply_along_axis(np.convolve, 0, rng.standard_normal((305, 800)), kernel, "valid")
        for _ in range(2)
    )
    shares = {
        block: (permutation_p(x, y, block=block, permutations=99, rng=rng) <= 0.05).mean()
        for block in (1, 20)
    }
    assert shares[1] > 0.1, "single volumes are not exchangeable"
    assert shares[20] < 0.075


def test_too_few_blocks_are_refused():
    with pytest.raises(ValueError, match="make 3 blocks of 10, too few"):
        permutation_p(np.ones((39, 1)), np.ones((39, 1)), block=10, permutations=9, rng=None)


def test_false_discovery_leaves_untested_voxels_out():
    p = np.array([0.001, 0.02, 0.5, 0.0])
    q = false_discovery(p, np.array([True, True, True, False]))
    np.testing.assert_allclose(q, [0.003, 0.03, 0.5, 1.0])


def test_interval_covers_the_mean_and_narrows_with_length():
    rng = np.random.default_rng(0)
    widths = []
    for length in (100, 1600):
        x, noise = rng.standard_normal((2, length, 40))
        y = 0.5 * x + np.sqrt(0.75) * noise
        low, high = mean_interval(x, y, np.ones(40, dtype=bool), block=10, draws=300, rng=rng)
        assert low < 0.5 < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_identification_of_equal_reversed_and_unrelated_patterns():
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((40, 200))
    assert two_way_accuracy(pattern_correlations(patterns, patterns)) == 1.0
    assert rank_accuracy(pattern_correlations(patterns, patterns)) == 1.0
    assert two_way_accuracy(pattern_correlations(-patterns, patterns)) == 0.0
    other = pattern_correlations(rng.standard_normal((40, 200)), patterns)
    assert abs(two_way_accuracy(other) - 0.5) < 0.1


def test_identification_equals_a_plain_loop():
    r = np.random.default_rng(1).standard_normal((9, 9)).round(1)
    wins = [
        (r[i, i] > r[i, j]) + 0.5 * (r[i, i] == r[i, j])
        for i in range(9)
        for j in range(9)
        if i != j
    ]
    assert two_way_accuracy(r) == pytest.approx(np.mean(wins))


def test_partition_adds_up_to_the_joint_model():
    parts = partition_variance(np.array([0.8]), {"a": np.array([0.6]), "b": np.array([-0.2])})
    assert parts["a"][0] == pytest.approx(0.64 - 0.36)
    assert parts["b"][0] == pytest.approx(0.64)
    assert sum(part[0] for part in parts.values()) == pytest.approx(0.64)
