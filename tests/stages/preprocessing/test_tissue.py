"""Tissue fractions agree with planted ones, in a phantom and in a case small enough to see."""

import numpy as np
import pytest

from stages.preprocessing import tissue


def agreement(found: np.ndarray, planted: np.ndarray, where: np.ndarray) -> float:
    return float(np.corrcoef(found[where], planted[where])[0, 1])


def test_grey_matter_of_the_phantom_is_found(chain):
    truth, (_, grey, white) = chain.truth, chain.tissues.fractions
    assert agreement(grey, truth.gm, truth.brain) > 0.85
    assert agreement(white, truth.wm, truth.brain) > 0.9


def test_volumes_of_the_phantom_are_found(chain):
    truth = chain.truth
    planted = [volume[truth.brain].sum() for volume in (truth.csf, truth.gm, truth.wm)]
    np.testing.assert_allclose(chain.tissues.fractions.sum(axis=(1, 2, 3)), planted, rtol=0.15)


def test_fractions_sum_to_one_in_the_mask_and_to_zero_outside(chain):
    total, brain = chain.tissues.fractions.sum(axis=0), chain.truth.brain
    np.testing.assert_allclose(total[brain], 1, atol=1e-5)
    assert not total[~brain].any()


@pytest.fixture
def cube() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three slabs of fluid, grey and white matter with noise, and what they are."""
    labels = np.zeros((30, 30, 30), dtype=int)
    labels[10:20], labels[20:] = 1, 2
    noise = np.random.default_rng(0).normal(scale=8, size=labels.shape)
    return np.array([30.0, 70.0, 100.0])[labels] + noise, labels, np.ones(labels.shape, dtype=bool)


def hint(labels: np.ndarray, sureness: float) -> np.ndarray:
    """Priors that are right with this probability and undecided otherwise."""
    return sureness * np.stack([labels == tissue for tissue in range(3)]) + (1 - sureness) / 3


def test_means_and_spread_of_slabs_are_estimated(cube):
    data, labels, mask = cube
    found = tissue.segment(data, np.eye(4), mask, hint(labels, 0.3))
    np.testing.assert_allclose(found.means, (30, 70, 100), atol=3)
    np.testing.assert_allclose(found.sd, 8, atol=2.5)
    assert (found.fractions.argmax(axis=0) == labels).mean() > 0.97


def test_neighbours_outvote_noise(cube, monkeypatch):
    data, labels, mask = cube
    together = tissue.segment(data, np.eye(4), mask, hint(labels, 0.3)).fractions
    monkeypatch.setattr(tissue, "NEIGHBOUR_WEIGHT", 0.0)
    alone = tissue.segment(data, np.eye(4), mask, hint(labels, 0.3)).fractions
    wrong = [(fractions.argmax(axis=0) != labels).mean() for fractions in (together, alone)]
    assert wrong[0] < 0.7 * wrong[1]


def test_a_voxel_half_grey_half_white_gets_half_of_each():
    data = np.full((20, 20, 20), 50.0)
    data[7:13], data[13:] = 80.0, 100.0
    data[12] = 90.0
    data += np.random.default_rng(0).normal(scale=2, size=data.shape)
    labels = np.digitize(np.arange(20), (7, 13))[:, None, None] * np.ones((1, 20, 20), dtype=int)
    found = tissue.segment(data, np.eye(4), np.ones(data.shape, dtype=bool), hint(labels, 0.3))
    np.testing.assert_allclose(found.fractions[1:, 12].mean(axis=(1, 2)), 0.5, atol=0.12)


def test_priors_follow_the_transform(rotation):
    matrix = rotation((0, 0, 0), (10, 0, 0))
    priors = np.zeros((3, 40, 40, 40))
    priors[1, 20, 20, 20] = 1
    moved = tissue.bring_priors(priors, np.eye(4), matrix, (40, 40, 40), np.eye(4))
    assert np.unravel_index(moved[1].argmax(), (40, 40, 40)) == (30, 20, 20)


def test_contrast_of_another_kind_is_refused(cube):
    data, labels, mask = cube
    with pytest.raises(ValueError, match="in a T1-weighted image they rise in this order"):
        tissue.segment(200 - data, np.eye(4), mask, hint(labels, 0.9))


def test_tiny_mask_is_refused(cube):
    data, labels, mask = cube
    with pytest.raises(ValueError, match="holds 8 voxels"):
        tissue.segment(data, np.eye(4), mask & (np.indices(mask.shape).max(axis=0) < 2), labels)
