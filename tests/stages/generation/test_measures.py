"""Each number against a library, a naive loop, or what is known beforehand."""

import itertools

import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric
from scipy import ndimage, stats
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from stages.generation import memorisation, verdicts
from stages.generation.anatomy import measure
from stages.generation.findings import describe_findings, find_causes
from stages.generation.instruments import flatten
from stages.generation.likelihood import (
    Density,
    _ppca_scores,
    choose_bandwidth,
    choose_components,
    fit_space,
)
from stages.generation.memorisation import audit_copies, least_distances, nearest
from stages.generation.similarity import (
    frechet_distance,
    kernel_distance,
    manifold_scores,
    mean_ms_ssim,
)
from stages.generation.verdicts import HELD_OUT, SYNTHETIC, Judged
from tests.stages.generation import toy

RNG = np.random.default_rng(0)


def people(n: int) -> list[str]:
    return [f"sub-{i}" for i in range(n)]


def test_densities_are_scikit_learns():
    Z, new = RNG.normal(size=(40, 6)), RNG.normal(size=(7, 6))
    theirs = KernelDensity(kernel="gaussian", bandwidth=0.7).fit(Z).score_samples(new)
    assert np.allclose(Density(Z, 0.7).log_likelihood(new), theirs)
    alone = [Density(np.delete(Z, i, 0), 0.7).log_likelihood(Z[i : i + 1])[0] for i in range(40)]
    assert np.allclose(Density(Z, 0.7).leave_one_out(), alone)


def test_probabilistic_pca_is_scikit_learns_where_there_are_more_rows_than_columns():
    fit, test = RNG.normal(size=(60, 8)) * np.arange(1, 9), RNG.normal(size=(9, 8))
    ours = _ppca_scores(fit, test, [1, 3, 6])
    for column, k in enumerate([1, 3, 6]):
        assert np.allclose(ours[:, column], PCA(k, svd_solver="full").fit(fit).score_samples(test))


def test_the_number_of_components_is_that_of_the_data():
    scores = RNG.normal(size=(150, 4)) * 5
    X = scores @ RNG.normal(size=(4, 60)) + RNG.normal(size=(150, 60)) * 0.5
    chosen, table = choose_components(X, people(150))
    assert 3 <= chosen <= 6
    assert max(table, key=lambda row: row["log_likelihood"])["components"] == chosen
    space = fit_space(X, 4)
    theirs = PCA(4, svd_solver="full").fit(X)
    assert np.allclose(np.abs(space.axes @ theirs.components_.T), np.eye(4), atol=1e-6)
    rest = X - theirs.inverse_transform(theirs.transform(X))
    assert np.allclose(space.residual(X), np.linalg.norm(rest, axis=1))


def test_the_bandwidth_is_the_best_of_a_naive_search():
    Z = RNG.normal(size=(60, 3))
    h, table = choose_bandwidth(Z, people(60))
    assert h in [row["bandwidth"] for row in table]
    others = [Density(Z, k).leave_one_out().mean() for k in (h / 3, h, h * 3)]
    assert others[1] == max(others)


def test_images_of_one_person_are_never_on_both_sides():
    """Ten copies of six people: only folds over people do not choose the narrowest kernel."""
    Z = np.repeat(RNG.normal(size=(6, 2)), 10, axis=0) + RNG.normal(size=(60, 2)) * 1e-3
    honest, _ = choose_bandwidth(Z, np.repeat(people(6), 10).tolist())
    naive, _ = choose_bandwidth(Z, people(60))
    assert honest > naive


def test_one_person_cannot_be_cross_validated():
    with pytest.raises(ValueError, match="at least two participants"):
        choose_bandwidth(RNG.normal(size=(5, 2)), ["sub-1"] * 5)


