"""Images of the two toy stages, built once from the repository's own Dockerfile."""

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_app import __version__
from tests.containers.engines import REPOSITORY, build, build_sif

TOYS = ("alpha", "beta")


@pytest.fixture(scope="session")
def context(checkout: Path) -> Path:
    """The toy checkout with what images are built from; its stages need numpy and nibabel."""
    for name in ("constraints.txt", "Dockerfile", ".dockerignore", "LICENSE", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, checkout)
    (checkout / "README.md").write_text("# Toy\n")
    shutil.copytree(REPOSITORY / "containers", checkout / "containers", dirs_exist_ok=True)
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    setup["options.extras_require"] = {name: "\nnibabel\nnumpy" for name in TOYS}
    with open(checkout / "setup.cfg", "w") as stream:
        setup.write(stream)
    return checkout


@pytest.fixture(scope="session")
def toy_images(context: Path) -> dict[str, str]:
    """One docker image per toy stage."""
    return {
        name: build(
            context,
            f"brainstages-{name}:{__version__}",
            *("--target", "stage", "--build-arg", f"STAGE={name}"),
        )
        for name in TOYS
    }


@pytest.fixture(scope="session")
def sif_folder(toy_images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one SIF per toy stage, readable by every user."""
    folder = tmp_path_factory.mktemp("images")
    for name, image in toy_images.items():
        build_sif(f"docker-daemon:{image}", folder / f"brainstages-{name}.sif")
    return folder


@pytest.fixture
def start(checkout: Path, tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start the toy checkout's command line without waiting for it."""

    def run(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "bids_app", *map(str, arguments), "-w", str(tmp_path / "work")],
            cwd=checkout,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )

    return run
