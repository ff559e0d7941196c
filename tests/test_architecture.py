"""Who may import whom; steps and specs agree; the README's tables are current."""

import ast
import configparser
import importlib
import inspect
from pathlib import Path

import pytest

import specs
from bids_app.config import RECIPES_DIR, read_recipe
from bids_app.describe import stage_table
from bids_app.errors import Exit

REPOSITORY = Path(__file__).parents[1]
STAGES = [
    path.name for path in (REPOSITORY / "stages").iterdir() if (path / "__init__.py").exists()
]
OURS = ("bids_app", "specs", "stages")
SOLE_IMPORTERS = {
    "bids": {"bids_app/layout.py"},
    "nipype": {"bids_app/workflow.py", "bids_app/interface.py", "bids_app/workers.py"},
    "docker": {"bids_app/runner_docker.py"},
}


#: Names of packages whose modules are called otherwise.
PACKAGES = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def imports(path: Path) -> set[str]:
    """List the modules that a file imports, anywhere in it, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources(*folders: str) -> list[Path]:
    """List the Python files of folders, relative to the repository."""
    return [
        path.relative_to(REPOSITORY)
        for folder in folders
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    ]


@pytest.mark.parametrize("path", sources(*OURS), ids=str)
def test_imports_keep_to_the_drawing(path):
    names = imports(REPOSITORY / path)
    ours = {name for name in names if name.split(".")[0] in OURS}
    if path.parts[0] == "specs":
        assert all(name.startswith("specs") for name in ours)
        assert names - ours <= {n for n in names if n.split(".")[0] in _standard() | {"yaml"}}
    elif path.parts[0] == "bids_app":
        assert not {n.split(".")[0] for n in names} & {"torch", "monai", "sklearn", "diffusers"}
        allowed = {"stages.__main__.main"} if path.name == "runners.py" else set()
        assert {name for name in ours if name.startswith("stages")} <= allowed
        if path.name not in ("__main__.py",):
            assert not any(name.startswith("bids_app.app") for name in ours)
    elif len(path.parts) > 2:
        assert all(name.startswith(f"stages.{path.parts[1]}") for name in ours)
    else:
        assert all(name.startswith("specs") for name in ours)
    for library, importers in SOLE_IMPORTERS.items():
        if path.parts[0] == "bids_app" and library in {n.split(".")[0] for n in names}:
            assert path.as_posix() in importers


def _standard() -> set[str]:
    import sys

    return set(sys.stdlib_module_names)


def test_every_stage_has_a_spec_and_the_reverse():
    assert sorted(STAGES) == sorted(specs.names())


@pytest.mark.parametrize(
    ("stage", "step"),
    [(name, step) for name in specs.names() for step in specs.load(name).steps],
)
def test_a_steps_signature_is_its_specs(stage, step):
    run = importlib.import_module(f"stages.{stage}.{step}").run
    parameters = inspect.signature(run).parameters
    assert tuple(parameters) == specs.load(stage).steps[step].signature
    for parameter in parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is inspect.Parameter.empty


@pytest.mark.parametrize("stage", specs.names())
def test_a_stages_extra_lists_what_its_steps_import(stage):
    """Its image has nothing else."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    listed = {
        line.split()[0].lower()
        for line in setup["options.extras_require"][stage].splitlines()
        if line
    }
    waiting = [f"stages.{stage}.{step}" for step in specs.load(stage).steps]
    seen, used = set(), set()
    while waiting:
        name = waiting.pop()
        path = REPOSITORY / (name.replace(".", "/") + ".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        for found in imports(path):
            waiting += [found, found.rpartition(".")[0]]
            used.add(found.split(".")[0])
    # Nipype is for FSL and FreeSurfer, which no image of ours holds; the app brings it.
    foreign = used - _standard() - set(OURS) - {"nipype"}
    assert {PACKAGES.get(name, name).lower() for name in foreign} <= listed


def test_the_readmes_tables_are_current():
    readme = (REPOSITORY / "README.md").read_text()
    assert "\n".join(stage_table()) in readme
    for code in Exit:
        assert str(int(code)) in readme
    for recipe in RECIPES_DIR.glob("*.yaml"):
        assert f"`{recipe.stem}`" in readme


@pytest.mark.parametrize("path", sorted(RECIPES_DIR.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_names_stages_and_parameters_that_exist(path):
    layer = read_recipe(path.stem)
    assert set(layer.options["stages"]) >= set(layer.params)


def test_no_path_of_a_machine_is_in_the_tree():
    for path in [
        *sources(*OURS, "tests"),
        *(p.relative_to(REPOSITORY) for p in REPOSITORY.glob("*.md")),
    ]:
        text = (REPOSITORY / path).read_text()
        assert "/ho" + "me/" not in text, path
