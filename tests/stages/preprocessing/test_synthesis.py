"""Domain randomisation: each change does what it says and repeats with its seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Generator, Tensor

from stages.preprocessing import synthesis as S


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def toy() -> tuple[Tensor, Tensor, Tensor]:
    """Return a ball of brain (two tissues) in a scalp with a neck: image, classes, centre."""
    x, y, z = np.meshgrid(*[np.arange(32)] * 3, indexing="ij")
    radius = np.sqrt((x - 16) ** 2 + (y - 16) ** 2 + (z - 18) ** 2)
    labels = np.select([radius < 5, radius < 9], [81, 100], 0)
    neck = (np.hypot(x - 16, y - 16) < 5) & (z < 10)
    scalp = ((radius > 10) & (radius < 12)) | (neck & (radius > 9))
    image = np.select([labels == 81, labels == 100, scalp], [0.9, 0.6, 0.8], 0.0)
    image = image + 0.01 * np.random.default_rng(0).normal(size=image.shape) * (image > 0)
    classes = S.sort_tissues(image.astype(np.float32), labels, labels > 0)
    return torch.from_numpy(image).float(), torch.from_numpy(classes), torch.tensor([16.0, 16, 18])


def brain_of(classes: Tensor) -> Tensor:
    return (classes > 0) & (classes <= S.N_BRAIN)


def test_tissues_are_told_apart_inside_and_by_brightness_outside(toy) -> None:
    image, classes, _ = toy
    names = list(S.TISSUES)
    assert classes[16, 16, 18] == 1 + names.index("white")
    assert classes[16, 16, 25] == 1 + names.index("cortex")
    assert classes[0, 0, 0] == 0
    assert classes[16, 16, 29] > S.N_BRAIN  # scalp
    assert int((brain_of(classes)).sum()) == int((image > 0.3)[brain_of(classes)].sum())


def test_tissue_lists_do_not_overlap() -> None:
    numbers = [n for members in S.TISSUES.values() for n in members]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("seed", range(5))
def test_recolouring_sets_each_class_to_its_drawn_mean(toy, seed: int) -> None:
    image, classes, _ = toy
    out = S.recolour_tissues(image, classes, seeded(seed))
    generator = seeded(seed)
    target = torch.rand(S.N_BRAIN + S.N_OUTSIDE + 1, generator=generator)
    for c in classes.unique().tolist():
        if c != 0:
            assert float(out[classes == c].mean()) == pytest.approx(float(target[c]), abs=0.02)


@pytest.mark.parametrize(("change", "sign"), [(S.recolour_gamma, 1), (S.recolour_inverted, -1)])
def test_gamma_keeps_and_inversion_reverses_the_order_of_tissues(toy, change, sign) -> None:
    image = toy[0].clamp(0, 1)
    order = image[image > 0.06].argsort()
    for seed in range(10):
        values = change(image, seeded(seed))[image > 0.06][order]
        assert bool((sign * values.diff() >= -1e-6).all())
        assert sign * float(values[-1] - values[0]) > 0.05


def test_inverted_air_is_bright_half_of_the_time(toy) -> None:
    air = [float(S.recolour_inverted(toy[0], seeded(s))[0, 0, 0]) for s in range(40)]
    assert set(air) == {0.0, 1.0}
    assert 10 < sum(air) < 30


def test_curve_sends_equal_intensities_to_equal_intensities(toy) -> None:
    image = (toy[0].clamp(0, 1) * 255).round() / 255
    out = S.recolour_curve(image, seeded(4))
    for value in image.unique()[::20]:
        assert len(out[image == value].unique()) == 1
    assert not torch.equal(out, image)


def test_warp_with_the_identity_returns_the_volume(toy) -> None:
    image, _, centre = toy
    out = S.warp(image[None], torch.eye(3), centre, centre, (32, 32, 32))
    torch.testing.assert_close(out[0], image, atol=1e-4, rtol=0)


def test_warp_agrees_with_scipy(toy) -> None:
    image, _, centre = toy
    matrix, target = S.draw_pose(seeded(3)), torch.tensor([14.0, 12.5, 10])
    out = S.warp(image[None], matrix, centre, target, (28, 26, 24))[0]
    linear = matrix.double().numpy()
    offset = centre.numpy() - linear @ target.numpy()
    expected = ndimage.affine_transform(
        image.double().numpy(), linear, offset, (28, 26, 24), order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-4)


def test_displacement_moves_by_voxels(toy) -> None:
    image, _, centre = toy
    shift = torch.zeros(3, 32, 32, 32)
    shift[1] = 2.0
    out = S.warp(image[None], torch.eye(3), centre, centre, (32, 32, 32), displacement=shift)[0]
    torch.testing.assert_close(out[:, :30], image[:, 2:], atol=1e-4, rtol=0)


def test_long_neck_repeats_the_lowest_slice(toy) -> None:
    image, _, centre = toy
    kwargs = {"target": centre + torch.tensor([0.0, 0, 8]), "shape": (32, 32, 40)}
    plain = S.warp(image[None], torch.eye(3), centre, **kwargs)[0]
    long = S.warp(image[None], torch.eye(3), centre, extend_neck=True, **kwargs)[0]
    assert float(plain[:, :, :7].abs().max()) == 0
    for z in range(7):
        torch.testing.assert_close(long[:, :, z], image[:, :, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(8))
def test_pose_is_a_limited_rotation_with_a_limited_volume_change(seed: int) -> None:
    matrix = S.draw_pose(seeded(seed), rotation_deg=20, scale=0.1)
    assert 0.9**3 * 0.7 < abs(float(torch.linalg.det(matrix))) < 1.1**3 * 1.4


def test_poses_mirror_half_of_the_heads() -> None:
    signs = [float(torch.linalg.det(S.draw_pose(seeded(s)))) < 0 for s in range(60)]
    assert 15 < sum(signs) < 45


def test_removing_tissue_never_touches_the_brain(toy) -> None:
    image, classes, _ = toy
    brain, changed = brain_of(classes), 0
    for seed in range(30):
        out = S.remove_tissue(image, classes, seeded(seed))
        torch.testing.assert_close(out[brain], image[brain])
        changed += bool((out != image).any())
    assert changed > 5


def test_growing_agrees_with_scipy(toy) -> None:
    brain = brain_of(toy[1])
    expected = ndimage.binary_dilation(brain.numpy(), np.ones((5, 5, 5), bool))
    np.testing.assert_array_equal(S.grow(brain, 2).numpy(), expected)


def test_view_cuts_at_most_15_percent_of_the_brain_per_side(toy) -> None:
    brain = brain_of(toy[1])
    any_cut = False
    for seed in range(40):
        view = S.crop_view(brain.shape, seeded(seed), inside=brain)
        any_cut |= not bool(view.all())
        for axis in range(3):
            others = [a for a in range(3) if a != axis]
            lines = (view.float().amax(dim=others) > 0).numpy()
            extent = brain.float().amax(dim=others).numpy() > 0
            assert (lines & extent).sum() >= extent.sum() * (1 - 2 * 0.15) - 2
    assert any_cut


def test_bias_is_positive_and_smooth() -> None:
    field = S.add_bias(torch.ones(24, 24, 24), seeded(1))
    assert float(field.min()) > 0
    assert float(field.std()) > 0.01
    assert float(field.diff(dim=0).abs().max()) < 0.25 * float(field.max() - field.min())


def test_lower_resolution_removes_fine_detail_and_keeps_the_mean() -> None:
    checks = (torch.arange(24) % 2).float()[:, None, None].expand(24, 24, 24).contiguous()
    spread = [float(S.lower_resolution(checks, seeded(s), voxel_mm=2).std()) for s in range(12)]
    assert min(spread) < 0.2 * float(checks.std())
    smooth = torch.linspace(0, 1, 24)[:, None, None].expand(24, 24, 24).contiguous()
    out = S.lower_resolution(smooth, seeded(0), voxel_mm=2)
    assert float(out.mean()) == pytest.approx(0.5, abs=0.02)


def test_rician_noise_is_never_negative_in_air_and_gaussian_noise_is() -> None:
    lowest = {float(S.add_noise(torch.zeros(16, 16, 16), seeded(s)).min()) < 0 for s in range(20)}
    assert lowest == {True, False}


def test_ghost_is_a_shifted_faint_copy() -> None:
    point = torch.zeros(16, 16, 16)
    point[8, 8, 8] = 1
    out = S.add_ghost(point, seeded(2))
    assert float(out[8, 8, 8]) == 1
    assert int((out > 0).sum()) == 2
    assert 0.03 <= float(out[out < 1].max()) <= 0.25


def test_a_drawn_head_repeats_with_its_seed_and_differs_with_another(toy) -> None:
    kwargs = {"shape": (32, 32, 32), "voxel_mm": 2.0, "shift_mm": 4.0, "hard": 0.7}
    a, mask = S.random_head(*toy, **kwargs, generator=seeded(5))
    b, _ = S.random_head(*toy, **kwargs, generator=seeded(5))
    c, _ = S.random_head(*toy, **kwargs, generator=seeded(6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == mask.shape == (32, 32, 32)
    assert float(mask.min()) >= 0 and float(mask.max()) <= 1


@pytest.mark.parametrize("seed", range(12))
def test_a_drawn_head_holds_about_the_brain_that_went_in(toy, seed: int) -> None:
    kwargs = {"shape": (40, 40, 40), "voxel_mm": 2.0, "shift_mm": 4.0, "hard": 0.7}
    _, mask = S.random_head(*toy, **kwargs, generator=seeded(seed))
    whole = float(brain_of(toy[1]).sum())
    assert 0.3 * whole < float(mask.sum()) < 2.5 * whole


def test_easy_heads_have_no_foreign_contrast_and_whole_brains(toy) -> None:
    classes = toy[1]
    for seed in range(5):
        out, mask = S.random_head(
            *toy, shape=(40, 40, 40), voxel_mm=2.0, shift_mm=2.0, hard=0.0, generator=seeded(seed)
        )
        assert float(mask.sum()) > 0.6 * float(brain_of(classes).sum())
        assert float(out[mask > 0.9].median()) > float(out[mask < 0.1].median())
