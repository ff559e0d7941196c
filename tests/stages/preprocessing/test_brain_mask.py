"""Brain extraction: geometry with networks known exactly, broken inputs, real heads."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from stages.preprocessing import brain_mask as B

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "bids_ixi_hh"


@pytest.fixture
def ideal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace both networks by one that calls bright (over 0.5) voxels brain."""

    def logits(volume):
        return 20 * (volume - 0.5)

    monkeypatch.setattr(B, "load_networks", lambda path: (logits, logits))
    # The ellipsoids below have no head around them.
    monkeypatch.setattr(B, "_find_stripped", lambda volume, fill, mask: None)


def ellipsoid(shape, affine, *, centre_mm=(0.0, 0.0, 0.0), radii_mm=(65.0, 80.0, 60.0)):
    """Return the mask of an ellipsoid along the world's axes, 1.3 litres by default."""
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    return (((points - np.array(centre_mm)) / np.array(radii_mm)) ** 2).sum(-1) < 1


def centred(matrix, shape):
    """Return the affine with this 3x3 part whose grid's middle is the world's origin."""
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = -np.asarray(matrix) @ ((np.array(shape) - 1) / 2)
    return affine


def overlap(a, b):
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


TURN = np.array([[0.94, -0.34, 0], [0.34, 0.94, 0], [0, 0, 1.0]])
GRIDS = {
    "RAS 2 mm": (np.diag([2.0, 2, 2]), (90, 110, 90)),
    "PSR 2 mm": (np.array([[0, 0, 2.0], [-2, 0, 0], [0, 2, 0]]), (110, 90, 90)),
    "LPI thick": (np.diag([-1.5, -1.5, -4]), (120, 140, 45)),
    "RAS 1 mm": (np.diag([1.0, 1, 1]), (150, 180, 150)),
    "oblique": (2 * TURN, (100, 120, 90)),
    "coarse": (np.diag([4.0, 4, 4]), (50, 55, 50)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_mask_is_on_the_grid_of_the_image_whatever_its_orientation(ideal, name) -> None:
    matrix, shape = GRIDS[name]
    affine = centred(matrix, shape)
    truth = ellipsoid(shape, affine, centre_mm=(5, -4, 3))
    found = B.extract_brain(1000.0 * truth, affine)
    assert found.mask.shape == found.probability.shape == shape
    assert found.mask.dtype == bool and found.probability.dtype == np.float32
    assert overlap(found.mask, truth) > (0.985 if name != "coarse" else 0.96)
    assert (found.flag, found.method) == ("pass", "unet"), found.reasons
    analytic_ml = 4 / 3 * np.pi * 65 * 80 * 60 / 1000
    assert found.volume_ml == pytest.approx(analytic_ml, rel=0.03)


def test_brain_far_from_the_middle_of_a_huge_field_of_view_is_found(ideal) -> None:
    shape, affine = (110, 120, 260), np.diag([2.5, 2.5, 2.5, 1])
    truth = ellipsoid(shape, affine, centre_mm=(140, 150, 520))
    found = B.extract_brain(truth.astype(float), affine)
    assert overlap(found.mask, truth) > 0.98


def test_intensity_scale_and_offset_do_not_matter(ideal) -> None:
    shape = (80, 100, 80)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    image = ndimage.gaussian_filter(ellipsoid(shape, affine).astype(float), 1)
    expected = B.extract_brain(image, affine).mask
    for changed in (1e-9 * image, 1e6 * image - 3e4, (1000 * image).astype(np.uint16)):
        np.testing.assert_array_equal(B.extract_brain(changed, affine).mask, expected)


def test_bright_air_is_taken_for_an_inverted_image(ideal) -> None:
    shape = (90, 110, 90)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    image = ndimage.gaussian_filter(ellipsoid(shape, affine).astype(float), 1)
    expected = B.extract_brain(image, affine).mask
    for inverted in (-image, image.max() - image):
        np.testing.assert_array_equal(B.extract_brain(inverted, affine).mask, expected)


def test_skull_stripped_image_is_recognised_and_kept_whole(monkeypatch) -> None:
    shape = (90, 110, 90)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    brain = ellipsoid(shape, affine)

    def too_small(volume):
        return 20 * (ndimage.binary_erosion(volume > 0.2, iterations=2) - np.float32(0.5))

    monkeypatch.setattr(B, "load_networks", lambda path: (too_small, too_small))
    stripped = np.where(brain, np.random.default_rng(0).uniform(0.5, 1, shape), 0)
    found = B.extract_brain(stripped, affine)
    assert found.flag == "warn" and "skull-stripped already" in found.reasons[0]
    np.testing.assert_array_equal(found.mask, brain)
    head = ellipsoid(shape, affine, radii_mm=(85, 100, 80))
    found = B.extract_brain(np.where(brain, 1.0, 0.1 * head), affine)
    assert not any("stripped" in reason for reason in found.reasons)


def test_crumbs_are_dropped_and_holes_are_filled(ideal) -> None:
    shape = (90, 110, 90)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    truth = ellipsoid(shape, affine)
    image = truth.astype(float)
    image[2:8, 2:8, 2:8] = 1
    image[44:47, 54:57, 44:47] = 0
    assert overlap(B.extract_brain(image, affine).mask, truth) > 0.99


def test_cleaning_agrees_with_scipy() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(30, 31, 32)), 2) > 0.02
    labels, _ = ndimage.label(mask)
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    np.testing.assert_array_equal(B.clean(mask), ndimage.binary_fill_holes(largest))
    assert not B.clean(np.zeros((4, 4, 4), bool)).any()


