"""Every step on small files, from the cohort to the explanation."""

import json

import nibabel as nib
import numpy as np
import pytest

from stages.translation.tables import read_rows
from tests.stages.translation import steps

SMALL = {
    "spacing_mm": 8.0,
    "stack_mm": 8.0,
    "size": 0,
    "generator": "residual",
    "features": 2,
    "blocks": 1,
    "epochs": 2,
    "decay_epochs": 0,
    "batch_size": 16,
    "augment": False,
    "control_share": 0.5,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """All steps run once; by name what they wrote, and a folder to write more to."""
    root = tmp_path_factory.mktemp("steps")
    images, participants = steps.write_cohort(root / "derivatives")
    found = {"root": root, "images": images, "participants": participants}
    found["cohort"] = steps.call(
        "cohort", root / "cohort", images=images, participants=participants, test_fraction=0.34
    )
    table = found["cohort"]["table"]
    for pair in ("classes", "null", "shuffled"):
        found[pair] = steps.call(
            "train", root / "models" / pair, images=images, cohort=table, pair=pair, **SMALL
        )
        # As the dataset names them, since the pair is read from the folder.
        target = root / "effects" / pair
        target.mkdir(parents=True)
        (target / "effects.safetensors").write_bytes(found[pair]["effects"].read_bytes())
    found["Old"] = translate(found, images[0], "Old")
    found["twins"] = steps.write_twins(root / "twins")
    return found


def translate(found, path, domain, **changes):
    stem = path.split("/")[-1].split("_")[0]
    given = {
        "image": path,
        "cohort": found["cohort"]["table"],
        "weights": found["classes"]["weights"],
        "card": found["classes"]["card"],
        "domains": domain,
    }
    folder = found["root"] / "translate" / stem / domain
    return steps.call("translate", folder, stem=stem, **(given | changes))


def judge(found, folder, **changes):
    given = {
        "images": found["images"],
        "translated": found["twins"]["images"],
        "cohort": found["cohort"]["table"],
        "summary": found["cohort"]["summary"],
    }
    return steps.call("judge", folder, **(given | changes))


def test_the_cohort_is_counted_and_balanced(made):
    rows = read_rows(made["cohort"]["table"])
    assert len(rows) == 12
    counts = {row["item"]: row["found"] for row in read_rows(made["cohort"]["counts"])}
    assert (counts["train_Young"], counts["test_Old"], counts["used"]) == ("4", "2", "12")
    balance = read_rows(made["cohort"]["balance"])
    assert {row["column"] for row in balance} == {"sex", "site"}
    assert json.loads(made["cohort"]["summary"].read_text())["Domains"] == ["Young", "Old"]


def test_training_leaves_weights_card_losses_and_figures(made):
    card = json.loads(made["classes"]["card"].read_text())
    rows = {row["participant_id"]: row for row in read_rows(made["cohort"]["table"])}
    trained = {uri.removeprefix("bids::") for uri in card["TrainingParticipants"]}
    assert trained == {p for p, row in rows.items() if row["split"] == "train"}
    assert card["Grid"]["Plane"] == "axial" and len(read_rows(made["classes"]["losses"])) == 2
    assert len(read_rows(made["null"]["losses"])) == 1
    for name in ("losses_figure", "samples_figure"):
        assert made["classes"][name].stat().st_size > 5000
    metrics = {row["metric"] for row in read_rows(made["classes"]["metrics"])}
    assert {"composition", "reversibility", "minimality", "reversibility_noise0.05"} <= metrics


def test_translations_stay_on_the_image_and_say_what_they_are(made):
    first = made["Old"]
    before = nib.load(made["images"][0])
    after, change = nib.load(first["translated"]), nib.load(first["difference"])
    assert np.array_equal(after.affine, before.affine) and after.shape == before.shape
    summed = before.get_fdata() + change.get_fdata()
    assert np.allclose(after.get_fdata(), np.maximum(summed, 0), atol=1e-2)
    path = first["translated"]
    about = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert (
        about["Synthetic"] is True and about["TranslatedTo"] == "Old" and about["Origin"] == "Young"
    )


def test_judges_count_before_and_after(made, tmp_path):
    models = [
        steps.write_judge(
            tmp_path / "models" / f"fold{k}", seen=[f"sub-{i:02d}" for i in range(12) if i % 2 != k]
        )
        for k in (0, 1)
    ]
    models.append(steps.write_judge(tmp_path / "models" / "age", seen=[], is_quantity=True))
    found = judge(made, tmp_path / "judge", models=models)
    rows = read_rows(found["confusion"])
    before = {
        (r["split"], r["origin"], r["predicted"]): int(r["n"]) for r in rows if r["target"] == "n/a"
    }
    assert before["train", "Young", "Young"] == before["train", "Old", "Old"] == 4
    assert sum(int(r["n"]) for r in rows) == 12 * 3
    rates = {(r["split"], r["origin"], r["metric"]): r for r in read_rows(found["rates"])}
    assert float(rates["test", "Old", "accuracy_before"]["value"]) == 1
    assert float(rates["test", "Old", "effectiveness"]["value"]) == 1
    assert float(rates["train", "Young", "shift_toOld"]["value"]) > 0
    assert float(rates["train", "Old", "shift_toYoung"]["value"]) < 0
    assert {r["reading"] for r in read_rows(found["table1"])} == {"A", "B"}
    assert all(r["judges"] == "1" for r in read_rows(found["verdict_table"]))
    assert "n 2, test" in json.loads(found["headline"].read_text())["Headline"]


def test_a_judge_of_slices_judges_too(made, tmp_path):
    steps.write_judge(tmp_path / "m", seen=["sub-01"], plane="axial")
    found = judge(made, tmp_path / "judge", judges=tmp_path / "m")
    rows = [r for r in read_rows(found["verdict_table"]) if r["target"] == "n/a"]
    assert {r["participant_id"] for r in rows} == {f"sub-{i:02d}" for i in range(12) if i != 1}
    assert all(r["predicted"] == r["origin"] for r in rows)


def test_a_judge_that_saw_everybody_is_refused(made, tmp_path):
    steps.write_judge(tmp_path / "m", seen=[f"sub-{i:02d}" for i in range(12)])
    with pytest.raises(ValueError, match=r"trained on the participants.*m: sub-00, sub-01.*2 more"):
        judge(made, tmp_path / "judge", judges=tmp_path / "m")


def test_without_a_judge_nothing_is_claimed(made, tmp_path, caplog):
    found = judge(made, tmp_path / "judge")
    assert "no judge: no classifier tells Young from Old apart" in caplog.text
    assert not any(path.exists() for path in found.values())


def test_explanations_beside_truth_heat_maps_and_controls(made, tmp_path):
    rng = np.random.default_rng(0)
    grid = np.indices(steps.SHAPE)
    cams = [
        steps.write_image(
            tmp_path / f"sub-{i:02d}_stat-gradcam_desc-agegroupmnigmbn_T1wmap.nii.gz",
            ((grid[1] > 13.5) & (grid[2] > 9.5)) + rng.uniform(0, 0.1, steps.SHAPE),
        )
        for i in range(0, 12, 2)
    ]
    found = steps.call(
        "explain",
        tmp_path / "explain",
        images=made["images"],
        differences=made["twins"]["changes"],
        cohort=made["cohort"]["table"],
        summary=made["cohort"]["summary"],
        card=made["classes"]["card"],
        effects=sorted((made["root"] / "effects").rglob("*.safetensors")),
        gradcams=cams,
        domains="Old",
        bootstraps=20,
    )
    rows = {row["metric"]: row for row in read_rows(found["agreement"])}
    row = rows["r of mean difference and t-map (all)"]
    r = float(row["value"])
    assert r > 0.8 and float(row["ci_low"]) <= r
    assert float(rows["r of mean difference and t-map, both of those held out"]["value"]) > 0.5
    assert float(rows["largest gap: difference of means, mean of differences"]["value"]) < 1e-5
    assert float(rows["NCC of |difference| and Grad-CAM, agegroupmnigmbn"]["value"]) > 0.3
    pairs = {(r["pair"], r["split"]) for r in read_rows(found["controls"])}
    assert pairs >= {("classes", "test"), ("null", "train"), ("shuffled", "test")}
    assert len(read_rows(found["regions_table"])) == 8
    told = json.loads(found["headline"].read_text())["Headline"]
    assert told.startswith(
        f"Young to Old: the mean change goes with the real groups' t-map at r {r:.2f}"
    )
    assert "regions change as the real groups differ" in told and "null" in told
    t = nib.load(found["statistic_map"]).get_fdata()
    assert t.shape == steps.SHAPE and t[10, 18, 13] < -2
    for name in ("maps_figure", "persons_figure", "regions_figure", "surface_figure"):
        assert found[name].stat().st_size > 5000


def test_what_does_not_fit_is_refused(made, tmp_path):
    path = made["images"][0]
    with pytest.raises(FileNotFoundError, match="content brain: this scan has no such image"):
        translate(made, path, "Old", content="brain")
    with pytest.raises(ValueError, match="trained on content gm, asked for gmfraction"):
        translate(made, path, "Old", content="gmfraction", probseg=path)
    with pytest.raises(ValueError, match="between Young and Old, not to Sick"):
        translate(made, path, "Sick")
    other = steps.write_image(
        tmp_path / "sub-00_T1w.nii.gz", np.ones((20, 24, 20)), np.diag([4.0, 4, 4, 1])
    )
    with pytest.raises(ValueError, match="must share space and resolution"):
        translate(made, str(other), "Old")
    damaged = tmp_path / "generators.safetensors"
    damaged.write_bytes(made["classes"]["weights"].read_bytes()[:-4] + b"none")
    with pytest.raises(ValueError, match=r"generators\.safetensors: SHA-256"):
        translate(made, path, "Old", weights=damaged)


def test_cohorts_that_cannot_be_are_refused(made, tmp_path):
    given = {"images": made["images"], "participants": made["participants"]}
    with pytest.raises(ValueError, match="content brain: preprocessing wrote no such image"):
        steps.call("cohort", tmp_path, content="brain", **given)
    with pytest.raises(ValueError, match="domain 'Old' is empty"):
        steps.call("cohort", tmp_path, bounds="45,99", **given)
    with pytest.raises(
        ValueError, match="domain 'Young': 1 participants to train with, at least 2"
    ):
        steps.call("cohort", tmp_path, n_train=1, n_test=1, **given)


def test_constant_slices_and_images_of_two_grids_are_refused(made, tmp_path):
    images = list(made["images"])
    bad = steps.write_image(
        tmp_path / images[0].split("/")[-1], np.random.default_rng(0).uniform(1, 2, (18, 24, 20))
    )
    options = SMALL | {"epochs": 1, "decay_epochs": 0}
    with pytest.raises(ValueError, match="must share space and resolution"):
        steps.call(
            "train",
            tmp_path / "a",
            images=[str(bad), *images[1:]],
            cohort=made["cohort"]["table"],
            **options,
        )
    with pytest.raises(ValueError, match="the images are empty there; axial slices lie between"):
        steps.call(
            "train",
            tmp_path / "b",
            images=images,
            cohort=made["cohort"]["table"],
            **(options | {"stack_mm": 0.0, "slices_mm": [200.0]}),
        )


def test_whole_volumes_are_translated_too(made, tmp_path):
    options = SMALL | {"plane": "volume", "epochs": 1, "decay_epochs": 0, "features": 2}
    found = steps.call(
        "train", tmp_path / "t", images=made["images"], cohort=made["cohort"]["table"], **options
    )
    done = translate(made, made["images"][0], "Old", weights=found["weights"], card=found["card"])
    assert nib.load(done["translated"]).shape == steps.SHAPE
    assert done["figure"].stat().st_size > 5000


def test_a_checkpoint_folder_lets_a_training_go_on(made, tmp_path):
    options = SMALL | {"epochs": 1, "decay_epochs": 0, "checkpoints": str(tmp_path / "states")}
    given = {"images": made["images"], "cohort": made["cohort"]["table"]}
    first = steps.call("train", tmp_path / "a", **given, **options)
    (state,) = (tmp_path / "states").iterdir()
    before = state.stat().st_mtime_ns
    again = steps.call("train", tmp_path / "b", **given, **options)
    assert state.stat().st_mtime_ns == before  # nothing was left to train
    assert first["weights"].read_bytes() == again["weights"].read_bytes()
