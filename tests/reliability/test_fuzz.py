"""Our parsers under random input: a value, or an error of the kind that callers expect."""

import contextlib
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bids_app import files, resume
from bids_app.cli import parse
from bids_app.config import read_config_file
from bids_app.errors import AppError
from bids_app.layout import check_dataset, read_filter_file
from bids_app.machine import parse_memory_gb
from specs.entities import build_path, parse_path
from specs.job import Batch
from specs.reading import read_yaml
from specs.schema import parse_spec
from tests.conftest import REPOSITORY

EXAMPLES = 150 if os.environ.get("BRAINSTAGES_KILLS") else 40  # few in `make test`
quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["float", "int", "str", "participant", "group", "sub", "{sub}", "{", "raw"])
)
keys = st.sampled_from(
    [
        "name",
        "version",
        "summary",
        "image",
        "steps",
        "params",
        "inputs",
        "outputs",
        "over",
        "level",
        "query",
        "from",
        "bids",
        "path",
        "table",
        "key",
        "type",
        "default",
        "choices",
        "min",
        "max",
        "many",
        "unit",
        "help",
        "resources",
        "cpus",
        "jobs",
        "folders",
        "threads",
        "seed",
        "stage",
        "step",
        "t1w",
        "sub",
        "ses",
        "run",
        "alpha",
        "nprocs",
        "weights",
    ]
) | st.text(max_size=4)
trees = st.recursive(
    scalars,
    lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(keys, deeper, max_size=4),
    max_leaves=20,
)
TOY = REPOSITORY / "tests" / "toy" / "specs" / "alpha.yaml"


def paths_in(tree, path=()):
    """List the ways to every value of a tree."""
    found = [path] if path else []
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        found += paths_in(value, (*path, key))
    return found


@quick
@given(st.data())
def test_a_spec_with_something_else_anywhere(data):
    tree = read_yaml(TOY)
    for _ in range(data.draw(st.integers(1, 3))):
        way = data.draw(st.sampled_from(paths_in(tree)))
        place = tree
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = data.draw(trees)
    with contextlib.suppress(ValueError):
        parse_spec(tree, file=TOY)


@quick
@given(trees)
def test_any_tree_as_a_spec(tree):
    with contextlib.suppress(ValueError):
        parse_spec(tree, file=TOY)


TEXTS = {
    "settings.yaml": (read_config_file, AppError),
    "settings.toml": (read_config_file, AppError),
    "filter.json": (read_filter_file, AppError),
    "batch.json": (Batch.read, ValueError),
    "any.yaml": (read_yaml, ValueError),
    "any.json": (files.read_json, ValueError),
    "participants.tsv": (files.read_table, ValueError),
    "hashes.json": (resume.ContentHashes, ()),
}


@pytest.mark.parametrize("name", TEXTS)
@quick
@given(
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode("utf-8", "ignore"))
)
def test_any_bytes_as_a_file(tmp_path, name, content):
    read, refusal = TEXTS[name]
    (tmp_path / name).write_bytes(content)
    try:
        read(tmp_path / name)
    except refusal as error:
        assert name in str(error), error


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".json")])
@quick
@given(tree=trees)
def test_any_tree_as_a_json_file(tmp_path, name, tree):
    read, refusal = TEXTS[name]
    (tmp_path / name).write_text(json.dumps(tree))
    try:
        read(tmp_path / name)
    except refusal as error:
        assert name in str(error), error


@quick
@given(tree=trees)
def test_any_tree_as_a_description(tmp_path, tree):
    (tmp_path / "dataset_description.json").write_text(json.dumps(tree))
    with contextlib.suppress(AppError):
        check_dataset(tmp_path)


@quick
@given(tree=st.dictionaries(keys, trees, max_size=3))
def test_any_tree_as_settings(tmp_path, tree):
    (tmp_path / "settings.yaml").write_text(json.dumps(tree))
    with contextlib.suppress(AppError):
        read_config_file(tmp_path / "settings.yaml").options


@quick
@given(st.data())
def test_a_job_with_something_else_anywhere(tmp_path, data):
    job = {
        "stage": "alpha", "step": "add", "version": "1", "level": "participant",
        "key": {"sub": "01"}, "inputs": {"image": "/a", "offset": None, "many": ["/b"]},
        "outputs": {"total": "/c"}, "params": {"addend": 1.0}, "seed": 0,
    }  # fmt: skip
    tree = {"jobs": [job], "folders": ["/d"], "threads": 1}
    way = data.draw(st.sampled_from(paths_in(tree)))
    place = tree
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = data.draw(trees)
    path = tmp_path / "batch.json"
    path.write_text(json.dumps(tree))
    try:
        batch = Batch.read(path)
    except ValueError as error:
        assert "batch.json" in str(error)
    else:
        assert all(isinstance(p, str) for job in batch.jobs for p in job.input_paths)
        assert all(job.into(tmp_path).id for job in batch.jobs)


@quick
@given(st.text(max_size=80))
def test_any_text_as_a_path(text):
    entities = parse_path(text)
    if entities is not None and "stimuli" not in text:
        pairs = {k: v for k, v in entities.items() if k not in ("suffix", "extension", "datatype")}
        with contextlib.suppress(ValueError):
            assert ".." not in build_path({**pairs, "suffix": "T1w", "extension": ".nii.gz"})


@quick
@given(st.text(max_size=12))
def test_any_text_as_memory(text):
    with contextlib.suppress(ValueError):
        assert parse_memory_gb(text) > 0


@quick
@given(
    st.lists(
        st.sampled_from(
            ["participant", "group", "--nprocs", "--mem", "-d", "--weights", "--stages"]
        )
        | st.text(max_size=8).filter(lambda t: t not in ("-h", "--help", "--version")),
        max_size=6,
    )
)
def test_any_words_as_a_command_line(tmp_path, words):
    with contextlib.suppress(AppError, SystemExit):
        parse(["bids", str(tmp_path), *words], {})


def test_the_examples_are_counted(tally):
    tally("random input to a parser of ours", EXAMPLES * 22)
