"""``kill -9`` at random moments; then the run is started again and must end as if nothing was."""

import os
import random
import signal
import time

import pytest

from tests.reliability.harness import checksums, kill
from tests.reliability.watching import Watcher, damages

MOMENTS = int(os.environ.get("BRAINSTAGES_KILLS", "12"))  # few in `make test`
ROLES = ("orchestrator", "worker", "stage")
STOPS_PER_RUN = 3
KILLS_PER_RUN = 4  # then a fresh folder: a run that is complete has nothing left to break


@pytest.mark.parametrize("role", ROLES)
def test_killed_at_any_moment_and_resumed_gives_the_same_bytes(
    app, data, whole, tmp_path, tally, role
):
    draw = random.Random(f"kill {role}")
    seconds = {}
    for runner in ("inprocess", "subprocess"):
        started = time.monotonic()
        command = (data, tmp_path / runner, "participant", "group", "-w", tmp_path / "w")
        assert app.run(*command, "--runner", runner).code == 0
        seconds[runner] = time.monotonic() - started
    killed = lost = rounds = 0
    while killed < MOMENTS // len(ROLES):
        out, work = tmp_path / f"out{rounds}", tmp_path / f"work{rounds}"
        # jobs inside the workers take a tenth of the time; both ways are killed
        runner = "subprocess" if role == "stage" or rounds % 2 else "inprocess"
        rounds += 1
        command = (data, out, "participant", "group", "-w", work, "--runner", runner)
        with Watcher(out, whole) as watcher:
            for _ in range(KILLS_PER_RUN):
                last = app.start(*command)
                hit = _kill_once(last, role, draw.uniform(0, seconds[runner]), draw)
                killed += hit
                lost += bool(damages(out, whole))
                if not hit:
                    break
            else:
                last = app.run(*command)
        assert last.code == 0, last.text
        assert watcher.looks > 0
        assert not watcher.seen
        assert checksums(out) == whole
        parts = [*out.rglob("logs/.part/*")]
        assert len(parts) <= killed
        for part in parts:
            os.utime(part, (0, 0))  # as if some time had passed
        assert app.run(*command).code == 0
        assert not [*out.rglob("logs/.part/*")], "half-copied files of killed runs are still there"
        left = [path for path in work.glob("run-*") if not (path / "ended").exists()]
        assert not left, "killed runs fill the work folder"
    tally(f"kill -9 of the {role}", killed, lost)


def _kill_once(run, role, moment, draw) -> int:
    """Kill one process of a role at a moment, or as soon as there is one after it."""
    time.sleep(moment)
    hit = 0
    while not hit and not run.has_ended():
        members = run.members(role)
        hit = int(bool(members) and kill(draw.choice(members)))
        time.sleep(0.005)
    run.wait()
    assert not run.orphans()
    assert "Traceback" not in run.text, run.text
    return hit


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
@pytest.mark.parametrize(("name", "codes"), [("INT", {130}), ("TERM", {130}), ("HUP", {-1})])
def test_told_to_stop_and_resumed_gives_the_same_bytes(
    app, data, whole, tmp_path, tally, name, codes, runner
):
    """Ctrl-C (to all processes of the terminal), a scheduler's request, a lost connection."""
    draw = random.Random(f"stop {name} {runner}")
    out, told = tmp_path / "out", 0
    command = (data, out, "participant", "group", "-w", tmp_path / "work", "--runner", runner)
    for _ in range(STOPS_PER_RUN):
        run = app.start(*command)
        time.sleep(draw.uniform(0.3, 2.5))
        if run.has_ended():
            break
        if name == "TERM":
            os.kill(run.pid, signal.SIGTERM)
        else:
            os.killpg(run.pid, getattr(signal, f"SIG{name}"))
        told += 1
        assert run.wait().code in {*codes, 0}, run.text  # all may have been done
        assert not run.orphans()
        assert "Traceback" not in run.text, run.text
        assert not damages(out, whole)
    run = app.run(*command)
    assert run.code == 0, run.text
    assert checksums(out) == whole
    tally(f"SIG{name}", told)


def test_the_watcher_sees_a_file_that_is_not_whole(tmp_path):
    """The measure itself: what grows under its final name, or arrives broken, is noticed."""
    with Watcher(tmp_path, {}) as watcher:
        (tmp_path / "sub-01").mkdir()
        time.sleep(0.2)
        (tmp_path / "sub-01" / "t.tsv").write_text("a\tb\n1\t2\n")
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "part").write_text("a\tb\n1")
        (tmp_path / "logs" / "part").rename(tmp_path / "moved.tsv")
        (tmp_path / "logs" / "part").write_bytes(b"\x89PNG half of it")
        (tmp_path / "logs" / "part").rename(tmp_path / "moved.png")
        time.sleep(0.2)
    assert watcher.seen == {
        "sub-01/t.tsv: made under its final name",
        "sub-01/t.tsv: changed under its final name",
        "moved.tsv: a table cut short",
        "moved.png: a picture cut short",
    }
