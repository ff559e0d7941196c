"""The stage as its users run it, from raw movies to the tables of the group."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.encoding.tables import read_rows
from tests.stages.calls import brainstages
from tests.stages.encoding import media

pytestmark = pytest.mark.slow

OPTIONS = (
    *("--stages", "encoding", "--preset", "tiny", "--encoding-protocol", "both"),
    *("--encoding-permutations", "49", "--encoding-block", "4", "--encoding-high-pass-hz", "0"),
)


def test_from_movies_to_group_tables(tmp_path: Path):
    raw = media.write_raw(tmp_path / "raw", people=2)
    derived = media.write_preprocessed(tmp_path / "fmriprep", people=2)
    command = (raw, tmp_path / "out", "participant", "group", *OPTIONS)
    command += ("-d", f"fmriprep={derived}", "-w", tmp_path / "work")
    done = brainstages(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    root = tmp_path / "out" / "brainstages-encoding"
    rows = read_rows(root / "desc-table2_metrics.tsv")
    assert len(rows) == 2 * 3
    assert {row["published"] for row in rows} == {"n/a"}
    assert {row["provenance"] for row in rows} == {"synthetic"}
    assert {row["n_participants"] for row in rows} == {"2"}
    sidecar = json.loads(
        (root / "sub-01/func/sub-01_space-T1w_desc-encoding_boldmap.json").read_text()
    )
    assert sidecar["Provenance"] == "synthetic"
    assert "r luminance@4" in sidecar["Maps"]
    validator = Path(sys.executable).with_name("bids-validator-deno")
    checked = subprocess.run([validator, root, "--format", "json"], capture_output=True, text=True)
    found = json.loads(checked.stdout)["issues"]["issues"]
    assert [issue for issue in found if issue["severity"] == "error"] == []
    again = brainstages(*command)
    assert again.returncode == 0
    assert (
        "5 skipped" in again.stdout + again.stderr or "0 jobs to run" in again.stdout + again.stderr
    )
