"""Runner `docker` on a real engine: same bytes, nothing writable, nothing left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_app import __version__
from bids_app.errors import Exit
from bids_app.launch import Launch, LaunchError
from bids_app.runner_docker import run_docker
from tests.bids_app.test_run import checksums, counts, status_of
from tests.conftest import write_dataset
from tests.containers.engines import DOCKER, build, containers_of, docker, needs_docker

pytestmark = needs_docker
DOCKER_RUNNER = ("--runner", "docker")


def results(root: Path) -> dict[str, str]:
    """Hash what steps wrote; sidecars name the Python version, and a dataset its container."""
    return {name: sum for name, sum in checksums(root).items() if not name.endswith(".json")}


def write_huge_image(raw: Path, sub: str = "sub-02") -> Path:
    """Give a participant an image that takes more than a gigabyte to work with."""
    path = raw / sub / "anat" / f"{sub}_T1w.nii.gz"
    image = nib.Nifti1Image(np.zeros((700, 700, 700), dtype=np.uint8), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


def wait_for(condition, seconds=60):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_two_stages_each_in_its_image_write_the_same_bytes(raw, tmp_path, brainstages, toy_images):
    outs = {}
    for runner in ("subprocess", "docker"):
        outs[runner] = tmp_path / runner
        done = brainstages(raw, outs[runner], "participant", "group", "--runner", runner)
        assert done.returncode == 0, done.stderr
    assert results(outs["docker"]) == results(outs["subprocess"])
    anat = outs["docker"] / "brainstages-alpha/sub-01/anat/sub-01_desc-added_T1w.nii.gz"
    assert anat.stat().st_uid == os.getuid()
    for stage, tag in toy_images.items():
        path = outs["docker"] / f"brainstages-{stage}" / "dataset_description.json"
        container = json.loads(path.read_text())["GeneratedBy"][0]["Container"]
        assert (container["Type"], container["Tag"]) == ("docker", tag)
        assert "sha256:" in container["URI"]
    assert not containers_of(tmp_path)


def test_a_stage_image_holds_no_other_stage(toy_images):
    found = docker("run", "--rm", "--network", "none", "--entrypoint", "find", toy_images["alpha"],
                   "/opt/brainstages", "-name", "*.py")  # fmt: skip
    assert "stages/alpha/add.py" in found
    assert "beta" not in found
    assert "bids_app" not in found


def test_a_step_cannot_write_into_the_raw_data(raw, tmp_path, brainstages, toy_images):
    done = brainstages(raw, tmp_path / "out", "participant", "--alpha-behaviour", "trespass",
                       *DOCKER_RUNNER)  # fmt: skip
    assert done.returncode == Exit.IO
    assert "Read-only file system" in done.stderr
    assert str(raw) in done.stderr
    assert not [*raw.rglob("trespass")]


def test_a_step_sees_no_network(raw, tmp_path, brainstages, toy_images):
    done = brainstages(raw, tmp_path / "out", "participant", "--alpha-behaviour", "look",
                       *DOCKER_RUNNER)  # fmt: skip
    assert "network interfaces: lo." in done.stderr


def test_a_step_that_needs_too_much_memory_is_a_passing_failure(
    raw, tmp_path, brainstages, toy_images
):
    write_huge_image(raw)
    done = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER)
    assert done.returncode == Exit.TEMPORARY
    assert "was killed, most likely because memory ran out" in done.stderr
    assert status_of(tmp_path / "out")["participants"] == {"01": "done", "02": "failed"}
    assert not containers_of(tmp_path)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_no_container_and_can_go_on(
    raw, tmp_path, start, brainstages, toy_images, signal_number
):
    out = tmp_path / "out"
    run = start(raw, out, "participant", "--alpha-behaviour", "sleep", *DOCKER_RUNNER)
    wait_for(lambda: containers_of(tmp_path))
    time.sleep(1)  # into the step
    run.send_signal(signal_number)
    run.communicate(timeout=30)
    wait_for(lambda: not containers_of(tmp_path), seconds=15)
    assert brainstages(raw, out, "participant", *DOCKER_RUNNER).returncode == 0
    assert counts(out)[0] == 7


def test_files_from_outside_the_datasets_are_seen(raw, tmp_path, brainstages, toy_images):
    """An option's file, and an image that is a symbolic link to a store elsewhere."""
    store = tmp_path / "store" / "one.nii.gz"
    store.parent.mkdir()
    image = raw / "sub-01/anat/sub-01_T1w.nii.gz"
    image.rename(store)
    image.symlink_to(store)
    offset = tmp_path / "given" / "offset.txt"
    offset.parent.mkdir()
    offset.write_text("10")
    done = brainstages(raw, tmp_path / "out", "participant", "--weights", f"offset={offset}",
                       *DOCKER_RUNNER)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_paths_with_spaces_commas_and_unicode(tmp_path, brainstages, toy_images):
    raw = write_dataset(tmp_path / "my räw, data", ("01",))
    done = brainstages(raw, tmp_path / "öut: put", "participant", *DOCKER_RUNNER)
    assert done.returncode == 0, done.stderr


