"""Command lines of FSL and SynthStrip, seen by stand-ins on PATH, and the geometry around them.

The stand-ins record how they are called and copy an image; that FSL itself accepts these command
lines is not shown here.
"""

import os
import stat
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stages.preprocessing import engines

pytest.importorskip("nipype")

STAND_IN = """#!{python}
import os, shutil, sys
from pathlib import Path

with open("{log}", "a") as log:
    print(Path(sys.argv[0]).name, *sys.argv[1:], file=log)
if "-version" in sys.argv:
    sys.exit()
image = os.environ["STAND_IN_IMAGE"]
for word in " ".join(sys.argv[1:]).replace("=", " ").split():
    if word.startswith(os.environ["STAND_IN_FOLDER"]) and not os.path.exists(word):
        if word.endswith(".nii.gz"):
            shutil.copy(image, word)
        elif word.endswith(".mat"):
            Path(word).write_text("1 0 0 0\\n0 1 0 0\\n0 0 1 0\\n0 0 0 1\\n")
name = Path(sys.argv[0]).name
if name == "bet":
    shutil.copy(image, sys.argv[2].replace(".nii.gz", "_mask.nii.gz"))
if name == "fast":
    base = os.environ["STAND_IN_FOLDER"] + "/T1_fast"
    for part in ("restore", "bias", "seg", "mixeltype", "pveseg", "pve_0", "pve_1", "pve_2"):
        shutil.copy(image, base + "_" + part + ".nii.gz")
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put stand-ins for all tools on PATH; return the head, the scratch folder and the log."""
    programs, scratch = tmp_path / "bin", tmp_path / "scratch"
    standard = tmp_path / "fsl" / "data" / "standard"
    for folder in (programs, scratch, standard):
        folder.mkdir(parents=True)
    head = tmp_path / "sub-01_T1w.nii.gz"
    values = np.random.default_rng(0).uniform(1, 9, (12, 13, 14)).astype(np.float32)
    nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(head)
    for name in ("MNI152_T1_2mm.nii.gz", "MNI152_T1_2mm_brain_mask.nii.gz"):
        (standard / name).write_bytes(head.read_bytes())
    log = tmp_path / "calls.txt"
    log.touch()
    for name in (*engines.EXTRACT_TOOLS, *engines.SYNTHSTRIP_TOOLS):
        path = programs / name
        path.write_text(STAND_IN.format(python=sys.executable, log=log))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FSLDIR", str(tmp_path / "fsl"))
    monkeypatch.setenv("FSLOUTPUTTYPE", "NIFTI_GZ")
    monkeypatch.setenv("STAND_IN_IMAGE", str(head))
    monkeypatch.setenv("STAND_IN_FOLDER", str(scratch))
    return head, scratch, log


def calls(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if "-version" not in line]


@pytest.mark.parametrize("crop", [True, False])
def test_head_goes_through_the_tools_in_fsl_anats_order(tools, crop):
    head, scratch, log = tools
    data, affine, mask = engines.fsl_head(head, scratch, crop=crop)
    order = [line.split()[0] for line in calls(log)]
    expected = list(engines.EXTRACT_TOOLS)
    if not crop:
        expected.remove("robustfov")
    assert order == expected
    assert data.shape == mask.shape == (12, 13, 14)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")


def test_command_lines_carry_fsl_anats_settings(tools):
    head, scratch, log = tools
    engines.fsl_head(head, scratch, crop=True)
    lines = {line.split()[0]: line for line in calls(log)}
    assert "-f 0.10" in lines["bet"]
    for setting in ("-B", "-b", "-t 1", "-n 3", "-l 10", "-I 10", "--nopve"):
        assert setting in lines["fast"], lines["fast"]
    assert "-dof 12" in lines["flirt"]
    assert "--config=T1_2_MNI152_2mm" in lines["fnirt"]
    assert "--interp=nn" in lines["applywarp"]


def test_synthstrip_is_asked_for_a_mask(tools):
    head, scratch, log = tools
    mask = engines.synthstrip_mask(head, scratch)
    assert mask.shape == (12, 13, 14)
    (line,) = calls(log)
    assert line == f"mri_synthstrip -i {head} -m {scratch}/brain_mask.nii.gz"


def test_fast_gives_fluid_grey_and_white_in_this_order(tools, monkeypatch):
    head, scratch, log = tools
    found = engines.fsl_tissues(head, scratch)
    assert found.shape == (3, 12, 13, 14)
    assert "-n 3" in calls(log)[0]


@pytest.mark.parametrize("dof", [6, 9, 12])
def test_flirt_gets_the_degrees_of_freedom(tools, dof):
    head, scratch, log = tools
    matrix = engines.fsl_align(head, head, scratch, dof=dof)
    np.testing.assert_allclose(matrix, np.eye(4), atol=1e-6)
    assert f"-dof {dof}" in calls(log)[0]


def test_missing_tools_are_named_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"needs fslreorient2std, .* engine 'builtin'"):
        engines.fsl_head(tmp_path / "T1w.nii.gz", tmp_path, crop=True)
    with pytest.raises(FileNotFoundError, match="needs mri_synthstrip"):
        engines.synthstrip_mask(tmp_path / "T1w.nii.gz", tmp_path)
    with pytest.raises(FileNotFoundError, match="needs flirt"):
        engines.fsl_align(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", tmp_path, dof=6)
    with pytest.raises(FileNotFoundError, match="needs fast"):
        engines.fsl_tissues(tmp_path / "a.nii.gz", tmp_path)


def test_flirts_millimetres_count_from_the_corner():
    """With x running left on both grids FLIRT's frame is the voxel frame times the zooms."""
    moving = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    fixed = np.array([[-1.0, 0, 0, 80], [0, 1, 0, -100], [0, 0, 1, -60], [0, 0, 0, 1]])
    matrix = engines.flirt_to_world(np.eye(4), (91, 109, 91), moving, (160, 200, 150), fixed)
    np.testing.assert_allclose(matrix, nib.affines.from_matvec(np.eye(3), [10, -26, -12]))


def test_flirt_flips_a_grid_that_runs_to_the_right():
    """The same two images, stored right to left and left to right, lie at the same place."""
    left = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    right = left @ np.array([[-1.0, 0, 0, 90], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    shape, turn = (91, 109, 91), nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3))
    same = engines.flirt_to_world(turn, shape, left, shape, left)
    for moving in (left, right):
        for fixed in (left, right):
            np.testing.assert_allclose(
                engines.flirt_to_world(turn, shape, moving, shape, fixed), same, atol=1e-9
            )


def test_field_is_kept_in_the_brain_and_carried_beyond():
    before = np.zeros((30, 30, 30))
    before[10:20, 10:20, 10:20] = 100
    field = engines.extend_field(before, before / 1.3, np.diag([4.0, 4.0, 4.0, 1.0]))
    np.testing.assert_allclose(field[15, 15, 15], 1.3, rtol=1e-5)
    np.testing.assert_allclose(field[22, 15, 15], 1.3, rtol=0.02)
    assert field[0, 0, 0] == pytest.approx(1, abs=0.35)
