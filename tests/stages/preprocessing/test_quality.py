"""Flags and numbers of cases whose answer is known."""

import numpy as np
import pytest

from stages.preprocessing import quality


@pytest.mark.parametrize(
    ("volume_ml", "flag"),
    [(1400.0, "pass"), (900.0, "warn"), (2200.0, "warn"), (300.0, "fail"), (float("nan"), "fail")],
)
def test_flag_follows_the_volume(volume_ml, flag):
    assert quality.judge({"brain_volume_ml": volume_ml})[0] == flag


def test_the_worst_measure_decides_and_all_suspects_are_named():
    flag, reasons = quality.judge({"brain_volume_ml": 900.0, "ncc_template": 0.1, "cjv": 0.4})
    assert flag == "fail"
    assert reasons == "brain_volume_ml 900; ncc_template 0.1"


def test_contrast_of_known_gaussians():
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(70, 5, 40_000), rng.normal(100, 4, 40_000)])
    grey = np.repeat([1.0, 0.0], 40_000)
    found = quality.tissue_contrast(data, np.stack([np.zeros(80_000), grey, 1 - grey]))
    assert found["snr_gm"] == pytest.approx(14, rel=0.02)
    assert found["snr_wm"] == pytest.approx(25, rel=0.02)
    assert found["cnr"] == pytest.approx(30 / np.hypot(5, 4), rel=0.02)
    assert found["cjv"] == pytest.approx(9 / 30, rel=0.02)


def test_contrast_without_pure_tissue_is_not_a_number():
    found = quality.tissue_contrast(np.ones(10), np.full((3, 10), 1 / 3))
    assert np.isnan(list(found.values())).all()


def test_dice_of_halves():
    first, second = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert quality.dice(first, second) == 0.5
    assert np.isnan(quality.dice(first & ~first, second & ~second))


def test_template_correlation_is_blind_to_scale_and_sees_a_shift():
    rng = np.random.default_rng(0)
    brain = np.kron(rng.uniform(1, 2, (6, 6, 6)), np.ones((4, 4, 4)))
    assert quality.template_correlation(3 * brain, brain) == pytest.approx(1)
    assert quality.template_correlation(np.roll(brain, 8, axis=1), brain) < 0.5
    assert np.isnan(quality.template_correlation(0 * brain, 0 * brain))
