"""The documentation: generated parts are current, commands run, links lead somewhere.

Every command is run on small datasets in the layouts that the pages show (``tests.documented``):
those of the app up to their plan, which finds each file and settles each parameter; what they then
compute is what all other tests are about. Commands of container engines are run by
``tests/containers``; here what they hand to the app is.
"""

import configparser
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import specs
from bids_app import app, cli, describe, layout
from bids_app.config import RECIPES_DIR, read_config_file, read_recipe
from bids_app.errors import Exit
from tests import documented

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), REPOSITORY / "examples" / "README.md", REPOSITORY / "README.md"]
)
COMMANDS = [
    (path.relative_to(REPOSITORY).as_posix(), line)
    for path in PAGES
    for block in re.findall(
        r"^```bash\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    for line in block.replace("\\\n", " ").replace("&&", "\n").splitlines()
    if line.strip() and not line.startswith("#")
]
IMAGES = re.compile(r"^brainstages(:[\d.]+)?(\.sif)?$")


@pytest.mark.parametrize("name", specs.names())
def test_each_stage_has_a_page_and_what_is_generated_is_current(name):
    path = DOCS / "stages" / f"{name}.md"
    text = path.read_text("utf-8")
    fresh = describe.update_page(text, specs.load(name))
    assert text == fresh, "run: python -m bids_app.describe docs"
    for heading in ("## How it was validated", "## Limits", "## Options"):
        assert heading in text
    for option in specs.load(name).params:
        assert f"`--{name}-{option.replace('_', '-')}`" in text


def test_the_page_of_the_command_line_is_current_and_has_every_general_option():
    text = (DOCS / "command-line.md").read_text("utf-8")
    parser = cli.build_parser()
    fresh = describe.update_command_line(text, parser)
    assert text == fresh, "run: python -m bids_app.describe docs"
    for action in parser._actions:
        for flag in action.option_strings if "." not in action.dest else ():
            assert f"`{flag}`" in text


def test_the_shipped_models_numbers_are_its_cards():
    text = (DOCS / "models.md").read_text("utf-8")
    section = text[text.index("## The one that is shipped") : text.index("## The format")]
    card = json.loads((REPOSITORY / "stages/preprocessing/weights/brain_mask.json").read_text())
    folds = card["scores"]["by_fold"].values()
    conditions = card["scores"]["conditions"]
    changed = [c["dice_mean"] for name, c in conditions.items() if name != "native"]
    known = {round(fold[key], 4) for fold in folds for key in ("dice_mean", "dice_worst")}
    known |= {min(changed), max(changed), conditions["native"]["dice_mean"]}
    known |= {float(x) for x in re.findall(r"0\.9\d{3}", card["scores"]["note"])}
    told = {float(x) for x in re.findall(r"0\.9\d{3}", section)}
    assert len(told) >= 6
    assert told <= known
    assert f"{card['parameters']:,} weights" in section


def test_the_settings_file_of_the_page_is_understood(tmp_path):
    text = (DOCS / "command-line.md").read_text("utf-8")
    file = tmp_path / "settings.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    layer = read_config_file(file)
    assert layer.params["classifier"] == {"target": ["sex"], "epochs": 60}
    assert layer.options["nprocs"] == 8


def test_the_filter_file_of_the_page_is_understood(tmp_path):
    text = (DOCS / "command-line.md").read_text("utf-8")
    file = tmp_path / "filter.json"
    file.write_text(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert layout.read_filter_file(file)["t1w"] == {"acq": "mprage", "run": None}


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="the page of encoding lacks the lines"):
        describe.update_page("# encoding\n", specs.load("encoding"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The documentation's datasets, models and files."""
    root = tmp_path_factory.mktemp("documented")
    documented.write_all(root)
    return root


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{p}:{c[:60]}" for p, c in COMMANDS])
def test_every_command_runs(page, line, study, tmp_path, capsys):
    words = shlex.split(documented.place(line, study), comments=True)
    if words[0] == "brainstages":
        run_app(words[1:], tmp_path, capsys)
    elif words[:2] in (["docker", "run"], ["apptainer", "run"]):
        image = max(i for i, word in enumerate(words) if IMAGES.match(word))
        run_app(words[image + 1 :], tmp_path, capsys)
    elif words[:2] in (["docker", "build"], ["apptainer", "build"]):
        check_build(words)
    elif words[:2] == ["python", "-m"]:
        run_module(words[2], words[3:], tmp_path)
    elif words[0] == "python":
        pytest.importorskip("tests.test_examples")  # runs each of them
        assert (REPOSITORY / words[1]).exists()
    elif words[0] == "make":
        done = subprocess.run(
            ["make", "-n", *words[1:]], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    elif words[0].startswith("scripts/"):
        run_app(["hpc", "slurm", *places(study), "participant"], tmp_path, capsys)
        script = tmp_path / Path(words[0]).name
        subprocess.run(["bash", "-n", script], check=True)
    else:
        assert words[:2] == ["pip", "install"], f"{page}: nobody runs {line!r}"
        check_extras(words[2])


def run_app(words, tmp_path, capsys):
    """Run a command of the app; commands that would compute stop with their plan."""
    if words[0] == "export":
        words = [words[0], words[1], str(tmp_path)]
    elif words[:2] == ["hpc", "slurm"]:
        kept = words[: words.index("--dir")] if "--dir" in words else words
        words = [*kept, "--dir", str(tmp_path)]
    elif words[0] != "describe":
        work = [] if "-w" in words else ["-w", str(tmp_path / "work")]
        words = [*words, *work] + ["--dry-run"] * ("--dry-run" not in words)
        if words[2] == "group":  # what came before it is not there yet
            words.insert(2, "participant")
    code = app.main(words)
    said = capsys.readouterr()
    assert code == Exit.OK, said.err
    assert said.out or any(tmp_path.iterdir())
    assert "cannot be planned" not in said.out
    if "--recipe" in words:
        name = words[words.index("--recipe") + 1]
        for stage in read_recipe(name).options["stages"]:
            steps = [s for s in specs.load(stage).steps.values() if s.level in words]
            assert any(f"{stage}.{step.name}" in said.out for step in steps), stage


def places(study):
    """Name a dataset and where its results go."""
    return str(study / "data" / "study"), str(study / "data" / "out")


def run_module(name, words, tmp_path):
    """Run one of our modules: what makes pages on a copy of them, a benchmark's help alone."""
    if name == "bids_app.describe":
        copies = [shutil.copytree(REPOSITORY / word, tmp_path / word) for word in words]
        words = [str(path) for path in copies]
    elif name == "bids_app.demo":
        words = [str(tmp_path / "demo"), "--participants", "1"]
    else:
        words = ["--help"]
    done = subprocess.run(
        [sys.executable, "-m", name, *words], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def check_build(words):
    """Look whether the recipe of an image knows what the command sets."""
    if words[0] == "apptainer":
        assert words[-1].startswith("docker-daemon:") or (REPOSITORY / words[-1]).exists()
        return
    recipe = (REPOSITORY / "Dockerfile").read_text()
    for flag, word in itertools.pairwise(words):
        if flag == "--build-arg":
            assert re.search(rf"^ARG {word.partition('=')[0]}\b", recipe, re.MULTILINE), word
        if flag == "--target":
            assert re.search(rf"AS {word}$", recipe, re.MULTILINE), word


def check_extras(requirement):
    """Look whether the extras that are installed are there."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    for extra in re.findall(r"\[(.*)\]", requirement):
        assert extra in setup["options.extras_require"], requirement


def test_ixi_is_made_bids_as_the_page_says(study):
    bids = study / "data" / "ixi"
    people = documented.read_rows(bids / "participants.tsv")
    assert [tuple(row.values()) for row in people.values()] == [
        ("sub-IXI002", "35.8", "F", "Guys"),
        ("sub-IXI012", "38.78", "M", "HH"),
        ("sub-IXI035", "n/a", "n/a", "IOP"),
    ]
    assert (bids / "sub-IXI035" / "anat" / "sub-IXI035_T1w.nii.gz").exists()


def test_people_of_adni_have_their_age_at_the_first_scan(study):
    people = documented.read_rows(study / "data" / "adni" / "participants.tsv")
    assert people["sub-ADNI002S0295"] == {
        "participant_id": "sub-ADNI002S0295",
        "age": "84.8",
        "sex": "M",
        "site": "2",
        "diagnosis": "CN",
    }
    assert people["sub-ADNIYoung001"]["age"] == "n/a"
    assert len(people) == 2  # nobody who has no images


def test_lesions_of_a_person_are_joined_and_none_is_an_empty_mask(study):
    masks = sorted((study / "data" / "lesions").rglob("*_label-aneurysm_mask.nii.gz"))
    assert [int(np.asarray(nib.load(path).dataobj).sum()) for path in masks] == [2, 0]


def test_the_first_command_of_the_start_plans_all_steps(raw, tmp_path, capsys):
    start = (DOCS / "start.md").read_text("utf-8")
    line = next(c for c in start.splitlines() if c.startswith("brainstages") and "--dry-run" in c)
    words = shlex.split(line)[1:]
    words[:2] = [str(raw), str(tmp_path / "out")]
    assert app.main([*words, "-w", str(tmp_path / "work")]) == Exit.OK
    planned = capsys.readouterr().out
    for stage in ("preprocessing", "harmonization"):
        for step in specs.load(stage).steps:
            assert f"{stage}.{step}" in planned


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(REPOSITORY).as_posix())
def test_links_inside_the_repository_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")):
        if not re.match(r"[a-z]+://", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(REPOSITORY).as_posix())
def test_files_that_pages_name_exist(path):
    for name in re.findall(
        r"`((?:stages|specs|tests|bids_app)/[\w/.]+\.\w+)`", path.read_text("utf-8")
    ):
        assert (REPOSITORY / name).exists() or "denoising" in name, name
    for module in re.findall(r"python -m (tests\.benchmarks\.\w+)", path.read_text("utf-8")):
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").exists(), module


def test_troubleshooting_has_every_exit_code_and_recipes_every_recipe():
    trouble = (DOCS / "troubleshooting.md").read_text("utf-8")
    for code in Exit:
        assert re.search(rf"^## {int(code)}: ", trouble, re.MULTILINE), code
    recipes = (DOCS / "recipes.md").read_text("utf-8")
    for recipe in RECIPES_DIR.glob("*.yaml"):
        assert f"--recipe {recipe.stem}" in recipes


def test_the_stage_of_adding_a_stage_is_a_valid_one(tmp_path):
    text = (DOCS / "adding-a-stage.md").read_text("utf-8")
    path = tmp_path / "denoising.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    spec = specs.parse_spec(specs.read_yaml(path), file=path)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    module: dict[str, object] = {}
    exec(compile(code, "smooth.py", "exec"), module)
    run = module["run"]
    names = run.__code__.co_varnames[: run.__code__.co_kwonlyargcount]
    assert names == spec.steps["smooth"].signature
    assert describe.describe(spec).startswith("# denoising (version 1)")


def test_the_smoothing_of_adding_a_stage_does_what_it_says():
    import numpy as np

    text = (DOCS / "adding-a-stage.md").read_text("utf-8")
    module: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], module)
    image = np.zeros((31, 31, 31))
    image[15, 15, 15] = 1
    smoothed = module["smooth"](image, (2.0, 2.0, 2.0), fwhm_mm=8.0)
    profile = smoothed[:, 15, 15] / smoothed.max()
    assert profile[15 - 2] == pytest.approx(0.5, abs=0.01)  # 4 mm from the middle
