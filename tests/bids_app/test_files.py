"""Whole or absent, also with many writers; tables merged without losing rows."""

import csv
import fcntl
import os
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from bids_app import files


def _add_row(arguments):
    root, number = arguments
    row = {"name": f"{number:03d}", f"c{number % 3}": str(number)}
    files.merge_table(Path(root) / "t.tsv", [row], key="name", root=Path(root))


def test_many_writers_lose_no_rows(tmp_path):
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_add_row, [(str(tmp_path), n) for n in range(60)]))
    rows = files.read_table(tmp_path / "t.tsv")
    assert [row["name"] for row in rows] == [f"{n:03d}" for n in range(60)]
    assert rows[4] == {"name": "004", "c1": "4", "c0": "n/a", "c2": "n/a"}


def test_rows_are_merged_cell_by_cell(tmp_path):
    path = tmp_path / "t.tsv"
    files.merge_table(path, [{"k": "b", "x": "1"}, {"k": "a", "x": "2"}], key="k", root=tmp_path)
    files.merge_table(path, [{"k": "b", "y": "3"}], key="k", root=tmp_path)
    assert path.read_text() == "k\tx\ty\na\t2\tn/a\nb\t1\t3\n"
    with path.open(newline="") as handle:
        assert [*csv.reader(handle, delimiter="\t")][1] == ["a", "2", "n/a"]


def test_a_table_with_a_byte_order_mark_and_short_rows_is_read(tmp_path):
    (tmp_path / "t.tsv").write_bytes(b"\xef\xbb\xbfparticipant_id\tage\r\nsub-01\t20\r\nsub-02\r\n")
    rows = files.read_table(tmp_path / "t.tsv")
    assert rows == [{"participant_id": "sub-01", "age": "20"}, {"participant_id": "sub-02"}]


def test_an_equal_file_is_not_touched(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text("x", path, root=tmp_path)
    before = path.stat().st_mtime_ns
    files.write_text("x", path, root=tmp_path)
    assert path.stat().st_mtime_ns == before
    files.write_text("y", path, root=tmp_path)
    assert path.read_text() == "y"


def test_half_copied_files_of_killed_runs_go_after_a_day(tmp_path, monkeypatch):
    (tmp_path / files.STAGING).mkdir(parents=True)
    fresh = tmp_path / files.STAGING / "1.new"
    stale = tmp_path / files.STAGING / "2.old"
    fresh.touch()
    stale.touch()
    now = stale.stat().st_mtime
    monkeypatch.setattr(files.time, "time", lambda: now + files.STALE_SECONDS + 1)
    os.utime(fresh, (now + 100, now + 100))
    files.remove_stale_parts(tmp_path)
    assert fresh.exists()
    assert not stale.exists()


def test_what_a_killed_writer_of_this_machine_left_goes_after_a_minute(tmp_path):
    """Its lock went with it; a part that is still locked is somebody's."""
    folder = tmp_path / files.STAGING
    folder.mkdir(parents=True)
    left, used = (folder / f"{socket.gethostname()}.{name}" for name in ("left", "used"))
    with used.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        left.touch()
        for part in (left, used):
            os.utime(part, (0, 0))
        files.remove_stale_parts(tmp_path)
        assert used.exists()
        assert not left.exists()


def test_a_failed_write_leaves_neither_part_nor_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.place(tmp_path / "none", tmp_path / "a" / "b.txt", root=tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_text("x", tmp_path / "folder", root=tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_claimed_work_is_not_claimed_twice_until_its_owner_is_done(tmp_path):
    script = (
        "import sys; from pathlib import Path; from bids_app import files\n"
        "with files.claimed(Path(sys.argv[1]), ['a', 'b', 'c']) as own:\n"
        "    print(*sorted(own), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with files.claimed(tmp_path, ["a", "x"]) as own:
        assert own == {"a", "x"}
        other = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        assert other.stdout.readline() == "b c\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.2)
    other.communicate("")
    with files.claimed(tmp_path, ["c"]) as own:
        assert own == {"c"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\n\xfc\t1\n", r"t\.tsv: not a text in UTF-8 .*; save it as"),
        (b'a\tb\n1\t"x\n2\ty\n', r"t\.tsv: after line 1: .*; a cell that begins with a quote"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        files.read_table(tmp_path / "t.tsv")


def test_a_row_without_its_key_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a row has no 'k', by which rows are merged"):
        files.merge_table(tmp_path / "t.tsv", [{"x": "1"}], key="k", root=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "line 1 column 2 .*correct it there"),
        (b"\xff", "save it as UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "thousands of digits"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json: not valid JSON: .*{message}"):
        files.read_json(tmp_path / "a.json")
