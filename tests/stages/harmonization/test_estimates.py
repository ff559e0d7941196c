"""Estimates against scikit-learn, statsmodels, analytic cases and planted truth."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from stages.harmonization import estimates as es


def rng(seed=0):
    return np.random.default_rng(seed)


def guesses(n=300, classes=2, skill=0.7, seed=0):
    random = rng(seed)
    truth = random.integers(0, classes, n)
    wrong = (truth + random.integers(1, classes, n)) % classes if classes > 2 else 1 - truth
    return truth, np.where(random.random(n) < skill, truth, wrong)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_balanced_accuracy_agrees_with_scikit_learn(classes):
    truth, predicted = guesses(classes=classes)
    assert es.balanced_accuracy(truth, predicted) == pytest.approx(
        balanced_accuracy_score(truth, predicted)
    )


def test_majority_of_the_studys_cluster_is_85_percent():
    truth = np.array([0] * 682 + [1] * 118)
    assert es.majority_accuracy(truth) == pytest.approx(0.8525)
    assert es.balanced_accuracy(truth, np.zeros(800, int)) == 0.5


def test_interval_has_the_width_of_the_binomial_and_covers_the_truth():
    covered = 0
    for seed in range(200):
        truth, predicted = guesses(n=200, skill=0.7, seed=seed)
        estimate = es.bootstrap(truth, predicted, rng(seed))
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.90 <= covered / 200 <= 0.985
    assert (estimate.high - estimate.low) / 2 == pytest.approx(
        1.96 * np.sqrt(0.7 * 0.3 / 200), rel=0.25
    )


def test_equivalence_agrees_with_the_textbook():
    difference, error, margin = 0.01, 0.02, 0.05
    lower = 1 - stats.norm.cdf((difference + margin) / error)
    upper = stats.norm.cdf((difference - margin) / error)
    assert es.equivalence_p(difference, error, margin) == pytest.approx(max(lower, upper))
    assert es.equivalence_p(0.0, 0.2, 0.05) > 0.3  # not different, but not shown to be equal either
    assert es.equivalence_p(0.08, 0.001, 0.05) > 0.99
    assert es.equivalence_p(0.0, 0.0, 0.05) == 0.0 and es.equivalence_p(0.1, 0.0, 0.05) == 1.0


def test_arms_that_share_people_are_compared_by_person():
    random = rng(2)
    people = [f"s{i}" for i in range(400)]
    labels = {p: "FM"[i % 2] for i, p in enumerate(people)}
    right = {p: bool(random.random() < 0.7) for p in people}
    flipped = dict(right)
    for p in people[:8]:
        flipped[p] = not flipped[p]
    _, paired = es.compare_arms(right, flipped, labels, rng())
    other = {f"t{p}": v for p, v in flipped.items()}
    both = labels | {f"t{p}": c for p, c in labels.items()}
    difference, apart = es.compare_arms(right, other, both, rng())
    assert paired < 0.4 * apart
    assert apart == pytest.approx(np.sqrt(2 * 0.7 * 0.3 / 400), rel=0.25)
    assert abs(difference) < 0.03


def test_permutation_within_strata_ignores_what_the_stratum_tells():
    random = rng(4)
    strata = random.integers(0, 2, 300)
    truth = np.where(random.random(300) < 0.85, strata, 1 - strata)
    names = [str(s) for s in strata]
    assert es.permute_within(truth, strata, names, rng(), permutations=300) > 0.5
    seen = np.where(random.random(300) < 0.8, truth, 1 - truth)
    assert es.permute_within(truth, seen, names, rng(), permutations=300) < 0.01


def test_permutation_p_is_uniform_when_there_is_nothing():
    p = []
    for seed in range(150):
        truth, predicted = guesses(n=60, skill=0.5, seed=seed)
        strata = [str(v) for v in rng(seed).integers(0, 3, 60)]
        p.append(es.permute_within(truth, predicted, strata, rng(seed), permutations=99))
    assert np.mean(np.array(p) <= 0.05) <= 0.10
    assert 0.35 < np.mean(p) < 0.75
