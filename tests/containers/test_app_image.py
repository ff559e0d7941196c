"""The app in one image, as people run it on locked-down machines: any user, nothing writable."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import specs
from bids_app import __version__
from bids_app.launch import KERNELS
from bids_app.validation import validate_outputs
from tests.conftest import SHARED_DATA
from tests.containers.engines import (
    DOCKER,
    REPOSITORY,
    build,
    build_sif,
    docker,
    needs_apptainer,
    needs_docker,
)
from tests.containers.test_runner_docker import results

pytestmark = needs_docker
ARGUMENTS = ("participant", "--stages", "preprocessing")
DEMO = (*ARGUMENTS, "--session-label", "01")
STRANGER = 12345  # a user that no image knows


@pytest.fixture(scope="module")
def app_image() -> str:
    """The app's image, built from this repository as it is."""
    return build(REPOSITORY, f"brainstages:{__version__}")


@pytest.fixture(scope="module")
def open_folder():
    """A folder that every user may look into, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="brainstages-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def demo(open_folder) -> Path:
    """A demo dataset of one participant."""
    root = open_folder / "demo"
    command = [sys.executable, "-m", "bids_app.demo", str(root), "--participants", "1"]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)
    return root


@pytest.fixture(scope="module")
def plain(demo, open_folder) -> Path:
    """What a plain run writes, without a container."""
    return run_here(demo, open_folder / "plain", DEMO)


def run_here(raw: Path, out: Path, arguments: Sequence[str]) -> Path:
    """Run the app of this checkout with runner subprocess."""
    command = [sys.executable, "-m", "bids_app", raw, out, *arguments, "-w", f"{out}-work"]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def run_in_docker(image: str, raw: Path, out: Path, arguments: Sequence[str]) -> None:
    """Run the app's image as a stranger, with a read-only root and without network."""
    work = out.with_name(f"{out.name}-work")
    for folder in (out, work):
        folder.mkdir()
        os.chown(folder, STRANGER, STRANGER)
    options = ["--rm", "--read-only", "--network", "none", "--user", f"{STRANGER}:{STRANGER}"]
    mounts = ["-v", f"{raw}:{raw}:ro", "-v", f"{out}:{out}", "-v", f"{work}:{work}"]
    kernels = [part for name in KERNELS if name in os.environ for part in ("-e", name)]
    command = [DOCKER, "run", *options, "--tmpfs", "/tmp", *kernels, *mounts, image]
    done = subprocess.run(
        [*command, str(raw), str(out), *arguments, "-w", str(work)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def compare(out: Path, plain: Path) -> None:
    """Check that a run in a container wrote what a plain one does."""
    assert results(out) == results(plain)
    assert len(results(out)) > 10
    assert validate_outputs(out / "brainstages-preprocessing").errors == ()


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders to others")


@needs_root
def test_a_stranger_without_network_gets_the_same_bytes(app_image, demo, plain, open_folder):
    out = open_folder / "docker"
    run_in_docker(app_image, demo, out, DEMO)
    compare(out, plain)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in out.rglob("*")}
    assert owners == {(STRANGER, STRANGER)}
    assert container_of(out) == {"Type": "docker", "Tag": app_image}


@needs_root
@pytest.mark.slow
@pytest.mark.skipif(not (SHARED_DATA / "bids_ixi_hh").exists(), reason="no real head beside us")
def test_a_real_head_gives_the_same_bytes(app_image, open_folder):
    source = SHARED_DATA / "bids_ixi_hh"
    raw = open_folder / "ixi"
    raw.mkdir()
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, raw)
    participant = min(path.name for path in source.glob("sub-*"))
    shutil.copytree(source / participant, raw / participant)
    run_in_docker(app_image, raw, open_folder / "ixi-docker", ARGUMENTS)
    compare(open_folder / "ixi-docker", run_here(raw, open_folder / "ixi-plain", ARGUMENTS))


