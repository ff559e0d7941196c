"""One zygote per session, one finished run to compare with, and the ledger of faults."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import write_dataset
from tests.reliability.harness import App, checksums

LABELS = ("01", "02", "03", "04")


@pytest.fixture(scope="session")
def app(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Start the toy checkout's app quickly."""
    app = App(checkout, tmp_path_factory.mktemp("said"))
    yield app
    app.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw dataset of four participants, for tests that do not change it."""
    return write_dataset(tmp_path_factory.mktemp("data") / "raw", LABELS)


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A raw dataset of four participants, for tests that damage it."""
    return Path(shutil.copytree(data, tmp_path / "raw"))


@pytest.fixture(scope="session")
def whole(app: App, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of what an uninterrupted run writes."""
    root = tmp_path_factory.mktemp("whole")
    run = app.run(data, root / "out", "participant", "group", "-w", root / "work")
    assert run.code == 0, run.text
    return checksums(root / "out")


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note a fault for the table: how often it was injected and how often something was lost."""

    def note(fault: str, injected: int, lost: int = 0) -> None:
        record_property("fault", (fault, injected, lost))
        assert lost == 0, f"{fault}: {lost} of {injected} lost"

    return note
