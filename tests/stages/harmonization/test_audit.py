"""Both verdicts on planted truth: slices that tell the label, and a brain that tells it."""

import json

import numpy as np
import pytest

from stages.harmonization import shortcuts
from stages.harmonization.estimates import Estimate
from stages.harmonization.tables import read_table
from tests.stages.harmonization.phantoms import make_cohort, tie
from tests.stages.harmonization.steps import run_audit, run_fingerprint

SMALL = {"audit_grid": 16, "audit_epochs": 10, "audit_folds": 4}


def audited(tmp_path, *, number, tied, effect, arms, seed=1, **options):
    labels = ["M", "F"] * (number // 2)
    cuts = tie(labels, share=0.85 if tied else 0.5, cut=8, seed=seed)
    cohort = make_cohort(tmp_path, labels=labels, cuts=cuts, effect=effect, seed=seed)
    drawn = run_fingerprint(cohort, tmp_path / "plans", arm=arms, folds=2)
    paths = run_audit(cohort, drawn, tmp_path / "plans", arm=arms, **(SMALL | options))
    return json.loads(paths["verdict"].read_text()), paths


@pytest.fixture(scope="module")
def leaking(tmp_path_factory):
    """360 heads without any effect of the label on the brain; slices tell it 85/15."""
    return audited(
        tmp_path_factory.mktemp("leaking"),
        number=360,
        tied=True,
        effect=0.0,
        arms=["zerobackground", "stratified", "resize", "isotropic"],
        audit_images=120,
    )


def test_slices_that_tell_the_label_fail_the_zero_background(leaking):
    report, _ = leaking
    arm = report["Arms"]["zerobackground"]
    assert arm["Verdict"] == "FAIL"
    assert report["Headline"].startswith("FAIL for arm")
    assert arm["metadata"]["value"] == pytest.approx(0.85, abs=0.05)
    assert arm["image"]["value"] >= 0.75
    assert arm["constant"]["low"] <= 0.5 <= arm["constant"]["high"]
    assert arm["flips"] >= 0.5 > 3 * arm["sham_flips"]
    assert arm["permutation_p"] > 0.05


def test_stretching_to_the_median_shape_fails_as_well(leaking):
    """What the study took for a control turns the slice count into a stretch of the head."""
    arm = leaking[0]["Arms"]["resize"]
    assert arm["Verdict"] == "FAIL" and arm["image"]["value"] >= 0.7 and arm["support"] is None


def test_one_geometry_of_the_same_data_passes(leaking):
    arm = leaking[0]["Arms"]["stratified"]
    assert arm["Verdict"] == "PASS" and arm["flips"] is None
    assert 0.40 <= arm["image"]["value"] <= 0.60 and arm["permutation_p"] > 0.05


def test_isotropic_sampling_around_the_brain_leaves_nothing_to_read(leaking):
    """The metadata still tell the label, so there is a warning; the images do not."""
    arm = leaking[0]["Arms"]["isotropic"]
    assert arm["Verdict"] == "WARN" and arm["image"]["value"] <= 0.60 and arm["flips"] == 0


def test_tables_carry_intervals_baselines_and_equivalence(leaking):
    _, paths = leaking
    rows = read_table(paths["metrics"])
    image = {r["arm"]: r for r in rows if r["item"] == "image"}
    for row in image.values():
        assert float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"])
        assert float(row["majority_accuracy"]) >= 0.5 and int(row["n"]) > 30
    pairs = {(r["arm_a"], r["arm_b"]): r for r in read_table(paths["equivalence"])}
    assert len(pairs) == 6
    assert pairs["zerobackground", "isotropic"]["equivalent"] == "not shown"
    assert 5_000 < paths["figure"].stat().st_size < 400_000


def test_a_brain_that_tells_the_label_passes_with_high_accuracy(tmp_path):
    report, _ = audited(
        tmp_path, number=160, tied=False, effect=0.7, arms=["zerobackground"], audit_epochs=14
    )
    arm = report["Arms"]["zerobackground"]
    assert arm["Verdict"] == "PASS" and report["Headline"].startswith("PASS for arm")
    assert arm["image"]["value"] >= 0.85 and arm["permutation_p"] < 0.05
    assert arm["gap"]["low"] < 0 and arm["constant"]["value"] >= 0.75
    assert report["Provenance"] == "synthetic"


def test_the_seed_decides_the_report(tmp_path):
    options = {"number": 24, "tied": True, "effect": 0.0, "arms": ["croppad"], "audit_epochs": 2}
    one, _ = audited(tmp_path / "a", **options)
    two, _ = audited(tmp_path / "b", **options)
    assert one == two


def evidence(**given):
    known = {
        "metadata": Estimate(0.5, 0.45, 0.55, 100),
        "size": None,
        "support": None,
        "image": Estimate(0.9, 0.85, 0.95, 100),
        "constant": None,
        "matched": None,
        "gap": Estimate(0.0, -0.1, 0.1, 100),
        "flips": 0.0,
        "sham_flips": 0.0,
        "permutation_p": 0.001,
        "majority": 0.5,
        "accuracy": 0.9,
        "classes": 2,
        "right": {},
    }
    return shortcuts.Evidence(**(known | given))


LEAKS = Estimate(0.8, 0.61, 0.9, 100)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, "PASS"),
        ({"metadata": Estimate(0.6, 0.51, 0.7, 100)}, "WARN"),
        ({"metadata": LEAKS}, "WARN"),
        ({"metadata": LEAKS, "gap": Estimate(0.10, 0.01, 0.2, 100)}, "FAIL"),
        ({"metadata": LEAKS, "gap": Estimate(0.09, 0.01, 0.2, 100)}, "WARN"),
        ({"metadata": LEAKS, "gap": Estimate(0.20, -0.01, 0.4, 100)}, "WARN"),
        ({"metadata": LEAKS, "flips": 0.10}, "FAIL"),
        ({"metadata": LEAKS, "flips": 0.09}, "WARN"),
        ({"support": LEAKS, "flips": 0.5}, "FAIL"),
        ({"support": LEAKS}, "WARN"),
        ({"metadata": Estimate(0.8, 0.60, 0.9, 100), "flips": 0.9}, "WARN"),
        ({"flips": 0.9, "gap": Estimate(0.4, 0.3, 0.5, 100)}, "PASS"),
        ({"metadata": LEAKS, "gap": None, "flips": None}, "WARN"),
        ({"metadata": LEAKS, "classes": 3, "flips": 0.2}, "FAIL"),
    ],
)
def test_the_rule_of_the_verdict(given, verdict):
    assert shortcuts.judge(evidence(**given))[0] == verdict


