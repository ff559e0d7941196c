"""The real thing: all stages over a small demo, killed again and again, and run in other ways.

A run costs minutes, so kills come in a chain: a run is killed at a random moment, started again in
another way and killed again, until it was killed often enough or has ended; then a new one begins.
``BRAINSTAGES_KILLS`` says how often in all, ``BRAINSTAGES_MINUTES`` for how long at most; without
the first (as in ``make test``) preprocessing alone is killed a few times.
"""

import gzip
import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import specs
from bids_app.demo import write_dataset
from tests.conftest import REPOSITORY
from tests.reliability.harness import App, Run, checksums, kill
from tests.reliability.watching import Watcher, damages

KILLS = int(os.environ.get("BRAINSTAGES_KILLS", "0"))
MINUTES = float(os.environ.get("BRAINSTAGES_MINUTES", "inf"))
FEW_KILLS = 3
WAIT_S = 1800
PEOPLE, RESOLUTION_MM = 6, 2.0  # fewer, or coarser, leave some stages nothing to learn
ROLES = ("orchestrator", "worker", "stage")
WAYS = (("subprocess", 1), ("subprocess", 2), ("inprocess", 2), ("inprocess", 3))
# Less training than the preset's: what is broken here is the bookkeeping, not the learning.
SMALL = {
    "classifier": ("--classifier-network", "bn", "--classifier-epochs", 1),
    "generation": ("--generation-steps", 6, "--generation-judge-epochs", 1),
    "harmonization": ("--harmonization-audit-epochs", 1),
}


@dataclass(frozen=True)
class Demo:
    """A dataset, the app of the repository, and what an undisturbed run of it wrote."""

    name: str
    app: App
    raw: Path
    out: Path
    options: tuple[object, ...]
    whole: dict[str, str]
    seconds: float
    peak_bytes: int  # of the work folder while that run was at work

    def start(self, out: Path, work: Path, runner: str, nprocs: int, *more: object) -> Run:
        """Start a run; temporary files outside the work folder go where they can be counted."""
        temporary = work.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        way = ("--runner", runner, "--nprocs", nprocs, "--omp-nthreads", 1)
        environment = {"TMPDIR": str(temporary)}
        arguments = (self.raw, out, *self.options, "-w", work, *way, *more)
        return self.app.start(*arguments, environment=environment)


def size_of(folder: Path) -> int:
    """Add up the bytes below a folder that may be changing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def weigh_until(run: Run, work: Path, moment: float) -> int:
    """Wait for a moment or for the end of a run; return the largest size of its work folder."""
    largest = size_of(work)
    while time.monotonic() < moment and not run.has_ended():
        time.sleep(0.05)
        largest = max(largest, size_of(work))
    return largest


def jobs_done(out: Path, *, count_idle: bool = True) -> Counter[str]:
    """Count the finished jobs of each stage, those that found nothing to write too if asked."""
    return Counter(
        path.name.partition(".")[0]
        for path in out.glob("*/logs/jobs/*.json")
        if count_idle or json.loads(path.read_text())["outputs"]
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo and its undisturbed run, inside two workers, which import libraries once only."""
    root = tmp_path_factory.mktemp("demo")
    app = App(REPOSITORY, root)
    raw, out, work = root / "bids", root / "out", root / "work"
    if KILLS:
        write_dataset(raw, participants=PEOPLE, resolution_mm=RESOLUTION_MM, seed=0)
        truth = raw / "derivatives" / "truth"
        options = (
            *("participant", "group", "--preset", "tiny"),
            *("-d", f"landmarks={truth}", "-d", f"lesions={truth}"),
            *("-d", f"fmriprep={raw / 'derivatives' / 'preprocessed'}"),
            *(word for words in SMALL.values() for word in words),
        )
    else:
        write_dataset(raw, participants=1, resolution_mm=2.0, seed=0)
        options = ("participant", "--stages", "preprocessing")
    name = "all stages over the demo" if KILLS else "preprocessing of a phantom"
    began = Demo(name, app, raw, out, options, {}, 0, 0)
    started = time.monotonic()
    run = began.start(out, work, "inprocess", 2)
    peak = weigh_until(run, work, started + WAIT_S)
    assert run.wait(0).code == 0, run.text
    seconds = time.monotonic() - started
    if KILLS:
        written = jobs_done(out, count_idle=False)
        assert written.keys() == set(specs.names()), "a stage had nothing to do"
    yield Demo(name, app, raw, out, options, checksums(out), seconds, peak)
    app.close()


