"""The recipe of the study, and its printed numbers."""

import specs
from bids_app.config import read_recipe
from stages.translation.networks import Generator, choose_blocks
from stages.translation.tables import read_rows
from tests.conftest import REPOSITORY

PUBLISHED = REPOSITORY / "specs" / "published" / "age-cyclegan.tsv"


def test_rows_of_the_studys_table_add_up():
    cells = {row["item"]: int(row["value"]) for row in read_rows(PUBLISHED)}
    for origin in ("Old", "Young"):
        for where in ("", f"to{'Young' if origin == 'Old' else 'Old'}_"):
            own = [v for k, v in cells.items() if k.startswith(f"train_{origin}_{where}judged_")]
            assert len(own) == 2 and sum(own) == cells[f"train_{origin}"] == 183
    assert cells["used"] == 2 * (183 + 50)


def test_the_recipe_is_the_published_method():
    given = read_recipe("age-cyclegan").params["translation"]
    known = specs.load("translation").params
    for name, value in given.items():
        known[name].check(value, where=name)
    assert (given["n_train"], given["n_test"], given["bounds"]) == (183, 50, "45,50")
    network = Generator(
        features=given["features"], blocks=choose_blocks(given["blocks"], given["size"])
    )
    assert sum(p.numel() for p in network.parameters()) == 11_365_633
