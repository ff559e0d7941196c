"""Which files make an arm's image, and the image they make."""

import nibabel as nib
import numpy as np
import pytest
from scipy import io

from stages.classifier import alignment
from stages.classifier.centring import SHAPE
from stages.classifier.scans import Scan, find_scans, load_scan

STEM = "sub-1_space-MNI152NLin2009aSym_res-1"
MATRIX = np.array([[1.1, 0.1, 0.0], [0.0, 1.2, -0.2], [0.05, 0.0, 0.9]])


def write_alignment(path, matrix):
    """Write an ITK affine as preprocessing does."""
    values = np.concatenate([matrix.ravel(), [3.0, 4.0, 5.0]])[:, None]
    entries = {"AffineTransform_double_3_3": values, "fixed": np.zeros((3, 1))}
    io.savemat(path, entries, format="4")
    return path


def write_tissues(folder, *, shape=(6, 7, 5), matrix=MATRIX):
    """Write fractions of a head and its alignment as preprocessing does."""
    rng = np.random.default_rng(0)
    arrays = rng.random((3, *shape)).astype(np.float32)
    paths = [str(folder / f"{STEM}_label-{label}_probseg.nii.gz") for label in ("GM", "WM", "CSF")]
    for path, array in zip(paths, arrays, strict=True):
        nib.Nifti1Image(array, np.eye(4)).to_filename(path)
    path = folder / "sub-1_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.mat"
    return paths, str(write_alignment(path, matrix)), arrays


def test_tissues_are_channels_in_the_order_grey_white_fluid(tmp_path):
    paths, alignment, _ = write_tissues(tmp_path)
    others = [
        str(tmp_path / f"{STEM}_desc-GM_T1w.nii.gz"),
        str(tmp_path / "sub-1_label-GM_probseg"),
    ]
    (scan,) = find_scans([*paths[::-1], *others], [alignment], "mnitissues")
    assert scan == Scan(tuple(paths), alignment) and scan.name.endswith("label-GM_probseg.nii.gz")
    (grey,) = find_scans(paths, [alignment], "mnigmfraction")
    assert grey == Scan((paths[0],))


def test_modulated_fractions_sum_to_the_tissue_in_the_head(tmp_path):
    """A block of a head's grey matter keeps its volume when an affine stretches it."""
    scale, shape = np.array([1.25, 0.8, 1.5]), (20, 20, 20)  # head mm per template mm
    paths, alignment, _ = write_tissues(tmp_path, shape=shape, matrix=np.diag(scale))
    block = np.zeros(shape, np.float32)
    block[4:12, 5:10, 3:13] = 1
    nib.Nifti1Image(block, np.eye(4)).to_filename(paths[0])
    found = load_scan(Scan(tuple(paths), alignment), "mnitissues")
    in_head = np.prod(np.array([8, 5, 10]) * scale)  # mm³
    assert found.data.shape == (3, *shape)
    assert found.data[0].sum() == pytest.approx(in_head, rel=1e-5)


def test_heads_and_brains_take_the_rigid_alignment_and_not_the_other(tmp_path):
    images = [f"a/sub-1_desc-{kind}_T1w.nii.gz" for kind in ("brain", "preproc")]
    spaces = ("MNI152NLin2009aSym", "upright")
    ends = [f"a/sub-1_from-T1w_to-{space}_mode-image_xfm.mat" for space in spaces]
    assert find_scans(images, ends, "uprighthead") == [Scan((images[1],), ends[1])]
    assert find_scans(images, ends, "uprightbrain") == [Scan((images[0],), ends[1])]
    assert find_scans(images, ends, "ownbrain") == [Scan((images[0],))]


def test_missing_channels_and_alignments_are_named(tmp_path):
    paths, alignment, _ = write_tissues(tmp_path)
    with pytest.raises(ValueError, match=r"sub-1: arm mnitissues lacks label-WM; run"):
        find_scans([paths[0], paths[2]], [alignment], "mnitissues")
    with pytest.raises(ValueError, match=r"lacks from-T1w_to-MNI152NLin2009aSym_mode-image_xfm"):
        find_scans(paths, [], "mnitissues")


def test_broken_alignments_and_grids_are_refused(tmp_path):
    paths, alignment, arrays = write_tissues(tmp_path)
    nib.Nifti1Image(arrays[1][:-1], np.eye(4)).to_filename(paths[1])
    with pytest.raises(ValueError, match=r"label-WM_probseg.*shape \(5, 7, 5\).*has \(6, 7, 5\)"):
        load_scan(Scan(tuple(paths), alignment), "mnitissues")


def test_arms_choose_and_empty_images_are_refused(tmp_path):
    path = str(tmp_path / "sub-1_desc-brain_T1w.nii.gz")
    brain = np.zeros((20, 20, 20), np.float32)
    brain[5:15, 5:15, 5:15] = 1
    nib.Nifti1Image(brain, np.diag([4.0, 4, 4, 1])).to_filename(path)
    assert load_scan(Scan((path,)), "mnibrain").data.shape == (1, 20, 20, 20)
    assert load_scan(Scan((path,)), "ownbrain").data.shape == (1, *SHAPE)
    upright = Scan((path,), str(write_alignment(tmp_path / "a.mat", np.eye(3))))
    assert load_scan(upright, "uprightbrain").data.shape == (1, *alignment.SHAPE)
    nib.Nifti1Image(brain * 0, np.eye(4)).to_filename(path)
    with pytest.raises(ValueError, match=r"sub-1_desc-brain.*no voxel differs from 0"):
        load_scan(Scan((path,)), "ownbrain")
