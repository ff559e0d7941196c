"""The steps on small cohorts: exact counts and shapes, what is refused, what the options do."""

import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure

from stages.harmonization import nifti
from stages.harmonization.tables import read_people, read_table
from tests.stages.harmonization.phantoms import FULL, VOXEL_MM, make_cohort
from tests.stages.harmonization.steps import people_of, run_apply, run_combat, run_fingerprint

ALL_ARMS = ["zerobackground", "cluster", "stratified", "resize", "croppad", "isotropic"]
# 12 of 48 slices (7 M, 5 F), 8 of 44, 4 of 40, 1 of 39: mode 48, median 44
LABELS = ["M"] * 7 + ["F"] * 5 + ["M", "F"] * 4 + ["F", "M", "M", "M"] + ["F"]
CUTS = [0] * 12 + [4] * 8 + [8] * 4 + [9]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """25 people whose counts are known; the last has one slice fewer than 40."""
    return make_cohort(tmp_path_factory.mktemp("known"), labels=LABELS, cuts=CUTS)


@pytest.fixture(scope="module")
def drawn(cohort):
    options = {"arm": ALL_ARMS, "min_slices": 40, "folds": 2}
    return run_fingerprint(cohort, cohort.root / "plans", **options)


def counted(drawn):
    return {row["item"]: row["value"] for row in read_table(drawn["counts"])}


def test_mode_median_threshold_and_draws_are_exact(drawn):
    counts = counted(drawn)
    assert counts["participants"] == "25" and counts["participants_used"] == "24"
    assert counts["images_excluded: fewer than 40 slices"] == "1"  # 39 out, 40 in
    assert counts["mode_shape"] == "48x56x46" and counts["median_shape"] == "44x56x46"
    assert (counts["mode"], counts["mode_M"], counts["mode_F"]) == ("12", "7", "5")
    assert (counts["cluster"], counts["stratified"]) == ("12", "10")
    assert (counts["stratified_M"], counts["stratified_F"]) == ("5", "5")
    assert (counts["resize_M"], counts["resize_F"]) == ("10", "10")
    assert counts["isotropic"] == "24"
    assert float(counts["cluster_majority_accuracy"]) == pytest.approx(7 / 12, abs=1e-5)


def test_the_slice_axis_is_found_and_can_be_told(cohort, drawn, tmp_path):
    assert json.loads(drawn["plan"].read_text())["SliceAxis"] == 0
    told = run_fingerprint(cohort, tmp_path, slice_axis="z", folds=2)
    assert {row["n_slices"] for row in read_table(told["table"])} == {"46"}


def test_grids_are_computed_from_those_who_are_not_excluded(drawn):
    plan = json.loads(drawn["plan"].read_text())
    shapes = {arm: entry["Shape"] for arm, entry in plan["Arms"].items()}
    assert shapes["zerobackground"] == [48, 56, 46]
    assert shapes["resize"] == shapes["croppad"] == [44, 56, 46]
    assert shapes["isotropic"] == [40, 56, 46] and shapes["cluster"] == []


def test_everybody_is_in_one_part_and_the_excluded_in_none(drawn):
    people = people_of(drawn)
    used = [p for p in people.values() if p["excluded"] == "n/a"]
    assert len(people) == 25 and len(used) == 24
    assert Counter(p["split"] for p in used) == {"train": 19, "test": 5}
    assert {p["fold"] for p in used if p["split"] == "train"} == {"0", "1"}
    gone = people["sub-024"]
    assert gone["excluded"] == "fewer than 40 slices"
    assert (gone["split"], gone["fold"], gone["cohort_isotropic"]) == ("n/a", "n/a", "no")


def test_headers_tell_of_scanner_grid_and_provenance(drawn):
    row = read_table(drawn["table"])[0]
    assert row["shape_x"] == "48" and float(row["zoom_x"]) == VOXEL_MM
    assert row["raw_shape_x"] == "48" and row["raw_dtype"] == "int16"
    assert row["orientation"] == "RAS" and row["Manufacturer"] == "None"
    assert row["provenance"] == "synthetic" and float(row["brain_volume_ml"]) > 1000


