"""Runner `apptainer` with real images: same bytes, nothing writable, nothing left behind."""

import json
import os
import shutil
import signal
import time

import psutil
import pytest

from bids_app.errors import Exit
from tests.bids_app.test_run import counts
from tests.conftest import write_dataset
from tests.containers.engines import build, build_sif, needs_apptainer, needs_docker
from tests.containers.test_runner_docker import results, wait_for

pytestmark = [needs_apptainer, needs_docker]  # the images come from the engine


@pytest.fixture
def options(sif_folder):
    """What selects the runner and its images."""
    return ("--runner", "apptainer", "--images", sif_folder)


def processes_of(work):
    """List the processes with a path in a folder on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(work) in line and "batch.json" in line:
            found.append(process)
    return found


def test_two_stages_each_in_its_image_write_the_same_bytes(raw, tmp_path, brainstages, options):
    done = brainstages(raw, tmp_path / "plain", "participant", "group")
    assert done.returncode == 0, done.stderr
    done = brainstages(raw, tmp_path / "out", "participant", "group", *options)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "out") == results(tmp_path / "plain")
    path = tmp_path / "out/brainstages-alpha/dataset_description.json"
    container = json.loads(path.read_text())["GeneratedBy"][0]["Container"]
    assert container["Type"] == "singularity"
    assert container["Tag"].startswith("brainstages-alpha:")


def test_a_step_cannot_write_into_the_raw_data(raw, tmp_path, brainstages, options):
    done = brainstages(raw, tmp_path / "out", "participant", "--alpha-behaviour", "trespass",
                       *options)  # fmt: skip
    assert done.returncode == Exit.IO
    assert "Read-only file system" in done.stderr
    assert not [*raw.rglob("trespass")]


def test_a_step_sees_no_network(raw, tmp_path, brainstages, options):
    done = brainstages(raw, tmp_path / "out", "participant", "--alpha-behaviour", "look", *options)
    assert "network interfaces: lo." in done.stderr


def test_a_killed_step_is_a_passing_failure(raw, tmp_path, brainstages, options):
    done = brainstages(raw, tmp_path / "out", "participant", "--alpha-behaviour", "crash", *options)
    assert done.returncode == Exit.TEMPORARY
    assert "was killed, most likely because memory ran out" in done.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_process_and_can_go_on(
    raw, tmp_path, start, brainstages, options, signal_number
):
    out = tmp_path / "out"
    run = start(raw, out, "participant", "--alpha-behaviour", "sleep", *options)
    wait_for(lambda: processes_of(tmp_path))
    time.sleep(1.5)  # into the step
    run.send_signal(signal_number)
    run.communicate(timeout=30)
    wait_for(lambda: not processes_of(tmp_path), seconds=15)
    assert brainstages(raw, out, "participant", *options).returncode == 0
    assert counts(out)[0] == 7


def test_paths_with_spaces_commas_and_unicode(tmp_path, brainstages, options):
    raw = write_dataset(tmp_path / "my räw, data", ("01",))
    done = brainstages(raw, tmp_path / "öut: put", "participant", *options)
    assert done.returncode == 0, done.stderr


def test_a_missing_image_is_named_with_the_command_that_builds_it(raw, tmp_path, brainstages):
    done = brainstages(raw, tmp_path / "out", "participant", "--runner", "apptainer",
                       "--images", tmp_path)  # fmt: skip
    assert done.returncode == Exit.MISSING_FILE
    image = tmp_path / "brainstages-alpha.sif"
    assert f"{image}: no such image" in done.stderr
    assert f"apptainer build {image} docker-daemon:brainstages-alpha:" in done.stderr


def test_a_file_that_is_no_image(raw, tmp_path, brainstages):
    for stage in ("alpha", "beta"):
        (tmp_path / f"brainstages-{stage}.sif").write_text("not an image")
    done = brainstages(raw, tmp_path / "out", "participant", "--runner", "apptainer",
                       "--images", tmp_path)  # fmt: skip
    assert done.returncode == Exit.MISSING_FILE
    assert "brainstages-alpha.sif is no image that" in done.stderr


def test_apptainer_that_is_not_on_the_path(raw, tmp_path, brainstages, options):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bids-validator-deno").symlink_to(shutil.which("true"))
    done = brainstages(raw, tmp_path / "out", "participant", *options, PATH=str(tools))
    assert done.returncode == Exit.MISSING_FILE
    assert "neither apptainer nor singularity is on PATH" in done.stderr


def test_an_image_for_another_processor(raw, tmp_path, brainstages):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    build(empty, "elsewhere/empty:1", "--platform", "linux/s390x")
    for stage in ("alpha", "beta"):
        sif = tmp_path / f"brainstages-{stage}.sif"
        build_sif("docker-daemon:elsewhere/empty:1", sif, "--arch", "s390x")
    done = brainstages(raw, tmp_path / "out", "participant", "--runner", "apptainer",
                       "--images", tmp_path)  # fmt: skip
    assert done.returncode == Exit.MISSING_FILE
    assert "is for s390x, this machine is" in done.stderr


@pytest.mark.skipif(os.path.exists("/proc/driver/nvidia"), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(raw, tmp_path, checkout, brainstages, options):
    path = checkout / "specs" / "alpha.yaml"
    before = path.read_text()
    path.write_text(before.replace("{cpus: 1,", "{gpus: 1, cpus: 1,"))
    try:
        done = brainstages(raw, tmp_path / "out", "participant", *options)
        assert done.returncode == Exit.MISSING_FILE
        assert "a step asks for a GPU and this machine has none" in done.stderr
    finally:
        path.write_text(before)
