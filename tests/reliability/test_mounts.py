"""Raw data on a mount that is slow, stalls, fails or goes away while a run reads it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.harness import checksums, status_of
from tests.reliability.test_resources import check_goes_on, check_said

SERVER = Path(__file__).with_name("frail_mount.py")
PEOPLE = ["01", "02", "03", "04"]


class Mount:
    """A dataset behind a server that obeys ``order``."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        self._source, self._orders = source, folder.with_name("orders.json")
        folder.mkdir()
        self.order()
        self.connect()

    def order(self, **orders: object) -> None:
        """Say how the next reads shall go; nothing: as usual."""
        part = self._orders.with_suffix(".part")
        part.write_text(json.dumps(orders))
        part.replace(self._orders)

    def connect(self) -> None:
        """Mount, once more after the server was gone."""
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)
        command = [sys.executable, str(SERVER), self._source, self.folder, self._orders]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.server.stdout.readline() != b"mounted\n":
            pytest.skip(f"nothing can be mounted here: {self.server.stderr.read().decode()[-200:]}")

    def close(self) -> None:
        """Unmount; the server ends with that."""
        self.order()
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)
        self.server.kill()
        self.server.wait()


@pytest.fixture
def mount(data, tmp_path):
    """The dataset of four participants, read through a server."""
    mount = Mount(data, tmp_path / "mount")
    yield mount
    mount.close()


def test_a_slow_mount_costs_time_alone(app, mount, whole, tmp_path, tally):
    mount.order(delay_s=0.2)
    out = tmp_path / "out"
    command = (mount.folder, out, "participant", "group", "-w", tmp_path / "work")
    run = app.run(*command, "--runner", "inprocess")
    check_said(run, out, {0}, "")
    assert checksums(out) == whole
    tally("raw data on a slow mount", 1)


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
def test_a_participant_whose_file_cannot_be_read_fails_alone(
    app, mount, whole, tmp_path, tally, runner
):
    mount.order(fail="sub-02_T1w")
    out = tmp_path / "out"
    command = (mount.folder, out, "participant", "group", "-w", tmp_path / "work")
    run = app.run(*command, "--runner", runner)
    check_said(run, out, {1}, "Input/output error")
    assert "sub-02_T1w.nii.gz" in run.text
    ends = status_of(out)["participants"]
    assert ends == {label: "failed" if label == "02" else "done" for label in PEOPLE}
    mount.order()
    check_goes_on(app, (*command, "--runner", runner), whole, out)
    tally("a file on a mount cannot be read", 1)


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
def test_a_mount_that_goes_away_while_it_is_read(app, mount, whole, tmp_path, tally, runner):
    mount.order(die="sub-03_T1w")
    out = tmp_path / "out"
    command = (mount.folder, out, "participant", "group", "-w", tmp_path / "work")
    run = app.run(*command, "--runner", runner)
    check_said(run, out, {1, 66, 74}, "is the folder still mounted?")
    assert "failed" in status_of(out)["participants"].values()
    mount.order()
    mount.connect()
    check_goes_on(app, (*command, "--runner", runner), whole, out)
    tally("a mount goes away while it is read", 1)


def test_a_mount_that_is_gone_before_the_run(app, mount, whole, tmp_path, tally):
    out = tmp_path / "out"
    mount.server.kill()
    mount.server.wait()
    command = (mount.folder, out, "participant", "group", "-w", tmp_path / "work")
    run = app.run(*command, "--runner", "inprocess")
    assert "Traceback" not in run.text, run.text
    assert run.code in (16, 66, 74), run.text
    assert str(mount.folder) in run.text
    mount.connect()
    check_goes_on(app, (*command, "--runner", "inprocess"), whole, out)
    tally("a mount is gone before the run", 1)


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
def test_a_mount_that_stalls_is_waited_for_and_lets_go_of_the_killed(
    app, mount, whole, tmp_path, tally, runner
):
    """As a server that restarts: whoever reads waits, and may still be killed."""
    out = tmp_path / "out"
    command = (mount.folder, out, "participant", "group", "-w", tmp_path / "work")
    mount.order(stall=True)
    killed = app.start(*command, "--runner", runner)
    time.sleep(2)
    assert not killed.has_ended(), killed.text
    killed.members("orchestrator")[0].kill()
    killed.wait()
    assert not killed.orphans()
    waiting = app.start(*command, "--runner", runner)
    time.sleep(2)
    assert not waiting.has_ended(), waiting.text
    mount.order()
    assert waiting.wait().code == 0, waiting.text
    assert checksums(out) == whole
    tally("a mount stalls", 2)