@needs_root
@pytest.mark.parametrize("options", [["--dry-run"], pytest.param([], marks=pytest.mark.slow)])
def test_one_docker_run_takes_the_demo_through_all_stages(app_image, open_folder, options):
    folder = open_folder / f"own-demo{len(options)}"
    folder.mkdir()
    os.chown(folder, STRANGER, STRANGER)
    who = ["--rm", "--network", "none", "--user", f"{STRANGER}:{STRANGER}"]
    command = [DOCKER, "run", *who, "-v", f"{folder}:{folder}", app_image, "demo", str(folder)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if options:
        assert all(f"{name}." in done.stdout for name in specs.names())
        assert not (folder / "derivatives").exists()
    else:
        made = {path.name.partition("-")[2] for path in folder.glob("derivatives/brainstages-*")}
        assert made == set(specs.names())
        assert (folder / "derivatives" / "brainstages.html").stat().st_uid == STRANGER


def run_in_apptainer(sif: Path, raw: Path, out: Path, arguments: Sequence[str], user: str) -> None:
    """Run a SIF in nothing but what is bound, as this user or as one of the system's."""
    work = out.with_name(f"{out.name}-work")
    for folder in (out, work):
        folder.mkdir()
        shutil.chown(folder, user)
    change = [] if user == pwd.getpwuid(os.getuid()).pw_name else ["runuser", "-u", user, "--"]
    options = ["--no-privs"] if user == "root" else []
    binds = [f"--bind={raw}:{raw}:ro", f"--bind={out}", f"--bind={work}"]
    kernels = {f"APPTAINERENV_{k}": os.environ[k] for k in KERNELS if k in os.environ}
    command = [*change, "apptainer", "run", "--cleanenv", "--containall", *options, *binds, sif]
    done = subprocess.run(
        [str(part) for part in (*command, raw, out, *arguments, "-w", work)],
        cwd=out.parent,
        env={**os.environ, **kernels},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{user}: {done.stderr}"


def container_of(out: Path) -> dict[str, str]:
    """Read what a dataset says about the container that made it."""
    path = out / "brainstages-preprocessing/dataset_description.json"
    container: dict[str, str] = json.loads(path.read_text())["GeneratedBy"][0]["Container"]
    return container


@needs_apptainer
def test_apptainer_gives_the_same_bytes_to_root_and_to_a_user(app_image, demo, plain, open_folder):
    sif = build_sif(f"docker-daemon:{app_image}", open_folder / "brainstages.sif")
    me = pwd.getpwuid(os.getuid()).pw_name
    others = {"tester"} & {user.pw_name for user in pwd.getpwall()} if me == "root" else set()
    for user in (me, *others):
        out = open_folder / f"apptainer-{user}"
        run_in_apptainer(sif, demo, out, DEMO, user)
        compare(out, plain)
        assert container_of(out) == {"Type": "singularity", "Tag": app_image}


@needs_apptainer
@pytest.mark.slow
def test_the_definition_file_alone_gives_the_same_app(app_image, demo, plain, open_folder):
    sif = build_sif("singularity.def", open_folder / "alone.sif")  # its %test runs here
    out = open_folder / "alone"
    run_in_apptainer(sif, demo, out, DEMO, pwd.getpwuid(os.getuid()).pw_name)
    compare(out, plain)
    assert container_of(out) == {"Type": "singularity", "Tag": app_image}


def test_the_image_says_what_it_is(app_image):
    assert docker("run", "--rm", "--network", "none", "--entrypoint", "cat", app_image,
                  "/version").strip() == __version__  # fmt: skip
    labels = json.loads(docker("image", "inspect", app_image))[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "brainstages"
    assert labels["org.opencontainers.image.ref.name"] == app_image
    spec = docker("run", "--rm", "--network", "none", app_image, "--bids-exec-spec")
    assert json.loads(spec)["tool-version"] == __version__


def test_data_that_were_not_mounted_are_hinted_at(app_image, tmp_path):
    done = subprocess.run(
        [DOCKER, "run", "--rm", "--network", "none", app_image, str(tmp_path), "/out", "group"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 66
    assert "in a container: is it mounted?" in done.stderr
