"""Jobs through JSON."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.job import Batch, Job

JOB = Job(
    stage="alpha",
    step="add",
    version="1",
    level="participant",
    key={"sub": "01", "run": "2"},
    inputs={"image": "/in/a.nii.gz", "offset": None, "many": ["/in/b", "/in/ü c"]},
    outputs={"total": "/out/sub-01/total.nii.gz"},
    params={"addend": 1.5, "names": ["a"]},
    seed=3,
)


def test_a_batch_survives_the_way_through_json(tmp_path):
    batch = Batch((JOB,), ("/scratch/0",), threads=2)
    batch.write(tmp_path / "batch.json")
    assert Batch.read(tmp_path / "batch.json") == batch


def test_a_job_knows_its_name_participant_and_files():
    assert JOB.id == "alpha.add.sub-01_run-2"
    assert JOB.participant == "01"
    assert JOB.input_paths == ["/in/a.nii.gz", "/in/b", "/in/ü c"]
    assert JOB.into(Path("/s")).outputs == {"total": "/s/total/total.nii.gz"}


@given(st.text(max_size=30))
def test_what_is_no_batch_is_refused_with_its_name(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "fuzzed-batch.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ValueError, match=r"fuzzed-batch.json: no batch of jobs"):
        Batch.read(path)
    path.unlink()
