"""The documentation: generated parts are current, commands are understood, links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

import specs
from bids_app import app, cli, describe
from bids_app.config import RECIPES_DIR, read_preset, read_recipe
from bids_app.errors import Exit
from bids_app.export import EXPORTS

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), REPOSITORY / "examples" / "README.md"])
COMMANDS = [
    (path.relative_to(REPOSITORY).as_posix(), line)
    for path in PAGES
    for block in re.findall(
        r"^```bash\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


@pytest.mark.parametrize("name", specs.names())
def test_each_stage_has_a_page_and_what_is_generated_is_current(name):
    path = DOCS / "stages" / f"{name}.md"
    text = path.read_text("utf-8")
    fresh = describe.update_page(text, specs.load(name))
    assert text == fresh, "run: python -m bids_app.describe docs/stages"
    for heading in ("## How it was validated", "## Limits", "## Options"):
        assert heading in text
    for option in specs.load(name).params:
        assert f"`--{name}-{option.replace('_', '-')}`" in text


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="the page of encoding lacks the lines"):
        describe.update_page("# encoding\n", specs.load("encoding"))


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{p}:{c[:60]}" for p, c in COMMANDS])
def test_every_command_is_understood(page, line):
    words = shlex.split(line)
    if words[0] == "brainstages":
        understand(words[1:])
    elif words[:2] == ["python", "-m"]:
        module = REPOSITORY / words[2].replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()
    elif words[0] == "python":
        assert (REPOSITORY / words[1]).exists()
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    else:
        assert words[:2] == ["pip", "install"], f"{page}: nobody checks {line!r}"


def understand(words: list[str]) -> None:
    """Parse a command line as the app does, but for files that are not here."""
    if words[0] == "describe":
        assert set(words[1:]) <= set(specs.names())
        return
    if words[0] == "export":
        assert words[1] in EXPORTS
        return
    given = vars(cli.build_parser().parse_args(words))
    assert set(given["levels"]) <= {"participant", "group"}
    assert set(given.get("stages", ())) <= set(specs.names())
    inputs = {
        item.name
        for name in specs.names()
        for step in specs.load(name).steps.values()
        for item in step.inputs.values()
        if item.source == "option"
    }
    for weights in given.get("weights", ()):
        assert weights.partition("=")[0] in inputs, weights
    sources = set().union(*(specs.load(name).sources for name in specs.names()))
    for derivative in given.get("derivatives", ()):
        assert derivative.partition("=")[0] in sources, derivative
    if "recipe" in given:
        read_recipe(given["recipe"])
    if "preset" in given:
        read_preset(given["preset"])


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
