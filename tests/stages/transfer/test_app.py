"""The stage as its users run it: landmarks and angiograms in one dataset, from files to report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.transfer.tables import read_rows
from tests.stages.calls import brainstages
from tests.stages.transfer.phantoms import write_dataset

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--stages", "transfer", "--preset", "tiny", "--transfer-source", "landmark6", "random"),
    *(
        "--transfer-epochs",
        "25",
        "--transfer-learning-rate",
        "0.01",
        "--transfer-batch-size",
        "16",
        "--transfer-finetune-epochs",
        "0",
    ),
    *("--transfer-bootstraps", "60", "--transfer-weak-learners", "5", "--transfer-width", "8"),
    *("--transfer-patch-size", "16", "--nprocs", "2"),
)


def test_from_images_to_the_report(tmp_path: Path, heads):
    raw, lesions = write_dataset(tmp_path, 5, shape=(40, 40, 36))
    labels = tmp_path / "labels"
    labels.mkdir()
    for name in ("dataset_description.json", "README.md"):
        (labels / name).write_text((lesions / name).read_text())
    for index in range(5):
        sub = f"sub-{index + 1:03d}"
        image, marks = (Path(path) for path in heads[index])
        for source, target in ((image, raw), (marks, labels)):
            suffix = source.name.partition("_")[2]
            path = target / sub / "anat" / f"{sub}_{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
    command = (raw, tmp_path / "out", "participant", "group", *OPTIONS)
    command += ("-d", f"landmarks={labels}", f"lesions={lesions}", "-w", tmp_path / "work")
    done = brainstages(*command)
    root = tmp_path / "out" / "brainstages-transfer"
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    rows = read_rows(root / "desc-weaklearners_metrics.tsv")
    assert {row["source"] for row in rows} == {"landmark6", "random"}
    assert all("synthetic" in row["provenance"] for row in rows)
    assert (root / "sub-001/anat/sub-001_stat-aneurysm_desc-adaboost_angiomap.nii.gz").is_file()
    assert (root / "sub-001/anat/sub-001_label-vessel_mask.nii.gz").is_file()
    points = read_rows(root / "sub-001/anat/sub-001_desc-detected_points.tsv")
    assert len(points) == 6
    about = json.loads((root / "models/landmark6/model.json").read_text())
    assert len(about["TrainingParticipants"]) == 3
    validator = Path(sys.executable).with_name("bids-validator-deno")
    checked = subprocess.run([validator, root, "--format", "json"], capture_output=True, text=True)
    found = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in found if issue["severity"] == "error"] == []
