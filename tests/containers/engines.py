"""Which engines this machine has, and how images are built with them."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# BuildKit comes with the distribution's client, which another one on PATH may hide.
DOCKER = next(
    (p for p in ("/usr/bin/docker", shutil.which("docker")) if p and Path(p).exists()), ""
)
# Where the CPU build of torch is, if not in its own index.
FIND_LINKS = os.environ.get("BUILD_FIND_LINKS", "")


@cache
def why_no_docker() -> str:
    """Tell why docker cannot be tested here; empty if it can."""
    if not DOCKER:
        return "no docker on PATH"
    done = subprocess.run([DOCKER, "version"], capture_output=True, text=True, check=False)
    return f"docker does not answer: {done.stderr.strip()[-200:]}" if done.returncode else ""


@cache
def why_no_apptainer() -> str:
    """Tell why apptainer cannot be tested here; empty if it can."""
    return "" if shutil.which("apptainer") else "no apptainer on PATH"


@cache
def why_no_slurm() -> str:
    """Tell why SLURM cannot be tested here; empty if it can."""
    if not shutil.which("sbatch"):
        return "no sbatch on PATH"
    done = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False)
    return f"SLURM does not answer: {done.stderr.strip()}" if done.returncode else ""


needs_docker = pytest.mark.skipif(bool(why_no_docker()), reason=why_no_docker())
needs_apptainer = pytest.mark.skipif(bool(why_no_apptainer()), reason=why_no_apptainer())
needs_slurm = pytest.mark.skipif(bool(why_no_slurm()), reason=why_no_slurm())


def docker(*arguments: object, check: bool = True) -> str:
    """Run the docker command line; return what it prints."""
    done = subprocess.run(
        [DOCKER, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def build(context: Path, tag: str, *options: str) -> str:
    """Build an image; return its name."""
    done = subprocess.run(
        [
            *(DOCKER, "build", "--network=host", "-t", tag, *options),
            *("--build-arg", f"IMAGE_TAG={tag}", "--build-arg", f"PIP_FIND_LINKS={FIND_LINKS}"),
            str(context),
        ],
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return tag


def build_sif(source: str, path: Path, *options: str) -> Path:
    """Build a SIF from an image (``docker-daemon:NAME``) or from a definition file."""
    root = ["--fakeroot"] if os.getuid() == 0 else []
    done = subprocess.run(
        [
            *("apptainer", "build", *root, "--force", *options),
            *("--mksquashfs-args", "-comp zstd -Xcompression-level 3"),
            *(str(path), source),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "APPTAINERENV_PIP_FIND_LINKS": FIND_LINKS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def containers_of(work: Path) -> list[str]:
    """List the containers, running or not, that work in a folder."""
    lines = docker("ps", "-a", "--format", '{{.ID}} {{.Label "brainstages.batch"}}').splitlines()
    return [line.split()[0] for line in lines if str(work) in line]
