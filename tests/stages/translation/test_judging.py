"""Verdicts: who judges, how they are counted, intervals."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from stages.translation.judging import (
    Verdict,
    choose_judges,
    count,
    match_classes,
    rates,
    shifts,
    tabulate,
    wilson,
)
from stages.translation.tables import read_rows
from tests.conftest import REPOSITORY

DOMAINS = ["Young", "Old"]


def verdicts(*groups):
    """Make verdicts of (origin, toward, {predicted: n}), all in training, as in the study."""
    made = []
    for origin, toward, cells in groups:
        answers = [d for d, n in cells.items() for _ in range(n)]
        made += [
            Verdict(f"sub-{origin}{i}", "train", origin, toward, answer, 0.9)
            for i, answer in enumerate(answers)
        ]
    return made


# The study's Table 1 in the reading that agrees with its text.
STUDY = verdicts(
    ("Old", "", {"Old": 170, "Young": 13}),
    ("Young", "", {"Old": 4, "Young": 179}),
    ("Old", "Young", {"Young": 181, "Old": 2}),
    ("Young", "Old", {"Old": 166, "Young": 17}),
)


def test_both_readings_of_the_studys_table():
    rows = {(row["reading"], row["label"]): row for row in tabulate(STUDY, DOMAINS)}
    cells = ("before_Old", "before_Young", "after_as_target", "after_as_origin")
    assert [rows["A", "Old"][c] for c in cells] == [170, 13, 181, 2]
    assert [rows["A", "Young"][c] for c in cells] == [4, 179, 166, 17]
    assert [rows["B", "Old"][c] for c in cells] == [170, 13, 166, 17]
    assert rows["B", "Old"]["translation"] == "Young to Old"


def test_the_long_table_holds_every_verdict():
    rows = count(STUDY, DOMAINS)
    assert sum(row["n"] for row in rows) == len(STUDY)
    cells = {row["item"]: row["n"] for row in rows}
    published = {
        row["item"]: int(row["value"])
        for row in read_rows(REPOSITORY / "specs" / "published" / "age-cyclegan.tsv")
        if "_judged_" in row["item"]
    }
    assert len(published) == 8
    assert {item: cells[item] for item in published} == published


def test_rates_are_the_studys():
    found = {(row["origin"], row["metric"]): row for row in rates(STUDY, DOMAINS)}
    assert found["Old", "accuracy_before"]["value"] == pytest.approx(170 / 183)
    assert found["Young", "effectiveness"]["value"] == pytest.approx(166 / 183)
    assert found["Old", "effectiveness"]["n"] == 183
    low, high = proportion_confint(166, 183, method="wilson")
    assert (
        found["Young", "effectiveness"]["ci_low"],
        found["Young", "effectiveness"]["ci_high"],
    ) == pytest.approx((low, high))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (17, 50)])
def test_wilsons_interval_is_statsmodels(hits, n):
    assert wilson(hits, n) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-6)


def test_everybody_is_judged_by_models_that_never_saw_them():
    seen = {"fold0": frozenset({"a", "b"}), "fold1": frozenset({"c"}), "all": frozenset("abc")}
    judges, overlap = choose_judges(["a", "b", "c", "d"], seen)
    assert judges == {
        "a": ["fold1"],
        "b": ["fold1"],
        "c": ["fold0"],
        "d": ["fold0", "fold1", "all"],
    }
    assert overlap["all"] == ["a", "b", "c"]


def test_judges_that_saw_everybody_are_refused_with_the_overlap():
    with pytest.raises(
        ValueError, match=r"trained on the participants.*\(m: a, b\); give models of"
    ):
        choose_judges(["a", "b"], {"m": frozenset("abz")})


def test_classes_are_matched_by_name():
    assert match_classes(["old", "young"], DOMAINS, "m") == {"young": "Young", "old": "Old"}
    with pytest.raises(ValueError, match="model m tells F, M apart, not Young, Old"):
        match_classes(["F", "M"], DOMAINS, "m")


def test_shifts_are_paired():
    rng = np.random.default_rng(0)
    before, moved = rng.normal(40, 15, 9), rng.normal(8, 3, 9)
    values = {(f"s{i}", ""): b for i, b in enumerate(before)}
    values |= {(f"s{i}", "Old"): b + m for i, (b, m) in enumerate(zip(before, moved, strict=True))}
    people = [f"s{i}" for i in range(9)]
    (row,) = shifts(values, dict.fromkeys(people, "Young"), dict.fromkeys(people, "test"))
    expected = stats.ttest_rel(before + moved, before).confidence_interval()
    assert row["metric"] == "shift_toOld" and row["n"] == 9
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high))
