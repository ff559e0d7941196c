"""The stage as its users run it, from preprocessed slices to synthetic participants."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.generation.tables import read_rows
from tests.conftest import write_dataset
from tests.stages.calls import brainstages
from tests.stages.generation import heads, steps

pytestmark = pytest.mark.slow

PEOPLE = {"AD": 4, "CN": 4}
OPTIONS = (
    *("--stages", "generation", "--preset", "tiny", "--generation-image", "001", "002"),
    *("--generation-group", "AD", "CN", "--generation-word", "AD", "CN"),
    *("--generation-rule", "diagnosis=AD", "diagnosis=CN"),
    *("--generation-prompt", "{word}, a MRI brain, ADNI2", "--omp-nthreads", "1"),
)


def write_preprocessed(folder: Path) -> Path:
    """Write a raw dataset and what preprocessing makes of it; return the raw dataset."""
    labels = tuple(f"{i:03d}" for i in range(sum(PEOPLE.values())))
    raw = write_dataset(folder / "raw", labels)
    made = steps.write_people(folder / "slices", PEOPLE)
    (raw / "participants.tsv").write_bytes(made["participants"].read_bytes())
    for path in made["images"]:
        person = path.name.partition("_")[0]
        target = folder / "out/brainstages-preprocessing" / person / "anat" / path.name
        target.parent.mkdir(parents=True)
        path.rename(target)
    return raw


def test_from_slices_to_synthetic_participants(tmp_path: Path):
    raw = write_preprocessed(tmp_path)
    command = (raw, tmp_path / "out", "group", *OPTIONS, "-w", tmp_path / "work")
    done = brainstages(*command)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    root = tmp_path / "out/brainstages-generation"
    table = {row["participant_id"]: row for row in read_rows(root / "participants.tsv")}
    made = [name for name, row in table.items() if row.get("synthetic") == "true"]
    assert len(made) == 4
    for name in made:
        sidecar = json.loads((root / name / "anat" / f"{name}_desc-generated_T1w.json").read_text())
        assert sidecar["Synthetic"] is True
        assert sidecar["Prompt"] == table[name]["prompt"]
    html = (root / "generation.html").read_text()
    assert "Prompt audit" in html
    assert _errors(root) == []
    again = brainstages(*command)
    assert again.returncode == 0
    assert "0 jobs to run" in again.stdout + again.stderr or (
        "8 skipped" in again.stdout + again.stderr
    )


def test_from_brains_to_synthetic_volumes(tmp_path: Path):
    raw = write_dataset(tmp_path / "raw", tuple(f"{i:03d}" for i in range(sum(PEOPLE.values()))))
    made = heads.write_heads(tmp_path / "heads", PEOPLE)
    (raw / "participants.tsv").write_bytes(made["participants"].read_bytes())
    for path in (*made["images"], *made["brains"], *made["alignments"]):
        folder = tmp_path / "out/brainstages-preprocessing" / path.name.partition("_")[0] / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    command = (raw, tmp_path / "out", "group", *OPTIONS, "-w", tmp_path / "work")
    done = brainstages(*command, "--generation-generator", "latent-volume")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    root = tmp_path / "out/brainstages-generation"
    found = sorted(root.glob("sub-syn*/anat/*_space-upright_desc-generated_T1w.nii.gz"))
    assert len(found) == 4
    for path in found:
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["Synthetic"] is True and sidecar["SpatialReference"]
    assert _errors(root) == []
    for path in (tmp_path / "out/brainstages-preprocessing").glob("sub-*/anat/*_desc-brain_T1w*"):
        path.unlink()
    lacking = brainstages(*command, "--generation-generator", "latent-volume")
    assert lacking.returncode != 0
    assert "8 of 8 scans" in lacking.stdout + lacking.stderr
    assert "run preprocessing (any profile" in lacking.stdout + lacking.stderr


def test_a_missing_checkpoint_ends_with_66(tmp_path: Path):
    raw = write_preprocessed(tmp_path)
    command = (raw, tmp_path / "out", "group", *OPTIONS, "-w", tmp_path / "work")
    done = brainstages(*command, "--generation-generator", "stable-diffusion")
    told = done.stdout + done.stderr
    assert "--weights base=PATH" in told
    status = json.loads(max((tmp_path / "out/logs").glob("run-*/status.json")).read_text())
    assert status["failures"][0]["exit_code"] == 66 or done.returncode == 66


def _errors(root: Path) -> list[dict]:
    """List what the BIDS validator finds wrong."""
    validator = Path(sys.executable).with_name("bids-validator-deno")
    checked = subprocess.run([validator, root, "--format", "json"], capture_output=True, text=True)
    found = json.loads(checked.stdout)["issues"]["issues"]
    return [issue for issue in found if issue["severity"] == "error"]
