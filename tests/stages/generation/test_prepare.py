"""Groups, splits, slices and the prompts' audit."""

import json

import nibabel as nib
import numpy as np
import pytest

from stages.generation.cohort import assign_groups, parse_rule, split_participants
from stages.generation.prompts import audit_prompts, build_prompts, differing_fraction
from stages.generation.scratch import embed_prompts, split_words
from stages.generation.slices import read_slice, resize, to_pixels, to_tensor, write_slice
from stages.generation.tables import read_rows
from tests.stages.generation import steps, toy

STUDY = {"full": "{word}, a MRI brain, ADNI2", "nobrain": "{word}, ADNI2"}
PEOPLE = {
    "sub-1": {"sex": "F", "age": "30"},
    "sub-2": {"sex": "F", "age": "70.5"},
    "sub-3": {"sex": "M", "age": "n/a"},
}


def audit(conditions, words):
    rows = build_prompts(conditions, words)
    return audit_prompts(rows, split_words, lambda text: embed_prompts([text])[0].double().numpy())


def test_groups_follow_rules_and_missing_values_belong_nowhere():
    rules = {"young": parse_rule("sex=F&age<50"), "old": parse_rule("age>=50")}
    assert assign_groups(PEOPLE, rules) == {"sub-1": "young", "sub-2": "old", "sub-3": ""}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"a": "sex=F", "b": "age<50"}, "sub-1 belongs to a and b; make the rules exclusive"),
        ({"a": "gender=F"}, "no column 'gender'; columns: sex, age"),
        ({"a": "sex<5"}, "sub-1: sex is 'F', compared with '5'; both must be numbers"),
        ({"a": "sex"}, "found 'sex', expected a column"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        assign_groups(PEOPLE, {name: parse_rule(rule) for name, rule in rules.items()})


def test_every_group_has_people_on_both_sides_of_the_split():
    groups = {f"sub-{i}": "AB"[i % 2] for i in range(20)} | {"sub-x": ""}
    split = split_participants(groups, test_fraction=0.2, seed=0)
    assert "sub-x" not in split
    for group in "AB":
        own = [split[name] for name, g in groups.items() if g == group]
        assert (own.count("train"), own.count("test")) == (8, 2)
    assert split != split_participants(groups, test_fraction=0.2, seed=1)


def test_the_studys_prompts_differ_in_one_token():
    full, short = audit(STUDY, {"AD": "AD", "CN": "CN"})
    # with a byte-pair tokenizer ADNI2 is three tokens, hence 1 of 9 and 1 of 5 there
    assert (full["differing_tokens"], full["tokens"]) == (1, 7)
    assert (short["differing_tokens"], short["tokens"]) == (1, 3)
    assert "shared tokens: only 1 of 7 differ" in full["warning"]
    assert full["embedding_cosine"] > short["embedding_cosine"]
    a, b = (set(split_words(f"{w}, a MRI brain, ADNI2")) for w in ("AD", "CN"))
    assert full["jaccard"] == pytest.approx(len(a & b) / len(a | b))


def test_disjoint_words_raise_no_warning():
    (row,) = audit({"words": "{word}"}, {"AD": "shrunken", "CN": "youthful"})
    assert row["warning"] == ""
    assert row["differing_fraction"] == 1
    assert abs(row["embedding_cosine"]) < 0.35


def test_shared_subwords_are_named():
    (row,) = audit({"c": "{word}"}, {"AD": "ill brain", "CN": "healthy brain"})
    assert "the words of AD and CN share brain" in row["warning"]


def test_a_longer_word_does_not_make_the_rest_differ():
    assert differing_fraction(["a", "b", ",", "x", "y", "z"], ["c", ",", "x", "y", "z"]) == (2, 6)


@pytest.mark.parametrize(
    ("conditions", "words", "message"),
    [
        ({"c": "a brain"}, {"A": "x", "B": "y"}, r"no \{word\}; groups could not be told"),
        ({"c": "{word}"}, {"A": "x", "B": "x"}, "two groups have the same prompt"),
    ],
)
def test_prompts_that_tell_nothing_apart_are_refused(conditions, words, message):
    with pytest.raises(ValueError, match=message):
        build_prompts(conditions, words)


def test_slices_survive_the_way_to_disk_and_keep_left_and_right(tmp_path):
    (slices, _) = toy.draw_people({"CN": 1}, 0)
    marked = slices[0].copy()
    marked[70:80, 20:30] = 255  # person's left, upper half
    path = tmp_path / "sub-1_T1w.nii.gz"
    write_slice(str(path), marked)
    image = nib.load(path)
    x, _, z = image.affine[:3, :3] @ (25, 0, 84) + image.affine[:3, 3]
    assert x == pytest.approx(-54.5)  # negative x is left
    assert np.asarray(image.dataobj)[25, 0, 84] == 255
    assert z == pytest.approx(14.5)
    found = read_slice(str(path)).astype(int)
    white = np.percentile(marked[marked > 0], 99.5)
    assert np.abs(found - np.clip(marked / white * 255, 0, 255)).max() <= 1


def test_scaling_keeps_means_and_8_bits_are_exact():
    (slices, _) = toy.draw_people({"CN": 2}, 0)
    assert np.array_equal(to_pixels(to_tensor(slices, 160)), slices)
    small = to_tensor(slices, 40)
    assert small.shape == (2, 1, 40, 40)
    assert small.mean().item() == pytest.approx(to_tensor(slices, 160).mean().item(), abs=0.01)
    assert resize(small, 40) is small


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((4, 4, 4)), "shape 4x4x4, expected 160x1x160"),
        (np.zeros((160, 1, 160)), "empty slice"),
        (np.full((160, 1, 160), np.nan), "not finite"),
    ],
)
def test_slices_that_cannot_be_used_are_named(data, message, tmp_path):
    path = tmp_path / "sub-1_T1w.nii.gz"
    nib.Nifti1Image(data.astype(np.float32), np.eye(4)).to_filename(path)
    with pytest.raises(ValueError, match=f"sub-1_T1w.nii.gz: .*{message}"):
        read_slice(str(path))