def test_three_classes_have_a_third_as_chance():
    third = Estimate(0.36, 0.34, 0.40, 100)
    assert shortcuts.judge(evidence(metadata=third, classes=3))[0] == "WARN"
    assert shortcuts.judge(evidence(metadata=third, classes=2))[0] == "PASS"


def arm_data(images, labels):
    n = len(labels)
    return shortcuts.ArmData(
        people=[f"sub-{i}" for i in range(n)],
        labels=np.array(labels),
        rows=[{"n_slices": "9"}] * n,
        strata=["9"] * n,
        images=images,
        supports=np.ones_like(images),
        swapped=None,
        shifted=None,
    )


def test_too_few_of_a_class_and_twins_are_refused():
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 16)).astype(np.float32)
    with pytest.raises(ValueError, match=r"classes of 6, 2 people, at least 3"):
        data = arm_data(images, [0] * 6 + [1] * 2)
        shortcuts.audit_arm(data, folds=3, epochs=1, seed=0)
    images[3] = images[7]
    with pytest.raises(ValueError, match=r"sub-7 and sub-3 have the same image"):
        shortcuts.audit_arm(arm_data(images, [0, 1] * 4), folds=2, epochs=1, seed=0)


def test_a_pass_on_few_people_says_what_it_cannot_exclude():
    wide = Estimate(0.5, 0.3, 0.7, 20)
    verdict, sentence = shortcuts.judge(evidence(metadata=wide))
    assert verdict == "PASS" and "20 people are too few to exclude a leak of up to 0.70" in sentence
    assert "too few" not in shortcuts.judge(evidence())[1]
