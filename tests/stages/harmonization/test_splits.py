"""Splits: nobody in two parts, every stratum spread evenly, imbalance and duplicates found."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.harmonization import splits

PERSON = st.tuples(st.sampled_from("FM"), st.sampled_from(["in", "out"]), st.sampled_from("ab"))


@settings(max_examples=60)
@given(st.lists(PERSON, min_size=1, max_size=120), st.integers(1, 10), st.integers(0, 99))
def test_dealing_spreads_the_first_stratum_to_within_one_person(people, parts, seed):
    dealt = splits.deal(people, [0.0] * len(people), parts, np.random.default_rng(seed))
    for label in "FM":
        members = [part for part, person in zip(dealt, people, strict=True) if person[0] == label]
        sizes = [members.count(part) for part in range(parts)]
        assert max(sizes) - min(sizes) <= 1


def cohort_of(number=200):
    rng = np.random.default_rng(1)
    people = [(rng.choice(["F", "M"], p=[0.3, 0.7]), rng.choice(["x", "y"])) for _ in range(number)]
    return people, rng.uniform(20, 80, number)


def test_split_is_a_partition_with_even_labels_and_ages():
    people, age = cohort_of()
    split, fold = splits.split(
        people, age, test_fraction=0.2, folds=5, rng=np.random.default_rng(0)
    )
    assert Counter(split) == {"test": 40, "train": 160}
    assert all((f is None) == (s == "test") for s, f in zip(split, fold, strict=True))
    women = np.array([p[0] == "F" for p in people])
    is_test = np.array(split) == "test"
    assert women[is_test].mean() == pytest.approx(women[~is_test].mean(), abs=0.03)
    for number in range(5):
        inside = np.array([f == number for f in fold])
        assert age[inside].mean() == pytest.approx(age.mean(), abs=2.0)


def test_no_test_fraction_means_everybody_trains():
    people, age = cohort_of(30)
    split, fold = splits.split(people, age, test_fraction=0, folds=3, rng=np.random.default_rng(0))
    assert set(split) == {"train"} and set(fold) == {0, 1, 2}


def test_unknown_ages_are_spread_too():
    people = [("F",)] * 20
    dealt = splits.deal(people, [np.nan] * 10 + [30.0] * 10, 2, np.random.default_rng(0))
    assert Counter(dealt[:10].tolist()) == {0: 5, 1: 5}


def test_a_class_smaller_than_the_folds_is_named():
    people = [("F",)] * 3 + [("M",)] * 50
    with pytest.raises(ValueError, match="class 'F' has 3 participants to train on, fewer than 5"):
        splits.split(people, [0] * 53, test_fraction=0, folds=5, rng=np.random.default_rng(0))


def test_balance_agrees_with_scipy_and_finds_what_was_planted():
    age = [str(v) for v in [20, 25, 30, 22, 60, 65, 70, 62]]
    site = ["a", "a", "a", "a", "b", "b", "b", "n/a"]
    groups = ["train"] * 4 + ["test"] * 4
    rows = {r["column"]: r for r in splits.check_balance({"age": age, "site": site}, groups)}
    t = stats.ttest_ind([20, 25, 30, 22], [60, 65, 70, 62])
    assert rows["age"]["p"] == pytest.approx(t.pvalue)
    chi2 = stats.chi2_contingency([[0, 3], [4, 0]], correction=False)
    assert rows["site"]["p"] == pytest.approx(chi2.pvalue) and rows["site"]["n"] == 7


def test_columns_that_cannot_differ_are_left_out():
    assert splits.check_balance({"site": ["a", "a"], "age": ["n/a", "n/a"]}, ["x", "y"]) == []


def test_an_image_that_comes_again_is_found_and_unknown_ones_are_not():
    assert splits.find_duplicates(["k", "k", "l", "", "", "k"]) == {1: 0, 5: 0}
