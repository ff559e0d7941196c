"""N4 removes a planted field, measured where the truth is known: in white matter."""

import numpy as np
import pytest
import SimpleITK as sitk

from stages.preprocessing import bias


def variation(image: np.ndarray, white: np.ndarray) -> float:
    return float(image[white].std() / image[white].mean())


def planted_field(shape: tuple[int, ...], inside: np.ndarray) -> np.ndarray:
    """A tilted and bent field that spans 0.7 to 1.3 within the brain."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    field = 0.5 * x - y**2 + 0.7 * z * y
    low, high = field[inside].min(), field[inside].max()
    return (0.7 + 0.6 * np.clip((field - low) / (high - low), 0, 1)).astype(np.float32)


def test_most_of_a_planted_field_is_removed_from_white_matter(phantom):
    white = phantom.wm > 0.95
    field = planted_field(phantom.clean.shape, phantom.brain)
    found = bias.estimate_field(phantom.clean * field, phantom.affine, phantom.brain)
    clean, spoilt, mended = (
        variation(image, white)
        for image in (phantom.clean, phantom.clean * field, phantom.clean * field / found)
    )
    assert spoilt > 1.5 * clean
    assert mended - clean < 0.5 * (spoilt - clean)


def test_a_weak_field_is_not_made_worse(chain):
    """N4 takes a little anatomy for field; here it may cost half a percent of variation at most."""
    truth, white = chain.truth, chain.truth.wm > 0.95
    assert variation(chain.corrected, white) < variation(truth.t1w, white) + 0.005


def test_field_is_positive_smooth_and_of_mean_one(chain):
    field, brain = chain.field, chain.truth.brain
    assert (field > 0).all()
    assert np.log(field[brain]).mean() == pytest.approx(0, abs=0.01)
    assert max(np.abs(np.diff(np.log(field), axis=axis)).max() for axis in range(3)) < 0.1


def test_scale_of_the_image_does_not_matter(chain):
    truth = chain.truth
    again = bias.estimate_field(500 * truth.t1w, truth.affine, truth.brain)
    np.testing.assert_allclose(again[truth.brain], chain.field[truth.brain], rtol=0.02)


def test_number_of_threads_does_not_change_a_bit(chain):
    truth, threads = chain.truth, sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
        again = bias.estimate_field(truth.t1w, truth.affine, truth.brain)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    np.testing.assert_array_equal(again, chain.field)


def test_mask_without_signal_is_refused():
    with pytest.raises(ValueError, match="0 voxels of the brain mask carry a signal"):
        bias.estimate_field(np.zeros((20, 20, 20)), np.eye(4), np.ones((20, 20, 20), dtype=bool))
