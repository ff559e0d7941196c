"""Landmarks are read where they are, whatever the file; what cannot be right is refused."""

import nibabel as nib
import numpy as np
import pytest

from stages.transfer import landmarks
from stages.transfer.pairing import pair
from stages.transfer.volumes import (
    Volume,
    check_same_grid,
    load,
    make_isotropic,
    prepare,
    scale_intensity,
)
from tests.conftest import SHARED_DATA
from tests.stages.transfer.phantoms import write_image

HEADER = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n" + (
    f"# columns = {landmarks.FCSV_COLUMNS}\n"
)
LINE = "vtk_1,1.5,-2.25,3.125,0,0,0,1,1,1,0,1,AC,\n"


@pytest.mark.parametrize("system", ["0", "RAS", "1", "LPS"])
def test_a_slicer_file_is_read_in_ras_whatever_it_is_in(system):
    sign = -1 if system in ("1", "LPS") else 1
    points = landmarks.parse_fcsv(HEADER.format(system=system) + LINE)
    assert points["AC"].tolist() == [sign * 1.5, sign * -2.25, 3.125]


def test_what_is_written_for_slicer_is_read_again_exactly():
    rng = np.random.default_rng(0)
    points = {f"mark {i}, left": p for i, p in enumerate(rng.normal(0, 50, (5, 3)))}
    again = landmarks.parse_fcsv(landmarks.format_fcsv(points))
    assert list(again) == list(points)
    assert all((again[name] == points[name]).all() for name in points)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"{SHARED_DATA} is not there")
def test_afids_on_templates_survive_reading_and_writing_exactly():
    files = sorted((SHARED_DATA / "afids_templates").glob("*.fcsv"))
    assert files
    for path in files:
        points = landmarks.read_points(path)
        lines = [x.split(",") for x in path.read_text().splitlines() if x and x[0] != "#"]
        written = {tuple(float(v) for v in line[1:4]) for line in lines}
        assert {tuple(map(float, p)) for p in points.values()} == written
        again = landmarks.parse_fcsv(landmarks.format_fcsv(points))
        assert all((again[name] == points[name]).all() for name in points)
        if "MNI152NLin2009bSym" in path.name:
            assert abs(points["AC"] - [-0.1198055, 2.55212, -4.81723]).max() == 0


def test_a_slicer_file_without_coordinate_system_is_refused():
    with pytest.raises(ValueError, match="coordinate system not given, expected RAS"):
        landmarks.parse_fcsv("# columns = id,x,y,z\n" + LINE)
    with pytest.raises(ValueError, match="line 4: no three coordinates"):
        landmarks.parse_fcsv(HEADER.format(system="RAS") + "a,b,c,d\n")


def test_a_table_is_read_and_its_gaps_are_left_out():
    points = landmarks.parse_tsv("name\tx\ty\tz\nAC\t1\t2\t3\nPC\tn/a\tn/a\tn/a\n")
    assert {name: p.tolist() for name, p in points.items()} == {"AC": [1.0, 2.0, 3.0]}
    with pytest.raises(ValueError, match="expected name, x, y, z"):
        landmarks.parse_tsv("name\tx\ty\nAC\t1\t2\n")
    with pytest.raises(ValueError, match="line 2"):
        landmarks.parse_tsv("name\tx\ty\tz\nAC\t1\t2\tleft\n")


def test_files_that_are_no_landmarks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not a kind of landmark file"):
        landmarks.read_points(tmp_path / "sub-01_points.json")
    empty = write_image(tmp_path / "sub-01_dseg.nii.gz", np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="no landmark in it"):
        landmarks.read_points(empty)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR"])
def test_centroids_are_the_same_in_any_voxel_order(codes, tmp_path):
    data = np.zeros((10, 12, 8), np.uint8)
    data[2:5, 3:8, 1:2] = 4
    data[7, 9, 6] = 9
    affine = np.diag([0.5, 0.5, 5.0, 1.0])  # thick slices
    affine[:3, 3] = [-10, 4, 2]
    image = nib.Nifti1Image(data, affine)
    to = nib.orientations.axcodes2ornt(codes)
    image = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), to)
    )
    nib.save(image, tmp_path / "sub-01_dseg.nii.gz")
    points = landmarks.read_points(tmp_path / "sub-01_dseg.nii.gz")
    assert np.allclose(points["4"], affine[:3, :3] @ [3, 5, 1] + affine[:3, 3])
    assert np.allclose(points["9"], affine[:3, :3] @ [7, 9, 6] + affine[:3, 3])


def test_points_outside_the_volume_are_refused():
    volume = Volume(np.zeros((10, 10, 10)), np.eye(4))
    landmarks.check_inside({"in": np.array([9.4, 0, 0])}, volume, "x")
    with pytest.raises(ValueError, match=r"1 of 2 landmarks are outside the image \(out\).*LPS"):
        inside_and_out = {"in": np.zeros(3), "out": np.array([-3.0, 0, 0])}
        landmarks.check_inside(inside_and_out, volume, "x")


