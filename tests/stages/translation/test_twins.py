"""Planted ageing is found: its sign both ways, where it acts and not elsewhere, and no more.

Networks are trained unpaired on 120 young and 120 other old people and tested on 60 unseen people
of whom the exact counterfactual, the twin, is known. 600 steps, half of what
``python -m tests.benchmarks.translation_twins`` trains for the numbers that are claimed.
"""

import numpy as np
import pytest

from tests.stages.translation import twins

pytestmark = pytest.mark.slow

SCHEDULE = {"epochs": 10, "decay": 10, "seed": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    people = twins.make_twins(240, seed=1)
    found = {}

    def train(pair):
        if pair not in found:
            folder = tmp_path_factory.mktemp(pair)
            found[pair] = twins.train_pair(*twins.pick_pair(people, pair), folder, **SCHEDULE)
        return found[pair]

    return train


@pytest.fixture(scope="module")
def test_people():
    return twins.make_twins(60, seed=2)


@pytest.mark.parametrize(("direction", "sign"), [("toOld", -1), ("toYoung", 1)])
def test_the_change_is_the_planted_one(trained, test_people, direction, sign):
    row = twins.measure(trained("classes"), test_people)[direction]
    assert np.sign(row["inside"]) == np.sign(row["truth_inside"]) == sign
    assert row["ncc_group"] >= 0.6
    assert row["auc"] >= 0.8
    assert row["outside_over_inside"] <= 0.35


def test_a_judge_that_saw_nobody_takes_translations_for_the_target(trained, test_people):
    judge = twins.train_judge(twins.make_twins(80, seed=3))
    right = ~twins.judge_old(judge, test_people.young), twins.judge_old(judge, test_people.old)
    assert np.concatenate(right).mean() >= 0.95
    made = twins.translate(trained("classes"), test_people)
    assert twins.judge_old(judge, made["toOld"]).mean() >= 0.8
    assert twins.judge_old(judge, made["toYoung"]).mean() <= 0.2


def test_two_halves_of_one_class_are_not_told_apart(trained, test_people):
    real = twins.measure(trained("classes"), test_people)
    null = twins.measure(trained("null"), twins.pick_test(test_people, "null"))
    for direction, row in real.items():
        assert abs(null[direction]["inside"]) <= 0.2 * abs(row["inside"])


@pytest.mark.parametrize(("direction", "sign"), [("toOld", 1), ("toYoung", -1)])
def test_reversed_labels_flip_the_sign(trained, test_people, direction, sign):
    row = twins.measure(trained("reversed"), twins.pick_test(test_people, "reversed"))[direction]
    assert np.sign(row["inside"]) == sign
    assert row["ncc_group"] >= 0.6