def test_frechet_distance_is_monais_and_that_of_known_gaussians():
    x, y = RNG.normal(size=(300, 5)), RNG.normal(size=(200, 5)) * 2 + 1
    theirs = FIDMetric()(torch.from_numpy(y), torch.from_numpy(x)).item()
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-4)
    a, b = RNG.normal(size=(100_000, 1)), RNG.normal(size=(100_000, 1)) * 3 + 2
    assert frechet_distance(a, b) == pytest.approx(2**2 + (3 - 1) ** 2, rel=0.05)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_a_naive_loop_and_has_no_bias():
    x, y = RNG.normal(size=(6, 4)), RNG.normal(size=(5, 4)) + 1

    def k(a, b):
        return (a @ b / 4 + 1) ** 3

    xx = np.mean([k(x[i], x[j]) for i in range(6) for j in range(6) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy)
    null = [kernel_distance(*RNG.normal(size=(2, 20, 4))) for _ in range(300)]
    assert abs(np.mean(null)) < 4 * np.std(null) / np.sqrt(300)


def test_precision_and_coverage_are_naive_loops():
    real, made = RNG.normal(size=(30, 3)), RNG.normal(size=(20, 3)) + 0.5
    k = 3

    def reach(points, i):
        return np.sort([np.linalg.norm(points[i] - p) for p in points])[k]

    balls = [(r, reach(real, i)) for i, r in enumerate(real)]
    inside = np.array([[np.linalg.norm(m - r) <= d for m in made] for r, d in balls])
    own = [(m, reach(made, i)) for i, m in enumerate(made)]
    recall = np.mean([any(np.linalg.norm(m - r) <= d for m, d in own) for r in real])
    found = manifold_scores(real, made, neighbours=k)
    assert found == pytest.approx(
        {
            "precision": inside.any(0).mean(),
            "recall": recall,
            "density": inside.sum(0).mean() / k,
            "coverage": inside.any(1).mean(),
        }
    )


def test_similarity_of_equal_images_is_one_and_diversity_lowers_it():
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert mean_ms_ssim(images[:1].repeat(3, 1, 1, 1), seed=0) == pytest.approx(1, abs=1e-4)
    assert mean_ms_ssim(images, seed=0) < 0.5
    assert np.isnan(mean_ms_ssim(images[:1], seed=0))


def brains(n: int, seed: int, size: int = 40) -> np.ndarray:
    """Slices of made-up people as rows of pixels."""
    return flatten(toy.draw_people({"CN": n}, seed)[0], size)


def test_distances_are_a_naive_loop_over_all_moves(monkeypatch):
    """Every move of every row, made by scipy."""
    monkeypatch.setattr(memorisation, "STEPS", ((-1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (0.0,)))
    x, y = brains(3, 0), brains(4, 1)
    distances, which = least_distances(x, y)
    naive = np.zeros((3, 4, 8))
    for number, (across, down, turn) in enumerate(itertools.product((-1, 0), (0, 1), (0, 1))):
        angle = np.deg2rad(4 * turn)
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        offset = 19.5 - matrix @ (19.5, 19.5) + (down, across)  # 2.5 % of 40 is one pixel
        for j, row in enumerate(y):
            moved = ndimage.affine_transform(row.reshape(40, 40), matrix, offset, order=1)
            naive[:, j, number] = np.sqrt(((x - moved.ravel()) ** 2).mean(1))
    # the two treat the border of the image differently, where the background has noise
    assert np.allclose(distances, naive.min(2), atol=1e-3)
    assert np.array_equal(which, naive.argmin(2))


def test_the_nearest_is_no_farther_than_any_move_that_is_tried():
    x, y = brains(6, 0), brains(9, 1)
    y[3] = x[2]
    distances, _ = least_distances(x, y)
    distance, place = nearest(x, y)
    assert (distance <= distances.min(1) + 1e-9).all()
    assert (distance < distances.min(1) - 1e-4).sum() >= 4  # descent finds what lies between
    assert place[2] == 3
    assert distance[2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("how", ["as it is", "shifted", "turned and scaled"])
def test_copies_that_were_moved_are_copies_still(how):
    """Moved by scipy, by amounts between those that are tried."""
    train, held_out = brains(8, 0, 80), brains(8, 1, 80)
    pictures = train.reshape(-1, 80, 80)
    if how == "shifted":
        pictures = [ndimage.shift(p, (1.4, -0.7), order=1) for p in pictures]
    elif how == "turned and scaled":
        turned = [ndimage.rotate(p, 3, reshape=False, order=1) for p in pictures]
        pictures = [ndimage.zoom(p, 82 / 80, order=1)[1:81, 1:81] for p in turned]
    made = np.stack([p.ravel() for p in pictures])
    numbers, is_copy, place, _ = audit_copies(made, train, held_out, redraws=50, seed=0)
    assert is_copy.all()
    assert place.tolist() == list(range(8))
    assert numbers["membership_auc"] == 1


def test_new_people_give_no_membership_away():
    made, train, held = RNG.random((50, 9)), RNG.random((200, 9)), RNG.random((200, 9))
    numbers, is_copy, _, _ = audit_copies(made, train, held, redraws=200, seed=0)
    assert numbers["membership_auc_low"] < 0.5 < numbers["membership_auc_high"]
    assert not is_copy.any()
    assert numbers["ratio"] == pytest.approx(1, abs=0.15)


def test_fences_are_quartiles_less_three_ranges():
    values = np.arange(1.0, 10)[:, None]
    least, most = verdicts.find_fences(values, values[:, 0])
    assert least[0] == 3 - 3 * 4
    assert most == 7 + 3 * 4
    flags = verdicts.flag_outliers(np.array([[-9.5], [-8.5]]), np.zeros(2), least, most)
    assert flags.tolist() == [True, False]


def test_the_balanced_threshold_errs_equally():
    first, second = RNG.normal(1, 1, 500) - 3, RNG.normal(-1, 1, 500) - 3
    cut = verdicts.balanced_threshold(np.concatenate([first, second]), np.arange(1000) < 500)
    assert (first <= cut).mean() == pytest.approx((second > cut).mean(), abs=0.01)
    assert cut == pytest.approx(-3, abs=0.2)


def judged(origin: str, group: str, calls_ad: int, n: int, shift: float = 0.0) -> Judged:
    """Slices of which the network calls some AD, with a log-likelihood ratio around a shift."""
    probability = np.log(np.where(np.arange(n)[:, None] < calls_ad, [0.9, 0.1], [0.1, 0.9]))
    likelihood = np.stack([RNG.normal(shift, 1, n), np.zeros(n)], 1)
    condition = "full" if origin == SYNTHETIC else ""
    return Judged(origin, condition, group, likelihood, probability, np.zeros(n, dtype=bool))


def test_fisher_says_of_the_study_that_its_prompts_do_not_differ():
    """3 of 100 and 2 of 100 called AD, as the study printed."""
    (row,) = verdicts.fisher_tests(
        [judged(SYNTHETIC, "AD", 3, 100), judged(SYNTHETIC, "CN", 2, 100)], ["AD", "CN"]
    )
    assert (row["first_count"], row["second_count"]) == (3, 2)
    assert row["p_fisher"] == pytest.approx(1.0)
    assert stats.fisher_exact([[7, 92], [5, 95]]).pvalue == pytest.approx(0.57, abs=0.01)


def test_contrasts_have_intervals_that_hold_the_truth():
    groups = ["AD", "CN"]
    real = [judged(HELD_OUT, "AD", 0, 400, 2.0), judged(HELD_OUT, "CN", 0, 400, -2.0)]
    made = [judged(SYNTHETIC, "AD", 0, 400, 0.5), judged(SYNTHETIC, "CN", 0, 400, 0.0)]
    rows = verdicts.contrast_rows([*made, *real], groups, redraws=300, seed=0)
    row = next(r for r in rows if r["slices"] == SYNTHETIC)
    assert row["ci_low"] < 0.5 < row["ci_high"]
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * np.sqrt(2 / 400), rel=0.2)
    assert row["share_of_real"] == pytest.approx(0.125, abs=0.05)


AUDIT = {
    "Warnings": {"full: AD and CN": "shared tokens: only 1 of 9 differ"},
    "TrainingSlices": {"AD": 300, "CN": 400},
}


@pytest.mark.parametrize(
    ("balance", "causes"),
    [
        (False, ["shared tokens: only 1 of 9 differ", "imbalance: 300 AD to 400 CN, drawn"]),
        (True, ["shared tokens: only 1 of 9 differ"]),
    ],
)
def test_a_mix_up_is_blamed_on_what_is_the_case(balance, causes):
    row = {"condition": "full", "first": "AD", "second": "CN"}
    found = find_causes(row, AUDIT, {"Settings": {"balance": balance}, "Models": "joint"})
    assert len(found) == len(causes)
    assert all(cause in text for cause, text in zip(causes, found, strict=True))


def test_the_verdict_names_mix_up_cause_and_a_judge_that_knows_little():
    contrast = {"slices": SYNTHETIC, "condition": "full", "first": "AD", "second": "CN"}
    contrast |= {"contrast": 0.48, "ci_low": 0.1, "ci_high": 0.9, "share_of_real": 0.1}
    told = describe_findings([], [contrast], [], {"JudgeBalancedAccuracyHeldOut": 0.6}, AUDIT, {})
    first, second = told["Warnings"]
    assert "balanced accuracy 0.60 only" in first
    assert "Mix-up. full, AD and CN" in second
    assert "Likely cause: shared tokens: only 1 of 9 differ." in second


@pytest.mark.parametrize(
    ("high", "warnings", "said"),
    [
        (8.9, AUDIT["Warnings"], "Less contrast than real slices. full, AD and CN: prompts move"),
        (8.9, {}, "full, AD and CN: prompts move"),
        (11.0, AUDIT["Warnings"], "full, AD and CN: prompts move"),
    ],
    ids=["less", "no-cause", "within-chance"],
)
def test_less_contrast_than_real_is_noted_with_its_cause(high, warnings, said):
    contrast = {"slices": SYNTHETIC, "condition": "full", "first": "AD", "second": "CN"}
    contrast |= {"contrast": 7.0, "ci_low": 5.0, "ci_high": high, "share_of_real": 0.7}
    audit = AUDIT | {"Warnings": warnings}
    told = describe_findings([], [contrast], [], {"JudgeBalancedAccuracyHeldOut": 0.9}, audit, {})
    assert told["Warnings"] == []
    (note,) = told["Notes"]
    assert note.startswith(said)
    is_blamed = "Possible cause: shared tokens: only 1 of 9 differ" in note
    assert is_blamed == said.startswith("Less")


def test_anatomy_is_that_of_known_shapes():
    y, x = np.mgrid[:160, :160] - 79.5
    disc = np.hypot(x, y) < 50
    hole = np.hypot(x, y) < 10
    pixels = np.where(disc & ~hole, 200, 0).astype(np.uint8)
    lopsided = pixels.copy()
    lopsided[:, 80:] //= 2
    found = measure(np.stack([pixels, lopsided, np.zeros_like(pixels)]))
    assert found["brain_area_cm2"][0] == pytest.approx(np.pi * 25, rel=0.01)
    assert found["ventricle_fraction"][0] == pytest.approx(0.04, rel=0.05)
    assert found["symmetry"][0] == pytest.approx(1, abs=1e-3)
    assert found["symmetry"][1] < 0.8
    assert found["brain_area_cm2"][2] == 0


def test_ventricles_are_wider_where_they_were_drawn_wider():
    slices, groups = toy.draw_people({"AD": 8, "CN": 8}, 0)
    fraction = measure(slices)["ventricle_fraction"]
    assert fraction[groups == "AD"].min() > fraction[groups == "CN"].max()
