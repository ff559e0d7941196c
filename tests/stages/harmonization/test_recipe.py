"""What the study printed, transcribed once, adds up as it does; its recipe names what exists."""

import pytest

import specs
from specs.reading import read_yaml
from stages.harmonization.tables import read_table

RECIPE = specs.SPECS_DIR / "recipes" / "sex-slices.yaml"
ABOUT = ("title", "study", "stages")


@pytest.fixture(scope="module")
def published():
    table = read_table(specs.SPECS_DIR / "published" / "sex-slices.tsv")
    assert len({row["item"] for row in table}) == len(table)
    return {row["item"]: row["value"] for row in table}


@pytest.mark.parametrize("item", ["mode", "cluster", "stratified", "resize"])
def test_classes_add_up(published, item):
    assert int(published[item]) == int(published[f"{item}_M"]) + int(published[f"{item}_F"])


def test_the_studys_nine_extra_participants_are_kept_as_printed(published):
    total = int(published["participants_M"]) + int(published["participants_F"])
    assert total == 7085 and int(published["participants"]) == 7076


def test_the_majority_share_of_the_cluster(published):
    share = int(published["cluster_M"]) / int(published["cluster"])
    assert float(published["cluster_majority_accuracy"]) == pytest.approx(share)


def test_the_recipe_names_parameters_that_exist_with_values_they_take():
    recipe = read_yaml(RECIPE)
    for stage in recipe.keys() - set(ABOUT):
        params = specs.load(stage).params
        for name, value in recipe[stage].items():
            params[name].check(value, where=f"{stage}.{name}")
    assert set(recipe["stages"]) <= set(specs.names())


def test_the_recipe_asks_for_what_the_study_did(published):
    asked = read_yaml(RECIPE)["harmonization"]
    assert asked["min_slices"] == int(published["min_slices"])
    assert asked["n_random"] == int(published["cluster"])
    assert asked["n_per_class"] == int(published["stratified_M"])
    assert {"cluster", "stratified", "resize"} <= set(asked["arm"])
