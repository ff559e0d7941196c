"""To the networks' grid and back."""

import numpy as np
import pytest

from stages.translation import volumes
from stages.translation.grids import (
    Axis,
    Grid,
    axes_of,
    box_weights,
    gather,
    linear_weights,
    make_grid,
    scatter,
)
from stages.translation.intensities import find_scale, from_network, to_network
from tests.stages.translation import steps

SHAPE = (24, 30, 20)
AFFINE = np.array([[1.0, 0, 0, -12], [0, 1.0, 0, -15], [0, 0, 1.0, -10], [0, 0, 0, 1]])
AXES = axes_of(SHAPE, AFFINE)
BOX = ([0, 0, 0], [23, 29, 19])


def build(**changes):
    options = {"plane": "axial", "slices_mm": [0.0], "stack_mm": 0.0, "spacing_mm": 1.0, "size": 0}
    return make_grid(AXES, box=BOX, **(options | changes))


def test_boxes_of_whole_voxels_are_their_means():
    weights = box_weights(Axis(6, 0.0, 1.0), Axis(2, 1.0, 3.0), 3.0)
    assert np.allclose(weights @ np.array([1, 2, 3, 4, 5, 9]), [2, 6])


def test_what_lies_outside_counts_as_nothing():
    weights = box_weights(Axis(4, 0.0, 1.0), Axis(1, 0.0, 2.0), 2.0)
    assert weights.sum() == pytest.approx(0.75)  # a quarter of the box is before the first voxel


def test_linear_weights_are_numpys():
    source, target = Axis(5, 1.0, 2.0), Axis(20, 1.0, 0.4)
    values = np.random.default_rng(0).normal(size=5)
    assert np.allclose(
        linear_weights(source, target) @ values,
        np.interp(target.centres, source.centres, values),
        atol=1e-6,
    )


@pytest.mark.parametrize(("plane", "axis"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_a_slice_at_full_resolution_is_the_voxels_themselves(plane, axis):
    volume = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    grid = build(plane=plane, slices_mm=[2.0])
    made = gather(volume, AXES, grid)
    k = round(2.0 - AFFINE[axis, 3])
    back = scatter(made, grid, AXES)
    inside = [slice(None)] * 3
    inside[axis] = k
    assert np.allclose(back[tuple(inside)], volume[tuple(inside)], atol=1e-5)
    inside[axis] = k + 2
    assert not back[tuple(inside)].any()
    assert all(n % 4 == 0 for n in grid.sample_shape)


def test_coarse_pixels_are_block_means_and_constant_changes_come_back_constant():
    volume = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    grid = build(spacing_mm=2.0, slices_mm=[0.5])
    made = gather(volume, AXES, grid)
    axis = grid.axes[0]
    i = round((0.5 - axis.start) / axis.step)
    j = round((0.5 - grid.axes[1].start) / 2)
    x, y = round(axis.centres[i] - 0.5 + 12), round(grid.axes[1].centres[j] - 0.5 + 15)
    assert made[0, 0, i, j] == pytest.approx(volume[x : x + 2, y : y + 2, 10:12].mean(), abs=1e-5)
    back = scatter(np.ones_like(made), grid, AXES)
    assert np.allclose(back[2:-2, 2:-2, 10:12], 1)


def test_a_stack_comes_back_as_a_volume():
    smooth = np.add.outer(np.arange(24), np.add.outer(np.arange(30), np.arange(20)))
    grid = build(stack_mm=3.0)
    back = scatter(gather(smooth.astype(np.float32), AXES, grid), grid, AXES)
    first, last = (round(c + 10) for c in grid.axes[2].centres[[0, -1]])
    assert np.allclose(back[2:-2, 2:-2, first:last], smooth[2:-2, 2:-2, first:last], atol=1e-3)


def test_volumes_keep_three_dimensions():
    grid = build(plane="volume", spacing_mm=2.0)
    made = gather(np.ones(SHAPE, np.float32), AXES, grid)
    assert made.shape == (1, 1, *grid.sample_shape) and len(grid.sample_shape) == 3
    assert Grid.from_json(grid.to_json()) == grid


def test_a_given_size_is_kept_centred_on_the_brain():
    grid = build(size=40)
    assert grid.sample_shape == (40, 40)
    assert grid.axes[0].centres.mean() == pytest.approx(-0.5, abs=0.6)


def test_slices_outside_of_the_images_and_uneven_ones_are_refused():
    with pytest.raises(ValueError, match="slice at 50 mm: the images are empty there; axial"):
        build(slices_mm=[50.0])
    with pytest.raises(ValueError, match="give slices at equal distances"):
        build(slices_mm=[0.0, 1.0, 5.0])


def test_intensities_come_back():
    data = np.array([0, 300, 500, 700, 5000], np.float32)
    scale = find_scale(data, "a_T1w.nii.gz")
    assert scale == 2 * 600
    assert np.allclose(to_network(data, scale), [-1, -0.5, -1 / 6, 1 / 6, 1])
    assert np.allclose(from_network(np.array([1.0, -0.5]), scale), [600, -300])
    assert find_scale(np.array([0.2, 0.9]), "sub-01_label-GM_probseg.nii.gz") == 1


def test_empty_and_constant_images_are_named():
    with pytest.raises(ValueError, match=r"a\.nii: the image is empty"):
        find_scale(np.zeros(3), "a.nii")
    with pytest.raises(ValueError, match=r"a\.nii: the image is constant \(4 inside\)"):
        find_scale(np.array([0.0, 4, 4]), "a.nii")


def test_images_that_do_not_fit_are_refused(tmp_path):
    oblique = AFFINE.copy()
    oblique[0, 1] = 0.3
    path = steps.write_image(tmp_path / "a.nii.gz", np.ones(SHAPE), oblique)
    with pytest.raises(ValueError, match=r"a\.nii\.gz: its axes are oblique"):
        volumes.load(path)
    path = steps.write_image(tmp_path / "b.nii.gz", np.ones(SHAPE), AFFINE)
    volume = volumes.load(path)
    volumes.check_same_grid(path, volume, SHAPE, AFFINE)
    with pytest.raises(ValueError, match="must share space and resolution"):
        volumes.check_same_grid(path, volume, SHAPE, np.diag([2.0, 2, 2, 1]))
    with pytest.raises(FileNotFoundError, match=r"c\.nii\.gz: no such file"):
        volumes.load(tmp_path / "c.nii.gz")
    (tmp_path / "d.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no readable NIfTI"):
        volumes.load(tmp_path / "d.nii.gz")
    bad = np.ones(SHAPE)
    bad[0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        volumes.load(steps.write_image(tmp_path / "e.nii.gz", bad, AFFINE))
    four = steps.write_image(tmp_path / "f.nii.gz", np.ones((3, 3, 3, 2)))
    with pytest.raises(ValueError, match="4 dimensions, expected a 3D volume"):
        volumes.load(four)


def test_left_stays_left(tmp_path):
    data = np.zeros(SHAPE, np.float32)
    data[3, 4, 5] = 1
    flipped = AFFINE @ np.diag([-1, 1, 1, 1.0])
    flipped[0, 3] = 11
    path = steps.write_image(tmp_path / "a.nii.gz", data[::-1], flipped)
    volume = volumes.load(path)
    assert volume.data[3, 4, 5] == 1
    assert np.allclose(volume.affine, AFFINE)
