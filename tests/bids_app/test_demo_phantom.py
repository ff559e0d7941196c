"""Phantoms look like heads, and what was planted in them can be measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_app.demo import Acquisition, Anatomy, Phantom, load_template, make_phantom, make_twins
from bids_app.demo.head import CAPSULE_MM
from bids_app.demo.template import sample

PLAIN = Anatomy(seed=0, warp_rms_mm=0.0)
STILL = Acquisition(seed=0)
TURNED = Acquisition(seed=0, rotation_deg=(4.0, -8.0, 6.0), shift_mm=(6.0, -4.0, 3.0))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(1, age_y=40, resolution_mm=3.0)


@pytest.fixture(scope="module")
def ages() -> tuple[Phantom, Phantom]:
    return make_twins(2, "age", resolution_mm=2.0)


@pytest.fixture(scope="module")
def sexes() -> tuple[Phantom, Phantom]:
    return make_twins(2, "sex", resolution_mm=2.0)


def world_points(phantom: Phantom) -> np.ndarray:
    """World coordinates of all voxels, (3, n) mm."""
    grid = np.indices(phantom.t1w.shape).reshape(3, -1)
    return phantom.affine[:3, :3] @ grid + phantom.affine[:3, 3:]


def sample_on(phantom: Phantom, field: np.ndarray) -> np.ndarray:
    """A coarse field of the template on the phantom's grid."""
    coarse = load_template(fine_mm=2).coarse_affine
    points = phantom.to_template(world_points(phantom))
    return sample(field, coarse, points).reshape(phantom.t1w.shape)


def test_brain_lies_within_the_head_with_bright_scalp_around_it(phantom):
    assert not np.any(phantom.brain & ~phantom.head)
    scalp = phantom.head & ~phantom.brain
    white_matter = np.median(phantom.clean[phantom.wm > 0.9])
    assert np.mean(phantom.clean[scalp] > white_matter) > 0.1
    assert np.median(phantom.t1w[~phantom.head]) < 0.1 * white_matter


def test_dark_layer_separates_brain_from_scalp(phantom):
    """Along rays from the brain's centre upwards: grey or white, dark, bright, air."""
    index = np.round(np.mean(np.argwhere(phantom.brain), axis=0)).astype(int)
    for offset in (-8, 0, 8):
        ray = phantom.clean[index[0] + offset, index[1], index[2] :]
        rim = np.flatnonzero(phantom.brain[index[0] + offset, index[1], index[2] :])[-1]
        assert ray[rim : rim + 5].min() < 0.35
        assert ray[rim : rim + 10].max() > 0.6
        assert ray[-1] < 0.05


def test_brain_is_not_cut_by_the_field_of_view(phantom):
    inner = phantom.brain[1:-1, 1:-1, 1:-1].sum()
    assert inner == phantom.brain.sum()


def test_tissue_fractions_sum_to_one_in_the_brain(phantom):
    total = phantom.gm + phantom.wm + phantom.csf
    assert np.allclose(total[phantom.brain], 1, atol=0.02)
    assert total.max() < 1.02 and min(phantom.gm.min(), phantom.wm.min()) >= 0


def test_tissue_contrast_is_that_of_t1(phantom):
    medians = [np.median(phantom.clean[t > 0.85]) for t in (phantom.csf, phantom.gm, phantom.wm)]
    assert medians == sorted(medians) and medians[2] > 2 * medians[0]


def test_bias_averages_one_and_stays_in_range(phantom):
    inside = phantom.bias[phantom.head]
    assert inside.mean() == pytest.approx(1, abs=0.01)
    assert np.abs(inside - 1).max() == pytest.approx(0.3, abs=0.01)


def test_noise_in_air_is_rician(phantom):
    air = phantom.t1w[:, :, -3:][~phantom.head[:, :, -3:]]
    assert air.mean() == pytest.approx(0.03 * np.sqrt(np.pi / 2), rel=0.05)


def test_same_seed_same_phantom_other_seed_another(phantom):
    again = make_phantom(1, age_y=40, resolution_mm=3.0)
    other = make_phantom(2, age_y=40, resolution_mm=3.0)
    assert np.array_equal(again.t1w, phantom.t1w)
    assert not np.array_equal(other.t1w, phantom.t1w)


def test_male_twin_is_three_percent_larger(sexes):
    female, male = sexes
    ratio = (male.brain.sum() / female.brain.sum()) ** (1 / 3)
    assert ratio == pytest.approx(1.03, abs=0.002)


def test_male_twin_has_eight_percent_more_grey_matter_in_the_mask(sexes):
    female, male = sexes
    template = load_template(fine_mm=2)
    # The relative volume of mask-weighted grey matter does not see the size of the head.
    inside, elsewhere = (
        [float((p.gm * sample_on(p, mask)).sum() / p.brain.sum()) for p in (female, male)]
        for mask in (template.sex_mask, template.ageing_mask)
    )
    assert inside[1] / inside[0] == pytest.approx(1.08, abs=0.01)
    assert elsewhere[1] / elsewhere[0] == pytest.approx(1.0, abs=0.01)