def test_chosen_landmarks_are_nested_far_apart_and_common():
    rng = np.random.default_rng(1)
    means = rng.uniform(-80, 80, (50, 3))
    people = [
        {f"{i}": m + rng.normal(0, 2, 3) for i, m in enumerate(means) if i != 7 or who < 3}
        for who in range(10)
    ]
    chosen = landmarks.choose_spread(people, 20, 0.9)
    assert landmarks.choose_spread(people, 10, 0.9) == chosen[:10]
    assert "7" not in chosen

    def least(names):
        places = means[[int(n) for n in names]]
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
        return apart[apart > 0].min()

    drawn = [least(rng.permutation(50)[:20].astype(str)) for _ in range(50)]
    assert least(chosen) > max(drawn)
    with pytest.raises(ValueError, match="only 49 are in at least 90%"):
        landmarks.choose_spread(people, 50, 0.9)


def test_an_anisotropic_volume_becomes_cubic_and_keeps_its_places(caplog):
    x, y, z = np.meshgrid(
        np.arange(40) * 0.5, np.arange(40) * 0.5, np.arange(8) * 5.0, indexing="ij"
    )
    data = np.exp(-((x - 9) ** 2 + (y - 11) ** 2) / 18 - (z - 18) ** 2 / 200)
    affine = np.diag([0.5, 0.5, 5.0, 1.0])
    affine[:3, 3] = [3, -7, 11]
    cubic = make_isotropic(Volume(data, affine), 1.0)
    assert np.allclose(cubic.zooms, 1.0)
    peak = cubic.to_world(np.argwhere(cubic.data == cubic.data.max()).astype(float)).mean(0)
    assert np.abs(peak - (np.array([9, 11, 18]) + affine[:3, 3])).max() <= 2.0  # z: 5 mm slices
    assert "interpolated" in caplog.text


def test_intensities_do_not_depend_on_scale_or_air():
    rng = np.random.default_rng(0)
    body = np.zeros((20, 20, 20))
    body[5:15, 5:15, 5:15] = rng.uniform(100, 300, (10, 10, 10))
    more_air = np.pad(body, 6)
    same = scale_intensity(body)
    assert np.abs(scale_intensity(body * 7.5).astype(int) - same).max() <= 1
    assert np.abs(scale_intensity(more_air)[6:-6, 6:-6, 6:-6].astype(int) - same).max() <= 1


def test_a_ct_is_windowed_in_hounsfield_units(tmp_path):
    data = np.full((6, 6, 6), -1000.0, np.float32)
    data[2:4], data[4:] = 150.0, 2000.0
    path = write_image(tmp_path / "sub-01_CT.nii.gz", data, 2.0)
    assert np.unique(prepare(path, 2.0, (-200.0, 500.0)).data).tolist() == [0, 128, 255]


def test_empty_and_four_dimensional_images_are_refused(tmp_path):
    empty = write_image(tmp_path / "sub-01_T1w.nii.gz", np.zeros((5, 5, 5), np.float32))
    with pytest.raises(ValueError, match=r"T1w.nii.gz: all voxels are 0: an empty image"):
        prepare(empty, 2.0)
    moving = write_image(tmp_path / "sub-01_bold.nii.gz", np.zeros((5, 5, 5, 3), np.float32))
    with pytest.raises(ValueError, match="4D image, expected 3D"):
        load(moving)


def test_masks_on_another_grid_are_refused():
    image = Volume(np.zeros((5, 5, 5)), np.eye(4))
    with pytest.raises(ValueError, match=r"its grid is \(5, 5, 6\), the image's \(5, 5, 5\)"):
        check_same_grid("m", Volume(np.zeros((5, 5, 6)), np.eye(4)), image)
    moved = np.eye(4)
    moved[0, 3] = 3
    with pytest.raises(ValueError, match=r"corners are 3.0 mm away"):
        check_same_grid("m", Volume(np.zeros((5, 5, 5)), moved), image)


def test_annotations_find_their_image():
    images = ["a/sub-01_ses-1_T1w.nii.gz", "a/sub-01_ses-2_T1w.nii.gz"]
    found = pair(images, ["d/sub-01_ses-2_desc-dlmuse_dseg.nii.gz"])
    assert found == {images[1]: ["d/sub-01_ses-2_desc-dlmuse_dseg.nii.gz"]}
    with pytest.raises(ValueError, match="fits 2 images"):
        pair(images, ["d/sub-01_points.tsv"])
    both = ["a/sub-01_T1w.nii.gz", "a/sub-01_angio.nii.gz"]
    assert list(pair(both, ["d/sub-01_points.tsv"], ["angio", "T1w"])) == [both[1]]
    with pytest.raises(ValueError, match="no image has its entities"):
        pair(images, ["d/sub-02_ses-1_points.tsv"])
