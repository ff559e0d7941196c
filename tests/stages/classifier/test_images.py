"""Reading volumes and putting them on a model's grid."""

import nibabel as nib
import numpy as np
import pytest

from stages.classifier import images
from stages.classifier.images import Grid, Volume, check_fits, conform, make_grid


def test_blocks_are_means_as_a_naive_loop_has_them(tmp_path):
    data = np.random.default_rng(0).normal(size=(9, 11, 8)).astype(np.float32)
    grid = make_grid(data.shape, (1.0, 1.0, 1.0), grid_mm=2)
    found = conform(data, grid)
    assert found.shape == grid.input_shape == (4, 5, 4)
    for i, j, k in np.ndindex(*found.shape):
        block = data[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        assert found[i, j, k] == pytest.approx(block.mean(), abs=1e-6)


def test_the_moved_affine_points_at_the_middle_of_the_block():
    coordinates = np.indices((10, 12, 9)).astype(np.float32)  # each voxel holds its own place
    affine = np.array([[2, 0, 0, -5], [0, 3, 0, 7], [0, 0, 1, 1], [0, 0, 0, 1]], float)
    grid = make_grid((10, 12, 9), (2.0, 3.0, 1.0), grid_mm=4)
    small = np.stack([conform(axis, grid) for axis in coordinates])
    at = (1, 2, 0)
    world = affine @ [*small[(slice(None), *at)], 1.0]
    assert np.allclose(grid.move_affine(affine) @ [*at, 1], world)


def test_a_plane_is_the_volumes_plane():
    data = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    whole = conform(data, make_grid(data.shape, (1.0,) * 3, grid_mm=1))
    grid = make_grid(data.shape, (1.0,) * 3, grid_mm=1, plane="coronal", position=1.0)
    assert grid.input_shape == (8, 8)
    assert np.array_equal(conform(data, grid), whole[:, -1])


def test_a_grid_survives_json():
    grid = make_grid((9, 9, 9), (1.0, 1.0, 2.0), grid_mm=2, plane="axial")
    assert Grid.from_json(grid.to_json()) == grid


def test_a_grid_too_coarse_is_refused():
    with pytest.raises(ValueError, match="fewer than two voxels"):
        make_grid((9, 9, 9), (1.0,) * 3, grid_mm=8)


def test_orientation_of_storage_does_not_matter(tmp_path):
    data = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    image = nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1]))
    image.to_filename(tmp_path / "a.nii.gz")
    turned = image.as_reoriented(nib.io_orientation(np.diag([-1.0, 1, -1, 1])[[1, 0, 2, 3]]))
    turned.to_filename(tmp_path / "b.nii.gz")
    a, b = images.load(tmp_path / "a.nii.gz"), images.load(tmp_path / "b.nii.gz")
    assert np.array_equal(a.data, b.data) and np.allclose(a.affine, b.affine)
    assert images.fingerprint(a.data) == images.fingerprint(b.data)


def _write(path, data):
    nib.Nifti1Image(data, np.eye(4)).to_filename(path)


def test_bad_images_are_refused(tmp_path):
    data = np.ones((4, 4, 4), np.float32)
    data[0, 0, 0] = np.nan
    _write(tmp_path / "nan.nii.gz", data)
    with pytest.raises(ValueError, match="NaN or infinite"):
        images.load(tmp_path / "nan.nii.gz")
    _write(tmp_path / "series.nii.gz", np.ones((4, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="4 dimensions, expected a 3D volume"):
        images.load(tmp_path / "series.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(ValueError, match="no readable NIfTI"):
        images.load(tmp_path / "text.nii.gz")
    with pytest.raises(FileNotFoundError, match="no such file"):
        images.load(tmp_path / "absent.nii.gz")


def test_images_of_another_grid_are_refused():
    grid = make_grid((8, 8, 8), (1.0,) * 3, grid_mm=1)
    with pytest.raises(ValueError, match="shape 8x8x9, the model expects 8x8x8"):
        check_fits(Volume(np.zeros((8, 8, 9), "f4"), np.eye(4)), grid, "a.nii.gz")
    with pytest.raises(ValueError, match="voxels of 2x2x2 mm, the model expects 1x1x1"):
        check_fits(Volume(np.zeros((8, 8, 8), "f4"), np.diag([2.0, 2, 2, 1])), grid, "a.nii.gz")
