"""Runs through Nipype's SLURM plugin and a real sbatch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from bids_app.errors import Exit
from tests.bids_app.test_run import checksums, counts, status_of
from tests.conftest import write_image
from tests.containers.engines import needs_apptainer, needs_docker, needs_slurm
from tests.containers.test_runner_docker import results, wait_for, write_huge_image

pytestmark = needs_slurm


@pytest.fixture
def slurm(brainstages, checkout):
    """Run the command line with jobs going to SLURM; its nodes must find the checkout."""

    def run(*arguments, **environment):
        return brainstages(*arguments, "--plugin", "SLURM", PYTHONPATH=str(checkout), **environment)

    return run


@pytest.fixture
def long_jobs(checkout):
    """Expect so long of each job of stage alpha that none shares its node with another."""
    path = checkout / "specs" / "alpha.yaml"
    before = path.read_text()
    path.write_text(before.replace("minutes: 0.01", "minutes: 20"))
    yield
    path.write_text(before)


def plugin_file(folder: Path, arguments: str) -> Path:
    """Write what a user adds to the arguments of sbatch."""
    path = folder / "plugin.yml"
    path.write_text(yaml.safe_dump({"plugin": "SLURM", "plugin_args": {"sbatch_args": arguments}}))
    return path


def recorded(out: Path) -> list[str]:
    """List the scheduler's job numbers that a run wrote down."""
    (path,) = out.glob("logs/run-*/scheduler-jobs.tsv")
    return [line.split("\t")[0] for line in path.read_text().splitlines()]


def in_queue(ids: list[str]) -> list[str]:
    """List those jobs that wait or run."""
    done = subprocess.run(["squeue", "-h", "-o", "%i"], capture_output=True, text=True, check=True)
    listed = {line.partition("_")[0] for line in done.stdout.split()}  # a task of an array: 7_1
    return [job_id for job_id in ids if job_id in listed]


def test_two_participants_and_a_group_run_through_sbatch(raw, tmp_path, brainstages, slurm):
    done = brainstages(raw, tmp_path / "here", "participant", "group")
    assert done.returncode == 0, done.stderr
    done = slurm(raw, tmp_path / "out", "participant", "group", LOGNAME="")
    assert done.returncode == 0, done.stderr
    assert checksums(tmp_path / "out") == checksums(tmp_path / "here")
    assert len(recorded(tmp_path / "out")) == 5  # ten jobs, in one submission per step
    value = json.loads((tmp_path / "out/brainstages-beta/models/mean/value.json").read_text())
    assert value == {"mean": 5.0}


@needs_docker
@needs_apptainer
def test_the_nodes_use_containers(raw, tmp_path, brainstages, slurm, sif_folder):
    brainstages(raw, tmp_path / "here", "participant")
    done = slurm(raw, tmp_path / "out", "participant", "--runner", "apptainer",
                 "--images", sif_folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == results(tmp_path / "here")


def test_a_job_over_its_memory_is_passing_and_only_it_runs_again(raw, tmp_path, slurm, long_jobs):
    out = tmp_path / "out"
    small = raw / "sub-02/anat/sub-02_T1w.nii.gz"
    write_huge_image(raw)
    done = slurm(raw, out, "participant", "--stages", "alpha")
    assert done.returncode == Exit.TEMPORARY
    assert "ran out of the memory that the scheduler gave it; run again" in done.stderr
    assert status_of(out)["participants"] == {"01": "done", "02": "failed"}
    write_image(small, 2.0)
    again = slurm(raw, out, "participant", "--stages", "alpha")
    assert again.returncode == 0, again.stderr
    assert counts(out) == (2, 2, 0)


def test_what_shares_a_node_with_a_killed_job_is_finished_all_the_same(raw, tmp_path, slurm):
    """Both participants' jobs are one submission; the scheduler kills it at the first."""
    out = tmp_path / "out"
    write_huge_image(raw, "sub-01")
    done = slurm(raw, out, "participant", "--stages", "alpha")
    assert done.returncode == Exit.TEMPORARY
    assert "jobs are submitted again" in done.stderr
    assert status_of(out)["participants"] == {"01": "failed", "02": "done"}
    assert len(recorded(out)) > 2


@pytest.mark.slow
def test_a_job_over_its_time_is_passing(raw, tmp_path, slurm):
    file = plugin_file(tmp_path, "--time=1")
    done = slurm(raw, tmp_path / "out", "participant", "--stages", "alpha", "--participant-label",
                 "01", "--use-plugin", file, "--alpha-behaviour", "sleep")  # fmt: skip
    assert done.returncode == Exit.TEMPORARY
    assert "ran out of the time that the scheduler gave it; run again" in done.stderr


def test_a_run_that_is_told_to_stop_cancels_its_jobs(raw, tmp_path, start, checkout, brainstages):
    out = tmp_path / "out"
    run = start(raw, out, "participant", "--alpha-behaviour", "sleep", "--plugin", "SLURM",
                PYTHONPATH=str(checkout))  # fmt: skip
    wait_for(lambda: [*(tmp_path / "work").glob("run-*/states/*.started")])
    assert in_queue(recorded(out))
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=30)
    assert run.returncode == Exit.INTERRUPTED
    wait_for(lambda: not in_queue(recorded(out)), seconds=20)