def test_figures_say_themselves_that_people_were_made_up(cohort, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Figure, "suptitle", lambda figure, text, **_: said.append(text))
    drawn = run_fingerprint(cohort, tmp_path, arm=["isotropic"], min_slices=40, folds=2)
    image = cohort.images[0], cohort.masks[0], drawn, tmp_path, "isotropic"
    run_apply(*image)
    drawn["table"].write_text(drawn["table"].read_text().replace("\tsynthetic", "\treal"))
    run_apply(*image)
    assert ["synthetic data" in text for text in said] == [True, True, False]


def test_the_same_seed_draws_the_same_and_another_does_not(cohort, drawn, tmp_path):
    options = {"arm": ALL_ARMS, "min_slices": 40, "folds": 2}
    again = run_fingerprint(cohort, tmp_path / "a", **options)
    other = run_fingerprint(cohort, tmp_path / "b", seed=1, **options)
    for name in drawn:
        assert again[name].read_bytes() == drawn[name].read_bytes(), name
    assert other["table"].read_bytes() != drawn["table"].read_bytes()


def test_options_have_an_effect(cohort, tmp_path):
    options = {"arm": ["cluster", "isotropic"], "min_slices": 40, "folds": 3}
    more = {"test_fraction": 0.0, "quota": "M=3,F=1", "spacing_mm": 8.0, "content": "head"}
    out = run_fingerprint(cohort, tmp_path, intensity="whitestripe", **options, **more)
    counts = counted(out)
    assert (counts["cluster_M"], counts["cluster_F"]) == ("3", "1")
    plan = json.loads(out["plan"].read_text())
    assert plan["Arms"]["isotropic"]["Shape"] == [20, 28, 23]
    assert plan["Content"] == "head" and plan["Intensity"]["method"] == "whitestripe"
    assert {p["fold"] for p in people_of(out).values()} == {"0", "1", "2", "n/a"}


def test_nyul_learns_from_training_images_alone(cohort, tmp_path):
    """Landmarks change with a training image, not with one that is held out."""
    options = {"min_slices": 40, "folds": 2, "intensity": "nyul"}
    before = run_fingerprint(cohort, tmp_path / "a", **options)
    marks = [json.loads(before["plan"].read_text())["Intensity"]["landmarks"]]
    people = people_of(before)
    for part in ("test", "train"):
        name = next(n for n, p in people.items() if p["split"] == part)
        path = next(p for p in cohort.images if name in p)
        original = Path(path).read_bytes()
        image = nib.load(path)
        bent = np.asarray(image.dataobj) ** 1.1
        nib.Nifti1Image(bent.astype(np.int16), image.affine).to_filename(path)
        out = run_fingerprint(cohort, tmp_path / part, **options)
        marks.append(json.loads(out["plan"].read_text())["Intensity"]["landmarks"])
        Path(path).write_bytes(original)
    assert marks[0] == marks[1] and marks[0] != marks[2]
    few = run_fingerprint(cohort, tmp_path / "few", **options, nyul_images=2)
    assert json.loads(few["plan"].read_text())["Intensity"]["landmarks"] != marks[0]


def test_a_given_plan_is_followed(cohort, drawn, tmp_path):
    plan = json.loads(drawn["plan"].read_text())
    plan["Arms"]["croppad"]["Shape"] = [30, 31, 32]
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(plan))
    out = run_fingerprint(cohort, tmp_path, given_plan=str(path), arm=["croppad"], folds=2)
    assert json.loads(out["plan"].read_text()) == plan
    del plan["Arms"]["croppad"]
    path.write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"no arm croppad in this plan \(it has zerobackground"):
        run_fingerprint(cohort, tmp_path, given_plan=str(path), arm=["croppad"], folds=2)