def test_old_twin_has_lost_grey_matter_in_the_mask_only(ages):
    young, old = ages
    template = load_template(fine_mm=2)
    core = sample_on(young, template.ageing_mask) > 0.999
    # Tissue near the ventricles is displaced, which is another effect.
    core &= sample_on(young, template.ventricle_mm) > 25
    assert old.gm[core].sum() / young.gm[core].sum() == pytest.approx(1 - 0.35, abs=0.03)
    far = sample_on(young, template.sex_mask) > 0.999
    assert old.gm[far].sum() / young.gm[far].sum() == pytest.approx(1, abs=0.05)


def test_ventricles_grow_with_age():
    template = load_template(fine_mm=2)
    volumes_ml = []
    for age_y in (20, 50, 80):
        phantom = make_phantom(0, age_y=age_y, resolution_mm=3.0, anatomy=PLAIN, acquisition=STILL)
        points = (world_points(phantom)).astype(np.float32)
        distance = sample(template.ventricle_mm, template.coarse_affine, points, outside=99.0)
        near = (distance < 5).reshape(phantom.csf.shape)
        volumes_ml.append(phantom.csf[near].sum() * 0.027)
    assert volumes_ml[0] < volumes_ml[1] < volumes_ml[2]
    assert volumes_ml[2] > 1.5 * volumes_ml[0]


def test_twins_differ_in_the_effect_only(ages, sexes):
    young, old = ages
    assert young.anatomy == old.anatomy and young.acquisition == old.acquisition
    assert np.mean(young.brain != old.brain) < 0.002
    assert {p.sex for p in ages} == {"F"} and {p.age_y for p in sexes} == {20.0}
    outside = ~young.brain & (young.csf == 0)
    assert np.abs(young.clean - old.clean)[outside].mean() < 0.01


def test_world_to_template_carries_the_template_to_the_image():
    """Without a warp the affine is the whole truth: grey matter agrees voxel by voxel."""
    phantom = make_phantom(
        0, age_y=20, resolution_mm=3.0, anatomy=replace(PLAIN, scale=1.05), acquisition=TURNED
    )
    template = load_template(fine_mm=2)
    points = phantom.world_to_template[:3, :3] @ world_points(phantom)
    points = (points + phantom.world_to_template[:3, 3:]).astype(np.float32)
    expected = sample(template.gm, template.affine, points).reshape(phantom.gm.shape)
    assert np.allclose(phantom.gm, expected, atol=5e-3)


def test_pose_is_the_one_asked_for():
    phantom = make_phantom(0, resolution_mm=4.0, anatomy=PLAIN, acquisition=TURNED)
    rotation = np.linalg.inv(phantom.world_to_template)[:3, :3]
    angle = np.degrees(np.arccos((np.trace(rotation) - 1) / 2))
    assert angle == pytest.approx(np.linalg.norm(TURNED.rotation_deg), abs=1e-6)
    centre = np.array([0.0, -20.0, 0.0])
    moved = np.linalg.inv(phantom.world_to_template) @ [*centre, 1.0]
    assert np.allclose(moved[:3] - centre, TURNED.shift_mm)


def test_to_template_explains_the_image_better_than_the_affine_alone(phantom):
    template = load_template(fine_mm=2)
    points = world_points(phantom)
    linear = phantom.world_to_template[:3, :3] @ points + phantom.world_to_template[:3, 3:]
    truth = phantom.wm.ravel()
    exact, affine_only = (
        np.corrcoef(truth, sample(template.wm, template.affine, p.astype(np.float32)))[0, 1]
        for p in (phantom.to_template(points), linear)
    )
    assert exact > 0.95 > affine_only > 0.5


def test_capsule_marks_the_right_side():
    phantom = make_phantom(0, resolution_mm=2.0, anatomy=PLAIN, acquisition=STILL)
    values = []
    for side in (1, -1):
        point = np.array([side * CAPSULE_MM[0], *CAPSULE_MM[1:], 1.0])
        voxel = np.round(np.linalg.inv(phantom.affine) @ point)[:3].astype(int)
        values.append(float(phantom.clean[tuple(voxel)]))
    assert values[0] > 1.0 and values[1] < 0.1


def test_crop_takes_slices_from_either_end():
    full = make_phantom(0, resolution_mm=4.0, anatomy=PLAIN, acquisition=STILL)
    cropped = make_phantom(
        0,
        resolution_mm=4.0,
        anatomy=PLAIN,
        acquisition=replace(STILL, slice_axis=2, crop_mm=(16.0, 8.0)),
    )
    assert cropped.t1w.shape == (*full.t1w.shape[:2], full.t1w.shape[2] - 6)
    assert np.allclose(cropped.clean, full.clean[:, :, 4:-2], atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"), [({"age_y": 19}, "between 20 and 80"), ({"sex": "X"}, "'F' and 'M'")]
)
def test_effects_are_refused_where_they_are_not_defined(wrong, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(0, resolution_mm=4.0, **wrong)


def test_unknown_twin_effect_is_refused():
    with pytest.raises(ValueError, match="one of"):
        make_twins(0, "height")
