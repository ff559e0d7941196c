"""The stage as users run it: one command over a finished preprocessing; valid BIDS comes out."""

import json
import shutil

import pytest

from stages.harmonization.tables import read_people, read_table
from tests.stages.calls import brainstages
from tests.stages.harmonization.phantoms import make_cohort

OPTIONS = ["--stages", "harmonization", "--preset", "tiny", "--skip-bids-validation"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A raw dataset of 16 people and what preprocessing would have made of it."""
    root = tmp_path_factory.mktemp("dataset")
    make_cohort(root, labels=["M", "F"] * 8, cuts=[0] * 10 + [6] * 6)
    for folder, kind in ((root / "raw", "raw"), (root / "derivatives", "derivative")):
        description = {"Name": "phantoms", "BIDSVersion": "1.10.0", "DatasetType": kind}
        (folder / "dataset_description.json").write_text(json.dumps(description))
    (root / "out").mkdir()
    shutil.move(root / "derivatives", root / "out" / "brainstages-preprocessing")
    return root


def run_stage(dataset, *arguments):
    work = ("-w", dataset / "work")
    return brainstages(dataset / "raw", dataset / "out", *arguments, *OPTIONS, *work)


def test_levels_one_by_one_are_as_good_as_both_at_once(dataset):
    """On a cluster: the group's plan first, then participants; nothing is left for one command."""
    arms = ["--harmonization-arm", "isotropic", "cluster"]
    out = dataset / "out" / "brainstages-harmonization"
    run = run_stage(dataset, "group", *arms)
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((out / "plans" / "audit.json").read_text())
    assert report["Headline"].split()[0] in ("PASS", "WARN", "FAIL")
    assert not (out / "participants.tsv").exists()

    run = run_stage(dataset, "participant", *arms)
    assert run.returncode == 0, run.stdout + run.stderr
    table = {row["participant_id"]: row for row in read_table(out / "plans" / "fingerprint.tsv")}
    for name, row in table.items():
        for arm in ("isotropic", "cluster"):
            image = out / name / "anat" / f"{name}_desc-{arm}_T1w.nii.gz"
            assert image.exists() == (row[f"cohort_{arm}"] == "yes")
    assert sum(row["cohort_cluster"] == "yes" for row in table.values()) == 10
    people = read_people(out / "participants.tsv")
    assert {p["fold"] for p in people.values()} == {"0", "1"} and people["sub-000"]["sex"] == "M"
    assert report["Headline"][:20] in (out / "harmonization.html").read_text()

    again = run_stage(dataset, "participant", "group", *arms)
    assert again.returncode == 0 and "0 jobs to run" in again.stdout + again.stderr
