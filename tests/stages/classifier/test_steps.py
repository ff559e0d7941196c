"""The steps as the orchestrator calls them, on cohorts whose truth is known."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from stages.classifier.explanation import mass_inside
from stages.classifier.statistics import balanced_accuracy
from stages.classifier.tables import read_rows, write_rows
from tests.stages.classifier.toys import (
    REGION,
    SIDE,
    head,
    planted,
    run_combine,
    run_evaluate,
    run_explain,
    run_predict,
    run_prepare,
    run_train,
    write_cohort,
)

FAST = {"epochs": 8, "learning_rate": 0.003}


def cross_validate(prepared, out, **params):
    return [run_train(prepared, out, fold=fold, **{**FAST, **params}) for fold in (0, 1)]


def held_out(folders):
    rows = [
        row for f in folders for row in read_rows(f / "predictions.tsv") if row["set"] == "fold"
    ]
    true = np.array([["F", "M"].index(row["label"]) for row in rows])
    p = np.array([[float(row["p_F"]), float(row["p_M"])] for row in rows])
    return true, p


@pytest.fixture(scope="module")
def joined(regional, tmp_path_factory):
    """The model that joins the folds."""
    return run_combine(regional[2], tmp_path_factory.mktemp("joined") / "model_folds")


@pytest.fixture(scope="module")
def regional(tmp_path_factory):
    """Everything from images to tables for a planted regional effect."""
    root = tmp_path_factory.mktemp("regional")
    cohort = planted(root / "bids")
    prepared = run_prepare(cohort, root / "plans", target=["sex", "brainage"])
    bn = cross_validate(prepared, root / "models")
    linear = cross_validate(prepared, root / "models", network="linear")
    age = cross_validate(prepared, root / "models", network="linear", target="brainage")
    return cohort, prepared, bn, linear, age, root


def test_a_planted_regional_effect_is_found_in_people_held_out(regional):
    true, p = held_out(regional[2])
    assert len(true) == 40 and balanced_accuracy(true, p) >= 0.85


def test_saliency_lies_in_the_planted_region(regional, tmp_path):
    """At least three times as dense as in the head on average, over several people."""
    cohort, _, bn, *_ = regional
    region = np.zeros((SIDE,) * 3, bool)
    region[REGION] = True
    density = []
    for index in range(0, 12, 2):
        maps = run_explain(cohort, index, bn, tmp_path / str(index), methods=["smoothgrad"])
        found = nib.load(maps["smoothgrad"]).get_fdata()
        inside = nib.load(cohort.images[index]).get_fdata() != 0
        density.append(mass_inside(found, region, inside))
    assert np.mean(density) >= 3


def test_maps_lie_on_the_images_grid_and_say_whose_they_are(regional, tmp_path):
    cohort, _, bn, *_ = regional
    maps = run_explain(cohort, 0, bn, tmp_path)
    image = nib.load(cohort.images[0])
    for name in ("gradcam", "smoothgrad", "integrated", "occlusion"):
        found = nib.load(maps[name])
        assert found.shape == image.shape and np.allclose(found.affine, image.affine)
        about = json.loads((tmp_path / f"sub_stat-{name}_T1wmap.json").read_text())
        assert about["Provenance"] == "synthetic" and len(about["Models"]) == 1
    assert nib.load(maps["gradcam"]).get_fdata().min() >= 0
    assert maps["mosaic"].stat().st_size > 10_000


def test_who_was_in_training_is_judged_by_the_other_fold(regional, joined, tmp_path):
    cohort, prepared, bn, linear, *_ = regional
    folds = {row["participant_id"]: row["sex_fold"] for row in read_rows(prepared["cohort"])}
    for index in (0, 5):
        rows = read_rows(run_predict(cohort, index, tmp_path, models=[*bn, *linear, joined]))
        name = cohort.images[index].rpartition("/")[2].split("_")[0]
        assert {row["model"] for row in rows} == {
            f"sexmnigm{network}fold{folds[name]}" for network in ("bn", "linear")
        }


def test_a_new_person_is_judged_by_the_joined_model_alone(joined, tmp_path):
    rng = np.random.default_rng(99)
    new = write_cohort(tmp_path / "new", [head(rng, effect=0.5)], ["M"], [33.0])
    shutil.move(
        new.images[0],
        tmp_path / "new" / "sub-900_space-MNI152NLin2009aSym_res-1_desc-GM_T1w.nii.gz",
    )
    new.images[0] = str(
        tmp_path / "new" / "sub-900_space-MNI152NLin2009aSym_res-1_desc-GM_T1w.nii.gz"
    )
    moved = shutil.copytree(joined, tmp_path / "elsewhere")
    (row,) = read_rows(run_predict(new, 0, tmp_path / "p", model=moved))
    assert row["model"] == "sexmnigmbn" and row["predicted"] == "M" and row["was_seen"] == "False"


def test_the_joined_model_is_the_mean_of_the_folds(regional, joined):
    from stages.classifier.portable import Judge

    bn = regional[2]
    mean = Judge(joined)
    image = np.random.default_rng(0).random((2, 1, SIDE, SIDE, SIDE)).astype(np.float32)
    expected = np.mean([Judge(f)(image) for f in bn], axis=0)
    assert np.allclose(mean(image), expected, atol=1e-4)
    assert len(mean.card["TrainingParticipants"]) == 40


def test_images_of_another_space_or_size_are_refused(regional, tmp_path):
    bn = regional[2]
    rng = np.random.default_rng(0)
    other = write_cohort(tmp_path / "a", [head(rng)], ["F"], [40.0], arm="isotropic")
    with pytest.raises(ValueError, match="no image of arm mnigm"):
        run_predict(other, 0, tmp_path, model=bn[0])
    large = write_cohort(tmp_path / "b", [head(rng, side=20)], ["F"], [40.0])
    with pytest.raises(ValueError, match="shape 20x20x20, the model expects 16x16x16"):
        run_predict(large, 0, tmp_path, model=bn[0])
    coarse = write_cohort(tmp_path / "c", [head(rng)], ["F"], [40.0], zoom=5.0)
    with pytest.raises(ValueError, match="voxels of 5x5x5 mm, the model expects 4x4x4"):
        run_predict(coarse, 0, tmp_path, model=bn[0])


def test_tables_and_figures_say_what_the_models_are_worth(regional):
    cohort, _, bn, linear, age, root = regional
    found = run_evaluate(cohort, [*bn, *linear, *age], root / "evaluation")
    rows = {row["item"]: row for row in read_rows(found["metrics"])}
    row = rows["cv_sex_mnigm_bn"]
    true, p = held_out(bn)
    assert float(row["balanced_accuracy"]) == pytest.approx(balanced_accuracy(true, p), abs=1e-5)
    assert float(row["balanced_accuracy_low"]) <= float(row["balanced_accuracy"])
    assert list(row).index("balanced_accuracy") < list(row).index("accuracy")
    assert float(row["majority_accuracy"]) == 0.5 and row["provenance"] == "synthetic"
    (pair,) = [r for r in read_rows(found["comparison"]) if r["target"] == "sex"]
    assert {pair["first"], pair["second"]} == {"bn", "linear"} and pair["n_images"] == "40"
    assert {r["column"] for r in read_rows(found["groups"])} == {"age", "sex"}
    table = [r for r in read_rows(found["confusions"]) if r["item"] == "cv_sex_mnigm_bn"]
    assert sum(int(r["n"]) for r in table) == 40
    (mean,) = [r for r in read_rows(found["quantities"]) if r["set"] == "cv"]
    assert float(mean["mae"]) > 0 and float(mean["mae_of_mean"]) > 0
    text = json.loads(found["headline"].read_text())["Headline"]
    assert text.startswith("brainage: mae") or text.startswith("sex: balanced accuracy")
    for name in (
        "accuracy_figure",
        "loss_figure",
        "curves_figure",
        "calibration_figure",
        "quantity_figure",
    ):
        assert found[name].stat().st_size > 5_000


def test_regularisers_are_all_tried_and_the_best_is_kept(regional, tmp_path):
    _, prepared, *_ = regional
    cohort = regional[0]
    folders = [run_train(prepared, tmp_path, network="regbn", epochs=2, fold=f) for f in (0, 1)]
    history = read_rows(folders[0] / "history.tsv")
    best: dict[str, float] = {}
    for row in history:
        loss = float(row["validation_loss"])
        best[row["regulariser"]] = min(loss, best.get(row["regulariser"], np.inf))
    assert {kind.split("@")[0] for kind in best} == {"l1", "l2", "l1l2"}
    card = json.loads((folders[0] / "model.json").read_text())
    assert card["Training"]["Penalty"] == min(best, key=best.__getitem__)
    rows = read_rows(run_evaluate(cohort, folders, tmp_path / "e")["regularisers"])
    assert len(rows) == 3 and {row["trainings"] for row in rows} == {"2"}


def test_the_card_says_who_influenced_the_model(regional):
    _, prepared, bn, *_ = regional
    card = json.loads((bn[0] / "model.json").read_text())
    rows = read_rows(prepared["cohort"])
    expected = sorted(f"bids::{r['participant_id']}" for r in rows if r["sex_fold"] == "1")
    assert card["TrainingParticipants"] == expected
    assert card["Input"]["Shape"] == [16, 16, 16] and card["Input"]["Space"] == "MNI152NLin2009aSym"
    assert card["Classes"] == ["F", "M"] and card["Metrics"]["fold"]["Images"] == 20


def test_a_fold_that_is_not_there_writes_nothing(regional, tmp_path):
    folder = run_train(regional[1], tmp_path, fold=7)
    assert list(folder.iterdir()) == []


def _zoomed(image, factor):
    middle = (SIDE - 1) / 2 * (1 - 1 / factor)
    return ndimage.affine_transform(image, np.eye(3) / factor, offset=middle, order=1)


def test_size_tells_nothing_after_registration(tmp_path):
    """Classes differ in size alone; brought to one size, as 12 parameters do, nothing is left."""
    rng = np.random.default_rng(0)
    sexes = ["F", "M"] * 20
    sizes = [0.88 if sex == "F" else 1.0 for sex in sexes]
    native = [_zoomed(head(rng), size) for size in sizes]
    # The template's size lies between, so either class is resampled alike; errors are alike too.
    wrong = rng.normal(1, 0.01, 40)
    same = [_zoomed(i, 0.94 / s * w) for i, s, w in zip(native, sizes, wrong, strict=True)]
    inside = ((np.indices((SIDE,) * 3) - (SIDE - 1) / 2) ** 2).sum(axis=0) < (0.36 * SIDE) ** 2
    registered = [np.where(inside, i, 0).astype(np.float32) for i in same]
    accuracy = {}
    for name, images in {"native": native, "registered": registered}.items():
        cohort = write_cohort(tmp_path / name, images, sexes, [50.0] * 40)
        prepared = run_prepare(cohort, tmp_path / name)
        folders = cross_validate(prepared, tmp_path / name, network="linear", linear_mm=4.0)
        accuracy[name] = balanced_accuracy(*held_out(folders))
    assert accuracy["native"] >= 0.85
    assert accuracy["registered"] <= 0.60


def test_brains_in_their_own_size_are_placed_alike_alone_and_in_a_cohort(tmp_path):
    """Classes differ in size alone, heads lie anywhere; a new head needs the model alone."""
    rng = np.random.default_rng(0)
    sexes = ["F", "M"] * 10

    def anywhere(sex):
        image = np.pad(_zoomed(head(rng), 0.88 if sex == "F" else 1.0), 3)
        return np.roll(image, rng.integers(-3, 4, 3), axis=(0, 1, 2))

    given = {"arm": "ownbrain", "zoom": 8.0}
    cohort = write_cohort(tmp_path / "c", [anywhere(s) for s in sexes], sexes, [50.0] * 20, **given)
    prepared = run_prepare(cohort, tmp_path / "p", grid_mm=8.0)
    folders = cross_validate(prepared, tmp_path, arm="ownbrain", network="linear")
    assert balanced_accuracy(*held_out(folders)) >= 0.85
    new = write_cohort(tmp_path / "new", [anywhere("M")], ["M"], [50.0], **given)
    new.images[0] = shutil.move(new.images[0], tmp_path / "new" / "sub-900_desc-brain_T1w.nii.gz")
    (row,) = read_rows(run_predict(new, 0, tmp_path / "judged", model=folders[0]))
    assert row["predicted"] == "M" and row["was_seen"] == "False"


def test_permuted_labels_with_imbalance_show_in_balanced_accuracy(tmp_path):
    """85 of 100 are men and nothing tells them: accuracy near 0.85, balanced near 0.5."""
    rng = np.random.default_rng(0)
    sexes = ["M"] * 85 + ["F"] * 15
    cohort = write_cohort(tmp_path / "c", [head(rng) for _ in sexes], sexes, [50.0] * 100)
    prepared = run_prepare(cohort, tmp_path / "c")
    folders = cross_validate(prepared, tmp_path, epochs=5, batch_size=10)
    found = run_evaluate(cohort, folders, tmp_path / "e")
    (row,) = [r for r in read_rows(found["metrics"]) if r["set"] == "cv"]
    assert float(row["accuracy"]) == pytest.approx(0.85, abs=0.05)
    assert float(row["balanced_accuracy"]) == pytest.approx(0.5, abs=0.08)
    assert float(row["majority_accuracy"]) == 0.85
    assert float(row["p_permutation"]) > 0.05
    assert "balanced accuracy" in json.loads(found["headline"].read_text())["Headline"]


def test_harmonizations_folds_are_used_for_its_arms(tmp_path):
    cohort = planted(tmp_path / "bids", n=12, arm="resize")
    rows = [
        {
            "participant_id": f"sub-{i + 1:03d}",
            "excluded": "n/a",
            "cohort_resize": "no" if i >= 10 else "yes",
            "split": "test" if i >= 8 else "train",
            "fold": "n/a" if i >= 8 else i // 2 % 2,
        }
        for i in range(12)
    ]
    write_rows(tmp_path / "fingerprint.tsv", rows)
    prepared = run_prepare(cohort, tmp_path / "p", dealt=str(tmp_path / "fingerprint.tsv"))
    found = read_rows(prepared["cohort"])
    assert [r["sex_split"] for r in found] == ["train"] * 8 + ["test"] * 2 + ["unused"] * 2
    assert [r["sex_fold"] for r in found[:8]] == ["0", "0", "1", "1"] * 2
    folder = run_train(prepared, tmp_path, arm="resize", network="linear")
    sets = [r["set"] for r in read_rows(folder / "predictions.tsv")]
    assert sets.count("fold") == 4 and sets.count("test") == 2 and sets.count("train") == 4


def test_mixed_shapes_and_absent_images_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    images = [head(rng), head(rng, side=18)]
    cohort = write_cohort(tmp_path, images, ["F", "M"], [30, 40])
    with pytest.raises(ValueError, match="mixed shapes need harmonization"):
        run_prepare(cohort, tmp_path / "p")
    with pytest.raises(ValueError, match="arm mnibrain: no images"):
        run_prepare(cohort, tmp_path / "p", arm="mnibrain")


@pytest.mark.parametrize("arm", ["resize", "mnigm"])
def test_voxel_sizes_may_differ_only_where_the_arm_stretches_images(tmp_path, arm):
    rng = np.random.default_rng(0)
    cohort = write_cohort(tmp_path, [head(rng) for _ in "FMFM"], list("FMFM"), [30] * 4, arm=arm)
    stretched = nib.load(cohort.images[1]).get_fdata(dtype=np.float32)
    nib.Nifti1Image(stretched, np.diag([4.0, 4.0, 4.3, 1.0])).to_filename(cohort.images[1])
    rows = [
        {"participant_id": f"sub-{i + 1:03d}", "excluded": "n/a", f"cohort_{arm}": "yes"}
        | {"split": "train", "fold": i // 2}
        for i in range(4)
    ]
    write_rows(tmp_path / "fingerprint.tsv", rows)
    dealt = str(tmp_path / "fingerprint.tsv")
    if arm == "mnigm":
        with pytest.raises(ValueError, match="mixed shapes need harmonization"):
            run_prepare(cohort, tmp_path / "p", dealt=dealt)
        return
    prepared = run_prepare(cohort, tmp_path / "p", dealt=dealt)
    model = run_train(prepared, tmp_path, arm=arm, network="linear", inner_folds=2)
    (row,) = read_rows(run_predict(cohort, 1, tmp_path / "judged", model=model))
    assert row["predicted"] in ("F", "M")


def test_one_image_under_two_names_is_a_leak(tmp_path):
    rng = np.random.default_rng(0)
    images = [head(rng) for _ in range(8)]
    images[3] = images[0]
    cohort = write_cohort(tmp_path, images, ["F", "M"] * 4, list(range(30, 38)))
    with pytest.raises(ValueError, match="leak"):
        for seed in range(10):  # unless chance puts both into one fold
            run_prepare(cohort, tmp_path / "p", seed=seed)


def test_small_batches_fall_back_to_groups(regional, tmp_path):
    folder = run_train(regional[1], tmp_path, batch_size=2, epochs=1)
    card = json.loads((folder / "model.json").read_text())
    assert card["Architecture"]["options"]["norm"] == "group"


def test_widths_and_convolutions_make_the_network(regional, tmp_path):
    sizes = {"widths": [4, 6], "convolutions": 1, "epochs": 1}
    folder = run_train(regional[1], tmp_path, **sizes)
    card = json.loads((folder / "model.json").read_text())
    convolutions = 27 * 4 + 27 * 4 * 6
    normalisation = 2 * 4 + 2 * 6
    linear = 2 * 6 * (SIDE // 4) ** 3 + 2
    assert card["Parameters"] == convolutions + normalisation + linear
    # Networks with layers of their own take no notice.
    other = run_train(regional[1], tmp_path, network="sfcn", **sizes)
    assert json.loads((other / "model.json").read_text())["Architecture"]["options"] == {}


def test_a_checkpoint_folder_lets_a_training_go_on(regional, tmp_path):
    states = tmp_path / "states"
    first = run_train(regional[1], tmp_path / "a", epochs=2, checkpoints=str(states))
    (state,) = states.iterdir()
    written = state.stat().st_mtime_ns
    again = run_train(regional[1], tmp_path / "b", epochs=2, checkpoints=str(states))
    assert state.stat().st_mtime_ns == written  # nothing was left to do
    assert (first / "predictions.tsv").read_text() == (again / "predictions.tsv").read_text()


def test_a_training_that_diverges_is_refused(regional, tmp_path):
    with pytest.raises(ValueError, match="training diverged; give a smaller"):
        run_train(regional[1], tmp_path, network="ori", learning_rate=1e30)
