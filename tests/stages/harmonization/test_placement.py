"""Geometry: exact copies, agreement with scipy and torch, anatomy stays where it was in mm."""

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stages.harmonization import placement as pl

SIZES = st.tuples(*[st.integers(1, 12)] * 3)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def geometry(shape, zooms=(1.0, 1.0, 1.0), centre=None):
    return pl.Geometry(shape, zooms, centre or tuple((n - 1) / 2 for n in shape))


def test_zero_background_is_pasted_at_the_first_corner():
    data = noise((4, 5, 6))
    out = pl.place(data, pl.place_corner(data.shape, (6, 5, 4)))
    expected = np.zeros((6, 5, 4), np.float32)
    expected[:4] = data[:, :, :4]
    np.testing.assert_array_equal(out, expected)


@given(SIZES, SIZES)
@settings(max_examples=80)
def test_crop_pad_agrees_with_a_naive_loop(shape, target):
    data = noise(shape)
    out = pl.place(data, pl.place_centred(shape, target))
    assert out.shape == target
    for k in np.ndindex(target):
        source = tuple(i + (n - t) // 2 for i, n, t in zip(k, shape, target, strict=True))
        inside = all(0 <= s < n for s, n in zip(source, shape, strict=True))
        assert out[k] == (data[source] if inside else 0)


@given(SIZES, SIZES)
@settings(max_examples=30)
def test_copying_and_multiplying_agree(shape, target):
    data = noise(shape)
    axes = pl.place_centred(shape, target)
    by_matrix = pl.resample(data, [a.weights(n) for a, n in zip(axes, shape, strict=True)])
    np.testing.assert_allclose(pl.place(data, axes), by_matrix, atol=1e-6)


def test_stretching_agrees_with_torch_when_growing_and_when_shrinking():
    data = noise((17, 12, 9))
    for target in ((23, 12, 14), (8, 6, 5), (16, 13, 9)):
        ours = pl.place(data, pl.place_stretched(data.shape, target))
        # torch filters 2D only: apply it along one axis at a time
        theirs = torch.from_numpy(data)
        for axis, size in enumerate(target):
            moved = theirs.movedim(axis, -1)
            flat = moved.reshape(1, 1, -1, moved.shape[-1])
            flat = torch.nn.functional.interpolate(
                flat, (flat.shape[2], size), mode="bilinear", antialias=True
            )
            theirs = flat.reshape(*moved.shape[:-1], size).movedim(-1, axis)
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)


def test_isotropic_sampling_agrees_with_scipy_inside():
    data = ndimage.gaussian_filter(noise((30, 20, 24)), 2)
    axes = pl.place_isotropic((14.2, 10.1, 11.5), (1.0, 1.6, 1.2), (16, 16, 16), 0.9)
    grid = np.meshgrid(*[a.scale * np.arange(a.size) + a.offset for a in axes], indexing="ij")
    expected = ndimage.map_coordinates(data, grid, order=1)
    np.testing.assert_allclose(pl.place(data, axes), expected, atol=1e-5)


@pytest.mark.parametrize("name", list(pl.GEOMETRIES))
def test_anatomy_keeps_its_world_coordinates(name):
    """A bright blob lies at the same mm before and after, whatever the geometry."""
    shape, zooms = (40, 44, 36), (1.1, 0.9, 1.3)
    grid = np.indices(shape).astype(float)
    point = np.array([21.0, 20.0, 17.0])
    blob = np.exp(-((grid - point[:, None, None, None]) ** 2).sum(axis=0) / 18).astype(np.float32)
    affine = nib.affines.from_matvec(np.diag(zooms), [-20, 5, 8])
    image = geometry(shape, zooms, centre=(20.0, 21.0, 17.5))
    axes = pl.GEOMETRIES[name](image, pl.Target((38, 50, 41), 1.0))
    placed = pl.place(blob, axes)
    found = np.array(ndimage.center_of_mass(placed))
    world = nib.affines.apply_affine(pl.move_affine(affine, axes), found)
    np.testing.assert_allclose(world, nib.affines.apply_affine(affine, point), atol=0.05)


def test_isotropic_puts_the_brain_in_the_middle_and_keeps_its_size():
    data = np.zeros((60, 60, 60), np.float32)
    data[10:30, 14:44, 20:40] = 1  # 20 x 30 x 20 voxels of 1 mm
    axes = pl.place_isotropic((19.5, 28.5, 29.5), (1, 1, 1), (24, 24, 24), 2.0)
    placed = pl.place(data, axes)
    np.testing.assert_allclose(ndimage.center_of_mass(placed), [11.5] * 3, atol=0.01)
    assert placed.sum() * 8 == pytest.approx(data.sum(), rel=0.01)


def test_outside_the_field_of_view_is_zero_and_covered_voxels_say_so():
    axis = pl.Axis(8, scale=1.0, offset=-2.5)
    weights = axis.weights(3)
    np.testing.assert_array_equal(weights.sum(axis=1) > 0, axis.covers(3))
    np.testing.assert_allclose(weights.sum(axis=1)[axis.covers(3)], 1, atol=1e-6)
    assert axis.covers(3).tolist() == [False, False, True, True, True, True, False, False]


def test_another_field_of_view_crops_and_pads_and_takes_the_brain_along():
    image = geometry((10, 8, 8), centre=(5.0, 4.0, 4.0))
    swapped, axes = pl.swap_geometry(image, (6, 8, 9))
    assert swapped.shape == (6, 8, 9) and swapped.centre == (3.0, 4.0, 5.0)
    data = noise((10, 8, 8))
    np.testing.assert_array_equal(pl.place(data, axes)[:, :, 1:], data[2:8])


def test_an_isotropic_image_is_the_same_from_another_field_of_view():
    """The arm that removes the field of view gives one result for two of them."""
    data = np.zeros((50, 40, 40), np.float32)
    data[18:34, 12:30, 11:29] = noise((16, 18, 18)) + 5
    image = geometry((50, 40, 40), centre=(25.5, 20.5, 19.5))
    target = pl.Target((20, 20, 20), 1.0)
    one = pl.place(data, pl.GEOMETRIES["isotropic"](image, target))
    swapped, axes = pl.swap_geometry(image, (36, 44, 40))
    two = pl.place(pl.place(data, axes), pl.GEOMETRIES["isotropic"](swapped, target))
    np.testing.assert_allclose(one, two, atol=1e-5)
