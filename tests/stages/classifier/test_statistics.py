"""Metrics, intervals and tests against scikit-learn, statsmodels, scipy and naive code."""

import numpy as np
import pytest
from scipy import optimize
from sklearn import metrics as theirs
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar

from stages.classifier import comparisons, statistics
from stages.classifier.calibration import (
    correct_gap,
    fit_bias,
    fit_temperature,
    log_loss,
    softmax,
)


def judged(n=120, k=2, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.integers(k, size=n)
    p = softmax(rng.normal(size=(n, k)) + 1.2 * np.eye(k)[true])
    return true, p


@pytest.mark.parametrize("k", [2, 4])
def test_metrics_are_scikit_learns(k):
    true, p = judged(k=k)
    said = p.argmax(axis=1)
    expected = {
        "accuracy": theirs.accuracy_score(true, said),
        "balanced_accuracy": theirs.balanced_accuracy_score(true, said),
        "mcc": theirs.matthews_corrcoef(true, said),
        "loss": theirs.log_loss(true, p),
        "auc": theirs.roc_auc_score(true, p[:, 1] if k == 2 else p, multi_class="ovr"),
    }
    if k == 2:
        expected["brier"] = theirs.brier_score_loss(true, p[:, 1])
    for name, value in expected.items():
        assert statistics.METRICS[name](true, p) == pytest.approx(value, abs=1e-9), name


def test_calibration_error_is_the_naive_loops():
    true, p = judged()
    confidence, right = p.max(axis=1), p.argmax(axis=1) == true
    expected = 0.0
    for low in np.arange(0, 1, 0.1):
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert statistics.ece(true, p) == pytest.approx(expected)


def test_quantities_are_measured():
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 80, 50)
    said = true + rng.normal(2, 5, 50)
    found = statistics.measure_quantity(true, said)
    assert found["mae"] == pytest.approx(theirs.mean_absolute_error(true, said))
    assert found["r2"] == pytest.approx(theirs.r2_score(true, said))
    assert found["r"] == pytest.approx(np.corrcoef(true, said)[0, 1])


def test_people_are_drawn_whole():
    people = ["a", "a", "b", "c", "c", "c"]
    for rows in statistics.resample(people, 50, np.random.default_rng(0)):
        drawn = [people[r] for r in rows]
        assert drawn.count("a") % 2 == 0 and drawn.count("c") % 3 == 0


