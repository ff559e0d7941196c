"""What stages read, under random input: a value, or a ValueError that names the file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.classifier.portable import read_card as read_classifier_card
from stages.classifier.tables import read_people as read_classifier_people
from stages.encoding.recordings import read_confounds, read_events, read_tr
from stages.encoding.tables import read_rows as read_encoding_rows
from stages.generation.build import read_card as read_generation_card
from stages.generation.tables import read_people as read_generation_people
from stages.harmonization.tables import read_people as read_harmonization_people
from stages.transfer.landmarks import read_points
from stages.transfer.models import read_card as read_transfer_card
from stages.transfer.tables import read_rows as read_transfer_rows
from stages.translation.checkpoint import read_card as read_translation_card
from tests.reliability.test_fuzz import EXAMPLES, quick, trees

READERS = {
    "sub-01_task-movie_events.tsv": read_events,
    "sub-01_desc-confounds_timeseries.tsv": read_confounds,
    "sub-01_points.tsv": read_points,
    "sub-01.fcsv": read_points,
    "classifier/model.json": read_classifier_card,
    "generation/model.json": read_generation_card,
    "transfer/model.json": read_transfer_card,
    "translation/model.json": read_translation_card,
    "sub-01_bold.json": lambda path: read_tr(path.with_suffix(".nii")),
    "classifier/participants.tsv": read_classifier_people,
    "generation/participants.tsv": read_generation_people,
    "harmonization/participants.tsv": read_harmonization_people,
    "encoding/table.tsv": read_encoding_rows,
    "transfer/table.tsv": read_transfer_rows,
}
TABLES = [name for name in READERS if name.endswith(".tsv")]
CARDS = [name for name in READERS if name.endswith(".json")]
SLICER = "# Markups fiducial file version = 4.11\n# CoordinateSystem = {}\n# columns = {}\n"
COLUMNS = ["participant_id", "onset", "duration", "stim_file", "trial_type", "name", "x", "y", "z"]
numbers = st.floats().map(repr) | st.integers(-(10**20), 10**20).map(str)
cells = (
    numbers
    | st.sampled_from(["n/a", "", " ", "sub-01", "a.mp4", '"', "nan", "-inf", "1e999", "1,5", "\0"])
    | st.text(max_size=6)
)


def read_or_refuse(name: str, content: bytes, folder: Path) -> None:
    """Read a file with what is in it; a refusal must name the file."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    try:
        READERS[name](path)
    except ValueError as error:
        assert str(path) in str(error), error


@st.composite
def tables(draw, separator: str = "\t"):
    """Draw a table with columns of ours, and rows of any length."""
    header = draw(st.lists(st.sampled_from(COLUMNS) | st.text(max_size=4), max_size=6))
    rows = draw(st.lists(st.lists(cells, max_size=7), max_size=4))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join(separator.join(row) for row in [header, *rows])


@pytest.mark.parametrize("name", READERS)
@quick
@given(content=st.binary(max_size=60))
def test_any_bytes_as_a_file_of_a_stage(tmp_path, name, content):
    read_or_refuse(name, content, tmp_path)


@pytest.mark.parametrize("name", TABLES)
@quick
@given(text=tables())
def test_any_table_as_a_table_of_a_stage(tmp_path, name, text):
    read_or_refuse(name, text.encode("utf-8", "surrogatepass"), tmp_path)


@quick
@given(
    system=st.sampled_from(["0", "1", "RAS", "LPS", "3", ""]) | st.text(max_size=4),
    columns=st.lists(st.sampled_from(["id", "x", "y", "z", "label", "desc"]), max_size=7),
    rows=tables(","),
)
def test_any_points_of_slicer(tmp_path, system, columns, rows):
    text = SLICER.format(system, ",".join(columns)) + rows
    read_or_refuse("sub-01.fcsv", text.encode("utf-8", "surrogatepass"), tmp_path)


@pytest.mark.parametrize("name", CARDS)
@quick
@given(tree=trees)
def test_any_tree_as_a_card(tmp_path, name, tree):
    read_or_refuse(name, json.dumps(tree).encode(), tmp_path)


def test_the_examples_are_counted(tally):
    drawn = len(READERS) + len(TABLES) + 1 + len(CARDS)
    tally("random input to a stage's reader of files", EXAMPLES * drawn)
