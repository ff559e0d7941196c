"""The real thing: preprocessing of a phantom, killed at random moments and resumed another way."""

import random
import time

import psutil
import pytest

from bids_app.demo import write_dataset
from tests.conftest import REPOSITORY
from tests.reliability.harness import App, checksums, damages, kill

KILLS = 3


@pytest.mark.slow
def test_preprocessing_killed_and_resumed_gives_the_same_bytes(tmp_path, tally):
    """Undisturbed as processes; killed, resumed and finished inside the workers: equal bytes."""
    said = tmp_path / "said"
    said.mkdir()
    app = App(REPOSITORY, said)
    raw = tmp_path / "bids"
    write_dataset(raw, participants=1, resolution_mm=2.0, seed=0)
    level = (raw, tmp_path / "whole", "participant", "--stages", "preprocessing")
    started = time.monotonic()
    first = app.start(*level, "-w", tmp_path / "w0", "--nprocs", 1).wait(600)
    assert first.code == 0, first.text
    seconds = time.monotonic() - started
    whole = checksums(tmp_path / "whole")
    command = (level[0], tmp_path / "out", *level[2:], "-w", tmp_path / "w1", "--omp-nthreads", 1)
    draw = random.Random(0)
    killed = 0
    for share in range(KILLS):
        run = app.start(*command, "--nprocs", 2)
        time.sleep(seconds * draw.uniform(0.1, 0.9) / (1 + share))
        members = [p for p in run.family() if isinstance(p, psutil.Process)]
        killed += bool(members) and kill(draw.choice(members))
        run.wait(600)
        assert not run.orphans()
        assert "Traceback" not in run.text, run.text
        assert not damages(tmp_path / "out", whole)
    last = app.start(*command, "--nprocs", 2, "--runner", "inprocess").wait(600)
    assert last.code == 0, last.text
    found = checksums(tmp_path / "out")
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []
    app.close()
    tally("kill -9 during preprocessing of a phantom", killed)
    tally("another runner, plugin or number of processes", 1)
