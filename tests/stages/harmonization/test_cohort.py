"""Mode, median, slice axis and draws on cohorts whose answer is known."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.harmonization import cohort


def study_shapes() -> np.ndarray:
    """7 people at 170 slices, 5 at 165, 4 at 160, 1 at 138: mode 170, median 165."""
    slices = [170] * 7 + [165] * 5 + [160] * 4 + [138]
    return np.array([(n, 256, 181) for n in slices])


def test_mode_is_the_most_frequent_shape_and_says_how_frequent():
    assert cohort.find_mode(study_shapes()) == ((170, 256, 181), 7)


def test_mode_of_equals_is_the_larger_shape():
    assert cohort.find_mode(np.array([[2, 2, 2], [3, 3, 3]])) == ((3, 3, 3), 1)


def test_median_is_taken_per_axis_and_is_a_length_that_occurs():
    assert cohort.find_median(study_shapes()) == (165, 256, 181)
    assert cohort.find_median(np.array([[160, 5, 5], [171, 5, 5]]))[0] == 160


@given(st.lists(st.integers(1, 400), min_size=1, max_size=31).filter(lambda x: len(x) % 2 == 1))
def test_median_agrees_with_numpy_for_odd_numbers(lengths):
    shapes = np.array([(n, 8, 8) for n in lengths])
    assert cohort.find_median(shapes)[0] == np.median(lengths)


def test_slice_axis_is_the_one_whose_length_varies_most():
    assert cohort.find_slice_axis(study_shapes()) == 0
    assert cohort.find_slice_axis(np.array([[5, 5, 9], [5, 6, 2]])) == 2


LABELS = ["M"] * 20 + ["F"] * 6 + ["M"] * 10 + ["F"] * 10
IN_MODE = [True] * 26 + [False] * 20


def draw(arm, seed=0, **options):
    settings = {"n_random": 0, "n_per_class": 0, "quota": {}} | options
    return cohort.draw_arm(arm, LABELS, IN_MODE, rng=np.random.default_rng(seed), **settings)


def counts(chosen):
    return Counter(LABELS[i] for i in chosen)


def test_cluster_draws_blindly_from_the_mode_and_stratified_equally():
    chosen = draw("cluster", n_random=12)
    assert len(chosen) == 12 and all(IN_MODE[i] for i in chosen)
    stratified = draw("stratified", n_per_class=5)
    assert counts(stratified) == {"M": 5, "F": 5} and all(IN_MODE[i] for i in stratified)
    assert counts(draw("resize", n_per_class=9)) == {"M": 9, "F": 9}


def test_zero_means_all_there_are_without_unbalancing():
    assert counts(draw("cluster")) == {"M": 20, "F": 6}
    assert counts(draw("stratified")) == {"M": 6, "F": 6}
    assert counts(draw("resize")) == {"M": 16, "F": 16}
    assert len(draw("isotropic")) == len(LABELS)


def test_quota_forces_the_counts_of_the_cluster():
    assert counts(draw("cluster", quota={"M": 10, "F": 2})) == {"M": 10, "F": 2}


def test_draws_depend_on_the_seed_alone():
    assert draw("cluster", seed=3, n_random=9) == draw("cluster", seed=3, n_random=9)
    assert draw("cluster", seed=3, n_random=9) != draw("cluster", seed=4, n_random=9)


def test_a_random_draw_keeps_the_share_of_classes_on_average():
    share = np.mean([counts(draw("cluster", seed=s, n_random=13))["F"] for s in range(400)])
    assert share == pytest.approx(13 * 6 / 26, abs=0.25)


@pytest.mark.parametrize(
    ("arm", "options", "message"),
    [
        ("stratified", {"n_per_class": 7}, r"7 participants of class 'F'.*has 6 \(F 6, M 20\)"),
        ("resize", {"n_per_class": 17}, r"17 participants of class 'F'.*all shapes, which has 16"),
        ("cluster", {"n_random": 27}, r"27 participants asked of arm cluster.*which has 26"),
        ("cluster", {"quota": {"M": 21}}, r"21 participants of class 'M'.*has 20"),
        ("cluster", {"quota": {"X": 1}}, r"class 'X'.*has 0"),
    ],
)
def test_too_few_people_are_named(arm, options, message):
    with pytest.raises(ValueError, match=message):
        draw(arm, **options)


def test_a_class_that_the_mode_lacks_is_an_error_not_an_empty_cohort():
    with pytest.raises(ValueError, match=r"class 'F'.*has 0"):
        cohort.draw_arm(
            "stratified",
            ["M", "M", "F"],
            [True, True, False],
            n_random=0,
            n_per_class=0,
            quota={},
            rng=np.random.default_rng(0),
        )


def test_quota_is_read_and_nonsense_refused():
    assert cohort.parse_quota("") == {}
    assert cohort.parse_quota("M=682,F=118") == {"M": 682, "F": 118}
    with pytest.raises(ValueError, match="found 'M:3', expected CLASS=NUMBER"):
        cohort.parse_quota("M:3")


def test_cuts_leave_out_what_lies_between_and_what_is_missing():
    assert cohort.cut_values(["20", "45", "49.9", "50", "n/a", "nan"], [45, 50]) == [
        "below45",
        "",
        "",
        "from50",
        "",
        "",
    ]
    assert cohort.cut_values(["44", "45"], [45]) == ["below45", "from45"]
