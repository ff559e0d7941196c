"""Small datasets and a checkout with two toy stages, made anew for each test that wants them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# How fast examples are made says nothing here but how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def write_image(path: Path, value: float = 1.0, shape: tuple[int, ...] = (4, 4, 4)) -> Path:
    """Write a small image; its content is determined by ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.full(shape, value, dtype=np.float32), np.eye(4))
    image.header.set_zooms((1.0,) * len(shape))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


def write_dataset(root: Path, labels: tuple[str, ...] = ("01", "02")) -> Path:
    """Write a valid raw dataset with one tiny T1w image per participant."""
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "toy", "BIDSVersion": "1.10.0", "License": "CC0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README.md").write_text("# Toy dataset\n\nConstant images, for tests alone.\n" * 4)
    rows = [f"sub-{label}\t{20 + i}" for i, label in enumerate(labels)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage", *rows]) + "\n")
    for number, label in enumerate(labels):
        write_image(root / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz", number + 1.0)
    return root


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A valid raw dataset of two participants."""
    return write_dataset(tmp_path / "raw")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which two toy stages were added as a newcomer would."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "bids_app", root / "bids_app")
    (root / "specs").mkdir()
    (root / "stages").mkdir()
    for module in (REPOSITORY / "specs").glob("*.py"):
        shutil.copy(module, root / "specs")
    for module in (REPOSITORY / "stages").glob("*.py"):
        shutil.copy(module, root / "stages")
    shutil.copytree(REPOSITORY / "tests" / "toy", root, dirs_exist_ok=True)
    return root


@pytest.fixture
def brainstages(checkout: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line of the toy checkout, in a process of its own."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bids_app", *map(str, arguments), "-w", str(tmp_path / "work")],
            cwd=checkout,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