def test_a_missing_image_is_named_with_the_command_that_builds_it(raw, tmp_path, brainstages):
    done = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER,
                       "--images", "127.0.0.1:9/nowhere")  # fmt: skip
    assert done.returncode == Exit.MISSING_FILE
    name = f"127.0.0.1:9/nowhere/brainstages-alpha:{__version__}"
    assert f"no image {name}" in done.stderr
    assert f"docker build --target stage --build-arg STAGE=alpha -t {name} ." in done.stderr
    assert status_of(tmp_path / "out")["jobs"]["done"] == 0


def test_an_engine_that_does_not_run(raw, tmp_path, brainstages):
    done = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER,
                       DOCKER_HOST=f"unix://{tmp_path}/nothing.sock")  # fmt: skip
    assert done.returncode == Exit.MISSING_FILE
    assert "no Docker engine answers; start it" in done.stderr


def test_an_image_for_another_processor(raw, tmp_path, brainstages, context):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    for stage in ("alpha", "beta"):
        tag = f"elsewhere/brainstages-{stage}:{__version__}"
        build(empty, tag, "--platform", "linux/s390x")
    done = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER,
                       "--images", "elsewhere")  # fmt: skip
    assert done.returncode == Exit.MISSING_FILE
    assert "is for s390x, this machine is" in done.stderr


def test_an_image_of_another_version_of_the_stage_is_refused(
    raw, tmp_path, brainstages, context, toy_images
):
    old = tmp_path / "old"
    old.mkdir()
    base = toy_images["alpha"]
    (old / "Dockerfile").write_text(
        f"FROM {base}\nUSER 0\n"
        "RUN sed -i 's/^version: .*/version: \"0\"/' /opt/brainstages/specs/alpha.yaml\n"
    )
    build(old, f"old/brainstages-alpha:{__version__}")
    docker("tag", toy_images["beta"], f"old/brainstages-beta:{__version__}")
    done = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER, "--images", "old")
    assert done.returncode == Exit.DATA
    assert "stage alpha is version 0 here and version 1 in the app" in done.stderr


@pytest.mark.skipif(
    not DOCKER or "nvidia" in subprocess.getoutput(f"{DOCKER} info"), reason="containers have GPUs"
)
def test_a_gpu_that_is_not_there(raw, tmp_path, checkout, brainstages, toy_images):
    path = checkout / "specs" / "alpha.yaml"
    before = path.read_text()
    path.write_text(before.replace("{cpus: 1,", "{gpus: 1, cpus: 1,"))
    try:
        done = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER)
        assert done.returncode == Exit.MISSING_FILE
        assert "a step asks for a GPU and the Docker engine has none" in done.stderr
        again = brainstages(raw, tmp_path / "out", "participant", *DOCKER_RUNNER, "--n-gpus", 0)
        assert again.returncode == 0, again.stderr
    finally:
        path.write_text(before)


def test_a_folder_that_the_engine_does_not_see(tmp_path, toy_images):
    """What happens when the app itself runs in a container and data lie elsewhere on the host."""
    launch = Launch(
        batch_file=tmp_path / "batch.json", log=tmp_path / "log", folder=tmp_path, cache=tmp_path,
        read_only=(str(tmp_path / "elsewhere"),), image=toy_images["alpha"], threads=1,
        memory_gb=0.5, gpus=0,
    )  # fmt: skip
    with pytest.raises(LaunchError, match="elsewhere: the Docker engine does not see this path"):
        run_docker(launch, lambda: None)
