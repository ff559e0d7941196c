"""The steps one after another on small data: from images to tables, maps and landmarks."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from stages.transfer.evaluate import tell_differences
from stages.transfer.files import read, read_about, read_cases, read_prepared, write
from stages.transfer.landmark_source import LandmarkTask, find_background
from stages.transfer.landmarks import read_points
from stages.transfer.tables import read_rows
from tests.stages.transfer.phantoms import make_phantom, write_image
from tests.stages.transfer.steps import call

SMALL = {"patch_size": 16, "width": 8, "depth": 2}
PEOPLE = 7


@pytest.fixture(scope="module")
def material(heads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    return [
        call(
            "patches",
            folder,
            sub=f"{i + 1:02d}",
            annotations=[labels],
            images=[image],
            patch_size=16,
        )["patches"]
        for i, (image, labels) in enumerate(heads)
    ]


@pytest.fixture(scope="module")
def trained(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrain")
    return call(
        "pretrain", folder, material=material, source="landmark6", epochs=25, batch_size=16,
        background=8, exclusion_mm=14.0, shift_mm=2.0, learning_rate=0.01, **SMALL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Candidates of seven small angiograms; five have a sac."""
    folder = tmp_path_factory.mktemp("cases")
    made = []
    for index in range(PEOPLE):
        phantom = make_phantom(index, sacs=int(index < 5), shape=(40, 40, 36))
        image = write_image(folder / f"sub-{index}_angio.nii.gz", phantom.image)
        mask = write_image(folder / f"sub-{index}_label-aneurysm_mask.nii.gz", phantom.sacs)
        done = call(
            "vessels", folder, sub=str(index), images=[image], lesions=[mask], patch_size=16
        )
        made.append((image, mask, done["candidates"]))
    return made


