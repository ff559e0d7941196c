"""Reorientation and cropping move voxels, never anatomy."""

import nibabel as nib
import numpy as np
import pytest

from stages.preprocessing import geometry

OBLIQUE = nib.affines.from_matvec(
    np.array([[0, 0.2, 2.9], [-1.9, 0.1, 0.05], [0.1, 2.0, -0.3]]), [-80, 110, -70]
)


def test_canonical_equals_nibabel():
    data = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    moved, affine = geometry.to_canonical(data, OBLIQUE)
    expected = nib.as_closest_canonical(nib.Nifti1Image(data, OBLIQUE))
    np.testing.assert_array_equal(moved, expected.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(affine, expected.affine)


def test_a_marker_keeps_its_world_position_through_reorientation_and_cropping():
    data = np.zeros((12, 13, 14), dtype=np.float32)
    data[3, 4, 5] = 1
    before = OBLIQUE @ [3, 4, 5, 1]
    moved, affine = geometry.crop_below(*geometry.to_canonical(data, OBLIQUE), 2)
    (index,) = np.argwhere(moved == 1)
    np.testing.assert_allclose(affine @ [*index, 1], before)


def test_record_counts_slices_along_the_thick_axis():
    record = geometry.describe((176, 40, 256), np.diag([1.0, 4.0, 1.0, 1.0]), 1, 0)
    assert record["n_slices"] == 40
    assert record["shape"] == "176x40x256"
    assert record["zooms"] == "1x4x1"
    assert record["orientation"] == "RAS"


def test_record_counts_the_last_axis_of_isotropic_voxels():
    assert geometry.describe((176, 200, 140), np.eye(4), 1, 1)["n_slices"] == 140


def _head(neck: int) -> tuple[np.ndarray, np.ndarray]:
    """A column of tissue with a brain whose top is 10 voxels below the vertex."""
    data = np.zeros((40, 40, neck + 100), dtype=np.float32)
    data[10:30, 10:30, :-5] = 1
    mask = np.zeros(data.shape, dtype=bool)
    mask[12:28, 12:28, neck + 20 : neck + 85] = True
    return data, mask


def test_neck_is_cut_a_fixed_height_below_the_vertex():
    data, mask = _head(neck=60)
    first = geometry.neck_cut(data, np.diag([2.0, 2.0, 2.0, 1.0]), mask)
    assert (data.shape[2] - 5 - first) * 2 == geometry.HEAD_HEIGHT_MM


def test_neck_cut_never_reaches_the_brain():
    data, mask = _head(neck=60)
    first = geometry.neck_cut(data, np.diag([2.0, 2.0, 4.0, 1.0]), mask)
    assert first <= np.flatnonzero(mask.any((0, 1)))[0] - 2


def test_short_field_of_view_is_kept():
    data, mask = _head(neck=0)
    assert geometry.neck_cut(data, np.eye(4), mask) == 0


def test_empty_mask_is_refused():
    data, _ = _head(neck=0)
    with pytest.raises(ValueError, match="brain mask is empty"):
        geometry.neck_cut(data, np.eye(4), np.zeros(data.shape, dtype=bool))
