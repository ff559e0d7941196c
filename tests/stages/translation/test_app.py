"""The stage as its users run it, from preprocessed images to reports."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stages.translation.tables import read_rows
from tests.conftest import write_dataset
from tests.stages.calls import brainstages
from tests.stages.translation import steps

pytestmark = pytest.mark.slow

PEOPLE = 4


def write_datasets(root: Path) -> Path:
    """Write raw and preprocessed images of four people."""
    raw = write_dataset(root / "raw", labels=tuple(f"{i:02d}" for i in range(PEOPLE)))
    derived = root / "out" / "brainstages-preprocessing"
    derived.mkdir(parents=True)
    _, participants = steps.write_cohort(derived, PEOPLE)
    shutil.copy(participants, raw / "participants.tsv")
    about = {
        "Name": "brainstages preprocessing",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "brainstages"}],
    }
    (derived / "dataset_description.json").write_text(json.dumps(about))
    return raw


def test_from_preprocessed_images_to_explanations(tmp_path: Path):
    raw = write_datasets(tmp_path)
    steps.write_judge(tmp_path / "judge", seen=["sub-elsewhere"])
    done = brainstages(
        *(raw, tmp_path / "out", "participant", "group"),
        *("--stages", "translation", "--preset", "tiny", "--translation-epochs", "1"),
        *("--translation-decay-epochs", "0", "--weights", f"judges={tmp_path / 'judge'}"),
        *("-w", tmp_path / "work", "--skip-bids-validation"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    root = tmp_path / "out" / "brainstages-translation"
    anat = root / "sub-00" / "anat"
    about = json.loads((anat / f"sub-00_{steps.SPACE}_desc-toOld_T1w.json").read_text())
    assert about["Synthetic"] is True
    assert (anat / f"sub-00_{steps.SPACE}_stat-diff_desc-toYoung_T1wmap.nii.gz").exists()
    assert len(read_rows(root / "desc-confusion_metrics.tsv")) == 2 * 3 * 2
    assert "judged" in json.loads((root / "plans" / "judge.json").read_text())["Headline"]
    assert "mapsToOld" in (root / "translation.html").read_text()
    validator = Path(sys.executable).with_name("bids-validator-deno")
    checked = subprocess.run([validator, root, "--format", "json"], capture_output=True, text=True)
    found = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in found if issue["severity"] == "error"] == []
