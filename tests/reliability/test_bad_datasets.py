"""Each dataset and setting of the corpus is planned or refused; a sample is run to the end."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, SHARED_DATA
from tests.reliability.corpus_datasets import DATASETS, Options, matches
from tests.reliability.corpus_images import IMAGES, pack
from tests.reliability.harness import App, checksums, status_of

EXAMPLES = SHARED_DATA / "bids_examples_subset"
LIMITS = {"AS": 4 * 2**30, "CPU": 60}
SECONDS = 60
RUN_TO_THE_END = [
    "description with makers odd",
    "description with DOI a number",
    "description with licence a list",
    "description with name a list",
    "no table",
    "table of markup",
    "table of columns twice",
    "table of NUL",
    "table in a circle",
    "dictionary a list",
    "folder in another script",
    "folder of bytes",
    "a participant is the dataset",
    "name with bytes",
    "an image in a circle",
    "an image leads nowhere",
    "an image is a pipe",
    "plugin arguments null",
    "case clash",
]


def options_of(damage: object) -> list[object]:
    """Return the options that a damage wants on the command line."""
    return damage if isinstance(damage, Options) else []


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_planned_or_refused_with_reason(app, own, tmp_path, tally, name):
    code, words, damage = DATASETS[name]
    options = options_of(damage(own))
    run = app.start(own, tmp_path / "out", "participant", "--dry-run", *options, limits=LIMITS)
    run.wait(SECONDS)
    assert "Traceback" not in run.text, run.text
    assert "Logging error" not in run.text, run.text
    assert len(run.text) < 20_000
    assert run.code in ((0, 18, 65) if code < 0 else (code,)), run.text
    assert matches(words, run.text), run.text
    if code == 0:
        assert "alpha.add" in run.text
    assert not (tmp_path / "out").exists()
    tally("damaged dataset, settings or command line", 1)


@pytest.mark.parametrize("name", RUN_TO_THE_END)
def test_the_other_participants_are_finished(app, own, tmp_path, tally, name):
    _, _, damage = DATASETS[name]
    options = options_of(damage(own))
    out = tmp_path / "out"
    command = (own, out, "participant", "--stages", "alpha", "--runner", "inprocess")
    run = app.start(*command, "-w", tmp_path / "work", *options)
    run.wait(SECONDS)
    assert "Traceback" not in run.text, run.text
    assert "Logging error" not in run.text, run.text
    status = status_of(out)
    assert run.code == status["exit_code"], run.text
    assert {status["participants"][label] for label in ("01", "03", "04")} == {"done"}
    for failure in status["failures"]:
        assert failure["participant"] in failure["reason"], failure
    tally("damaged dataset, run to the end", 1)


@pytest.mark.parametrize("name", ["two words", "Ü 脳", "it's $(id) `id` \"&;", "-w", "%s {sub}"])
@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
def test_folders_may_have_any_name(app, data, whole, tmp_path, tally, name, runner):
    raw = Path(shutil.copytree(data, tmp_path / name / "raw"))
    out = tmp_path / name / "out"
    options = ("-w", tmp_path / name / "work", "--runner", runner)
    run = app.run(raw, out, "participant", "group", *options)
    assert run.code == 0, run.text
    assert checksums(out) == whole
    tally("folders with odd names", 1)


def test_bad_images_cost_their_participants_alone(app, own, tmp_path, tally):
    """Every image of the corpus in one dataset, through loading, failing and reporting."""
    names = [name for name in IMAGES if name not in ("nothing",)]
    for number, name in enumerate(names):
        path = own / f"sub-bad{number:03d}" / "anat" / f"sub-bad{number:03d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        IMAGES[name][1](path)
    out = tmp_path / "out"
    command = (own, out, "participant", "--stages", "alpha", "--runner", "inprocess")
    run = app.start(*command, "-w", tmp_path / "work", limits={"AS": 6 * 2**30})
    run.wait(SECONDS * 2)
    assert "Traceback" not in run.text, run.text
    status = status_of(out)
    assert {status["participants"][label] for label in ("01", "02", "03", "04")} == {"done"}
    assert len(status["failures"]) > 40
    assert not [
        f
        for f in status["failures"]
        if f"sub-{f['participant']}" not in f["reason"] and f["participant"] not in f.get("job", "")
    ]
    tally("damaged image, run to the end", len(names))


@pytest.fixture(scope="module")
def real_app(tmp_path_factory):
    """The app with the real stages."""
    app = App(REPOSITORY, tmp_path_factory.mktemp("said"))
    yield app
    app.close()


TREES = sorted(
    [p.parent for p in EXAMPLES.rglob("dataset_description.json")] if EXAMPLES.is_dir() else [],
    key=str,
)


@pytest.mark.skipif(not TREES, reason=f"no data in {EXAMPLES}")
@pytest.mark.parametrize("tree", TREES, ids=lambda p: str(p.relative_to(EXAMPLES)))
def test_every_example_tree_is_planned(real_app, tmp_path, tally, tree):
    before = sorted(os.fspath(p) for p in tree.rglob("*"))
    for level in ("participant", "group"):
        run = real_app.start(tree, tmp_path / "out", level, "--dry-run", limits=LIMITS)
        run.wait(SECONDS)
        assert "Traceback" not in run.text, run.text
        assert run.code in (0, 16, 18, 65), run.text
    assert sorted(os.fspath(p) for p in tree.rglob("*")) == before
    tally("tree of another dataset", 2)


@pytest.mark.skipif(not TREES, reason=f"no data in {EXAMPLES}")
def test_an_example_with_empty_images_says_so_of_each_participant(app, tmp_path):
    source = next(path for path in TREES if path.name == "ds001")
    raw = Path(shutil.copytree(source, tmp_path / "raw", symlinks=True))
    before = checksums(raw)
    command = (raw, tmp_path / "out", "participant", "--runner", "inprocess")
    run = app.run(*command, "-w", tmp_path / "work", "--stages", "alpha")
    status = status_of(tmp_path / "out")
    assert run.code == 65, run.text
    assert set(status["participants"].values()) == {"failed"}
    assert "Traceback" not in run.text
    assert checksums(raw) == before


def test_a_sound_dataset_is_not_damaged_by_looking(app, own, tmp_path):
    """The corpus starts from a dataset in which nothing is wrong."""
    pack(b"x", tmp_path / "unused.gz")
    run = app.run(own, tmp_path / "out", "participant", "--dry-run")
    assert run.code == 0, run.text
    assert "cannot be planned" not in run.text
