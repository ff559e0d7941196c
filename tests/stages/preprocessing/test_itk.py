"""The change between RAS+ and LPS+ agrees with nibabel's, scipy's and ANTs' idea of the world."""

import numpy as np
import pytest
from scipy import ndimage

from stages.preprocessing import itk


@pytest.fixture
def grid(rotation) -> np.ndarray:
    return rotation((10, -20, 30), (5, -6, 7)) @ np.diag([2.0, 1.5, 3.0, 1.0])


def test_voxel_centres_keep_their_world_position(grid):
    image = itk.to_image(np.zeros((4, 5, 6), np.float32), grid)
    left_back_up = image.TransformIndexToPhysicalPoint((1, 2, 3))
    np.testing.assert_allclose(np.multiply(left_back_up, (-1, -1, 1)), (grid @ [1, 2, 3, 1])[:3])


def test_image_and_affine_round_trip(grid):
    data = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    image = itk.to_image(data, grid)
    np.testing.assert_array_equal(itk.to_array(image), data)
    np.testing.assert_allclose(itk.grid_affine(image), grid, atol=1e-12)


def test_written_transform_comes_back(tmp_path, grid):
    itk.write_transform(tmp_path / "xfm.mat", grid)
    np.testing.assert_allclose(itk.read_transform(tmp_path / "xfm.mat"), grid, atol=1e-10)


def test_ants_moves_a_point_the_same_way(tmp_path, grid):
    ants = pytest.importorskip("ants")
    itk.write_transform(tmp_path / "xfm.mat", grid)
    transform = ants.read_transform(str(tmp_path / "xfm.mat"))
    moved = ants.apply_ants_transform_to_point(transform, (-10.0, -20.0, 30.0))
    np.testing.assert_allclose(
        np.multiply(moved, (-1, -1, 1)), (grid @ [10, 20, 30, 1])[:3], atol=1e-3
    )


@pytest.mark.parametrize(("order", "scipy_order"), [(0, 0), (1, 1), (3, 3)])
def test_resampling_equals_scipy(grid, rotation, order, scipy_order):
    data = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 21, 22)), 2)
    matrix = rotation((3, 4, 5), (1, 2, 3))
    target = grid @ np.array([[1, 0, 0, 5.2], [0, 1, 0, 5.3], [0, 0, 1, 5.4], [0, 0, 0, 1]])
    shape = (8, 9, 7)
    got = itk.resample(data, grid, matrix, shape, target, order=order)
    voxels = np.linalg.inv(grid) @ matrix @ target
    index = np.indices(shape).reshape(3, -1)
    expected = ndimage.map_coordinates(
        data, voxels[:3, :3] @ index + voxels[:3, 3:], order=scipy_order, mode="mirror"
    ).reshape(shape)
    np.testing.assert_allclose(got, expected, atol=2e-4)
