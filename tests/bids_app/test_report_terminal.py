"""What the terminal says: how far a run is; at its end reason and remedy, what was made, where."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.console import Console

from bids_app import report_runs, show, terminal
from bids_app.errors import Exit
from specs.job import Job

SUMMARY = {
    "stages": ["harmonization", "encoding"],
    "jobs": {"done": 3, "skipped": 1, "blocked": 0, "failed": 2},
    "failures": [],
}


def failed(participant, reason="4D image, expected 3D"):
    return {
        "participant": participant,
        "stage": "preprocessing",
        "step": "extract",
        "reason": reason,
        "exit_code": 65,
    }


def test_what_was_made_is_tabulated_with_its_finding(tmp_path, capsys):
    root = tmp_path / "brainstages-harmonization"
    (root / "plans").mkdir(parents=True)
    (root / "sub-01").mkdir()
    (root / "plans" / "audit.json").write_text(json.dumps({"Headline": "PASS for all arms."}))
    (tmp_path / "brainstages.html").write_text("")
    show.print_summary(SUMMARY, tmp_path, tmp_path / "logs" / "run-1")
    said = capsys.readouterr()
    assert said.out == ""
    rows = [line.split(maxsplit=2) for line in said.err.splitlines()]
    assert ["harmonization", "1", "PASS for all arms."] in rows
    assert "encoding" not in said.err  # asked for, but nothing was written
    assert said.err.rstrip().endswith(str(tmp_path / "brainstages.html"))
    assert "3 done, 1 skipped" in said.err


def test_failures_of_one_kind_are_one_paragraph_with_a_remedy(tmp_path, capsys):
    many = [failed(f"{i:02d}") for i in range(12)] + [failed("", "no plan")]
    show.print_summary({**SUMMARY, "failures": many}, tmp_path, tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("4D image, expected 3D") == 1
    assert "preprocessing.extract (sub-00, sub-01" in said
    assert "and 4 more" in said
    assert report_runs.REMEDIES[Exit.DATA] in said
    assert "FAILED preprocessing.extract: no plan." in said


def test_a_damaged_plan_does_not_spoil_the_end(tmp_path, capsys):
    root = tmp_path / "brainstages-harmonization" / "plans"
    root.mkdir(parents=True)
    (root / "audit.json").write_text("{")
    show.print_summary(SUMMARY, tmp_path, tmp_path)
    assert "harmonization" in capsys.readouterr().err


def test_nothing_is_wider_than_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    root = tmp_path / "brainstages-harmonization" / "plans"
    root.mkdir(parents=True)
    (root / "audit.json").write_text(json.dumps({"Headline": "word " * 40}))
    show.print_summary({**SUMMARY, "failures": [failed("01", "why " * 40)]}, tmp_path, tmp_path)
    table = [x for x in capsys.readouterr().err.splitlines() if str(tmp_path) not in x]
    assert max(map(len, table)) <= 60


def job(stage, step, participant=""):
    """Make a job as far as a view of it needs one."""
    key = {"sub": participant} if participant else {}
    level = "participant" if participant else "group"
    return Job(stage, step, "1", level, key, {}, {}, {}, 0)


def draw(board):
    """Draw a board as a terminal of 110 columns would; return its lines by their first word."""
    console = Console(width=110, file=io.StringIO())
    console.print(board.render(console.width))
    lines = console.file.getvalue().splitlines()
    return {line.split()[0]: " ".join(line.split()) for line in lines}


def test_what_is_left_is_told_from_expected_times_and_the_speed_so_far():
    pace = terminal.Pace({"quick": 1.0, "slow": 9.0})
    assert (pace.left_s(5.0), pace.per_minute(5.0)) == (None, None)
    pace.begin(0.0)
    pace.end("quick", 30.0)  # half as long as the spec says, so the rest is expected to be too
    assert pace.left_s(30.0) == pytest.approx(9 * 30)
    assert pace.left_s(130.0) == pytest.approx(9 * 30 - 100)  # nothing ended: counted down, not up
    assert pace.left_s(400.0) is None  # longer than it promised: nobody knows
    assert pace.per_minute(30.0) == pytest.approx(2)
    pace.end("slow", 90.0)
    assert pace.left_s(1000.0) == 0
    assert pace.elapsed_s(1000.0) == 90  # the clock of what has ended stands still


def test_the_live_view_has_a_line_per_stage_with_pace_time_left_and_who():
    now = [0.0]
    jobs = [job("preprocessing", "extract", f"{i:02d}") for i in range(1, 5)]
    jobs += [job("harmonization", "audit")]
    board = terminal.Board(jobs, clock=lambda: now[0])
    board.show_running([jobs[0].id, jobs[1].id])
    now[0] = 60.0
    board.end(jobs[0].id, failed=False)
    board.end(jobs[1].id, failed=True)
    board.show_running([jobs[2].id])
    lines = draw(board)
    assert list(lines) == ["all", "preprocessing", "harmonization"]
    assert "2/4 2.0/min 1:00 1:00 left extract sub-03" in lines["preprocessing"]
    assert "2/5 2.0/min" in lines["all"]
    assert "2 of 4 participants 1 failed" in lines["all"]
    assert lines["harmonization"].endswith("0/1 0 s")
    for one in jobs[2:]:
        board.end(one.id, failed=False)
    assert "left" not in " ".join(draw(board).values())


def test_many_at_work_are_a_few_names_and_dots():
    jobs = [job("preprocessing", "extract", f"{i:02d}") for i in range(1, 9)]
    board = terminal.Board(jobs)
    board.show_running([one.id for one in jobs])
    line = draw(board)["preprocessing"]
    assert line.endswith("extract sub-01, extract sub-02, extract sub-03, …")


def test_a_narrow_terminal_gets_no_broken_lines():
    jobs = [job("preprocessing", "extract", f"{i:02d}") for i in range(1, 9)]
    board = terminal.Board(jobs)
    board.show_running([one.id for one in jobs])
    console = Console(width=60, file=io.StringIO())
    console.print(board.render(console.width))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].split()[0] == "preprocessing"
    assert "0/8" in lines[1]
    assert max(map(len, lines)) <= 60


def test_reasons_that_differ_by_path_alone_are_one_paragraph(tmp_path, capsys):
    many = [failed(f"{i:02d}", f"/data/sub-{i:02d}/anat/x.nii.gz: 4D image") for i in range(12)]
    show.print_summary({**SUMMARY, "failures": many}, tmp_path, tmp_path)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("4D image") == 1
    assert "/data/sub-00/anat/x.nii.gz: 4D image (and the same of 11 more)." in said


def test_a_stage_that_wrote_nothing_says_so(tmp_path, capsys):
    (tmp_path / "brainstages-harmonization").mkdir()
    show.print_summary(SUMMARY, tmp_path, tmp_path)
    assert "nothing was written: no step found what it reads" in capsys.readouterr().err


def test_a_terminal_is_shown_stages_people_and_pace(raw, tmp_path, checkout):
    shown = run_in_terminal(checkout, raw, tmp_path / "out", "participant", "group")
    ended, total = map(int, re.findall(r"all +\S+ +(\d+)/(\d+) ", shown)[-1])
    assert ended == total > 2
    last = shown[shown.rindex(f" {ended}/{total} ") :]
    assert re.search(r"[\d.]+/(min|s)", last)  # how fast
    assert "2 of 2 participants" in last
    assert last.index("alpha") < last.index("beta")


def test_a_pipe_gets_plain_lines(raw, tmp_path, brainstages):
    said = brainstages(raw, tmp_path / "out", "participant").stderr
    assert "\x1b" not in said
    assert "\r" not in said


def run_in_terminal(checkout, *arguments):
    """Run the command line on a terminal of 110 columns; return what it was sent, no colours."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    running = subprocess.Popen(
        [sys.executable, "-m", "bids_app", *map(str, arguments), "-w", str(arguments[1]) + "-work"],
        cwd=checkout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    sent = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the process is
        while part := os.read(leader, 65536):
            sent += part
    os.close(leader)
    assert running.wait(120) == 0, sent.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode())
