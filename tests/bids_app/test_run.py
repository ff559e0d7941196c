"""Whole runs of two toy stages through Nipype, in processes of their own, as users start them."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from bids_app.errors import Exit
from bids_app.validation import find_validator, validate_outputs
from tests.conftest import write_dataset, write_image

ADDED = "brainstages-alpha/sub-{}/anat/sub-{}_desc-added_T1w.nii.gz"
DOUBLED = "brainstages-alpha/sub-{}/anat/sub-{}_desc-doubled_T1w.nii.gz"


def status_of(out: Path) -> dict:
    """Read the status of the latest run."""
    path = max(out.glob("logs/run-*/status.json"), key=lambda p: p.stat().st_mtime_ns)
    return json.loads(path.read_text())


def counts(out: Path) -> tuple[int, int, int]:
    """Tell how many jobs the latest run did, skipped, and failed."""
    jobs = status_of(out)["jobs"]
    return jobs["done"], jobs["skipped"], jobs["failed"]


def checksums(root: Path) -> dict[str, str]:
    """Hash every file below a folder but logs and pages."""
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and "logs" not in p.parts and p.suffix != ".html"
    }


@pytest.fixture
def finished(raw, tmp_path, brainstages):
    """A dataset on which both toy stages ran."""
    out = tmp_path / "out"
    done = brainstages(raw, out, "participant", "group")
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_writes_what_it_promised(raw, finished):
    added = nib.load(finished / ADDED.format("02", "02"))
    assert np.all(added.get_fdata() == 3)
    assert np.all(nib.load(finished / DOUBLED.format("02", "02")).get_fdata() == 6)
    sidecar = json.loads(
        (finished / ADDED.format("02", "02").replace(".nii.gz", ".json")).read_text()
    )
    assert sidecar["Sources"] == ["bids:raw:sub-02/anat/sub-02_T1w.nii.gz"]
    assert sidecar["Parameters"]["addend"] == {"Value": 1.0, "Units": "mm"}
    assert (sidecar["Seed"], sidecar["SkullStripped"]) == (0, False)
    assert sidecar["LibraryVersions"].keys() == {"brainstages alpha", "python", "nibabel", "numpy"}
    doubled = json.loads(
        (finished / DOUBLED.format("01", "01").replace(".nii.gz", ".json")).read_text()
    )
    assert doubled["Sources"] == ["bids::sub-01/anat/sub-01_desc-added_T1w.nii.gz"]
    value = json.loads((finished / "brainstages-beta/models/mean/value.json").read_text())
    assert value == {"mean": 5.0}
    participants = (finished / "brainstages-alpha/participants.tsv").read_text()
    assert participants == "participant_id\tage\nsub-01\t20\nsub-02\t21\n"
    scans = (finished / "brainstages-alpha/sub-01/sub-01_scans.tsv").read_text()
    assert scans == "filename\tmean\nanat/sub-01_desc-added_T1w.nii.gz\t2.000\n"
    assert (
        "desc-added\tImage plus a number."
        in (finished / "brainstages-alpha/descriptions.tsv").read_text()
    )
    status = status_of(finished)
    assert status["exit_code"] == 0
    assert status["participants"] == {"01": "done", "02": "done"}
    for name in ("brainstages.html", "brainstages-alpha/sub-01.html", "brainstages-beta/beta.html"):
        assert "http" not in (finished / name).read_text().replace("http-equiv", "")


@pytest.mark.skipif(find_validator() is None, reason="bids-validator-deno is not installed")
def test_every_dataset_is_valid_bids(finished):
    for stage in ("alpha", "beta"):
        assert validate_outputs(finished / f"brainstages-{stage}").errors == ()


def test_raw_data_are_never_written(raw, finished, brainstages):
    before = checksums(raw)
    brainstages(raw, finished, "participant", "--alpha-addend", "9")
    assert checksums(raw) == before


def test_an_unchanged_second_run_does_nothing_even_without_its_work_folder(
    raw, finished, brainstages, tmp_path
):
    before = checksums(finished)
    assert brainstages(raw, finished, "participant", "group").returncode == 0
    assert counts(finished) == (0, 10, 0)
    shutil.rmtree(tmp_path / "work")
    for path in raw.rglob("*"):
        os.utime(path, (1, 1))
    assert brainstages(raw, finished, "participant", "group").returncode == 0
    assert counts(finished) == (0, 10, 0)
    assert checksums(finished) == before


def test_moving_input_and_output_costs_nothing(raw, finished, brainstages, tmp_path):
    raw.rename(tmp_path / "moved")
    finished.rename(tmp_path / "elsewhere")
    done = brainstages(tmp_path / "moved", tmp_path / "elsewhere", "participant", "group")
    assert done.returncode == 0
    assert counts(tmp_path / "elsewhere") == (0, 10, 0)


def test_one_changed_input_runs_that_participant_and_what_follows(raw, finished, brainstages):
    write_image(raw / "sub-02/anat/sub-02_T1w.nii.gz", 7.0)
    assert brainstages(raw, finished, "participant", "group").returncode == 0
    # add, double, choose for the participant; two averages; nothing to follow for an even number
    assert counts(finished) == (5, 5, 0)
    assert np.all(nib.load(finished / DOUBLED.format("02", "02")).get_fdata() == 16)


def test_one_deleted_derivative_runs_that_job_alone(raw, finished, brainstages):
    (finished / ADDED.format("01", "01")).unlink()
    assert brainstages(raw, finished, "participant", "group").returncode == 0
    # the job wrote the same bytes as before, so nothing that reads them had to run
    assert counts(finished) == (1, 9, 0)


def test_a_changed_parameter_runs_what_depends_on_it(raw, finished, brainstages):
    assert brainstages(raw, finished, "participant", "--alpha-factor", "3").returncode == 0
    assert counts(finished) == (5, 3, 0)
    done = brainstages(raw, finished, "participant", "group", "--preset", "tiny")
    assert done.returncode == 0
    assert np.all(nib.load(finished / ADDED.format("01", "01")).get_fdata() == 6)


def test_a_changed_seed_runs_everything(raw, finished, brainstages):
    brainstages(raw, finished, "participant", "--random-seed", "1")
    assert counts(finished) == (7, 1, 0)


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
@pytest.mark.parametrize("plugin", ["Linear", "MultiProc"])
def test_any_runner_with_any_plugin_gives_the_same_bytes(
    raw, finished, brainstages, tmp_path, runner, plugin
):
    out = tmp_path / "again"
    done = brainstages(raw, out, "participant", "group", "--runner", runner, "--plugin", plugin)
    assert done.returncode == 0, done.stderr
    assert checksums(out) == checksums(finished)


def test_a_failed_participant_does_not_stop_the_others(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    write_image(raw / "sub-02/anat/sub-02_T1w.nii.gz", shape=(4, 4, 4, 2))
    done = brainstages(raw, out, "participant", "--skip-bids-validation")
    assert done.returncode == Exit.SOME_FAILED
    assert "sub-02_T1w.nii.gz: 4D image, expected 3D; give one volume" in done.stderr
    status = status_of(out)
    assert status["participants"] == {"01": "done", "02": "failed"}
    assert status["failures"][0]["step"] == "add"
    assert status["jobs"] == {"done": 4, "skipped": 0, "blocked": 3, "failed": 1}
    assert status["exit_code"] == 1
    crash = next(out.glob("logs/run-*/crash-*.txt")).read_text()
    assert "Traceback" in crash
    assert "Traceback" not in done.stderr
    assert "4D image" in (out / "brainstages.html").read_text()
    assert not (out / ADDED.format("02", "02")).exists()
    write_image(raw / "sub-02/anat/sub-02_T1w.nii.gz", 2.0)
    assert brainstages(raw, out, "participant").returncode == 0
    assert counts(out) == (3, 5, 0)


def test_when_everyone_fails_alike_the_exit_code_says_why(raw, tmp_path, brainstages):
    for label in ("01", "02"):
        write_image(raw / f"sub-{label}/anat/sub-{label}_T1w.nii.gz", shape=(4, 4, 4, 2))
    done = brainstages(raw, tmp_path / "out", "participant", "--skip-bids-validation")
    assert done.returncode == Exit.DATA


def test_a_killed_stage_process_is_a_passing_failure(raw, tmp_path, brainstages):
    done = brainstages(raw, tmp_path / "out", "participant", "--alpha-behaviour", "crash")
    assert done.returncode == Exit.TEMPORARY
    assert "was killed, most likely because memory ran out" in done.stderr


def test_stopping_at_the_first_crash_leaves_the_rest(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    options = ["--stop-on-first-crash", "--plugin", "Linear", "--nprocs", "2"]
    done = brainstages(raw, out, "participant", "--alpha-behaviour", "crash", *options)
    assert done.returncode != 0
    reasons = [f["reason"] for f in status_of(out)["failures"]]
    assert any(reason.startswith("did not run") for reason in reasons)


def test_damaged_gzip_is_named_and_the_rest_goes_on(raw, tmp_path, brainstages):
    path = raw / "sub-01/anat/sub-01_T1w.nii.gz"
    path.write_bytes(path.read_bytes()[:60])
    done = brainstages(raw, tmp_path / "out", "participant")
    assert done.returncode == Exit.SOME_FAILED
    assert status_of(tmp_path / "out")["participants"] == {"01": "failed", "02": "done"}


def test_invalid_bids_stops_before_any_work(raw, tmp_path, brainstages):
    (raw / "participants.tsv").write_text("who\tage\nsub-01\t20\n")
    done = brainstages(raw, tmp_path / "out", "participant")
    assert done.returncode == Exit.INVALID_INPUT
    assert "participants.tsv" in done.stderr
    assert "--skip-bids-validation" in done.stderr
    assert (
        brainstages(raw, tmp_path / "o2", "participant", "--skip-bids-validation").returncode == 0
    )


def test_a_failed_participant_is_left_out_of_the_group(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    path = raw / "sub-02/anat/sub-02_T1w.nii.gz"
    path.write_bytes(b"")
    done = brainstages(raw, out, "participant", "group")
    assert done.returncode == Exit.SOME_FAILED
    value = json.loads((out / "brainstages-beta/models/mean/value.json").read_text())
    assert value == {"mean": 4.0}
    write_image(path, 2.0)
    assert brainstages(raw, out, "participant", "group").returncode == 0
    value = json.loads((out / "brainstages-beta/models/mean/value.json").read_text())
    assert value == {"mean": 5.0}


def test_an_optional_output_that_was_not_written_leaves_nothing_to_do(finished):
    beta = finished / "brainstages-beta"
    assert sorted(p.name for p in beta.glob("models/*.txt")) == ["01a.txt"]
    assert (beta / "sub-01/anat/sub-01_desc-odda_T1w.nii.gz").exists()
    labels = (beta / "descriptions.tsv").read_text()
    assert (
        labels
        == "desc_id\tdescription\ndesc-odda\tAn odd one. (tag a)\ndesc-oddb\tAn odd one. (tag b)\n"
    )


def test_what_cannot_be_created_has_its_own_code(raw, tmp_path, brainstages):
    (tmp_path / "file").write_text("in the way")
    done = brainstages(raw, tmp_path / "file" / "out", "participant")
    assert done.returncode == Exit.CANNOT_CREATE
    assert "cannot create" in done.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(raw, tmp_path, brainstages):
    done = brainstages(raw, tmp_path / "out", "participant", "group", "--dry-run")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["step", "jobs"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["alpha.add", "2", "2"],
        ["alpha.double", "2", "2"],
        ["beta.average", "2", "2"],
        ["beta.choose", "2", "2"],
        ["beta.follow", "2", "2"],
    ]
    assert not (tmp_path / "out").exists()


def test_reports_alone_are_rebuilt_from_derivatives(raw, finished, brainstages):
    for page in finished.rglob("*.html"):
        page.unlink()
    assert brainstages(raw, finished, "participant", "group", "--reports-only").returncode == 0
    assert (finished / "brainstages.html").exists()
    assert (finished / "brainstages-alpha/sub-02.html").exists()
    assert counts(finished) == (0, 0, 0)


def test_the_methods_text_alone(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    assert brainstages(raw, out, "participant", "--boilerplate-only").returncode == 0
    text = next(out.glob("logs/run-*/CITATION.md")).read_text()
    assert "addend 1.0 mm" in text
    assert "Nipype" in text
    assert not (out / "brainstages-alpha").exists()


def test_graph_and_resources_are_written_on_demand(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    brainstages(raw, out, "participant", "--write-graph", "--resource-monitor")
    graph = next(out.glob("logs/run-*/graph.dot")).read_text()
    assert '"alpha.add.sub-01" -> "alpha.double.sub-01";' in graph
    resources = next(out.glob("logs/run-*/resources.tsv")).read_text().splitlines()
    assert resources[0] == "job\tseconds\tpeak_memory_gb"
    assert len(resources) == 8


def test_the_work_folder_is_emptied_and_removed_on_demand(raw, tmp_path, brainstages):
    out, work = tmp_path / "out", tmp_path / "work"
    brainstages(raw, out, "participant")
    assert len([*work.glob("run-*")]) == 1
    brainstages(raw, out, "participant", "--clean-workdir")
    assert len([*work.glob("run-*")]) == 1
    brainstages(raw, out, "participant", "--clean-workdir", "--rm-workdir-on-success")
    assert not work.exists()


def test_an_existing_index_of_pybids_is_used(raw, tmp_path, brainstages):
    out, index = tmp_path / "out", tmp_path / "index"
    done = brainstages(raw, out, "participant", "--bids-database-dir", index)
    assert done.returncode == 0
    assert any(index.iterdir())
    assert counts(out)[0] == 7


def test_an_option_given_by_path_is_an_input_like_others(raw, tmp_path, brainstages):
    out, offset = tmp_path / "out", tmp_path / "offset.txt"
    offset.write_text("10")
    brainstages(raw, out, "participant", "--weights", f"offset={offset}")
    assert np.all(nib.load(out / ADDED.format("01", "01")).get_fdata() == 12)
    offset.write_text("20")
    brainstages(raw, out, "participant", "--weights", f"offset={offset}")
    assert counts(out)[0] == 7


def test_paths_with_spaces_and_unicode(tmp_path, brainstages):
    raw = write_dataset(tmp_path / "my räw data", ("01",))
    done = brainstages(raw, tmp_path / "öut put", "participant", "group")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_process_and_no_half_file_and_can_go_on(
    raw, tmp_path, checkout, brainstages, signal_number
):
    out, work = tmp_path / "out", tmp_path / "work"
    command = [sys.executable, "-m", "bids_app", raw, out, "participant", "-w", work]
    process = subprocess.Popen(
        [*map(str, command), "--alpha-behaviour", "sleep"],
        cwd=checkout,
        stderr=subprocess.PIPE,
        # a shell that starts pytest in the background would leave Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not [*work.glob("run-*/states/*.started")] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.7)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert any("stages" in member.cmdline() for member in family)
    process.send_signal(signal_number)
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    if signal_number != signal.SIGKILL:
        assert process.returncode == Exit.INTERRUPTED
        assert status_of(out)["exit_code"] == Exit.INTERRUPTED
    assert not [*out.glob("brainstages-alpha/sub-*")]
    assert brainstages(raw, out, "participant").returncode == 0


def test_an_empty_gzip_is_named(raw, tmp_path, brainstages):
    with gzip.open(raw / "sub-01/anat/sub-01_T1w.nii.gz", "wb"):
        pass
    done = brainstages(raw, tmp_path / "out", "participant")
    assert done.returncode == Exit.SOME_FAILED
    assert "sub-01_T1w.nii.gz" in done.stderr
