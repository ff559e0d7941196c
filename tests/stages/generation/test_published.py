"""The study's numbers agree with one another, and with the tests we make of them."""

import pytest
from scipy import stats

from specs import SPECS_DIR
from stages.generation.tables import read_rows

ROWS = {r["item"]: r for r in read_rows(SPECS_DIR / "published" / "prompt-generation.tsv")}
CONDITIONS = [(c, g) for c in ("full", "nobrain") for g in ("AD", "CN")]


def value(item: str) -> float:
    return float(ROWS[item]["value"])


def test_all_cells_of_table_1_are_there():
    names = ("loglik_AD", "loglik_CN", "predicted_AD", "predicted_CN", "misclassified_likelihood")
    assert all(f"{c}_{g}_{name}" in ROWS for c, g in CONDITIONS for name in names)


def test_one_image_was_left_out():
    totals = {
        (c, g): value(f"{c}_{g}_predicted_AD") + value(f"{c}_{g}_predicted_CN")
        for c, g in CONDITIONS
    }
    assert totals.pop(("nobrain", "AD")) + value("outliers") == 100
    assert set(totals.values()) == {100}


def test_every_condition_is_likelier_as_cn_and_the_outlier_is_less_likely_than_all():
    for c, g in CONDITIONS:
        assert value(f"{c}_{g}_loglik_CN") > value(f"{c}_{g}_loglik_AD")
        assert value("outliers_loglik_AD") < value(f"{c}_{g}_loglik_AD")


def test_the_differences_between_prompts_are_within_chance():
    def count(condition: str) -> list[list[float]]:
        return [
            [value(f"{condition}_{g}_predicted_{p}") for p in ("AD", "CN")] for g in ("AD", "CN")
        ]

    assert stats.fisher_exact(count("full")).pvalue == pytest.approx(1.0)
    assert stats.fisher_exact(count("nobrain")).pvalue == pytest.approx(0.57, abs=0.005)
    both = [[sum(column) for column in zip(*count(c), strict=True)] for c in ("full", "nobrain")]
    assert stats.fisher_exact(both).pvalue == pytest.approx(0.089, abs=0.001)
