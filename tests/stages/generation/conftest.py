"""One tiny Stable Diffusion checkpoint and one cohort of made-up people for all tests."""

import shutil
from pathlib import Path

import pytest

from tests.stages.generation import heads, steps
from tests.stages.generation.tiny_checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that nobody changes."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "base")


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return shutil.copytree(checkpoint, tmp_path / "base")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Slices of 12 AD and 16 CN, as prepare takes them."""
    return steps.write_people(tmp_path_factory.mktemp("people"), {"AD": 12, "CN": 16})


@pytest.fixture(scope="session")
def few_heads(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Brains, alignments and slices of 6 AD and 6 CN, as prepare takes them."""
    return heads.write_heads(tmp_path_factory.mktemp("heads"), {"AD": 6, "CN": 6})