def test_normalising_ignores_air_scale_and_outliers() -> None:
    rng = np.random.default_rng(0)
    head = rng.uniform(50, 100, (30, 30, 30)).astype(np.float32)
    small, large = (np.pad(head, n) for n in (10, 40))
    large[0, 0, 0] = 1e6
    inner = [B.normalise(v)[n:-n, n:-n, n:-n] for v, n in ((small, 10), (large, 40))]
    np.testing.assert_allclose(*inner, atol=0.02)
    np.testing.assert_allclose(B.normalise(small), B.normalise(7 * small + 3), atol=1e-4)
    assert not B.normalise(np.full((4, 4, 4), 5, np.float32)).any()


@pytest.mark.parametrize(
    ("radii_mm", "flag", "reason"),
    [
        ((65, 80, 60), "pass", None),
        ((52, 62, 52), "warn", "intracranial volume"),
        ((30, 35, 30), "fail", "intracranial volume"),
        ((20, 100, 75), "fail", "spread"),
    ],
)
def test_flag_follows_volume_and_shape(ideal, monkeypatch, radii_mm, flag, reason) -> None:
    monkeypatch.setattr(B.brain_classical, "strip", lambda head: np.zeros(head.shape, bool))
    shape = (90, 110, 90)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    truth = ellipsoid(shape, affine, radii_mm=radii_mm)
    found = B.extract_brain(truth.astype(float), affine)
    assert found.flag == flag, found
    assert (reason is None) == (found.reasons == ())
    assert reason is None or any(reason in r for r in found.reasons)
    assert found.mask.any() == (flag != "fail")
    assert {"pass": found.plausibility == 1, "warn": 0 < found.plausibility < 1,
            "fail": found.plausibility == 0}[flag]  # fmt: skip


def test_brain_cut_by_the_field_of_view_is_told(ideal) -> None:
    shape = (90, 110, 48)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    found = B.extract_brain(ellipsoid(shape, affine).astype(float), affine)
    assert found.flag == "warn"
    assert any("edge of the image" in r for r in found.reasons)


