"""What was planted is found: the lag, the rank of regions, nothing where there is nothing."""

import numpy as np
import pytest

from stages.encoding.ceiling import noise_ceiling
from stages.encoding.comparison import score_lags, split_by_bands, split_by_ridge
from stages.encoding.delays import Shown, convolve_features, sample_features
from stages.encoding.evaluation import choose, judge, predict_selected, score_grid
from stages.encoding.responses import Responses
from stages.encoding.selection import assign_folds, select_penalties
from tests.stages.encoding.simulator import Simulation, simulate

PENALTIES = [0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5]
SINGLE = (0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
MULTIPLE = ((4.0, 5.0, 6.0, 7.0), (4.0, 5.0, 6.0), (4.0, 4.5, 5.0, 5.5))


@pytest.fixture(scope="module", params=["delay", "hrf"])
def planted(request):
    return request.param, simulate(response=request.param)


@pytest.fixture(scope="module")
def delayed():
    return simulate(response="delay")


def responses_of(s: Simulation) -> Responses:
    count = s.repeats.shape[1]
    return Responses(
        train=s.Y,
        runs=s.runs,
        test=s.repeats.mean(0),
        repeats=s.repeats,
        blocks=np.zeros(count, dtype=int),
        varies=np.ones(s.Y.shape[1], dtype=bool),
    )


def design(s: Simulation, lags):
    def sample(shown, volumes):
        times = s.times(volumes)
        if lags == "hrf":
            return convolve_features([shown], times)
        return sample_features([shown], times, lags)

    length = len(s.Y) // len(s.train)
    train = [sample(shown, length) for shown in s.train]
    return np.vstack(train), sample(s.test, s.repeats.shape[1])


def predict(s: Simulation, lags):
    X, T = design(s, lags)
    fold = assign_folds(s.runs, folds=5)
    return predict_selected(X, T, responses_of(s), fold, PENALTIES, device="cpu")[0]


def judged(s: Simulation, prediction):
    return judge(prediction, responses_of(s), block=10, permutations=199, least_ceiling=0.1, seed=0)


def fit(s: Simulation, lags):
    return judged(s, predict(s, lags))


def test_lags_are_found_and_shapes_are_told_apart(planted):
    response, s = planted
    driven = slice(0, s.driven)
    single = {lag: fit(s, [lag]).r[driven].mean() for lag in SINGLE}
    multiple = max(fit(s, lags).r[driven].mean() for lags in MULTIPLE)
    best = max(single, key=single.get)
    if response == "delay":
        assert best == 4.0
        assert multiple < single[4.0]
    else:
        assert best in (5.0, 6.0)
        assert multiple > single[best]
    assert abs(single[0.0]) < 0.05, "a response cannot come before what it answers"


def test_the_canonical_response_is_best_where_it_is_the_truth(planted):
    """One column per feature learns less about the shape, so it wins only if its shape is right."""
    response, s = planted
    driven = slice(0, s.driven)
    convolved = fit(s, "hrf").r[driven].mean()
    multiple = max(fit(s, lags).r[driven].mean() for lags in MULTIPLE)
    assert (convolved > multiple) == (response == "hrf")


def test_of_two_conditions_each_voxel_takes_its_better_one():
    """Half of the voxels answer after 4 s, half by the canonical response, to the same movie."""
    one, other = (simulate(response=kind, driven=100, null=30) for kind in ("delay", "hrf"))
    assert np.array_equal(one.test.features, other.test.features)
    s = Simulation(
        **{
            **vars(one),
            "Y": np.hstack([one.Y, other.Y]),
            "repeats": np.concatenate([one.repeats, other.repeats], axis=2),
        }
    )
    delay, hrf = predict(s, [4.0]), predict(s, "hrf")
    chosen = choose(choose(None, delay), hrf)
    results = {n: judged(s, p) for n, p in (("4", delay), ("hrf", hrf), ("chosen", chosen))}
    for name, result in results.items():
        if name != "chosen":
            assert results["chosen"].r.mean() > result.r.mean() + 0.02
    strong, count = slice(40, 100), len(one.Y[0])
    assert (hrf.promised > delay.promised)[:count][strong].mean() < 0.05
    assert (hrf.promised > delay.promised)[count:][strong].mean() > 0.95
    is_null = np.zeros(2 * count, dtype=bool)
    is_null[100:count] = is_null[count + 100 :] = True
    null = results["chosen"].r[is_null]
    assert abs(null.mean()) < 0.03, "a choice among conditions must not leak into the test"


def test_the_map_of_lags_is_right_voxel_by_voxel(delayed):
    designs = {str(lag): design(delayed, [lag]) for lag in SINGLE}
    fold = assign_folds(delayed.runs, folds=5)
    r = score_lags(designs, responses_of(delayed), fold, PENALTIES, device="cpu")
    chosen = np.asarray(SINGLE)[r.argmax(0)][: delayed.driven]
    assert np.median(chosen) == 4.0
    assert (chosen[delayed.driven // 4 :] == 4.0).all(), "voxels with a clear response"


def test_pure_delay_reaches_most_of_the_ceiling(delayed):
    result = fit(delayed, [4.0])
    ceiling = noise_ceiling(delayed.repeats)
    known = ceiling[: delayed.driven] > 0.1
    ratio = (result.r[: delayed.driven] / ceiling[: delayed.driven])[known]
    assert ratio.mean() >= 0.75
    assert (
        np.corrcoef(ceiling[: delayed.driven], delayed.true_ceiling[: delayed.driven])[0, 1] > 0.9
    )


def test_null_voxels_stay_null(delayed):
    result = fit(delayed, [4.0])
    null = slice(delayed.driven, None)
    assert abs(result.r[null].mean()) < 0.03
    assert (result.q[null] < 0.05).mean() <= 0.05
    assert (result.q[: delayed.driven] < 0.05).mean() > 0.9


def test_regions_keep_their_rank(delayed):
    result = fit(delayed, [4.0])
    means = [part.mean() for part in np.array_split(result.r[: delayed.driven], 4)]
    assert means == sorted(means)


def test_a_shuffled_stimulus_explains_nothing(delayed):
    rng = np.random.default_rng(0)
    X, T = design(delayed, [4.0])
    r = score_grid(X[rng.permutation(len(X))], T, responses_of(delayed), [100.0], device="cpu")
    assert abs(r.mean()) < 0.03


def test_the_grid_is_unimodal_and_agrees_with_cross_validation(delayed):
    X, T = design(delayed, [4.0])
    fold = assign_folds(delayed.runs, folds=5)
    curve = score_grid(X, T, responses_of(delayed), PENALTIES, device="cpu").mean(1)
    best = int(curve.argmax())
    assert (np.diff(curve[: best + 1]) > 0).all()
    assert (np.diff(curve[best:]) < 0).all()
    on_training = select_penalties(X, delayed.Y, fold, PENALTIES).r.mean(1)
    assert abs(best - int(on_training.argmax())) <= 1, "within one decade"


def test_two_way_identification_is_perfect_for_strong_and_chance_for_no_signal(delayed):
    assert fit(delayed, [4.0]).summary["two_way_accuracy"] > 0.98
    assert abs(fit(delayed, [0.0]).summary["two_way_accuracy"] - 0.5) < 0.06


@pytest.fixture(scope="module")
def two_spaces(delayed):
    """The features that drive voxels, and others of another movie that do not."""
    rng = np.random.default_rng(5)

    def other(shown: Shown) -> Shown:
        frames = np.repeat(rng.standard_normal((len(shown.features) // 40 + 1, 32)), 40, axis=0)
        return Shown("other", 0.0, shown.duration_s, shown.rate_hz, frames.astype("f4"))

    wrong = Simulation(
        **{
            **vars(delayed),
            "train": [other(shown) for shown in delayed.train],
            "test": other(delayed.test),
        }
    )
    return {"right": design(delayed, [4.0]), "wrong": design(wrong, [4.0])}


def test_variance_belongs_to_the_space_that_drives(delayed, two_spaces):
    fold = assign_folds(delayed.runs, folds=5)
    parts = split_by_ridge(two_spaces, responses_of(delayed), fold, PENALTIES, device="cpu")
    means = {name: part[: delayed.driven].mean() for name, part in parts.items()}
    assert means["right"] > 0.4
    assert abs(means["wrong"]) < 0.05
    assert abs(means["shared"]) < 0.05


def test_banded_ridge_ignores_the_wrong_space_and_shares_add_up(delayed, two_spaces):
    fold = assign_folds(delayed.runs, folds=5)
    responses = responses_of(delayed)
    r, shares = split_by_bands(
        two_spaces, responses, fold, PENALTIES, iterations=6, seed=0, device="cpu"
    )
    alone = fit(delayed, [4.0]).r
    driven = slice(0, delayed.driven)
    assert r[driven].mean() > alone[driven].mean() - 0.02
    assert shares["right"][driven].mean() > 0.4
    assert abs(shares["wrong"][driven].mean()) < 0.03
