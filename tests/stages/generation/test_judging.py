"""Known answers: what the audit says of slices that no generator made."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.generation.likelihood import Density, choose_bandwidth
from stages.generation.slices import load_stack, save_stack
from stages.generation.tables import read_rows, write_rows
from stages.generation.verdicts import balanced_threshold
from tests.stages.generation import steps

GROUPS = ("AD", "CN")
EVALUATION = {"evaluation_size": 64, "judge_epochs": 12, "redraws": 200}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sixty AD and eighty CN, prepared."""
    root = tmp_path_factory.mktemp("cohort")
    people = steps.write_people(root / "raw", {"AD": 60, "CN": 80})
    return steps.call("prepare", root / "prepare", **people, **steps.NAMES)


@pytest.fixture(scope="module")
def judged(cohort: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Held-out slices, copies, mean slices and noise, judged as if they were generated."""
    root = tmp_path_factory.mktemp("judged")
    pixels, rows = load_stack(str(cohort["stack"])), read_rows(cohort["cohort"])

    def real(part: str, group: str) -> np.ndarray:
        return pixels[[int(r["place"]) for r in rows if (r["split"], r["group"]) == (part, group)]]

    rng = np.random.default_rng(0)
    means = {g: real("train", g).mean(0).round().astype(np.uint8) for g in GROUPS}
    made = {
        "heldout": {g: real("test", g) for g in GROUPS},
        "copies": {g: real("train", g)[:10] for g in GROUPS},
        "swapped": {g: real("test", o) for g, o in zip(GROUPS, GROUPS[::-1], strict=True)},
        "means": {g: np.stack([means[g]] * 4) for g in GROUPS},
        "noise": {g: rng.integers(0, 256, (10, 160, 160)).astype(np.uint8) for g in GROUPS},
        # near the mean in the space of principal components, far from it outside
        "grain": {
            g: np.clip(means[g] + rng.normal(0, 90, (10, 160, 160)), 0, 255).astype(np.uint8)
            for g in GROUPS
        },
    }
    people = [f"bids::{r['participant_id']}" for r in rows if r["split"] == "train"]
    samples, tables, cards = [], [], []
    for condition, slices in made.items():
        folder = root / condition
        folder.mkdir()
        save_stack(str(folder / "samples.safetensors"), np.concatenate(list(slices.values())))
        labels = [(g, i) for g, own in slices.items() for i in range(len(own))]
        write_rows(
            folder / "samples.tsv",
            [
                {"place": k, "condition": condition, "group": g, "image": i, "prompt": g}
                for k, (g, i) in enumerate(labels)
            ],
        )
        about = {"Condition": condition, "Size": 160, "Kind": "none", "Provenance": "no generator"}
        about["TrainingParticipants"] = people[::2] if condition == "noise" else people
        (folder / "generator.json").write_text(json.dumps(about))
        samples.append(folder / "samples.safetensors")
        tables.append(folder / "samples.tsv")
        cards.append(folder / "generator.json")
    return steps.call(
        "evaluate",
        root / "evaluate",
        cohort=cohort["cohort"],
        stack=cohort["stack"],
        audited=cohort["verdict"],
        samples=samples,
        tables=tables,
        cards=cards,
        **EVALUATION,
    )


def rows_of(judged: dict[str, Path], table: str, **wanted: str) -> list[dict[str, str]]:
    rows = [r for r in read_rows(judged[table]) if all(r[k] == v for k, v in wanted.items())]
    assert rows
    return rows


def test_the_judge_knows_real_slices(judged):
    about = json.loads(judged["judge"].read_text())
    assert about["JudgeBalancedAccuracyHeldOut"] >= 0.9
    assert about["Components"] >= 1
    assert set(about["Densities"]) == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_held_out_slices_are_called_what_they_are(judged, group):
    (row,) = rows_of(judged, "table1", condition="heldout", group=group)
    assert float(row["right_share_network"]) >= 0.9
    assert float(row["balanced_right_share_network"]) >= 0.9
    assert row["outliers"] == "0"
    (swapped,) = rows_of(judged, "table1", condition="swapped", group=group)
    assert float(swapped["right_share_network"]) <= 0.1


def test_held_out_slices_have_the_contrast_of_real_ones_and_swapped_ones_its_opposite(judged):
    (same,) = rows_of(judged, "contrasts", condition="heldout")
    assert float(same["share_of_real"]) == pytest.approx(1, abs=1e-6)
    (swapped,) = rows_of(judged, "contrasts", condition="swapped")
    assert float(swapped["share_of_real"]) == pytest.approx(-1, abs=1e-6)
    told = json.loads(judged["verdict"].read_text())
    assert any("Mix-up. swapped" in warning for warning in told["Warnings"])
    assert not any("heldout" in warning for warning in told["Warnings"])


def test_copies_are_found_all_of_them_and_held_out_slices_are_none(judged):
    (row,) = rows_of(judged, "memorisation", condition="copies")
    assert row["copy_rate"] == "1"
    assert len(rows_of(judged, "copies", condition="copies")) == 20
    (row,) = rows_of(judged, "memorisation", condition="heldout")
    assert row["copy_rate"] == "0"
    assert float(row["ratio"]) == pytest.approx(1)
    # the copied are training slices, so having them nearby gives them away
    (row,) = rows_of(judged, "memorisation", condition="copies")
    assert float(row["membership_auc"]) > 0.5
    (row,) = rows_of(judged, "memorisation", condition="heldout")
    assert row["membership_auc"] == "0"
    told = json.loads(judged["verdict"].read_text())
    assert any("copies: 20 of 20 synthetic slices are near copies" in w for w in told["Warnings"])


def test_copies_are_sought_among_those_who_were_trained_on(judged):
    (half,), (whole,) = (rows_of(judged, "memorisation", condition=c) for c in ("noise", "grain"))
    assert int(half["n_training"]) == -(-int(whole["n_training"]) // 2)


@pytest.mark.parametrize("condition", ["noise", "grain"])
def test_noise_is_an_outlier_always(judged, condition):
    for row in rows_of(judged, "table1", condition=condition):
        assert row["outlier_rate"] == "1"
    assert len(rows_of(judged, "outliers", condition=condition)) == 20


def test_real_slices_stand_beside_all_synthetic_ones(judged):
    origins = {row["origin"] for row in read_rows(judged["table1"])}
    assert {"held-out real", "training real", "training real, left out of its density"} <= origins
    for table in ("similarity", "anatomy"):
        assert "held-out real" in {row["slices"] for row in read_rows(judged[table])}


def test_training_slices_flatter_their_own_density(judged):
    for group in GROUPS:
        (inside,) = rows_of(judged, "table1", origin="training real", group=group)
        (left_out,) = rows_of(
            judged, "table1", origin="training real, left out of its density", group=group
        )
        column = f"loglik_{group}"
        assert float(inside[column]) > float(left_out[column])


def test_sets_are_compared_as_expected(judged):
    def of(condition: str) -> dict[str, str]:
        (row,) = rows_of(judged, "similarity", slices=f"synthetic ({condition})", group="all")
        return row

    assert float(of("noise")["fid_judge"]) > 5 * float(of("heldout")["fid_judge"])
    assert float(of("means")["ms_ssim"]) > float(of("heldout")["ms_ssim"])
    assert float(of("means")["coverage"]) < float(of("heldout")["coverage"])
    assert float(of("heldout")["trained_on_it_held_out_accuracy"]) >= 0.9
    assert float(of("swapped")["trained_on_it_held_out_accuracy"]) <= 0.1


def test_the_planted_difference_is_seen_in_the_anatomy(judged):
    medians = {
        r["group"]: float(r["median"])
        for r in rows_of(judged, "anatomy", slices="held-out real", measure="ventricle_fraction")
    }
    assert medians["AD"] > 2 * medians["CN"]


@pytest.mark.parametrize("dimensions", [50, 100])
def test_densities_favour_the_tighter_group_for_real_slices_too(dimensions):
    """AD a little wider than CN: most held-out AD are called CN, and tight AD nearly all."""
    rng = np.random.default_rng(0)

    def draw(n: int, is_ad: bool) -> np.ndarray:
        return rng.normal(size=(n, dimensions)) * (1.1 if is_ad else 1) + (0.2 if is_ad else 0)

    def call_ad(Z: np.ndarray) -> np.ndarray:
        return ad.log_likelihood(Z) - cn.log_likelihood(Z)

    train = [draw(300, True), draw(400, False)]
    ad, cn = (Density(Z, choose_bandwidth(Z, [str(i) for i in range(len(Z))])[0]) for Z in train)
    held_ad, held_cn = draw(200, True), draw(200, False)
    tight = rng.normal(size=(200, dimensions)) * 1.1 * np.sqrt(0.5) + 0.2
    assert (call_ad(held_ad) > 0).mean() < 0.4
    assert (call_ad(held_cn) > 0).mean() < 0.2
    assert (call_ad(tight) > 0).mean() < 0.1
    assert (call_ad(train[0]) > 0).mean() == 1  # the study's own way of asking hides it
    both = np.concatenate([call_ad(held_ad), call_ad(held_cn)])
    cut = balanced_threshold(both, np.arange(400) < 200)
    errors = (call_ad(held_ad) <= cut).mean(), (call_ad(held_cn) > cut).mean()
    assert abs(errors[0] - errors[1]) <= 0.01
    assert max(errors) < 0.4