def test_disagreeing_networks_fail_and_morphology_takes_over(monkeypatch) -> None:
    def low_half(volume):
        out = np.full(volume.shape, -20, np.float32)
        out[:, :, : volume.shape[2] // 2] = 20 * (volume[:, :, : volume.shape[2] // 2] - 0.5)
        return out

    monkeypatch.setattr(
        B, "load_networks", lambda path: (lambda v: 20 * (v - 0.5), lambda v: low_half(v))
    )
    shape = (100, 120, 100)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    brain = ellipsoid(shape, affine, radii_mm=(62, 78, 58))
    skull = ellipsoid(shape, affine, radii_mm=(72, 88, 68))
    scalp = ellipsoid(shape, affine, radii_mm=(80, 96, 76))
    image = np.select([brain, skull, scalp], [100.0, 8, 90], 0)
    found = B.extract_brain(image, affine)
    assert (found.method, found.flag) == ("classical", "warn")
    assert any("agreement" in reason for reason in found.reasons)
    assert overlap(found.mask, brain) > 0.85


@pytest.mark.parametrize("value", [0, 7.5, -3])
def test_constant_image_fails_with_its_value(value) -> None:
    found = B.extract_brain(np.full((20, 20, 20), value), np.eye(4))
    assert found.flag == "fail" and not found.mask.any()
    assert f"every voxel is {value:g}" in found.reasons[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_image_without_a_finite_voxel_fails(value) -> None:
    found = B.extract_brain(np.full((20, 20, 20), value), np.eye(4))
    assert found.flag == "fail" and "no voxel is finite" in found.reasons[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_voxels_fail_inside_the_brain_and_warn_around_it(ideal, value) -> None:
    shape = (80, 100, 80)
    affine = centred(np.diag([2.0, 2, 2]), shape)
    image = ellipsoid(shape, affine).astype(float)
    image[0] = value
    outside = B.extract_brain(image, affine)
    assert outside.flag == "warn" and "8000 voxels outside" in outside.reasons[0]
    # A voxel that is read as background is in the brain once holes are filled.
    image[40, 50, 40] = value
    inside = B.extract_brain(image, affine)
    assert inside.flag == "fail" and "1 voxels in the brain" in inside.reasons[0]
    assert not inside.mask.any()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4, 2), (4, 4, 4, 1)])
def test_other_than_three_dimensions_are_refused(shape) -> None:
    with pytest.raises(ValueError, match=rf"{len(shape)}D image of shape .* expected 3D; give one"):
        B.extract_brain(np.ones(shape), np.eye(4))


def test_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"empty image of shape \(4, 0, 4\)"):
        B.extract_brain(np.ones((4, 0, 4)), np.eye(4))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_affine_without_inverse_is_refused(affine) -> None:
    with pytest.raises(ValueError, match="cannot be inverted"):
        B.extract_brain(np.ones((4, 4, 4)), affine)


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_is_no_head(seed) -> None:
    rng = np.random.default_rng(seed)
    for image in (rng.normal(size=(80, 90, 80)), rng.uniform(size=(60, 60, 60))):
        found = B.extract_brain(image, np.diag([2.5, 2.5, 2.5, 1]))
        assert found.flag == "fail" and found.reasons and not found.mask.any()


@pytest.mark.parametrize("network", ["locate", "refine"])
def test_a_tampered_program_is_refused(tmp_path, network) -> None:
    shutil.copytree(B.CARD.parent, tmp_path, dirs_exist_ok=True)
    program = tmp_path / f"brain_mask_{network}.onnx"
    content = bytearray(program.read_bytes())
    content[-1] ^= 1
    program.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{network}.onnx: SHA-256 .* model card says"):
        B.load_networks(tmp_path / B.CARD.name)