def test_a_killed_run_leaves_no_job_that_it_did_not_record(
    raw, tmp_path, start, checkout, brainstages
):
    """What was submitted goes on, puts its results where they belong, and is not done twice."""
    out = tmp_path / "out"
    run = start(raw, out, "participant", "--plugin", "SLURM",
                PYTHONPATH=str(checkout), LOGNAME="victim")  # fmt: skip
    wait_for(lambda: [*out.glob("logs/run-*/scheduler-jobs.tsv")])
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    listed = subprocess.run(
        ["squeue", "-h", "-o", "%i %j"], capture_output=True, text=True, check=True
    )
    ours = [line.split()[0] for line in listed.stdout.splitlines() if "victim" in line]
    assert set(ours) <= set(recorded(out))
    wait_for(lambda: not in_queue(recorded(out)), seconds=30)
    time.sleep(0.5)
    assert brainstages(raw, out, "participant").returncode == 0
    done, skipped, failed = counts(out)
    assert (skipped >= 2, failed) == (True, 0)
    assert done + skipped == 8


def test_what_the_scheduler_refuses_is_said(raw, tmp_path, slurm):
    file = plugin_file(tmp_path, "--partition=nowhere")
    done = slurm(raw, tmp_path / "out", "participant", "--stages", "alpha", "--use-plugin", file)
    assert done.returncode == Exit.TEMPORARY
    assert "invalid partition specified: nowhere" in done.stderr


def submit(folder: Path, checkout: Path) -> list[str]:
    """Submit written scripts; return the numbers of the jobs."""
    command = f"{sys.executable} -m bids_app"
    done = subprocess.run(
        ["bash", str(folder / "submit.sh")],
        cwd=checkout,
        env={**os.environ, "BRAINSTAGES": command, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split()[-1] for line in done.stdout.splitlines()]


def test_written_scripts_run_an_array_and_then_the_group(
    raw, tmp_path, brainstages, checkout, long_jobs
):
    brainstages(raw, tmp_path / "here", "participant", "group")
    out, scripts = tmp_path / "out", tmp_path / "my scripts"
    done = brainstages("hpc", "slurm", raw, out, "participant", "group", "--dir", scripts)
    assert done.returncode == 0, done.stderr
    assert str(scripts / "submit.sh") in done.stdout
    assert (scripts / "participants.txt").read_text() == "01\n02\n"
    ids = submit(scripts, checkout)
    wait_for(lambda: not in_queue(ids), seconds=90)
    said = "".join(path.read_text() for path in scripts.glob("*-*.txt"))
    assert checksums(out) == checksums(tmp_path / "here"), said


def test_a_failed_participant_ends_the_group_instead_of_leaving_it_in_the_queue(
    raw, tmp_path, brainstages, checkout, long_jobs
):
    write_image(raw / "sub-02/anat/sub-02_T1w.nii.gz", shape=(4, 4, 4, 2))
    out, scripts = tmp_path / "out", tmp_path / "scripts"
    brainstages("hpc", "slurm", raw, out, "participant", "group", "--skip-bids-validation",
                "--dir", scripts)  # fmt: skip
    ids = submit(scripts, checkout)
    wait_for(lambda: not in_queue(ids), seconds=90)
    assert not (out / "brainstages-beta/models/mean").exists()
    assert (out / "brainstages-alpha/sub-01").exists()
