"""Features are taken at the right time; volumes without them are left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nilearn.glm.first_level import spm_hrf

from stages.encoding.delays import (
    HRF_LAGS_S,
    Shown,
    canonical_response,
    convolve_features,
    parse_condition,
    sample_features,
    usable_volumes,
)

RAMP = Shown("ramp", 10.0, 20.0, 2.0, np.arange(40, dtype=np.float32)[:, None])


def test_nearest_frame():
    X = sample_features([RAMP], np.array([14.0, 14.2, 14.3, 16.0]), [4.0])
    assert X[:, 0].tolist() == [0.0, 0.0, 1.0, 4.0]


def test_nothing_is_shown_before_between_and_after():
    X = sample_features([RAMP], np.array([13.9, 33.9, 34.0]), [4.0])
    assert X[:, 0].tolist() == [0.0, 39.0, 0.0]


def test_an_image_lasts_as_long_as_it_is_shown():
    image = Shown("image", 2.0, 3.0, 0.0, np.ones((1, 2), np.float32))
    X = sample_features([image], np.arange(8.0), [1.0])
    assert X[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


def test_mean_over_a_window():
    X = sample_features([RAMP], np.array([20.0]), [4.0], window_s=2.0)
    assert X[0, 0] == np.mean([10, 11, 12, 13])


def test_lags_side_by_side_or_averaged():
    times = np.array([20.0])
    assert sample_features([RAMP], times, [4.0, 5.0]).tolist() == [[12.0, 10.0]]
    assert sample_features([RAMP], times, [4.0, 5.0], combine="mean").tolist() == [[11.0]]


def test_the_canonical_response_is_spms():
    theirs = spm_hrf(1.0, oversampling=1000, time_length=32.0)
    ours = canonical_response(np.linspace(0, 32, 32000))
    # nilearn's begins one of its samples, 1 ms, later.
    np.testing.assert_allclose(ours / ours.max(), theirs / theirs.max(), atol=1e-3)


def test_convolution_of_an_impulse_is_the_response_and_of_a_constant_the_constant():
    flash = Shown("flash", 10.0, 1.0, 1.0, np.ones((1, 1), np.float32))
    response = canonical_response(np.array(HRF_LAGS_S))
    times = 10.0 + np.array(HRF_LAGS_S)
    X = convolve_features([flash], times)
    np.testing.assert_allclose(X[:, 0], response / response.sum(), rtol=1e-5)
    steady = Shown("grey", 0.0, 100.0, 1.0, np.full((100, 2), 7.0, np.float32))
    np.testing.assert_allclose(convolve_features([steady], np.array([30.0, 90.0])), 7.0, rtol=1e-5)


def test_convolution_takes_means_over_a_window_too():
    near, mean = (convolve_features([RAMP], np.array([25.2]), window_s=w) for w in (0.0, 2.0))
    assert near != mean


@given(st.floats(0, 15), st.lists(st.floats(0, 30), min_size=1, max_size=5))
def test_a_lag_moves_time(lag, times):
    times = np.array(times) + 12
    np.testing.assert_array_equal(
        sample_features([RAMP], np.round(times + lag, 3), [round(lag, 3)]),
        sample_features([RAMP], np.round(times + lag, 3) - round(lag, 3), [0.0]),
    )


def keep(times, **options):
    settings = {"drop": -1, "tolerance_s": 20.0, "where": "run", **options}
    return usable_volumes([RAMP], times, 6.0, **settings)


def test_volumes_without_a_frame_are_left_out():
    times = np.arange(0, 50, 2.0)
    kept = times[keep(times)]
    assert kept[0] == 16.0, "first onset + longest lag"
    assert kept[-1] == 36.0, "last frame + longest lag"
    assert times[keep(times, drop=3)][0] == 6.0


def test_a_stimulus_shorter_than_the_run_is_refused():
    with pytest.raises(ValueError, match="run: stimuli end at 30 s, but volumes go on to 98 s"):
        keep(np.arange(0, 100, 2.0))


def test_conditions_are_written_as_they_are_read():
    condition = parse_condition("vgg16+fc6@4,4.5")
    assert condition.model == "vgg16+fc6"
    assert parse_condition(condition.name) == condition
    convolved = parse_condition("luminance@hrf")
    assert parse_condition(convolved.name) == convolved
    assert (convolved.reach_s, condition.reach_s) == (10.0, 4.5)
