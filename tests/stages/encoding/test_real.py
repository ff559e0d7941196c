"""Real recordings: what is known to be there is found, controls are near nothing."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SHARED_DATA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"{SHARED_DATA} is not there"),
]


@pytest.fixture(scope="module")
def bench():
    pytest.importorskip("openpyxl", reason="openpyxl reads the annotations")
    from tests.benchmarks import encoding_real

    return encoding_real


@pytest.fixture(scope="module")
def setting(bench):
    """What the benchmark settles on from run 1 alone, which takes it some minutes."""
    return {"conditions": bench.CONDITIONS["8 lags"], "high_pass_hz": 0.0}


def test_annotations_predict_the_groups_mean_course(bench, setting, tmp_path: Path):
    from tests.stages.encoding import real

    source = SHARED_DATA / "sherlock"
    features = real.annotate_fully(source)
    rows = bench.group_mean(source, tmp_path, features, setting, 50, "annotations")
    found = {row["region"]: row for row in rows if "mean course" in row["what"]}
    assert found["earlyvisual"]["r"] >= 0.22
    assert found["hippocampus"]["r"] >= 0.15
    assert all(row["ci_low"] > 0 for row in rows)


def test_topics_are_weak(bench, setting, tmp_path: Path):
    from tests.stages.encoding import real

    source = SHARED_DATA / "sherlock"
    topics = bench.group_mean(source, tmp_path, real.read_topics(source), setting, 1, "topics")
    assert np.mean([row["r"] for row in topics]) < 0.1


def test_categories_predict_haxbys_slice(bench, tmp_path: Path):
    (row,) = bench.haxby(SHARED_DATA / "haxby_slice", tmp_path)
    assert row["ci_low"] > 0.05
    assert row["significant"] > 0.1
