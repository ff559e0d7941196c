"""The demo dataset is valid BIDS, repeats byte for byte and agrees with its truth."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_app.demo import load_template, write_dataset
from bids_app.demo.__main__ import main
from bids_app.demo.dataset import ORIENTATIONS, plan_scans, save_image
from bids_app.demo.template import sample

VALIDATOR = shutil.which("bids-validator-deno", path=Path(sys.executable).parent) or shutil.which(
    "bids-validator-deno"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "bids"
    write_dataset(folder, participants=3, resolution_mm=4.0, seed=0)
    return folder


def read_bytes(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.skipif(VALIDATOR is None, reason="bids-validator-deno is not installed")
@pytest.mark.parametrize("part", [".", "derivatives/truth"])
def test_validator_finds_no_error(dataset, part):
    done = subprocess.run(
        [VALIDATOR, str(dataset / part), "--format", "json"], capture_output=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_same_seed_same_bytes_other_seed_others(tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        write_dataset(tmp_path / name, participants=1, resolution_mm=5.0, seed=seed)
    first, again, other = (read_bytes(tmp_path / name) for name in ("first", "again", "other"))
    assert again == first
    assert other.keys() == first.keys()
    image = "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz"
    assert other[image] != first[image]


def test_one_participant_has_two_sessions(dataset):
    found = sorted(str(p.relative_to(dataset)) for p in dataset.glob("sub-*/**/*_T1w.nii.gz"))
    assert found == [
        "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
        "sub-01/ses-02/anat/sub-01_ses-02_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-03/anat/sub-03_T1w.nii.gz",
    ]


def test_headers_are_deliberate(dataset):
    images = [nib.load(p) for p in dataset.glob("sub-*/**/*_T1w.nii.gz")]
    for image in images:
        assert image.get_data_dtype() == np.int16
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-4)
    orientations = {"".join(nib.aff2axcodes(image.affine)) for image in images}
    assert "RAS" in orientations and len(orientations) > 1


def test_slice_counts_vary_and_are_recorded(dataset):
    lines = (dataset / "derivatives/truth/scans.tsv").read_text().splitlines()
    names = lines[0].split("\t")
    counts = set()
    for line in lines[1:]:
        row = dict(zip(names, line.split("\t"), strict=True))
        image = nib.as_closest_canonical(nib.load(dataset / row["filename"]))
        assert image.shape["RAS".index(row["slice_axis"])] == int(row["n_slices"])
        counts.add(row["n_slices"])
    assert len(counts) > 1


def test_slice_counts_and_ages_do_not_tell_the_sex():
    scans = [s for s in plan_scans(12, seed=0) if s.session != "02"]
    for crop in {s.acquisition.crop_mm for s in scans}:
        sexes = [s.sex for s in scans if s.acquisition.crop_mm == crop]
        assert sexes.count("F") == sexes.count("M")
    means = [np.mean([s.age_y for s in scans if s.sex == sex]) for sex in "FM"]
    assert abs(means[0] - means[1]) < 10


def test_truth_lies_on_the_grid_of_its_image(dataset):
    for path in dataset.glob("sub-*/**/*_T1w.nii.gz"):
        image = nib.load(path)
        base = dataset / "derivatives/truth" / path.parent.relative_to(dataset)
        derived = list(base.glob(path.name.replace("_T1w.nii.gz", "_*.nii.gz")))
        derived = [p for p in derived if "label-aneurysm" not in p.name]  # of the angiogram
        assert len(derived) == 5
        for file in derived:
            assert nib.load(file).shape == image.shape
            assert np.allclose(nib.load(file).affine, image.affine, atol=1e-4)


def test_transform_file_aligns_true_grey_matter_with_the_template(dataset):
    """Whatever the storage order, the matrix maps world to template; a mirrored one does not."""
    template = load_template(fine_mm=2)
    for path in (dataset / "derivatives/truth").glob("sub-*/**/*_label-GM_probseg.nii.gz"):
        image = nib.load(path)
        name = "from-T1w_to-MNI152NLin2009aSym_mode-points_xfm.txt"
        matrix = np.loadtxt(str(path).replace("label-GM_probseg.nii.gz", name))
        inside = np.argwhere(image.get_fdata() > -1).T
        points = nib.affines.apply_affine(matrix @ image.affine, inside.T).T.astype(np.float32)
        expected = sample(template.gm, template.affine, points)
        truth = image.get_fdata().ravel()
        upside_down = sample(template.gm, template.affine, points * np.float32([[1], [1], [-1]]))
        assert np.corrcoef(truth, expected)[0, 1] > 0.75
        assert np.corrcoef(truth, upside_down)[0, 1] < 0.6


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_storage_order_leaves_every_voxel_at_its_place(tmp_path, orientation):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 99, (4, 5, 6)).astype(np.int16)
    affine = np.array([[2.0, 0, 0, -7], [0, 2, 0, 5], [0, 0, 2, 3], [0, 0, 0, 1]])
    save_image(tmp_path / "image.nii.gz", data, affine, orientation=orientation)
    image = nib.load(tmp_path / "image.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == orientation
    world = np.array([-7 + 2 * 3, 5 + 2 * 1, 3 + 2 * 4, 1.0])
    voxel = np.round(np.linalg.inv(image.affine) @ world)[:3].astype(int)
    assert image.get_fdata()[tuple(voxel)] == data[3, 1, 4]


def test_scale_is_applied_on_reading(tmp_path):
    save_image(tmp_path / "p.nii.gz", np.full((2, 2, 2), 255, np.uint8), np.eye(4), scale=1 / 255)
    assert nib.load(tmp_path / "p.nii.gz").get_fdata() == pytest.approx(1.0)


def test_participants_tables_agree(dataset):
    raw, truth = (
        [line.split("\t") for line in (folder / "participants.tsv").read_text().splitlines()]
        for folder in (dataset, dataset / "derivatives/truth")
    )
    assert raw[0] == ["participant_id", "age", "sex"]
    assert [row[:3] for row in truth] == raw
    described = json.loads((dataset / "derivatives/truth/participants.json").read_text())
    assert set(truth[0][1:]) <= set(described)


def test_command_line_writes_and_reports(tmp_path, capsys):
    folder = tmp_path / "new"
    assert main([str(folder), "--participants", "1", "--resolution-mm", "6"]) == 0
    assert "2 T1w images" in capsys.readouterr().out
    assert main([str(folder)]) == 73
    assert "not empty" in capsys.readouterr().err


def test_command_line_refuses_wrong_usage(tmp_path, capsys):
    assert main([str(tmp_path / "a"), "--participants", "0"]) == 64
    assert "at least 1" in capsys.readouterr().err
    assert main([]) == 64
    assert main(["--help"]) == 0