def test_apply_writes_those_drawn_on_the_arms_grid_and_nobody_else(cohort, drawn, tmp_path):
    rows = {r["filename"]: r for r in read_table(drawn["table"])}
    plan = json.loads(drawn["plan"].read_text())
    image, mask = cohort.images[14], cohort.masks[14]  # 44 slices: in no arm of the mode shape
    row = rows[Path(image).name]
    for arm in ALL_ARMS:
        out = run_apply(image, mask, drawn, tmp_path / arm, arm)
        assert out["harmonized"].exists() == (row[f"cohort_{arm}"] == "yes")
        if out["harmonized"].exists():
            placed = nib.load(out["harmonized"])
            assert list(placed.shape) == plan["Arms"][arm]["Shape"]
            assert read_table(out["scans"])[0]["shape_before"] == "44x56x46"
            assert out["figure"].stat().st_size < 400_000
            person = read_people(out["person"])[row["participant_id"]]
            assert person["fold"] == row["fold"] and person["cohort_cluster"] == "no"
    assert row["cohort_cluster"] == "no" and row["cohort_isotropic"] == "yes"


def test_intensities_are_scaled_in_the_brain_and_air_is_flat(cohort, drawn, tmp_path):
    out = run_apply(cohort.images[0], cohort.masks[0], drawn, tmp_path, "zerobackground")
    placed = nifti.load(out["harmonized"]).data
    inside = nifti.load(cohort.masks[0]).data > 0
    assert placed[inside].mean() == pytest.approx(0, abs=1e-3)
    assert placed[inside].std() == pytest.approx(1, abs=1e-3)
    assert np.ptp(placed[~inside]) == 0 and placed[~inside][0] < -4
    sidecar = json.loads(out["harmonized"].with_suffix("").with_suffix(".json").read_text())
    assert sidecar["SkullStripped"] is True and sidecar["Arm"] == "zerobackground"


def test_content_chooses_what_is_kept(cohort, tmp_path):
    image, mask = cohort.images[0], cohort.masks[0]
    grey = tmp_path / "sub-000_label-GM_probseg.nii.gz"
    inside = nifti.load(mask).data > 0
    half = inside & (np.indices(inside.shape)[0] < 24)
    nifti.save(grey, half.astype(np.float32), np.diag([VOXEL_MM] * 3 + [1]))
    kept = {}
    for content in ("brain", "head", "gm"):
        options = {"content": content, "arm": ["zerobackground"], "folds": 2}
        drawn = run_fingerprint(cohort, tmp_path / content, intensity="none", **options)
        folder = tmp_path / content
        out = run_apply(image, mask, drawn, folder, "zerobackground", grey=str(grey))
        kept[content] = nifti.load(out["harmonized"]).data != 0
    # The brain has voxels that are 0 by chance in no phantom; the head has noise everywhere.
    np.testing.assert_array_equal(kept["brain"], inside)
    np.testing.assert_array_equal(kept["gm"], half)
    assert kept["head"].sum() > 1.5 * inside.sum()
    with pytest.raises(ValueError, match=r"sub-000.*no grey-matter fractions for content gm"):
        run_apply(image, mask, drawn, tmp_path, "zerobackground")


def test_apply_is_byte_for_byte_repeatable(cohort, drawn, tmp_path):
    one, two = (
        run_apply(cohort.images[0], cohort.masks[0], drawn, tmp_path / n, "isotropic") for n in "ab"
    )
    for name in one:
        assert one[name].read_bytes() == two[name].read_bytes(), name


def test_the_template_arm_takes_the_registered_image_or_says_what_is_missing(cohort, tmp_path):
    drawn = run_fingerprint(cohort, tmp_path, arm=["template"], folds=2)
    registered = tmp_path / "sub-000_space-MNI152NLin2009aSym_desc-brain_T1w.nii.gz"
    nifti.save(registered, nifti.load(cohort.images[1]).data, np.diag([3.0, 3, 3, 1]))
    pair = (cohort.images[0], cohort.masks[0])
    out = run_apply(*pair, drawn, tmp_path, "template", str(registered))
    assert nifti.load(out["harmonized"]).zooms == (3.0, 3.0, 3.0)
    with pytest.raises(FileNotFoundError, match=r"arm template needs the image on the template"):
        run_apply(*pair, drawn, tmp_path, "template")