def test_repeated_images_do_not_narrow_the_interval():
    true, p = judged(40)
    once = [f"{i}" for i in range(40)]
    alone = statistics.measure(true, p, once, draws=400, rng=np.random.default_rng(0))
    five = statistics.measure(
        np.tile(true, 5), np.tile(p, (5, 1)), once * 5, draws=400, rng=np.random.default_rng(0)
    )
    widths = [f["accuracy"].high - f["accuracy"].low for f in (alone, five)]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_the_interval_covers_as_often_as_it_says():
    """Accuracy 0.75 of 60 people: 95 % intervals of 200 samples cover it 90 to 99 % of times."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        true = np.arange(60) % 2
        right = rng.random(60) < 0.75
        p = np.eye(2)[np.where(right, true, 1 - true)]
        picks = statistics.resample([str(i) for i in range(60)], 200, rng)
        found = statistics.interval(0, [statistics.accuracy(true[r], p[r]) for r in picks])
        covered += found.low <= 0.75 <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_permuted_labels_give_uniform_p():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(100):
        true, p = rng.permutation(np.arange(30) % 2), np.eye(2)[rng.permutation(np.arange(30) % 2)]
        value = statistics.balanced_accuracy(true, p)
        values.append(
            statistics.permutation_p(
                value, lambda t, p=p: statistics.balanced_accuracy(t, p), true, draws=60, rng=rng
            )
        )
    assert np.mean(np.array(values) <= 0.05) <= 0.12
    true, p = judged(60)
    good = statistics.permutation_p(
        statistics.balanced_accuracy(true, p),
        lambda t: statistics.balanced_accuracy(t, p),
        true,
        draws=199,
        rng=rng,
    )
    assert good == pytest.approx(1 / 200)


def test_mcnemar_is_statsmodels():
    rng = np.random.default_rng(0)
    a, b = rng.random(80) < 0.8, rng.random(80) < 0.65
    only_a, only_b, p = comparisons.mcnemar(a, b)
    table = [[(a & b).sum(), only_a], [only_b, (~a & ~b).sum()]]
    assert p == pytest.approx(their_mcnemar(table, exact=True).pvalue)
    assert comparisons.mcnemar(a, a) == (0, 0, 1.0)


def test_delong_is_the_double_loop():
    rng = np.random.default_rng(0)
    true = rng.integers(2, size=60)
    scores = np.round(rng.normal(size=(2, 60)) + true, 1)  # with ties
    m, n = int(true.sum()), int((1 - true).sum())
    psi = np.zeros((2, m, n))
    for r in range(2):
        for i, x in enumerate(scores[r][true == 1]):
            for j, y in enumerate(scores[r][true == 0]):
                psi[r, i, j] = 1.0 if x > y else 0.5 if x == y else 0.0
    areas = psi.mean(axis=(1, 2))
    covariance = np.cov(psi.mean(axis=2)) / m + np.cov(psi.mean(axis=1)) / n
    found, spread = comparisons.delong_covariance(true, scores)
    assert np.allclose(found, areas) and np.allclose(spread, covariance)
    assert found[0] == pytest.approx(theirs.roc_auc_score(true, scores[0]))
    same = comparisons.delong(true, scores[0], scores[0])
    assert same.difference == 0 and same.p == 1.0
    with pytest.raises(ValueError, match="two of each"):
        comparisons.delong(np.array([0, 0, 1]), scores[0, :3], scores[1, :3])


def test_delong_keeps_its_level():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(300):
        true = np.arange(60) % 2
        a, b = rng.normal(size=(2, 60)) + true
        p.append(comparisons.delong(true, a, b).p)
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09


def _side(people, right):
    return people, lambda rows: float(right[rows].mean()), [0] * len(people)


def test_equivalence_is_shown_for_equal_arms_and_not_for_different_or_few():
    rng = np.random.default_rng(0)
    people = [str(i) for i in range(600)]
    right = rng.random(600) < 0.85
    other = rng.random(600) < 0.70
    options = {"margin": 0.05, "draws": 300, "rng": rng}
    assert comparisons.tost(_side(people, right), _side(people, right), **options).p < 0.001
    assert comparisons.tost(_side(people, right), _side(people, other), **options).p > 0.5
    few = comparisons.tost(
        _side(people[:30], right[:30]), _side(people[300:330], right[300:330]), **options
    )
    assert few.p > 0.05


def test_tosts_interval_of_independent_arms_is_the_textbooks():
    rng = np.random.default_rng(1)
    a, b = rng.random(500) < 0.8, rng.random(400) < 0.75
    found = comparisons.tost(
        _side([f"a{i}" for i in range(500)], a),
        _side([f"b{i}" for i in range(400)], b),
        margin=0.05,
        draws=2000,
        rng=rng,
    )
    error = np.sqrt(a.mean() * (1 - a.mean()) / 500 + b.mean() * (1 - b.mean()) / 400)
    assert (found.high - found.low) / 2 == pytest.approx(1.645 * error, rel=0.06)


def test_the_temperature_is_the_likeliest():
    rng = np.random.default_rng(0)
    true = rng.integers(2, size=200)
    honest = rng.normal(size=(200, 2)) + 1.5 * np.eye(2)[true]
    hot = 4 * honest
    found = fit_temperature(hot, true)
    best = optimize.brute(
        lambda t: log_loss(hot, true, float(t[0]), smooth=True), [(0.2, 15)], Ns=400, finish=None
    )
    assert found == pytest.approx(float(best), rel=0.02)
    assert statistics.ece(true, softmax(hot, found)) < statistics.ece(true, softmax(hot))
    assert (softmax(hot, found).argmax(axis=1) == hot.argmax(axis=1)).all()
    assert fit_temperature(hot[:5], true[:5]) == 1.0


@pytest.mark.parametrize("k", [2, 3])
def test_the_smoothed_loss_is_that_of_platts_targets(k):
    rng = np.random.default_rng(0)
    labels, logits = np.arange(10) % k, rng.normal(size=(10, k))
    p, total = softmax(logits, 1.7), 0.0
    for row, label in zip(p, labels, strict=True):
        same = int((labels == label).sum())
        targets = np.full(k, 1 / (same + 2) / (k - 1))
        targets[label] = (same + 1) / (same + 2)
        total -= float(targets @ np.log(row)) / 10
    assert log_loss(logits, labels, 1.7, smooth=True) == pytest.approx(total)


def test_few_cases_all_judged_right_ask_for_no_certainty():
    """23 cases of 23 right: likelihood alone would take the least temperature that is allowed."""
    true = np.arange(23) % 2
    logits = np.where(np.eye(2)[true] == 1, 1.0, -1.0) * (1 + np.arange(23) / 23)[:, None]
    p = softmax(logits, fit_temperature(logits, true)).max(axis=1)
    assert 0.8 < p.mean() < 0.97


def test_the_corrected_gap_does_not_depend_on_age():
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 80, 300)
    said = 0.6 * true + 20 + rng.normal(0, 4, 300)
    bias = fit_bias(true, said)
    assert bias.slope == pytest.approx(0.6, abs=0.05)
    assert abs(np.corrcoef(true, said - true)[0, 1]) > 0.5
    assert abs(np.corrcoef(true, correct_gap(true, said, bias))[0, 1]) < 1e-6
