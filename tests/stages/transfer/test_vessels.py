"""Vessels, their calibre and forks are those that were planted; judging agrees with libraries."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stages.transfer import judging
from stages.transfer.centreline import find_candidates, match_negatives, thin_out, trace
from stages.transfer.vesselness import find_vessels, measure_vesselness
from stages.transfer.volumes import Volume, scale_intensity
from tests.stages.transfer.phantoms import SPACING_MM, make_phantom

SETTINGS = {"radii_mm": [0.6, 1.1, 1.8], "low": 0.08, "high": 0.2, "least_mm3": 20.0}
AFFINE = np.diag([SPACING_MM] * 3 + [1.0])


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(2, sacs=2)


@pytest.fixture(scope="module")
def vessels(phantom):
    return find_vessels(Volume(scale_intensity(phantom.image), AFFINE), **SETTINGS)


def test_vessels_and_sacs_are_found(phantom, vessels):
    truth = phantom.vessels | (phantom.sacs > 0)
    assert 2 * (vessels & truth).sum() / (vessels.sum() + truth.sum()) > 0.85
    for number in (1, 2):
        assert vessels[phantom.sacs == number].mean() > 0.9


def test_slabs_give_what_the_whole_gives():
    data = np.random.default_rng(0).random((14, 15, 40)).astype(np.float32)
    whole = measure_vesselness(data, [1.0, 2.0], slab=100)
    assert np.abs(measure_vesselness(data, [1.0, 2.0], slab=7) - whole).max() < 1e-6


def test_noise_has_no_vessels():
    noise = np.random.default_rng(0).normal(100, 5, (24, 24, 24)).clip(1)
    with pytest.raises(ValueError, match=r"no vessel found: the strongest vesselness is"):
        find_vessels(Volume(noise.round().astype(np.uint8), AFFINE), **SETTINGS)


def test_calibre_and_fork_of_a_tube_are_known():
    mask = np.zeros((40, 30, 30), dtype=bool)
    y, z = np.meshgrid(np.arange(30), np.arange(30), indexing="ij")
    mask[:, (y - 14) ** 2 + (z - 14) ** 2 <= 4.5**2] = True
    line = trace(mask, 0.5)
    inner = (line.voxels[:, 0] > 6) & (line.voxels[:, 0] < 34)
    assert np.abs(line.radii_mm[inner] - 0.5 * 4.75).max() <= 0.5
    assert np.isinf(line.fork_mm).all()
    mask[18:23, 14:, 12:17] = True  # a branch
    line = trace(mask, 0.5)
    nearest = line.voxels[line.fork_mm.argmin()]
    assert np.abs(nearest - [20, 14, 14]).max() <= 4


def test_thinned_points_keep_their_distance_and_cover():
    points = np.random.default_rng(0).integers(0, 30, (300, 3))
    kept = points[thin_out(points, 5.0)]
    apart = np.linalg.norm(kept[:, None] - kept[None], axis=-1)
    assert apart[~np.eye(len(kept), dtype=bool)].min() >= 5 - 1e-6
    assert np.linalg.norm(points[:, None] - kept[None], axis=-1).min(1).max() < 5
    assert len(thin_out(np.zeros((0, 3), dtype=int), 5.0)) == 0


def test_candidates_know_lesions_but_not_by_their_calibre(phantom, vessels):
    found = find_candidates(
        vessels, phantom.sacs, spacing_mm=SPACING_MM, step_mm=1.2, reach_mm=1.0, clear_mm=3.0
    )
    assert set(found.lesion) == {0, 1, 2}
    for voxel, number in zip(found.voxels, found.lesion, strict=True):
        away = np.linalg.norm(np.argwhere(phantom.sacs > 0) - voxel, axis=1).min() * SPACING_MM
        assert away <= 1.0 + 1e-6 if number else away > 3.0
    # Calibres at sacs are those of the vessels, not of the sacs.
    assert found.calibre_mm[found.lesion > 0].max() <= phantom.radii.max() * SPACING_MM * 1.4


def test_negatives_are_matched_in_calibre_and_fork():
    rng = np.random.default_rng(0)
    calibre = np.concatenate([rng.uniform(1.5, 2.0, 20), rng.uniform(0.5, 2.0, 400)])
    is_near = np.concatenate([np.ones(20, bool), rng.random(400) < 0.3])
    is_lesion = np.arange(420) < 20
    chosen = match_negatives(calibre, is_near, is_lesion, 1, rng)
    assert chosen.sum() == 20
    assert not (chosen & is_lesion).any()
    assert is_near[chosen].all()
    assert abs(calibre[chosen].mean() - calibre[is_lesion].mean()) < 0.1
    everything = match_negatives(calibre, is_near, is_lesion, 500, rng)
    assert (everything == ~is_lesion).all()


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.random(80) < 0.4
    scores = (rng.standard_normal((80, 3)) + truth[:, None]).round(1)  # with ties
    expected = [roc_auc_score(truth, scores[:, k]) for k in range(3)]
    assert np.allclose(judging.measure_auc(scores, truth), expected)
    assert np.isnan(judging.measure_auc(scores, np.zeros(80, bool))).all()


def test_delong_agrees_with_the_bootstrap_and_with_itself():
    rng = np.random.default_rng(1)
    truth = rng.random(400) < 0.5
    first, second = rng.standard_normal(400) + truth, rng.standard_normal(400) + 0.5 * truth
    difference, p = judging.compare_delong(first, second, truth)
    expected = judging.measure_auc(first, truth) - judging.measure_auc(second, truth)
    assert difference == pytest.approx(float(expected))
    draws = rng.integers(0, 400, (2000, 400))
    values = [
        judging.measure_auc(first[d], truth[d]) - judging.measure_auc(second[d], truth[d])
        for d in draws
    ]
    z = difference / np.std(values)
    from scipy import stats

    assert np.log10(p) == pytest.approx(np.log10(2 * stats.norm.sf(z)), abs=0.5)
    assert judging.compare_delong(first, first, truth) == (0.0, 1.0)


def test_the_bootstrap_draws_whole_cases():
    cases = np.repeat(["a", "b", "c"], [2, 3, 1])
    for rows in judging.draw_cases(cases, 20, np.random.default_rng(0)):
        counts = np.bincount(rows, minlength=6)
        assert len({counts[0], counts[1]}) == 1
        assert len(set(counts[2:5])) == 1


def test_froc_counts_findings_and_lesions_by_hand():
    # Case a: lesion 1 with two candidates side by side, a false one far off. Case b: none.
    places = np.array([[0, 0, 0], [1, 0, 0], [30, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=float)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    lesions = np.array([1, 1, 0, 0, 0])
    cases = np.array(["a", "a", "a", "b", "b"])
    thresholds, alarms, sensitivity = judging.trace_froc(scores, lesions, places, cases, 4.0)
    assert thresholds.tolist() == [0.9, 0.7, 0.6]  # 0.5 stands behind 0.6
    assert alarms.tolist() == [0.0, 0.5, 1.0]
    assert sensitivity.tolist() == [1.0, 1.0, 1.0]
    # A lesion of case b on no vessel found.
    given = judging.add_missed(scores, lesions, places, cases, {"a": 0, "b": 1})
    _, alarms, sensitivity = judging.trace_froc(*given, 4.0)
    assert sensitivity.tolist() == [0.5, 0.5, 0.5]
    assert judging.read_froc(alarms, sensitivity)[1.0] == 0.5
    alike = judging.add_missed(scores, lesions, places, cases, {"a": 0})
    assert all((x == y).all() for x, y in zip(alike, (scores, lesions, places, cases), strict=True))
