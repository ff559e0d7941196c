"""Several runs into one folder at once: nothing lost, nothing done twice, nobody waits for ever."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import write_dataset
from tests.reliability.harness import checksums
from tests.reliability.watching import Watcher

PEOPLE = tuple(f"{n:02d}" for n in range(1, 9))
STEPS_PER_PERSON = 2  # of stage alpha


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A raw dataset of eight participants."""
    return write_dataset(tmp_path_factory.mktemp("crowd") / "raw", PEOPLE)


@pytest.fixture(scope="module")
def alone(app, crowd, tmp_path_factory):
    """What one run writes for all of them."""
    root = tmp_path_factory.mktemp("alone")
    command = (crowd, root / "out", "participant", "--stages", "alpha", "-w", root / "work")
    assert app.run(*command, "--runner", "inprocess").code == 0
    return checksums(root / "out")


@pytest.mark.parametrize(
    ("count", "who", "runner"),
    [
        (2, "different", "subprocess"),
        (2, "same", "subprocess"),
        (8, "different", "inprocess"),
        (8, "same", "inprocess"),
        (8, "overlapping", "inprocess"),
    ],
)
def test_runs_side_by_side(app, crowd, alone, tmp_path, tally, count, who, runner):
    out = tmp_path / "out"
    share = len(PEOPLE) // count
    runs = []
    with Watcher(out, alone) as watcher:
        for number in range(count):
            labels = {
                "different": PEOPLE[number * share : (number + 1) * share],
                "same": PEOPLE,
                "overlapping": (*PEOPLE[number:], *PEOPLE[:number])[:3],
            }[who]
            command = (crowd, out, "participant", "--stages", "alpha", "--runner", runner)
            options = ("--participant-label", *labels, "-w", tmp_path / "work", "--clean-workdir")
            runs.append(app.start(*command, *options, "--nprocs", 2))
        for run in runs:
            run.wait()
    assert [run.code for run in runs] == [0] * count, "\n".join(run.text for run in runs)
    assert not watcher.seen
    assert checksums(out) == alone, "lost files or rows"
    jobs = [json.loads(path.read_text())["jobs"] for path in out.glob("logs/run-*/status.json")]
    assert len(jobs) == count
    assert sum(job["done"] for job in jobs) == STEPS_PER_PERSON * len(PEOPLE), "work done twice"
    pages = [out / "brainstages.html", out / "brainstages-alpha" / "alpha.html"]
    assert all(path.read_text().rstrip().endswith("</html>") for path in pages)
    assert all(f"sub-{label}" in pages[1].read_text() for label in PEOPLE)
    assert not [*out.rglob("logs/.part/*")]
    tally(f"{count} runs at once, {who} participants", count)


def test_a_claim_ends_with_its_owner(app, crowd, alone, tmp_path, tally):
    """A killed run leaves nothing locked."""
    out = tmp_path / "out"
    command = (crowd, out, "participant", "--stages", "alpha", "-w", tmp_path / "work")
    sleeper = app.start(*command, "--alpha-behaviour", "sleep")
    while not sleeper.members("stage"):
        assert not sleeper.has_ended(), sleeper.text
    waiter = app.start(*command, "--runner", "inprocess")
    sleeper.kill_all()
    sleeper.wait()
    assert waiter.wait().code == 0, waiter.text
    assert checksums(out) == alone
    tally("owner of claimed work killed", 1)


def test_eight_tasks_of_a_cluster_array(app, crowd, alone, checkout, tmp_path, tally):
    """The written scripts, as a scheduler starts them: each task a program in its own session."""
    out, scripts = tmp_path / "out", tmp_path / "scripts"
    written = ("hpc", "slurm", crowd, out, "participant", "--stages", "alpha", "--dir", scripts)
    assert app.run(*written, "-w", tmp_path / "work").code == 0
    (scripts / "participants.txt").write_text("".join(f"{label}\n" for label in PEOPLE))
    tasks = [
        subprocess.Popen(
            ["bash", scripts / "participant.sbatch"],
            cwd=checkout,
            env={
                **os.environ,
                "BRAINSTAGES": f"{sys.executable} -m bids_app",
                "OMP_NUM_THREADS": "1",
                "SLURM_ARRAY_TASK_ID": str(number),
                "SLURM_JOB_ID": str(7000 + number),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        for number in range(1, len(PEOPLE) + 1)
    ]
    said = [task.communicate(timeout=300)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0] * len(PEOPLE), "\n".join(said)
    assert checksums(out) == alone, "lost files or rows"
    tally("8 tasks of a SLURM array at once", len(PEOPLE))
