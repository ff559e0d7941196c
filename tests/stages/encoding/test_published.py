"""The study's numbers are transcribed rightly, and stand only beside real data."""

import json
import math

import numpy as np

import specs
from bids_app.config import read_recipe
from stages.encoding.delays import parse_condition
from stages.encoding.published import compare, describe_models, name_cell, read_printed
from stages.encoding.summarize import PARAMETERS, compare_models, summarize, tell_best
from stages.encoding.tables import read_rows, write_rows
from tests.stages.encoding.steps import call

# Of a second transcription, made by someone else.
ROW_SUMS = [0.7941, 0.4018, 0.6547, 0.6782, 0.6635, 0.6251, 0.5634, 0.6041, 0.5978]
COLUMN_SUMS = [
    0.151,
    0.1619,
    0.1957,
    0.2137,
    0.2961,
    0.4428,
    0.674,
    0.7624,
    0.814,
    0.848,
    0.7597,
    0.2634,
]
PENALTIES = [0.5, 1, 5, 10, 1e2, 1e3, 1e4, 2.5e4, 5e4, 1e5, 1e6, 1e7]


def matrix():
    printed = read_printed()
    names = list(dict.fromkeys(item.rpartition("_")[0] for item in printed if "@" in item))
    return names, np.array([[printed[name_cell(n, a)] for a in PENALTIES] for n in names])


def test_table_2_has_108_cells_and_its_known_sums_and_maxima():
    names, table = matrix()
    assert table.shape == (9, 12)
    assert sum("@" in item for item in read_printed()) == 108
    assert names[0] == "resnet50@4"
    assert table.max() == 0.1166
    assert np.unravel_index(table.argmax(), table.shape) == (0, 8)
    best = [PENALTIES[i] for i in table.argmax(1)]
    assert best == [5e4, 1e2, 1e5, 1e5, 1e5, 1e5, 1e6, 1e6, 1e6]
    assert table.max(1).tolist() == [
        0.1166, 0.0437, 0.1068, 0.1021, 0.1111, 0.106, 0.0962, 0.0972, 0.0936,
    ]  # fmt: skip
    np.testing.assert_allclose(table.sum(1), ROW_SUMS)
    np.testing.assert_allclose(table.sum(0), COLUMN_SUMS)


def test_the_studys_claims_against_its_own_table():
    """At 10⁶ the ResNet still wins at lags 4–7; VGG is ahead everywhere only at 10⁷."""
    cells = read_printed()
    assert cells["resnet50@4,5,6,7_1e+06"] > cells["vgg16@4,5,6,7_1e+06"]
    lags = ("4", "4,5,6,7", "4,5,6", "4,4.5,5,5.5")
    assert all(cells[f"vgg16@{lag}_1e+07"] > cells[f"resnet50@{lag}_1e+07"] for lag in lags)


def test_table_1_agrees_with_our_networks():
    rows = describe_models({"vgg16": "random-weights"}, PARAMETERS, read_printed())
    assert [row["parameters"] == row["published_parameters"] for row in rows] == [True, True]
    assert [row["published_top1_error"] for row in rows] == [28.41, 23.85]
    assert [row["weights"] for row in rows] == ["random-weights", "not used"]


def test_the_recipe_is_the_table():
    params = read_recipe("movie-encoding").params["encoding"]
    names, _ = matrix()
    assert sorted(params["conditions"]) == sorted(names)
    assert params["penalties"] == PENALTIES
    assert {parse_condition(c).model for c in params["conditions"]} == set(params["model"])
    assert params.keys() <= specs.load("encoding").params.keys()


def rows(provenance):
    return [
        {
            "condition": name,
            "penalty": str(penalty),
            "mean_voxel_r": str(r + shift),
            "n_features": "2048",
            "provenance": provenance,
            "protocol": "published",
        }
        for name, values in zip(*matrix(), strict=True)
        for penalty, r in zip(PENALTIES, values, strict=True)
        for shift in (0.01, 0.03)
    ]


def test_differences_to_the_printed_table():
    table = compare(rows("real"), read_printed())
    assert len(table) == 108
    np.testing.assert_allclose([row["difference"] for row in table], 0.02, atol=1e-9)
    assert {row["n_participants"] for row in table} == {2}
    (top,) = [row for row in table if row["condition"] == "resnet50@4" and row["penalty"] == 5e4]
    assert top["rank"] == 1
    assert top["is_best_of_condition"] == "true"


def test_printed_numbers_never_stand_beside_made_up_data():
    for provenance in ("synthetic", "random-weights"):
        table = compare(rows(provenance), read_printed())
        assert all(math.isnan(row["published"]) for row in table)


def test_models_are_compared_at_equal_lags():
    pairs = compare_models(compare(rows("real"), read_printed()))
    (row,) = [
        p
        for p in pairs
        if p["lags"] == "4,5,6" and p["penalty"] == "1e+07" and p["first"] == "resnet50"
    ]
    assert row["difference"] < 0
    (best,) = [
        p
        for p in pairs
        if p["lags"] == "4,5,6" and p["penalty"] == "best" and p["first"] == "resnet50"
    ]
    np.testing.assert_allclose(best["difference"], 0.1021 - 0.0972, atol=1e-9)


def test_group_means_have_students_intervals():
    from scipy import stats

    values = [0.1, 0.2, 0.4]
    people = [{"region": "v1", "r": str(v), "provenance": "real"} for v in values]
    people.append({"region": "v1", "r": "n/a", "provenance": "real"})
    (row,) = summarize(people, ("region",), ("r",))
    assert row["n_participants"] == 3
    np.testing.assert_allclose(row["mean"], np.mean(values))
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(
        [row["ci_low"], row["ci_high"]], [row["mean"] - half, row["mean"] + half]
    )


def test_the_sentence_is_about_what_training_runs_put_first_not_what_test_runs_do():
    people = [
        {"condition": name, "protocol": "selected", "provenance": "real"}
        | {"mean_cv_r": cv, "mean_voxel_r": r, "share_significant": "0.25"}
        for name, cv, r in (("a@4", "0.3", "0.1"), ("a@4", "0.3", "0.2"), ("b@4", "0.2", "0.9"))
    ]
    measures = ("mean_cv_r", "mean_voxel_r", "share_significant")
    text = tell_best(summarize(people, ("condition", "protocol"), measures))
    assert text.startswith("Mean correlation on test runs 0.150 [-0.485, 0.785] with a@4")
    assert text.endswith("2 participants, 25% of voxels significant.")
    one = [row | {"provenance": "synthetic"} for row in people[:1]]
    text = tell_best(summarize(one, ("condition", "protocol"), measures))
    assert "0.100 with a@4" in text and "1 participant, 25%" in text
    assert text.endswith("(synthetic).")


def test_step_summarize_writes_tables_and_figures(tmp_path):
    tables = []
    for person in (1, 2):
        tables.append(tmp_path / f"sub-{person:02d}_desc-conditions_metrics.tsv")
        write_rows(tables[-1], rows("real")[person - 1 :: 2])
    made = call("summarize", tmp_path, stem="", conditions_tables=tables)
    assert len(read_rows(made["table2"])) == 108
    assert {row["difference"] for row in read_rows(made["table2"])} != {"n/a"}
    assert made["curves_figure"].stat().st_size < 400_000
    assert 10_000 < made["table2_figure"].stat().st_size < 400_000
    assert not made["people_figure"].exists(), "nothing was cross-validated"
    told = json.loads(made["summary"].read_text())
    assert "penalties seen on test runs" in told["Headline"]
    assert told["Provenance"] == "real"