@pytest.fixture(scope="module")
def boosted(cases, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boost")
    candidates = [path for _, _, path in cases]
    random = call("pretrain", folder, material=[], source="random", **SMALL)
    made = {}
    for source, own in (("landmark6", trained), ("random", random)):
        given = {
            "candidates": candidates,
            "model": own["model"],
            "card": own["card"],
            "source": source,
        }
        features = call("features", folder, **given)["features"]
        made[source] = call(
            "boost", folder, features=features, weak_learners=12, finetune_epochs=1, **given
        )
    return made, random


def test_a_network_learns_landmarks_and_names_those_of_new_people(trained):
    card = json.loads(trained["card"].read_text())
    found = {(row["measure"], row["part"]): row for row in card["Accuracy"]}
    assert found["top1", "landmarks"]["value"] > 0.9
    assert found["top1", "all"]["n_participants"] == 3
    assert len(card["TrainingParticipants"]) == 6
    assert len(card["Landmarks"]) == 6
    assert len(read_rows(trained["confusion"])) == 7
    assert not trained["state"].exists()  # finished


def test_landmarks_are_found_in_a_whole_image(heads, trained, tmp_path):
    card = json.loads(trained["card"].read_text())
    taught = {p.removeprefix("bids::") for p in card["TrainingParticipants"]}
    model = tmp_path / "models" / "landmark6"
    model.mkdir(parents=True)
    for name in ("model", "card"):
        (model / trained[name].name).write_bytes(trained[name].read_bytes())
    image, labels = next(pair for pair in heads if pair[0].name[:6] not in taught)
    made = call(
        "detect", tmp_path, image=image, annotations=[labels],
        models=[model / "model.safetensors"], cards=[model / "model.json"],
    )  # fmt: skip
    rows = read_rows(made["points"])
    assert np.mean([float(row["error_mm"]) for row in rows]) < 4  # two voxels
    assert {row["part"] for row in rows} == {"test"}
    slicer = read_points(made["slicer"])
    assert slicer[rows[0]["name"]][0] == pytest.approx(float(rows[0]["x"]), abs=1e-3)
    table = call("evaluate", tmp_path, cards=[model / "model.json"], points=[made["points"]])
    learned = {(r["measure"], r["part"]): r["value"] for r in read_rows(table["learned"])}
    assert float(learned["mean_radial_error_mm", "whole image, test"]) < 4
    assert "6 classes" not in json.loads(table["summary"].read_text())["Headline"]
    noise = write_image(
        tmp_path / "sub-99_T1w.nii.gz", np.random.default_rng(0).random((30, 30, 30)), 2.0
    )
    with pytest.raises(ValueError, match=r"sub-99_T1w.nii.gz: \d of 6 landmarks are recognised"):
        call(
            "detect",
            tmp_path,
            image=noise,
            models=[model / "model.safetensors"],
            cards=[model / "model.json"],
        )


def test_a_missing_label_is_a_landmark_less_for_that_person_only(material, heads, tmp_path):
    labels = nib.load(heads[0][1])
    data = np.asarray(labels.dataobj).copy()
    data[data == 3] = 0
    path = tmp_path / heads[0][1].name
    nib.save(nib.Nifti1Image(data, labels.affine), path)
    made = call("patches", tmp_path, annotations=[path], images=[heads[0][0]], patch_size=16)
    assert read_about(made["patches"])["names"] == [["1", "2", "4", "5", "6"]]
    others = [made["patches"], *material[1:]]
    trained = call(
        "pretrain", tmp_path, material=others, source="landmark6", epochs=1, presence=0.8, **SMALL
    )
    assert "3" in json.loads(trained["card"].read_text())["Classes"]
    with pytest.raises(ValueError, match="7 landmarks asked for, but only 6 are in at least 80%"):
        call("pretrain", tmp_path, material=others, source="landmark7", presence=0.8, **SMALL)


def test_background_is_in_the_body_and_far_from_landmarks(material):
    (item,) = read_prepared([str(material[0])])
    voxels = find_background(item, item.points, 14.0, 8)
    away = np.linalg.norm((voxels[:, None] - item.points[None]) * 2.0, axis=-1).min(1)
    assert len(voxels) > 50
    assert away.min() >= 14.0
    task = LandmarkTask([item], ["1", "2"], size=16, shift_mm=0.0, exclusion_mm=14.0, background=3)
    patches, classes = task.draw(np.random.default_rng(0))
    assert patches.shape == (5, 3, 16, 16)
    assert classes.tolist() == [0, 1, 2, 2, 2]


def test_the_same_scan_under_two_names_is_refused(heads, tmp_path):
    twins = []
    for index in range(6):
        image = tmp_path / f"sub-{index}_T1w.nii.gz"
        image.write_bytes(heads[0][0].read_bytes())
        labels = tmp_path / f"sub-{index}_dseg.nii.gz"
        labels.write_bytes(heads[0][1].read_bytes())
        twins.append(
            call(
                "patches",
                tmp_path,
                sub=str(index),
                annotations=[labels],
                images=[image],
                patch_size=16,
            )["patches"]
        )
    with pytest.raises(ValueError, match="patches are both in training and in testing"):
        call("pretrain", tmp_path, material=twins, source="landmark6", epochs=1, **SMALL)


def test_sources_that_need_something_say_so(material, tmp_path):
    with pytest.raises(FileNotFoundError, match="--weights cifar10=PATH"):
        call("pretrain", tmp_path, source="cifar10")
    with pytest.raises(FileNotFoundError, match="--weights network=PATH"):
        call("pretrain", tmp_path, source="weights")
    with pytest.raises(ValueError, match="no participant with landmarks to train with"):
        call("pretrain", tmp_path, source="landmark6")
    with pytest.raises(ValueError, match="patches of 32 pixels; patch size is 16"):
        call("pretrain", tmp_path, source="naturalproxy", patch_size=16)


def test_cases_with_and_without_sacs_give_candidates(cases):
    abouts = [read_about(path) for _, _, path in cases]
    assert [about["lesions"] for about in abouts] == [1] * 5 + [0] * 2
    arrays, _ = read(cases[0][2])
    assert (arrays["lesions"] > 0).any()
    assert arrays["matched"].sum() >= 3
    assert not (arrays["matched"] & (arrays["lesions"] > 0)).any()


def test_masks_without_image_or_on_another_grid_are_refused(cases, tmp_path):
    image, mask, _ = cases[0]
    other = write_image(tmp_path / mask.name, np.zeros((9, 9, 9), np.uint8))
    with pytest.raises(ValueError, match=r"its grid is \(9, 9, 9\)"):
        call("vessels", tmp_path, images=[image], lesions=[other])
    with pytest.raises(ValueError, match="no image has its entities"):
        call("vessels", tmp_path, images=[cases[1][0]], lesions=[mask])


def test_thick_slices_keep_landmarks_vessels_and_lesions(tmp_path):
    phantom = make_phantom(1, sacs=1, shape=(60, 60, 60))
    thick = np.diag([0.5, 0.5, 5.0, 1.0])

    def write_thick(name, data, spacing_mm):
        """Average (or take any, for labels) over 5 mm along z, at 0.5 mm across."""
        fine = ndimage.zoom(data.astype(np.float32), spacing_mm / 0.5, order=1)
        slices = fine[:, :, : fine.shape[2] // 10 * 10].reshape(*fine.shape[:2], -1, 10)
        values = slices.max(-1) > 0.5 if "mask" in name else slices.mean(-1)
        nib.save(nib.Nifti1Image(values.astype(np.float32), thick), tmp_path / name)
        return tmp_path / name

    image = write_thick("sub-5_angio.nii.gz", phantom.image, 0.6)
    mask = write_thick("sub-5_label-aneurysm_mask.nii.gz", phantom.sacs, 0.6)
    made = call("vessels", tmp_path, sub="5", images=[image], lesions=[mask])
    arrays, about = read(made["candidates"])
    assert (about["lesions"], about["missed"]) == (1, 0)
    assert (arrays["lesions"] > 0).any()
    assert arrays["matched"].any()
    points = tmp_path / "sub-5_points.tsv"
    points.write_text("name\tx\ty\tz\nhere\t10\t20\t17\n")
    made = call("patches", tmp_path, sub="5", annotations=[points], images=[image])
    (item,) = read_prepared([str(made["patches"])])
    assert np.allclose(item.volume.zooms, 2.0)
    assert np.allclose(item.places["here"], [10, 20, 17])
    points.write_text("name\tx\ty\tz\nfar\t10\t20\t170\n")
    with pytest.raises(ValueError, match=r"points.tsv: 1 of 1 landmarks are outside the image"):
        call("patches", tmp_path, sub="5", annotations=[points], images=[image])


def test_candidates_on_voxels_of_two_sizes_are_refused(cases, tmp_path):
    arrays, about = read(cases[0][2])
    other = tmp_path / "sub-9_candidates.safetensors"
    write(other, arrays, about | {"spacing_mm": 0.4})
    with pytest.raises(ValueError, match=r"on voxels of \[0.4, 0.6\] mm; run step vessels again"):
        read_cases([str(cases[1][2]), str(other)])


def test_boosting_judges_cases_that_were_not_learnt_from(boosted):
    made, _ = boosted
    arrays, about = read(made["landmark6"]["scores"])
    _, booster = read(made["landmark6"]["booster"])
    tested = set(about["cases"])
    assert len(tested) == 2
    assert not tested & {p.removeprefix("bids::") for p in booster["participants"]}
    assert arrays["staged"].shape[1] == 12
    assert np.isfinite(arrays["probe"]).all()
    assert np.isfinite(arrays["finetuned"]).all()
    rows = read_rows(made["landmark6"]["selected"])
    assert [row["round"] for row in rows] == [str(k + 1) for k in range(len(rows))]


def test_the_weights_at_the_start_have_an_effect(cases, boosted, tmp_path):
    made, random = boosted
    given = {
        "candidates": [p for _, _, p in cases], "model": random["model"], "card": random["card"],
        "features": made["random"]["scores"].with_name("features.safetensors"),
        "source": "random", "weak_learners": 1, "finetune_epochs": 0,
    }  # fmt: skip
    errors = []
    for start in ("balanced", "equal"):
        done = call("boost", tmp_path / start, start=start, **given)
        errors.append(float(read_rows(done["selected"])[0]["weighted_error"]))
    assert errors[1] < errors[0] < 0.5  # most are normal: saying so is cheap with equal weights


def test_every_case_is_judged_once_with_folds(cases, boosted, tmp_path):
    _, random = boosted
    given = {
        "candidates": [p for _, _, p in cases],
        "model": random["model"],
        "card": random["card"],
    }
    features = call("features", tmp_path, source="random", **given)["features"]
    made = call(
        "boost",
        tmp_path,
        source="random",
        features=features,
        folds=3,
        weak_learners=4,
        finetune_epochs=0,
        **given,
    )
    arrays, about = read(made["scores"])
    assert len(set(about["cases"])) == PEOPLE
    assert np.isfinite(arrays["staged"]).all()
    assert sorted(arrays["rows"]) == list(range(len(arrays["rows"])))


def test_a_network_that_knows_the_test_cases_is_refused(cases, boosted, tmp_path):
    made, random = boosted
    card = json.loads(random["card"].read_text())
    card["TrainingParticipants"] = [f"bids::sub-{i}" for i in range(PEOPLE)]
    path = tmp_path / "model.json"
    path.write_text(json.dumps(card))
    features = made["random"]["scores"].with_name("features.safetensors")
    given = {"candidates": [p for _, _, p in cases], "model": random["model"], "card": path}
    with pytest.raises(ValueError, match="participants are both in training and in testing"):
        call("boost", tmp_path, source="random", features=features, **given)


def test_one_class_only_is_refused(cases, boosted, tmp_path):
    _, random = boosted
    normal = []
    for index in range(4):
        arrays, about = read(cases[index][2])
        arrays["lesions"][:] = 0
        normal.append(tmp_path / f"sub-{index}_candidates.safetensors")
        write(normal[-1], arrays, about | {"lesions": 0})
    given = {
        "candidates": normal,
        "model": random["model"],
        "card": random["card"],
        "source": "random",
    }
    features = call("features", tmp_path, **given)["features"]
    with pytest.raises(ValueError, match="training patches are normal; boosting needs both"):
        call("boost", tmp_path, features=features, **given)
    with pytest.raises(ValueError, match="no candidates of any participant"):
        call("features", tmp_path, **(given | {"candidates": []}))


def test_the_group_gets_curves_differences_and_froc(boosted, trained, tmp_path):
    made, random = boosted
    table = call(
        "evaluate", tmp_path, bootstraps=60,
        cards=[trained["card"], random["card"]],
        scores=[made[source]["scores"] for source in made],
    )  # fmt: skip
    rows = read_rows(table["curves"])
    assert {row["source"] for row in rows} == {"landmark6", "random"}
    for level in ("patch", "case"):
        rules = {row["rule"] for row in rows if row["level"] == level}
        assert rules == {"adaboost", "probe", "finetuned"}
    first = [
        r
        for r in rows
        if (r["level"], r["source"], r["rule"]) == ("patch", "landmark6", "adaboost")
    ]
    assert len(first) == 12
    assert all(0 <= float(r["auc"]) <= 1 for r in first)
    differences = read_rows(table["comparison"])
    assert differences[0]["first"] == "landmark6"
    one = next(r for r in differences if r["weak_learners"] == "1")
    expected = float(one["auc_first"]) - float(one["auc_second"])
    assert float(one["difference"]) == pytest.approx(expected, abs=1e-5)
    assert read_rows(table["froc"])
    assert table["roc_figure"].is_file()
    headline = json.loads(table["summary"].read_text())["Headline"]
    assert "a gain of at least 0.05 is" in headline
    items = {row["item"]: row["value"] for row in read_rows(table["counts"])}
    assert (items["cases"], items["cases_train"], items["cases_test"]) == ("7", "5", "2")


def test_the_headline_compares_with_every_other_kind_of_source_and_judges_the_gain():
    def row(second, low, high):
        middle = (low + high) / 2
        return {
            "level": "patch", "weak_learners": "mean 1-5", "first": "landmark60", "second": second,
            "auc_first": 0.8, "auc_second": 0.8 - middle, "difference": middle,
            "ci_low": low, "ci_high": high,
        }  # fmt: skip

    fewer = row("landmark20", -0.1, 0.1)
    rows = [fewer, row("cifar10", 0.06, 0.2), row("random", -0.1, 0.04), row("weights", 0.01, 0.2)]
    said = tell_differences(rows, "real").split("; ")
    assert "tell lesions more than cifar10, area 0.800 against 0.670" in said[0]
    assert said[0].endswith("a gain of at least 0.05 is met")
    assert said[1].startswith("neither clearly more nor less than random")
    assert said[1].endswith("is not met")
    assert said[2].endswith("is open.")
    assert len(said) == 3
    assert "than landmark20" in tell_differences([fewer], "real")
    assert tell_differences([], "real") == ""


def test_a_new_angiogram_is_scored_on_its_own_grid(cases, boosted, trained, tmp_path):
    made, _ = boosted
    folder = tmp_path / "models" / "landmark6"
    folder.mkdir(parents=True)
    for path in (trained["model"], trained["card"], made["landmark6"]["booster"]):
        (folder / path.name).write_bytes(path.read_bytes())
    phantom = make_phantom(50, sacs=1, shape=(40, 40, 36))
    image = tmp_path / "sub-77_angio.nii.gz"
    affine = np.diag([-0.6, 0.6, 0.6, 1.0])  # stored from left to right
    nib.save(nib.Nifti1Image(phantom.image, affine), image)
    given = {
        "image": image, "models": [folder / "model.safetensors"], "cards": [folder / "model.json"],
        "boosters": [folder / "booster.safetensors"],
    }  # fmt: skip
    done = call("score", tmp_path, **given)
    mask, values = (nib.load(done[n]) for n in ("vessel_mask", "probability"))
    assert mask.shape == values.shape == image_shape(image)
    inside, p = np.asarray(mask.dataobj) > 0, np.asarray(values.dataobj)
    assert (p[~inside] == 0).all()
    assert (p[inside] > 0).all()
    assert p.max() <= 1
    canonical = np.asarray(nib.as_closest_canonical(mask).dataobj) > 0
    truth = (phantom.vessels | (phantom.sacs > 0))[::-1]
    assert 2 * (canonical & truth).sum() / (canonical.sum() + truth.sum()) > 0.8
    best = read_rows(done["findings"])[0]
    assert float(best["probability"]) == pytest.approx(float(p.max()), abs=1e-4)
    with pytest.raises(ValueError, match="scorer 'cifar10' has no booster; there are landmark6"):
        call("score", tmp_path, scorer="cifar10", **given)
    with pytest.raises(ValueError, match=r"lesions on voxels of 0.6 mm, this scores on 0.8 mm"):
        call("score", tmp_path, vessel_spacing_mm=0.8, **given)
    blank = write_image(
        tmp_path / "sub-78_angio.nii.gz", np.random.default_rng(0).normal(100, 5, (30, 30, 30))
    )
    with pytest.raises(ValueError, match=r"sub-78_angio.nii.gz: no vessel found"):
        call("score", tmp_path, **(given | {"image": blank}))
    with pytest.raises(ValueError, match=r"sub-78_angio.nii.gz: no vessel found"):
        empty = write_image(tmp_path / "sub-78_label-aneurysm_mask.nii.gz", np.zeros((30, 30, 30)))
        call("vessels", tmp_path, images=[blank], lesions=[empty])
    nothing = call("score", tmp_path / "none", image=image)
    assert not nothing["probability"].exists()


def image_shape(path):
    """As it is nearest to RAS+, in which results are written."""
    return nib.as_closest_canonical(nib.load(path)).shape


def test_a_small_search_over_architectures_is_reported(material, tmp_path, monkeypatch):
    from stages.transfer import search

    monkeypatch.setattr(search, "SIZES", (16,))
    monkeypatch.setattr(search, "DEPTHS", (1, 2))
    monkeypatch.setattr(search, "WIDTHS", (4,))
    made = call(
        "pretrain",
        tmp_path,
        material=material,
        source="landmark6",
        epochs=1,
        search_epochs=1,
        **SMALL,
    )
    rows = read_rows(made["search"])
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert float(rows[0]["validation_top1"]) >= float(rows[1]["validation_top1"])
    assert {row["depth"] for row in rows} == {"1", "2"}