def test_right_stays_right_in_every_arm(cohort, drawn, tmp_path):
    """A bright marker on the right of the brain keeps its world coordinates."""
    image, mask = nib.load(cohort.images[13]), nib.load(cohort.masks[13])
    data = np.asarray(image.dataobj).astype(np.int16)
    centre = np.array(np.argwhere(np.asarray(mask.dataobj) > 0).mean(axis=0)).astype(int)
    spot = tuple(int(c) for c in centre + np.array([9, 3, 2]))
    data[tuple(slice(i - 1, i + 2) for i in spot)] = 9000
    path = tmp_path / Path(cohort.images[13]).name
    flipped = nib.Nifti1Image(data[::-1].copy(), image.affine @ _flip(data.shape[0]))
    flipped.to_filename(path)  # stored left to right
    turned = tmp_path / "mask.nii.gz"
    values = np.asarray(mask.dataobj)[::-1].copy()
    nib.Nifti1Image(values, flipped.affine).to_filename(turned)
    world = nib.affines.apply_affine(image.affine, spot)
    for arm in ("zerobackground", "resize", "croppad", "isotropic"):
        out = run_apply(str(path), str(turned), drawn, tmp_path / arm, arm)
        if out["harmonized"].exists():
            volume = nifti.load(out["harmonized"])
            peak = np.argwhere(volume.data > 0.9 * volume.data.max()).mean(axis=0)
            found = nib.affines.apply_affine(volume.affine, peak)
            np.testing.assert_allclose(found, world, atol=VOXEL_MM)


def _flip(size):
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = size - 1
    return flip


def test_sessions_stay_together_and_the_first_good_scan_stands_for_a_person(tmp_path):
    cohort = make_cohort(tmp_path, labels=["M", "F"] * 4, cuts=[0] * 8)
    cohort.images.sort()
    for number, cut in ((0, 20), (1, 0)):  # sub-000's first session is too short
        name = f"sub-000_ses-{number + 1}_desc-preproc_T1w.nii.gz"
        data = nifti.load(cohort.images[0])
        path = tmp_path / name
        nifti.save(path, data.data[: FULL[0] - cut] + number + cut, data.affine)
        cohort.images.append(str(path))
    cohort.images.remove(cohort.images[0])
    out = run_fingerprint(cohort, tmp_path / "plans", min_slices=40, folds=2, test_fraction=0.0)
    rows = [r for r in read_table(out["table"]) if r["participant_id"] == "sub-000"]
    assert [r["excluded"] for r in rows] == ["fewer than 40 slices", "n/a"]
    assert [r["cohort_isotropic"] for r in rows] == ["no", "yes"]
    assert people_of(out)["sub-000"]["fold"] in "01"
    assert counted(out)["participants_used"] == "8"


def test_the_same_image_twice_is_left_out_once(tmp_path):
    cohort = make_cohort(tmp_path, labels=["M", "F"] * 4, cuts=[0] * 8)
    Path(cohort.images[5]).write_bytes(Path(cohort.images[2]).read_bytes())
    out = run_fingerprint(cohort, tmp_path / "plans", folds=2, test_fraction=0.0)
    people = people_of(out)
    assert people["sub-005"]["excluded"] == "same image as sub-002_desc-preproc_T1w.nii.gz"
    assert people["sub-002"]["excluded"] == "n/a"


def edit_people(cohort, text=None, **replaced):
    path = Path(cohort.participants)
    path.write_text(text if text is not None else path.read_text().replace(*replaced["swap"]))


def small(tmp_path, labels=("M", "F") * 4, **options):
    return make_cohort(tmp_path, labels=list(labels), cuts=[0] * len(labels), **options)


def test_people_without_a_label_or_a_row_are_left_out_and_counted(tmp_path):
    cohort = small(tmp_path, ["M", "F"] * 4 + ["n/a"])
    text = Path(cohort.participants).read_text().splitlines()
    edit_people(cohort, "\n".join(line for line in text if "sub-000" not in line) + "\n")
    counts = counted(run_fingerprint(cohort, tmp_path / "plans", folds=2, test_fraction=0.0))
    assert counts["participants"] == "9" and counts["participants_used"] == "7"
    assert counts["images_excluded: no sex"] == "1"
    assert counts["images_excluded: no row in participants.tsv"] == "1"


