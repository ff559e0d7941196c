"""Volumes: where each voxel lies, what it is the mean of, and which files are refused."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.image import resample_img
from scipy import ndimage
from scipy.spatial.transform import Rotation

from stages.generation.slices import FIRST_MM, SIZE
from stages.generation.tables import read_rows
from stages.generation.volumes import (
    EXTENT_MM,
    Brains,
    cut_slices,
    grid_affine,
    grid_shape,
    load_brains,
    pair_scans,
    read_alignment,
    read_volume,
    resample,
    to_images,
    to_voxels,
    write_volume,
)
from tests.stages.generation import heads, steps

VOLUME = {"generator": "latent-volume", "voxel_mm": 10.0}


def posture(*, shift=(4.0, -7.0, 11.0), angles=(6, -4, 9)) -> np.ndarray:
    """Make a turn, upright frame → head's world."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, 3] = shift
    return affine


def smooth_brain(seed: int = 0) -> np.ndarray:
    """Draw something like a brain, (70, 90, 75), 0 around it."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=(70, 90, 75)), 2)
    distance = np.linalg.norm((np.indices(rough.shape).T - (35, 45, 37)) / (28, 36, 28), axis=-1).T
    return ((distance < 1) * np.clip(0.6 + 2 * rough, 0.05, None)).astype(np.float32)


HEAD_AFFINE = np.array(
    [[-2.0, 0, 0, 75], [0, 2.0, 0, -105], [0, 0, 2.0, -60], [0, 0, 0, 1]]
)  # stored from right to left


@pytest.mark.parametrize("voxel_mm", [1.0, 2.5, 3.0, 4.0, 10.0])
def test_the_grid_fits_networks_holds_a_head_and_has_the_slices_plane(voxel_mm):
    shape, affine = grid_shape(voxel_mm), grid_affine(voxel_mm)
    assert all(n % 8 == 0 for n in shape)
    assert all(n * voxel_mm >= mm for n, mm in zip(shape, EXTENT_MM, strict=True))
    x, y, z = (affine[i, 3] + voxel_mm * np.arange(shape[i]) for i in range(3))
    assert np.abs(y + 18).min() < 1e-9
    assert x.sum() == pytest.approx(0, abs=1e-6)
    assert x[0] - voxel_mm / 2 <= -80 and z[0] - voxel_mm / 2 <= -70
    assert y[0] - voxel_mm / 2 <= -114 and y[-1] + voxel_mm / 2 >= 74


def test_voxels_are_means_of_the_brain_within_them():
    data, alignment = smooth_brain(), posture()
    found = resample(data, HEAD_AFFINE, alignment, 4.0)
    affine = grid_affine(4.0)
    rng = np.random.default_rng(1)
    filled = np.argwhere(found > 0.3)
    for voxel in filled[rng.choice(len(filled), 20, replace=False)]:
        corners = voxel[:, None] + rng.uniform(-0.5, 0.5, (3, 4000))
        world = alignment @ affine @ np.vstack([corners, np.ones(4000)])
        points = (np.linalg.inv(HEAD_AFFINE) @ world)[:3]
        mean = ndimage.map_coordinates(data, points, order=1).mean()
        assert found[tuple(voxel)] == pytest.approx(mean, abs=0.02)
    mass = data.sum() * 8
    assert found.sum() * 64 == pytest.approx(mass, rel=2e-3)


def test_fine_stripes_do_not_fold_into_coarse_voxels():
    stripes = np.zeros((80, 90, 80), np.float32)
    stripes[:, ::2] = 1.0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-79, -108, -69)  # centres of voxels lie on stripes
    inner = resample(stripes, affine, np.eye(4), 4.0)[4:-4, 8:-8, 4:-4]
    assert inner.mean() == pytest.approx(0.5, abs=0.01)
    assert inner.std() < 0.02


def test_what_is_on_the_left_stays_on_the_left_at_the_same_place(tmp_path):
    alignment, place = posture(), np.array([-40.0, 20.0, 30.0])
    voxels = np.indices((70, 90, 75)).reshape(3, -1)
    world = HEAD_AFFINE @ np.vstack([voxels, np.ones(voxels.shape[1])])
    upright = (np.linalg.inv(alignment) @ world)[:3]
    ball = (np.linalg.norm(upright - place[:, None], axis=0) < 9).reshape(70, 90, 75)
    nib.Nifti1Image(ball.astype(np.float32), HEAD_AFFINE).to_filename(tmp_path / "head.nii.gz")
    heads.write_alignment(tmp_path / "xfm.mat", alignment)
    voxels = read_volume(str(tmp_path / "head.nii.gz"), str(tmp_path / "xfm.mat"), 4.0)
    write_volume(str(tmp_path / "out.nii.gz"), voxels, 4.0)
    image = nib.load(tmp_path / "out.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header.get_data_dtype() == np.uint8
    assert (image.header["sform_code"], image.header["qform_code"]) == (2, 2)
    centre = ndimage.center_of_mass(np.asarray(image.dataobj))
    assert nib.affines.apply_affine(image.affine, centre) == pytest.approx(place, abs=0.5)


def test_alignments_are_read_as_itk_writes_them(tmp_path):
    """Against SimpleITK, which writes those of preprocessing."""
    import SimpleITK as sitk

    affine = sitk.AffineTransform(3)
    turn = Rotation.from_euler("xyz", (5, 8, -3), degrees=True).as_matrix()
    affine.SetMatrix(turn.ravel().tolist())
    affine.SetTranslation((3.0, -2.0, 9.0))
    affine.SetCenter((10.0, 20.0, -5.0))
    sitk.WriteTransform(affine, str(tmp_path / "xfm.mat"))
    found = read_alignment(str(tmp_path / "xfm.mat"))
    point = np.array([11.0, -23.0, 31.0])  # RAS; ITK's axes are LPS
    wanted = np.array(affine.TransformPoint(list(point * (-1, -1, 1)))) * (-1, -1, 1)
    assert found[:3, :3] @ point + found[:3, 3] == pytest.approx(wanted)


@pytest.mark.parametrize("voxel_mm", [2.5, 4.0])
def test_slices_are_what_another_library_cuts_from_the_written_volume(voxel_mm, tmp_path):
    brain = resample(smooth_brain(), HEAD_AFFINE, posture(), voxel_mm)
    voxels = np.rint(np.clip(brain / brain.max(), 0, 1) * 255).astype(np.uint8)
    write_volume(str(tmp_path / "v.nii.gz"), voxels, voxel_mm)
    affine = np.eye(4)
    affine[:3, 3] = FIRST_MM
    plane = resample_img(
        nib.Nifti1Image(voxels.astype(np.float32), nib.load(tmp_path / "v.nii.gz").affine),
        affine,
        (SIZE, 1, SIZE),
        interpolation="linear",
        force_resample=True,
        copy_header=True,
    ).get_fdata()[:, 0]
    (found,) = cut_slices(to_images(voxels[None]), voxel_mm)
    assert found.max() > 100
    assert np.abs(found[::-1].T - plane).max() <= 0.51


def test_volumes_lie_as_the_slices_of_preprocessing_do():
    head = heads.draw_head(0, 25.0)
    fine = resample(head.brain, head.affine, head.upright, 2.0)
    (cut,) = cut_slices(to_images(np.rint(fine / fine.max() * 255).astype(np.uint8)[None]), 2.0)
    wanted = heads.cut_slice(head)[:, 0].T[::-1]
    moved = {(i, j): np.roll(cut, (i, j), (0, 1)) for i in range(-3, 4) for j in range(-3, 4)}
    likeness = {k: np.corrcoef(m.ravel(), wanted.ravel())[0, 1] for k, m in moved.items()}
    assert max(likeness, key=likeness.__getitem__) == (0, 0)
    assert likeness[0, 0] > 0.995
    assert np.corrcoef(cut[:, ::-1].ravel(), wanted.ravel())[0, 1] < likeness[0, 0] - 0.02


def test_eight_bits_survive_the_way_through_images_and_disk(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 16), np.uint8)
    assert np.array_equal(to_voxels(to_images(voxels)), voxels)
    brains = Brains(voxels, 10.0)
    coronal, axial, sagittal = brains.planes(1)
    assert coronal.shape == (16, 16) and axial.shape == (24, 16) and sagittal.shape == (16, 24)
    assert coronal[0, 3] == voxels[1, 3, 12, -1]  # top row, from the left
    assert axial[0, 3] == voxels[1, 3, -1, 8]  # front row
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x.safetensors: no volumes .*run prepare and sample"):
        load_brains(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("data", "affine", "message"),
    [
        (np.ones((4, 4, 4, 2)), HEAD_AFFINE, "shape 4x4x4x2, expected three axes; run prep"),
        (np.full((4, 4, 4), np.nan), HEAD_AFFINE, "not finite"),
        (np.zeros((4, 4, 4)), HEAD_AFFINE, "empty volume"),
        (smooth_brain(), HEAD_AFFINE + 90 * np.eye(4, k=3), "% of the brain lies outside"),
    ],
)
def test_brains_that_cannot_be_used_are_named(data, affine, message, tmp_path):
    path = tmp_path / "sub-1_desc-brain_T1w.nii.gz"
    nib.Nifti1Image(data.astype(np.float32), affine).to_filename(path)
    heads.write_alignment(tmp_path / "xfm.mat", posture())
    with pytest.raises(ValueError, match=f"sub-1_desc-brain_T1w.nii.gz: .*{message}"):
        read_volume(str(path), str(tmp_path / "xfm.mat"), 4.0)


def test_a_header_without_a_volume_is_named(tmp_path, monkeypatch):
    path = tmp_path / "sub-1_desc-brain_T1w.nii.gz"
    nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)).to_filename(path)
    flat = nib.load(path)
    flat._affine = np.diag([1.0, 1.0, 0.0, 1.0])
    monkeypatch.setattr(nib, "load", lambda _: flat)
    with pytest.raises(ValueError, match="its affine has no volume; run preprocessing again"):
        read_volume(str(path), "", 4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.diag([-1.0, 1, 1, 1]), "no turn that keeps sizes and sides"),
        (np.diag([1.1, 1.1, 1.1, 1]), "no turn that keeps sizes and sides"),
        (np.full((4, 4), np.nan), "no turn that keeps sizes and sides"),
    ],
)
def test_alignments_that_cannot_be_used_are_named(change, message, tmp_path):
    heads.write_alignment(tmp_path / "xfm.mat", posture() @ change)
    with pytest.raises(ValueError, match=f"xfm.mat: {message}; run preprocessing again"):
        read_alignment(str(tmp_path / "xfm.mat"))
    for content in (b"", b"no MATLAB"):
        (tmp_path / "xfm.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"xfm.mat: no readable alignment"):
            read_alignment(str(tmp_path / "xfm.mat"))


def test_slices_find_their_own_brains():
    stems = ["sub-1_ses-a_run-1", "sub-1_ses-a_run-2", "sub-10"]
    slices = [f"/x/{s}_space-upright_desc-coronalMid_T1w.nii.gz" for s in stems]
    brains = [f"/y/{s}_desc-brain_T1w.nii.gz" for s in reversed(stems)]
    turns = [f"/z/{s}_from-T1w_to-upright_mode-image_xfm.mat" for s in stems]
    found = pair_scans(slices, brains, turns)
    assert [found[path] for path in slices] == list(zip(reversed(brains), turns, strict=True))
    with pytest.raises(FileNotFoundError, match=r"1 of 3 scans \(sub-10, …\) lack .*any profile"):
        pair_scans(slices, brains[1:], turns)


def test_prepare_keeps_volumes_in_the_order_of_the_slices(few_heads, tmp_path):
    made = steps.call("prepare", tmp_path, **few_heads, **steps.NAMES, **VOLUME, least_images=2)
    brains = load_brains(str(made["volumes"]))
    assert brains.voxels.shape == (12, 16, 24, 16)
    for row in read_rows(made["cohort"]):
        place, number = int(row["place"]), int(row["participant_id"][4:])
        own = read_volume(
            str(few_heads["brains"][number]), str(few_heads["alignments"][number]), 10.0
        )
        assert np.array_equal(brains.voxels[place], own)
    finer = steps.call(
        "prepare", tmp_path / "5", **few_heads, **steps.NAMES, **(VOLUME | {"voxel_mm": 8.0})
    )
    assert load_brains(str(finer["volumes"])).voxels.shape == (12, 24, 24, 24)
    flat = steps.call("prepare", tmp_path / "2d", **few_heads, **steps.NAMES)
    assert not flat["volumes"].exists()


def test_prepare_refuses_missing_brains_and_one_brain_under_two_names(few_heads, tmp_path):
    given = steps.NAMES | VOLUME
    with pytest.raises(FileNotFoundError, match=r"12 of 12 scans .* run preprocessing \(any prof"):
        steps.call("prepare", tmp_path, **(few_heads | {"brains": []}), **given)
    twice = {name: list(few_heads[name]) for name in ("brains", "alignments")}
    for name, paths in twice.items():
        copy = tmp_path / paths[7].name
        copy.write_bytes(paths[0].read_bytes())
        twice[name][7] = copy
    with pytest.raises(ValueError, match=r"sub-000_.* and sub-007_.* are the same brain under two"):
        steps.call("prepare", tmp_path, **(few_heads | twice), **given)
