"""What runners have in common, without any engine."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bids_app import __version__
from bids_app.launch import (
    CACHES,
    MEMORY,
    container_environment,
    follow,
    image_name,
    process_environment,
    signal_of,
)
from bids_app.runners import INSPECTORS, RUNNERS, own_container


def test_every_container_runner_can_be_inspected():
    assert INSPECTORS.keys() == RUNNERS.keys() - {"inprocess", "subprocess"}


@pytest.mark.parametrize(
    ("runner", "where", "expected"),
    [
        ("docker", "", "brainstages-encoding:VERSION"),
        ("docker", "example.org/lab/", "example.org/lab/brainstages-encoding:VERSION"),
        ("apptainer", "/images", "/images/brainstages-encoding.sif"),
        ("apptainer", "", f"{Path.cwd()}/brainstages-encoding.sif"),
        ("subprocess", "anything", ""),
    ],
)  # fmt: skip
def test_images_are_found_by_their_stages_name(runner, where, expected):
    version = __version__.replace("+", "-")
    assert image_name(runner, "brainstages-encoding", where) == expected.replace("VERSION", version)


def test_caches_that_cannot_be_used_go_into_the_work_folder(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    environ = {"TORCH_HOME": str(mine), "HF_HOME": "/proc/nowhere", "PATH": "/bin"}
    found = process_environment(tmp_path / "cache", environ)
    assert found["TORCH_HOME"] == str(mine)
    assert found["HF_HOME"] == str(tmp_path / "cache/huggingface")
    assert found["MPLCONFIGDIR"] == str(tmp_path / "cache/matplotlib")
    assert (found["PATH"], found["HF_HUB_OFFLINE"], found["NO_ET"]) == ("/bin", "1", "1")


def test_a_container_writes_only_below_its_folder(tmp_path):
    found = container_environment(tmp_path, {"OPENBLAS_CORETYPE": "Haswell", "SECRET": "x"})
    assert found["OPENBLAS_CORETYPE"] == "Haswell"
    assert "SECRET" not in found
    for variable in (*CACHES, "HOME", "TMPDIR"):
        assert found[variable].startswith(f"{tmp_path}/")
    assert Path(found["TMPDIR"]).is_dir()


def test_memory_comes_in_large_pages_unless_people_say_otherwise(tmp_path):
    for environment in (process_environment, container_environment):
        assert environment(tmp_path, {})["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
        own = {"GLIBC_TUNABLES": "glibc.malloc.check=1"}
        assert environment(tmp_path, own)["GLIBC_TUNABLES"] == "glibc.malloc.check=1"


PAGES = """
import resource
import numpy as np
def count(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use(): return [np.ones(10_000_000) for _ in range(4)] and None
use(); before = count()
for _ in range(5): use()
print(count() - before)
"""
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not (LARGE_PAGES.exists() and "[madvise]" in LARGE_PAGES.read_text())
    or platform.libc_ver() < ("glibc", "2.35"),
    reason="the system gives no large pages to those who ask, or to all",
)
def test_large_arrays_cost_few_pages():
    found = []
    for value in (MEMORY["GLIBC_TUNABLES"], "glibc.malloc.hugetlb=0"):
        # numpy asks for large pages itself, torch does not
        environment = {**os.environ, "GLIBC_TUNABLES": value, "NUMPY_MADVISE_HUGEPAGE": "0"}
        command = [sys.executable, "-c", PAGES]
        found.append(int(subprocess.check_output(command, env=environment, text=True)))
    assert found[0] < 0.5 * found[1]


@pytest.mark.parametrize(
    ("status", "expected"), [(0, 0), (1, 1), (137, -9), (143, -15), (255, 255)]
)
def test_a_shells_status_tells_the_signal(status, expected):
    assert signal_of(status) == expected


def test_an_interrupted_wait_kills_the_process():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def poll():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(process, poll)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_stage_process_ends_with_its_standard_input(tmp_path, checkout, is_watched):
    """What ends a container when whoever started it is killed."""
    (tmp_path / "batch.json").write_text("{")
    code = (
        "import sys, time; from stages import __main__ as m;"
        "m.Batch.read = lambda path: time.sleep(60); m.main([sys.argv[1]])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "batch.json")],
        stdin=subprocess.PIPE,
        cwd=checkout,
        env={**os.environ, "BRAINSTAGES_STOP_AT_EOF": "1" if is_watched else ""},
    )
    time.sleep(1.5)
    assert process.poll() is None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    assert (process.poll() is not None) == is_watched
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"BRAINSTAGES_IMAGE": "lab/app:1"}, {"Type": "docker", "Tag": "lab/app:1"}),
        (
            {"BRAINSTAGES_IMAGE": "lab/app:1", "BRAINSTAGES_DIGEST": "sha256:ab"},
            {"Type": "docker", "Tag": "lab/app:1", "URI": "docker://lab/app@sha256:ab"},
        ),
        (
            {"BRAINSTAGES_IMAGE": "lab/app:1", "APPTAINER_CONTAINER": "/app.sif"},
            {"Type": "singularity", "Tag": "lab/app:1"},
        ),
    ],
)
def test_the_app_tells_the_container_it_is_in(environ, expected):
    assert own_container(environ) == expected