def test_one_class_only_is_refused_with_the_reasons(tmp_path):
    cohort = small(tmp_path, ["M"] * 4 + ["n/a"] * 2)
    with pytest.raises(ValueError, match=r"one class only \(M\) among 6 images \(2 no sex\)"):
        run_fingerprint(cohort, tmp_path / "plans")
    everybody = small(tmp_path / "b")
    with pytest.raises(ValueError, match=r"nobody left among 8 images \(8 fewer than 99 slices\)"):
        run_fingerprint(everybody, tmp_path / "plans", min_slices=99)


def test_all_shapes_different_leaves_no_mode_to_draw_from(tmp_path):
    shapes = [(40 + i, 56, 46) for i in range(8)]
    cohort = small(tmp_path, shapes=shapes)
    with pytest.raises(ValueError, match=r"class 'F' asked of arm stratified: the shape that most"):
        run_fingerprint(cohort, tmp_path / "plans", arm=["stratified"], folds=2, n_per_class=3)
    out = run_fingerprint(cohort, tmp_path / "plans", arm=["resize"], folds=2, test_fraction=0.0)
    assert counted(out)["resize"] == "8"


def test_mistakes_in_participants_tsv_are_named(tmp_path):
    cohort = small(tmp_path)
    text = Path(cohort.participants).read_text()
    edit_people(cohort, text + "sub-000\t30\tM\tA\n")
    with pytest.raises(ValueError, match=r"participants.tsv: sub-000 has two rows"):
        run_fingerprint(cohort, tmp_path / "plans")
    edit_people(cohort, text)
    with pytest.raises(
        ValueError, match=r"no column 'sexx' \(did you mean 'sex'\?\); columns: par"
    ):
        run_fingerprint(cohort, tmp_path / "plans", label="sexx")
    with pytest.raises(ValueError, match=r"'age' has \d+ different values.*label-cuts"):
        run_fingerprint(small(tmp_path / "b", ["M", "F"] * 8), tmp_path / "plans", label="age")
    with pytest.raises(ValueError, match=r"label_cuts: found 'young'"):
        run_fingerprint(cohort, tmp_path / "plans", label="age", label_cuts="young")
    edit_people(cohort, text.replace("participant_id", "id"))
    with pytest.raises(ValueError, match=r"no column participant_id, found id"):
        run_fingerprint(cohort, tmp_path / "plans")


def test_an_age_can_be_cut_into_two_classes(tmp_path):
    cohort = small(tmp_path, ["M", "F"] * 8)
    options = {"label": "age", "label_cuts": "45,55", "folds": 2, "test_fraction": 0.0}
    counts = counted(run_fingerprint(cohort, tmp_path / "plans", **options))
    ages = [float(row["age"]) for row in read_people(cohort.participants).values()]
    assert int(counts["participants_used_below45"]) == sum(age < 45 for age in ages)
    assert int(counts["participants_used_from55"]) == sum(age >= 55 for age in ages)


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 20, 3)])
def test_images_that_are_not_3d_are_refused(tmp_path, shape):
    cohort = small(tmp_path)
    nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)).to_filename(cohort.images[0])
    with pytest.raises(ValueError, match=r"sub-000_desc-preproc_T1w.*expected a 3D volume"):
        run_fingerprint(cohort, tmp_path / "plans")