def test_programs_compute_what_the_networks_with_the_shipped_weights_compute() -> None:
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    from stages.preprocessing.unet import Cascade

    net = Cascade(**json.loads(B.CARD.read_text())["widths"]).eval()
    weights = load_file(B.CARD.with_suffix(".safetensors"))
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    # Not the grid that was traced, and no cube.
    volume = np.random.default_rng(0).uniform(size=(64, 80, 48)).astype(np.float32)
    x = torch.from_numpy(volume)[None, None]
    locate, cascade = B.load_networks(B.CARD)
    with torch.inference_mode():
        coarse, fine = net.locate(F.avg_pool3d(x, 2))[0, 0], net(x)[0, 0]
    halved = F.avg_pool3d(x, 2)[0, 0].numpy()
    np.testing.assert_allclose(locate(halved), coarse.numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(cascade(volume), fine.numpy(), rtol=1e-3, atol=1e-3)


def test_finding_a_brain_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np; from stages.preprocessing.brain_mask import extract_brain;"
        "extract_brain(np.random.default_rng(0).uniform(size=(40, 40, 40)), np.diag([4, 4, 4, 1]));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shipped_weights_are_small_and_their_card_is_complete() -> None:
    assert sum(path.stat().st_size for path in B.CARD.parent.iterdir()) < 4e6
    card = json.loads(B.CARD.read_text())
    for key in ("intended_use", "data", "licence", "limits", "scores", "training", "widths"):
        assert card[key], key
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((B.CARD.parent / name).read_bytes()).hexdigest() == digest, name
    assert card["training"]["heads"] == len(card["training"]["held_out"]) == 46
    assert min(c["dice_mean"] for c in card["scores"]["conditions"].values()) > 0.965


def real_heads(n: int):
    if not DATA.exists():
        pytest.skip(
            f"needs the IXI heads in {DATA.relative_to(DATA.parents[2])} beside the repository"
        )
    from stages.preprocessing.train_brain_mask import load_head

    names = json.loads(B.CARD.read_text())["training"]["held_out"]
    return [load_head(DATA, name) for name in names[:: len(names) // n][:n]]


def test_real_heads_are_found_quickly_and_repeatably() -> None:
    """The shipped weights never saw these heads."""
    for head in real_heads(3):
        started = time.process_time()
        found = B.extract_brain(head.image, head.affine)
        assert time.process_time() - started < 6  # CPU seconds, for slow and busy machines
        assert found.flag == "pass", found.reasons
        assert overlap(found.mask, head.mask) > 0.965
        np.testing.assert_array_equal(B.extract_brain(head.image, head.affine).mask, found.mask)


def test_real_head_in_the_stored_order_gives_the_same_brain() -> None:
    (head,) = real_heads(1)
    # Stored P-S-R: the same voxels, permuted and flipped.
    image = np.transpose(head.image, (1, 2, 0))[::-1]
    order = np.eye(4)[:, [1, 2, 0, 3]]
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = image.shape[0] - 1
    found = B.extract_brain(image, head.affine @ order @ flip)
    expected = np.transpose(B.extract_brain(head.image, head.affine).mask, (1, 2, 0))[::-1]
    assert overlap(found.mask, expected) > 0.999


def test_training_that_was_stopped_ends_where_training_that_was_not_ends(tmp_path) -> None:
    import torch

    from stages.preprocessing.train_brain_mask import Head, Recipe, train
    from stages.preprocessing.unet import UNet

    shape = (24, 24, 24)
    affine = centred(np.diag([8.0, 8, 8]), shape)
    mask = ellipsoid(shape, affine)
    image = np.random.default_rng(0).uniform(size=shape) * 0.1 + mask
    heads = [Head(n, image.astype(np.float32), mask, 100 * mask, affine) for n in "ab"]
    recipe = Recipe(voxel_mm=2, steps=8, hard=(0.0, 0.5), grids=(((16, 16, 16), 2.0),))

    def run(path: Path, *stops: int | None) -> list[torch.Tensor]:
        for stop in stops:
            torch.manual_seed(0)
            net = UNet(widths=(2, 3))
            train(heads, net, recipe, path, seed=3, stop_after=stop)
        return list(net.state_dict().values())

    whole, parts = run(tmp_path / "a", None), run(tmp_path / "b", 2, None)
    torch.manual_seed(0)
    untrained = list(UNet(widths=(2, 3)).state_dict().values())
    assert any(not torch.equal(a, b) for a, b in zip(whole, untrained, strict=True))
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a, b)


def test_folds_hold_each_head_out_once_and_never_train_on_it() -> None:
    from stages.preprocessing.train_brain_mask import split

    names = [f"sub-{i:02d}" for i in range(11)]
    held = []
    for fold in range(3):
        kept, out = split(names, fold=fold, folds=3)
        assert not set(kept) & set(out) and set(kept) | set(out) == set(names)
        held += out
    assert sorted(held) == names
