"""The template beside the stage is the one that others use under its name."""

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets

from stages.preprocessing import template


@pytest.mark.parametrize(
    ("path", "load"),
    [
        (template.T1W, datasets.load_mni152_template),
        (template.GREY, datasets.load_mni152_gm_template),
        (template.WHITE, datasets.load_mni152_wm_template),
    ],
)
def test_files_are_those_of_nilearn(path, load):
    ours, theirs = nib.load(path), load(resolution=1)
    np.testing.assert_allclose(ours.affine, theirs.affine)
    # nilearn scales to 0..1
    values = ours.get_fdata() / ours.get_fdata().max()
    np.testing.assert_allclose(values, theirs.get_fdata(), atol=1e-6)


def test_tissues_share_out_the_brain():
    whole = template.load()
    inside = whole.t1w > 0
    np.testing.assert_allclose(whole.priors.sum(axis=0)[inside], 1, atol=1e-6)
    assert not whole.priors[0, ~inside].any()
    assert whole.priors.sum(axis=0).max() < 1 + 1e-6
    # The anterior commissure lies at the origin, between the hemispheres.
    middle = np.linalg.solve(whole.affine, [0, 0, 0, 1])[:3]
    assert np.abs(middle[0] - (whole.t1w.shape[0] - 1) / 2) < 1
