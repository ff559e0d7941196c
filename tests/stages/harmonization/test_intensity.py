"""Intensity scales: exact moments, planted white matter, landmarks that land on the standard."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.harmonization import intensity


def brain(seed=0, gain=1.0, shift=0.0):
    """Three tissues: CSF 300, grey 640, white 870 (normal, sd 40) with known shares."""
    rng = np.random.default_rng(seed)
    parts = [(300, 8000), (640, 26000), (870, 20000)]
    values = np.concatenate([rng.normal(m, 40, n) for m, n in parts])
    return (gain * values + shift).astype(np.float32)


def test_zscore_gives_zero_mean_and_unit_deviation():
    scaled = intensity.scale_zscore(brain())(brain())
    assert scaled.mean() == pytest.approx(0, abs=1e-4) and scaled.std() == pytest.approx(
        1, abs=1e-4
    )


def test_whitestripe_centres_on_white_matter():
    scale = intensity.scale_whitestripe(brain())
    assert scale.x[0] == pytest.approx(870, abs=8)


@given(st.floats(0.2, 30), st.floats(-500, 500))
@settings(max_examples=15)
def test_gain_and_shift_of_the_scanner_vanish(gain, shift):
    plan = {"method": "nyul", "landmarks": intensity.fit_nyul([intensity.find_landmarks(brain())])}
    for method in ("zscore", "whitestripe", "nyul"):
        one = intensity.find_scale(brain(), plan | {"method": method})(brain())
        values = brain(gain=gain, shift=shift)
        two = intensity.find_scale(values, plan | {"method": method})(values)
        np.testing.assert_allclose(one, two, atol=0.02 * (one.max() - one.min()))


def test_nyul_maps_landmarks_onto_the_standard_and_goes_straight_on_beyond():
    standard = intensity.fit_nyul([intensity.find_landmarks(brain(seed=s)) for s in range(3)])
    assert standard[0] == 0 and standard[-1] == 100
    values = brain(seed=9) ** 1.2
    scaled = intensity.scale_nyul(values, standard)(values)
    np.testing.assert_allclose(intensity.find_landmarks(scaled), standard, atol=0.05)
    scale = intensity.Scale((0, 1, 2), (0, 10, 30))
    np.testing.assert_allclose(scale(np.array([-1, 0.5, 3], np.float32)), [-10, 5, 50])


def test_two_scanners_with_other_curves_meet_on_the_standard():
    """What one straight line cannot do: tissue means agree after a gamma curve."""
    standard = intensity.fit_nyul([intensity.find_landmarks(brain(seed=s)) for s in range(4)])
    plain, bent = brain(seed=7), 1000 * (brain(seed=7) / 1000) ** 1.5
    gap = {}
    for method in ("zscore", "nyul"):
        plan = {"method": method, "landmarks": standard}
        a = intensity.find_scale(plain, plan)(plain)
        b = intensity.find_scale(bent, plan)(bent)
        gap[method] = abs(np.median(a) - np.median(b)) / np.std(a)
    assert gap["nyul"] < 0.2 * gap["zscore"]


@pytest.mark.parametrize("method", ["zscore", "whitestripe", "nyul"])
def test_a_constant_brain_has_no_scale(method):
    plan = {"method": method, "landmarks": list(range(11))}
    with pytest.raises(ValueError, match=r"every value|coincide"):
        intensity.find_scale(np.full(100, 3.0, np.float32), plan)


def test_no_brain_no_training_image_and_no_such_method_are_said():
    with pytest.raises(ValueError, match="mask is empty"):
        intensity.find_scale(np.array([], np.float32), {"method": "zscore"})
    with pytest.raises(ValueError, match="no training image"):
        intensity.fit_nyul([])
    with pytest.raises(ValueError, match="'minmax'; known: none, zscore, whitestripe, nyul"):
        intensity.find_scale(np.ones(3, np.float32), {"method": "minmax"})
    values = brain()
    np.testing.assert_array_equal(intensity.find_scale(values, {"method": "none"})(values), values)
