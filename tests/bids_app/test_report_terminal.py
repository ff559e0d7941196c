"""What the terminal says at the end of a run: reason and remedy, what was made, where to look."""

import json

from bids_app import report_runs, show
from bids_app.errors import Exit

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
