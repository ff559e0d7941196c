"""Targets: columns, classes made of numbers and words, and what is refused."""

import pytest

from stages.classifier.targets import find_target, read_labels

DEFINE = [
    "agegroup=age|young<45|old>=50",
    "dx=diagnosis|patient:AD+MCI|control:CN",
    "years=age|number",
]


def people(column, cells):
    return {f"sub-{i:02d}": {column: cell} for i, cell in enumerate(cells)}


def labels(name, column, cells):
    return read_labels(find_target(name, DEFINE), people(column, cells))


def test_the_studys_age_groups_leave_out_what_lies_between():
    found = labels("agegroup", "age", ["44.99", "45", "49.99", "50", "n/a"])
    assert found.classes == ("young", "old")
    assert dict(found.values) == {"sub-00": 0.0, "sub-03": 1.0}


def test_a_label_map_joins_values():
    found = labels("dx", "diagnosis", ["AD", "CN", "MCI", "FTD"])
    assert dict(found.values) == {"sub-00": 0.0, "sub-01": 1.0, "sub-02": 0.0}


def test_a_column_of_words_is_classes_and_of_many_numbers_a_quantity():
    assert labels("sex", "sex", ["M", "F", "M"]).classes == ("F", "M")
    assert labels("age", "age", [str(20 + i) for i in range(20)]).task == "regression"
    assert labels("grade", "grade", ["1", "2", "3"] * 5).classes == ("1", "2", "3")
    assert labels("years", "age", ["20", "30"]).values == {"sub-00": 20.0, "sub-01": 30.0}


@pytest.mark.parametrize(
    ("name", "column", "cells", "message"),
    [
        ("sexx", "sex", ["M", "F"], "no column 'sexx'.*did you mean 'sex'"),
        ("sex", "sex", ["n/a", ""], "no values"),
        ("sex", "sex", ["M", "M"], "found M, expected at least two classes"),
        ("years", "age", ["20", "old"], "sub-01 has 'old' in 'age', not a number"),
    ],
)
def test_what_cannot_be_predicted_is_refused(name, column, cells, message):
    with pytest.raises(ValueError, match=message):
        labels(name, column, cells)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        ("a=age", "expected NAME=COLUMN"),
        ("a=age|young", "rule 'young'"),
        ("a=age|x<y", "rule 'x<y'"),
    ],
)
def test_a_wrong_definition_is_refused(define, message):
    with pytest.raises(ValueError, match=message):
        read_labels(find_target("a", [define]), people("age", ["1", "2"]))