@pytest.mark.slow
def test_killed_again_and_again_gives_the_same_bytes(demo, tmp_path, tally):
    """At each death nothing half-written and no orphan; at each end the undisturbed run's bytes."""
    draw = random.Random("chain")
    wanted, last = KILLS or FEW_KILLS, time.monotonic() + 60 * MINUTES
    pause_s = demo.seconds / max(wanted / 2, 2)  # half of the work is lost: about one whole run
    # What a group step makes without a person whose job was killed is whole, too: the next run
    # makes it again. At the ends everything is compared.
    of_people = {name: digest for name, digest in demo.whole.items() if "/sub-" in name}
    killed, lost = Counter[str](), Counter[str]()
    role, ends, patience, largest = "", 0, 1.0, 0
    while killed.total() < wanted and time.monotonic() < last:
        out, work = tmp_path / f"out{ends}", tmp_path / f"work{ends}"
        before = jobs_done(out).total()
        with Watcher(out, of_people) as watcher:
            run = demo.start(out, work, *draw.choice(WAYS), "--clean-workdir")
            while killed.total() < wanted and not run.has_ended():
                moment = time.monotonic() + patience * draw.expovariate(1 / pause_s)
                largest = max(largest, weigh_until(run, work, moment))
                members = {role: found for role in ROLES if (found := run.members(role))}
                if members:
                    role = draw.choice([*members])
                    killed[role] += kill(draw.choice(members[role]))
            run.wait(WAIT_S)
            assert not run.orphans(), "a process outlives its run"
        assert "Traceback" not in run.text, run.text
        lost[role] += bool(watcher.seen) or bool(damages(out, of_people))
        assert not watcher.seen, watcher.seen
        assert len([*work.glob("run-*")]) <= 1, "runs before this one fill the work folder"
        # A job longer than the pauses would never end: without progress, wait longer.
        patience = 1.0 if jobs_done(out).total() > before else 1.5 * patience
        if run.code == 0:
            lost[role] += bool(differences(demo, out))
            ends += 1
    out, work = tmp_path / f"out{ends}", tmp_path / f"work{ends}"
    run = demo.start(out, work, "subprocess", 2, "--clean-workdir").wait(WAIT_S)
    assert run.code == 0, run.text
    lost[role] += bool(differences(demo, out))
    # Three jobs at a time may need more than the two of the undisturbed run, not twice as much.
    assert largest <= 2 * demo.peak_bytes, "the work folder grows from run to run"
    assert size_of(tmp_path / "tmp") < 2**20, "killed processes leave their temporary files"
    print(f"{ends + 1} runs to the end, {dict(killed)} kills")
    print(f"work folder at most {largest} bytes, undisturbed {demo.peak_bytes}")
    for role in ROLES:
        tally(f"kill -9 of the {role}, {demo.name}", killed[role], lost[role])


@pytest.mark.slow
def test_every_stage_gives_the_same_bytes_in_another_way(demo, tmp_path, tally):
    """Undisturbed inside two workers; here each batch of jobs a process, three side by side."""
    out = tmp_path / "out"
    run = demo.start(out, tmp_path / "work", "subprocess", 3).wait(WAIT_S)
    assert run.code == 0, run.text
    other = differences(demo, out)
    for stage, count in sorted(jobs_done(out).items()):
        differing = [name for name in other if name.startswith(f"brainstages-{stage}/")]
        tally(f"jobs of {stage} by another runner, {demo.name}", count, len(differing))
    assert not other


@pytest.mark.slow
def test_results_of_every_stage_tell_nothing_of_this_machine(demo, tally):
    """Figures, tables, models and sidecars may be given away; logs and pages name folders."""
    telling = [name for name in demo.whole if names_a_folder(demo.out / name, demo.out.parent)]
    tally(f"home folders in results, {demo.name}", len(demo.whole), len(telling))


def names_a_folder(path: Path, root: Path) -> bool:
    """Tell whether a file, unpacked, names the datasets' folder or the checkout's."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return any(os.fsencode(folder) in content for folder in (root, REPOSITORY))


def differences(demo: Demo, out: Path) -> list[str]:
    """List the files that are not those of the undisturbed run, and print them."""
    found = checksums(out)
    names = found.keys() | demo.whole.keys()
    other = sorted(name for name in names if found.get(name) != demo.whole.get(name))
    print("\n".join(other))
    return other
