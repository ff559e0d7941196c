"""The same bytes whatever carried the jobs out, and again when everything is done a second time."""

import pytest

from tests.reliability.harness import checksums

WAYS = [
    ("inprocess", "Linear", 1),
    ("inprocess", "MultiProc", 1),
    ("inprocess", "MultiProc", 5),
    ("subprocess", "Linear", 2),
    ("subprocess", "MultiProc", 3),
]


@pytest.mark.parametrize(("runner", "plugin", "nprocs"), WAYS)
def test_the_same_bytes_every_way(app, data, whole, tmp_path, tally, runner, plugin, nprocs):
    out = tmp_path / "out"
    command = (data, out, "participant", "group", "-w", tmp_path / "work", "--runner", runner)
    run = app.run(*command, "--plugin", plugin, "--nprocs", nprocs, "--omp-nthreads", 1)
    assert run.code == 0, run.text
    assert checksums(out) == whole
    tally("another runner, plugin or number of processes", 1)


def test_participants_one_by_one_give_the_same_bytes(app, data, whole, tmp_path, tally):
    """As an array of cluster jobs does it: each participant in a run of its own, then the group."""
    out = tmp_path / "out"
    options = ("-w", tmp_path / "work", "--runner", "inprocess")
    for label in ("03", "01", "04", "02"):
        run = app.run(data, out, "participant", "--participant-label", label, *options)
        assert run.code == 0, run.text
    assert app.run(data, out, "group", *options).code == 0
    assert checksums(out) == whole
    tally("participants one by one", 4)
