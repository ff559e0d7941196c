"""Whole or absent, also with many writers; tables merged without losing rows."""

import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

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
    import os

    os.utime(fresh, (now + 100, now + 100))
    files.remove_stale_parts(tmp_path)
    assert fresh.exists()
    assert not stale.exists()