def test_broken_files_and_masks_are_named(cohort, drawn, tmp_path):
    empty = tmp_path / Path(cohort.images[0]).name
    empty.write_bytes(b"")
    with pytest.raises(ValueError, match=r"sub-000_desc-preproc.*no readable NIfTI"):
        run_apply(str(empty), cohort.masks[0], drawn, tmp_path, "isotropic")
    empty.write_bytes(Path(cohort.images[0]).read_bytes()[:-4000])
    with pytest.raises(ValueError, match=r"sub-000_desc-preproc.*truncated"):
        run_apply(str(empty), cohort.masks[0], drawn, tmp_path, "isotropic")
    with pytest.raises(ValueError, match=r"mask has shape 44x56x46, its image 48x56x46"):
        run_apply(cohort.images[0], cohort.masks[14], drawn, tmp_path, "isotropic")
    none = tmp_path / "none.nii.gz"
    nifti.save(none, np.zeros(FULL, np.float32), np.eye(4))
    with pytest.raises(ValueError, match=r"mask is empty"):
        run_apply(cohort.images[0], str(none), drawn, tmp_path, "isotropic")


def test_an_image_or_an_arm_the_fingerprint_lacks_is_said(cohort, drawn, tmp_path):
    stranger = tmp_path / "sub-999_desc-preproc_T1w.nii.gz"
    stranger.write_bytes(Path(cohort.images[0]).read_bytes())
    with pytest.raises(ValueError, match=r"no row for sub-999.*run level group again"):
        run_apply(str(stranger), cohort.masks[0], drawn, tmp_path, "isotropic")
    with pytest.raises(ValueError, match=r"no arm template; run level group again"):
        run_apply(cohort.images[0], cohort.masks[0], drawn, tmp_path, "template")


def test_combat_makes_volumes_of_two_sites_alike_and_keeps_age(cohort, drawn, tmp_path):
    """Features of the user's own: site B is shifted and wider, age has a slope."""
    rng = np.random.default_rng(5)
    people = read_people(cohort.participants)
    lines = ["participant_id," + ",".join(f"roi{i}" for i in range(12))]
    for name, row in people.items():
        shift, wide = (2.0, 1.5) if row["site"] == "B" else (0.0, 1.0)
        values = shift + wide * rng.normal(size=12) - 0.05 * float(row["age"])
        lines.append(name + "," + ",".join(f"{v:.5f}" for v in values))
    table = tmp_path / "features.csv"
    table.write_text("\n".join(lines) + "\n")
    out = run_combat(cohort, drawn, tmp_path, features=str(table))
    rows = {row["item"]: row["value"] for row in read_table(out["metrics"])}
    assert float(rows["site_auc_before"]) > float(rows["site_auc_after"]) + 0.15
    assert float(rows["mean_abs_r_age_after"]) > 0.9 * float(rows["mean_abs_r_age_before"])
    model = json.loads(out["model"].read_text())
    assert model["Covariates"] == ["age"]  # sex is the label, so it is never kept
    assert len(read_table(out["harmonized"])) == 24  # one is excluded
    kept = run_combat(cohort, drawn, tmp_path, features=str(table), label="age", preserve="sex,age")
    assert json.loads(kept["model"].read_text())["Covariates"] == ["sex"]


def test_combat_uses_volumes_of_preprocessing_and_one_site_is_no_error(tmp_path):
    cohort = small(tmp_path, ["M", "F"] * 8)
    drawn = run_fingerprint(cohort, tmp_path / "plans", folds=2, test_fraction=0.0)
    out = run_combat(cohort, drawn, tmp_path)
    columns = set(read_table(out["harmonized"])[0])
    assert columns == {"participant_id", "brain_volume_ml", "gm_ml", "wm_ml"}
    text = Path(cohort.participants).read_text()
    edit_people(cohort, text.replace("\tB\n", "\tOslo\n", 1))  # one person alone at a site
    drawn = run_fingerprint(cohort, tmp_path / "plans", folds=2, test_fraction=0.0)
    rows = {row["item"]: row for row in read_table(run_combat(cohort, drawn, tmp_path)["metrics"])}
    assert rows["left_out"]["note"] == "sub-002" and rows["participants"]["value"] == "15"
    edit_people(cohort, text.replace("\tB\n", "\tA\n"))
    drawn = run_fingerprint(cohort, tmp_path / "plans", folds=2, test_fraction=0.0)
    (tmp_path / "one").mkdir()
    out = run_combat(cohort, drawn, tmp_path / "one")
    assert not out["model"].exists()
    assert "nothing to harmonize" in read_table(out["metrics"])[0]["note"]