def test_prepare_writes_the_cohort_and_warns_of_the_prompts(people, tmp_path):
    given = steps.NAMES | {"condition": list(STUDY), "prompt": list(STUDY.values())}
    made = steps.call("prepare", tmp_path, **people, **given)
    rows = read_rows(made["cohort"])
    assert len(rows) == 28
    assert {row["split"] for row in rows} == {"train", "test"}
    told = json.loads(made["verdict"].read_text())
    assert told["TrainingSlices"] == {"AD": 10, "CN": 13}
    assert "imbalance: 10 AD to 13 CN" in told["Headline"]
    assert "full: AD and CN: shared tokens: only 1 of 7 differ" in told["Headline"]
    counts = {row["item"]: row["count"] for row in read_rows(made["counts"])}
    assert counts["images_AD"] == "12"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"word": ["AD"]}, r"word: found 1 \(AD\), expected one for each of the 2 in group"),
        ({"group": ["A", "A"]}, "group: a name occurs twice"),
        ({"rule": ["diagnosis=AD", "diagnosis=X"]}, r"group CN \(diagnosis=X\): 0 slices"),
        ({"least_images": 13}, r"group AD .*: 12 slices of 12 participants, at least 13"),
    ],
)
def test_cohorts_that_cannot_be_used_are_refused(people, tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        steps.call("prepare", tmp_path, **people, **(steps.NAMES | given))


def test_one_slice_under_two_names_is_refused(tmp_path):
    people = steps.write_people(tmp_path / "raw", {"AD": 5, "CN": 5})
    people["images"][7].write_bytes(people["images"][0].read_bytes())
    with pytest.raises(ValueError, match=r"sub-000_.* and sub-007_.* are the same slice"):
        steps.call("prepare", tmp_path, **people, **steps.NAMES)


def test_stable_diffusion_without_a_checkpoint_is_refused_before_training(people, tmp_path):
    with pytest.raises(FileNotFoundError, match="--weights base=PATH"):
        steps.call("prepare", tmp_path, **people, **steps.NAMES, generator="stable-diffusion")
