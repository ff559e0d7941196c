"""Who is in which part."""

import numpy as np
import pytest

from stages.classifier.cohort import (
    channel_of,
    check_folds,
    check_leaks,
    draw_parts,
    take_parts,
)
from stages.classifier.targets import CLASSIFICATION, Labels


def cohort(n=60):
    rng = np.random.default_rng(0)
    people = {
        f"sub-{i:02d}": {
            "age": str(rng.integers(20, 80)),
            "sex": "FM"[i % 2],
            "site": "AB"[i % 3 == 0],
        }
        for i in range(n)
    }
    values = {name: float(i % 2) for i, name in enumerate(people)}
    return people, Labels(CLASSIFICATION, ("a", "b"), values)


def draw(people, labels, **given):
    options = {"folds": 5, "n_train": 0, "n_test": 0, **given}
    return draw_parts(people, labels, **options, rng=np.random.default_rng(1))


def test_folds_are_even_within_classes():
    people, labels = cohort()
    parts = draw(people, labels)
    for kind in (0.0, 1.0):
        folds = [fold for name, (_, fold) in parts.items() if labels.values[name] == kind]
        assert sorted(np.bincount(folds)) == [6] * 5


def test_the_studys_numbers_per_class_are_drawn():
    people, labels = cohort()
    parts = draw(people, labels, n_train=20, n_test=6)
    for kind in (0.0, 1.0):
        own = [split for name, (split, _) in parts.items() if labels.values[name] == kind]
        assert own.count("train") == 20 and own.count("test") == 6


def test_more_than_there_are_cannot_be_drawn():
    people, labels = cohort()
    with pytest.raises(
        ValueError, match="class 'a' has 30 participants, 40 to train and 6 to test"
    ):
        draw(people, labels, n_train=40, n_test=6)


def test_a_class_smaller_than_the_folds_is_refused():
    _, labels = cohort(4)
    parts = {name: ("train", i) for i, name in enumerate(labels.values)}
    with pytest.raises(ValueError, match="class 'a' has 2 participants to train on, fewer than 4"):
        check_folds(parts, labels)
    with pytest.raises(ValueError, match="no participant has both"):
        check_folds({}, labels)


def test_harmonizations_parts_are_taken():
    rows = [
        {
            "participant_id": "sub-00",
            "excluded": "n/a",
            "cohort_resize": "yes",
            "split": "train",
            "fold": "1",
        },
        {
            "participant_id": "sub-01",
            "excluded": "n/a",
            "cohort_resize": "yes",
            "split": "test",
            "fold": "n/a",
        },
        {
            "participant_id": "sub-02",
            "excluded": "n/a",
            "cohort_resize": "no",
            "split": "train",
            "fold": "0",
        },
        {
            "participant_id": "sub-03",
            "excluded": "slices",
            "cohort_resize": "yes",
            "split": "n/a",
            "fold": "n/a",
        },
    ]
    _, labels = cohort(4)
    parts = take_parts(list(labels.values), rows, labels, "resize")
    assert parts == {"sub-00": ("train", 1), "sub-01": ("test", None)}
    with pytest.raises(ValueError, match="no column cohort_croppad; run harmonization"):
        take_parts([], rows, labels, "croppad")


@pytest.mark.parametrize("column", ["participant_id", "image_hash"])
def test_a_person_or_an_image_in_two_parts_is_a_leak(column):
    rows = [
        {
            "participant_id": "sub-1",
            "image_hash": "x",
            "filename": "a",
            "split": "train",
            "fold": "0",
        },
        {
            "participant_id": "sub-2",
            "image_hash": "y",
            "filename": "b",
            "split": "train",
            "fold": "1",
        },
    ]
    check_leaks(rows)
    rows[1][column] = rows[0][column]
    with pytest.raises(ValueError, match="leak: a and b"):
        check_leaks(rows)
    check_leaks([rows[0], {**rows[1], "split": "unused"}])


def test_images_are_told_by_name():
    name = "sub-1/anat/sub-1_space-MNI152NLin2009aSym_res-1_{}.nii.gz"
    assert channel_of(name.format("desc-GM_T1w"), "mnigm") == 0
    assert channel_of(name.format("label-GM_probseg"), "mnigmfraction") == 0
    for number, label in enumerate(("GM", "WM", "CSF")):
        assert channel_of(name.format(f"label-{label}_probseg"), "mnitissues") == number
    assert channel_of("sub-1_label-GM_probseg.nii.gz", "mnitissues") is None
    assert channel_of(name.format("desc-GM_T1w"), "mnibrain") is None
    assert channel_of("sub-1_desc-resize_T1w.nii.gz", "resize") == 0
    assert channel_of(name.format("desc-brain_T1w"), "mnibrain") == 0
    assert channel_of(name.format("desc-brain_T1w"), "ownbrain") is None
    assert channel_of("sub-1_desc-brain_T1w.nii.gz", "ownbrain") == 0
    assert channel_of("sub-1_desc-brain_T1w.nii.gz", "mnibrain") is None
