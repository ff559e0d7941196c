"""One run's settings: made once from layers, frozen, passed on as an argument.

Layers, strongest first: command line, configuration file, recipe, preset, defaults. The resolved
settings are written as TOML that ``--config-file`` reads back.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

import specs
from bids_app.errors import AppError, Exit
from specs import Spec, read_yaml, suggest
from specs.reading import tell

RECIPES_DIR = specs.SPECS_DIR / "recipes"
RECIPE_KEYS = ("title", "study")  # what a recipe says about itself, besides settings


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that was asked for. Paths are absolute; empty selections mean all."""

    bids_dir: Path
    out_dir: Path
    levels: tuple[str, ...]
    work_dir: Path
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    derivatives: Mapping[str, Path] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    validate_outputs: bool = True
    nprocs: int = 1
    omp_nthreads: int = 0
    memory_gb: float = 4.0
    n_gpus: int = 8
    runner: str = "subprocess"
    images: str = ""
    plugin: str = "MultiProc"
    plugin_args: Mapping[str, Any] = field(default_factory=dict)
    clean_workdir: bool = False
    rm_workdir_on_success: bool = False
    random_seed: int = 0
    recipe: str = ""
    preset: str = ""
    dry_run: bool = False
    write_graph: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    stop_on_first_crash: bool = False
    resource_monitor: bool = False
    verbose: int = 0
    debug: bool = False
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def stage_params(self, spec: Spec) -> dict[str, Any]:
        """Return a stage's parameters: what the layers gave over what the spec says."""
        given = self.params.get(spec.name, {})
        return {name: given.get(name, param.default) for name, param in spec.params.items()}

    def to_toml(self) -> str:
        """Write the resolved settings, all parameters of all stages included."""
        import tomli_w

        plain = {}
        for name, value in asdict(self).items():
            if value is None or name == "params":
                continue
            plain[name] = _plain(value)
        for stage in specs.names():
            plain[stage] = self.stage_params(specs.load(stage))
        return tomli_w.dumps(plain)


OPTIONS = tuple(f.name for f in fields(Config) if f.name != "params")


@dataclass
class Layer:
    """Settings from one place: ``options`` by the names of Config, ``params`` by stage."""

    options: dict[str, Any] = field(default_factory=dict)
    params: dict[str, dict[str, Any]] = field(default_factory=dict)


def merge(layers: list[Layer]) -> Layer:
    """Lay settings over one another, the strongest first in the list."""
    merged = Layer()
    for layer in reversed(layers):
        merged.options |= layer.options
        for stage, values in layer.params.items():
            merged.params[stage] = merged.params.get(stage, {}) | values
    return merged


def read_config_file(path: Path) -> Layer:
    """Read settings from a TOML or YAML file: options at the top, a table per stage.

    Raises
    ------
    AppError
        66: no such file. 64: syntax, an unknown name (the nearest is suggested) or a wrong value.
    """
    if not path.is_file():
        raise AppError(Exit.MISSING_FILE, f"{path}: no such configuration file")
    try:
        data = (
            tomllib.loads(path.read_text(encoding="utf-8"))
            if path.suffix == ".toml"
            else read_yaml(path) or {}
        )
        return parse_layer(data, file=path)
    except (ValueError, RecursionError) as error:
        said = str(error)
        if isinstance(error, UnicodeDecodeError):
            said = "found bytes that are not UTF-8, expected a text file; save it as UTF-8"
        at = "" if said.startswith(str(path)) else f"{path}: "
        raise AppError(Exit.USAGE, f"{at}{said}") from error


def read_recipe(name: str) -> Layer:
    """Read a published study's settings from ``specs/recipes``."""
    known = sorted(path.stem for path in RECIPES_DIR.glob("*.yaml"))
    if name not in known:
        listed = ", ".join(known)
        raise AppError(Exit.USAGE, f"no recipe {name!r}{suggest(name, known)}; recipes: {listed}")
    path = RECIPES_DIR / f"{name}.yaml"
    data = read_yaml(path)
    return parse_layer({k: v for k, v in data.items() if k not in RECIPE_KEYS}, file=path)


def read_preset(name: str) -> Layer:
    """Collect the stages' parameters under one preset's name.

    Raises
    ------
    AppError
        64: no stage has a preset of that name.
    """
    presets = {stage: specs.load(stage).presets for stage in specs.names()}
    known = sorted({preset for stage in presets.values() for preset in stage})
    if name not in known:
        listed = ", ".join(known) or "none"
        raise AppError(Exit.USAGE, f"no preset {name!r}{suggest(name, known)}; presets: {listed}")
    return Layer(params={stage: dict(p[name]) for stage, p in presets.items() if name in p})


def parse_layer(data: Any, *, file: Path) -> Layer:
    """Sort a file's settings into options and stage parameters, and check their names and types."""
    if not isinstance(data, dict):
        raise ValueError(f"{file}: found {type(data).__name__}, expected settings by name")
    stages = specs.names()
    layer = Layer()
    for name, value in data.items():
        name = str(name).replace("-", "_")
        if name in stages:
            layer.params[name] = _parse_params(name, value, file)
        elif name in OPTIONS:
            layer.options[name] = _parse_option(name, value, file)
        else:
            near = suggest(name, [*stages, *OPTIONS])
            raise ValueError(
                f"{file}: {name}: no such option or stage{near}; see brainstages --help"
            )
    return layer


def _parse_params(stage: str, values: Any, file: Path) -> dict[str, Any]:
    params = specs.load(stage).params
    if not isinstance(values, dict):
        raise ValueError(f"{file}: {stage}: found {tell(values)}, expected parameters by name")
    checked = {}
    for name, value in values.items():
        name = str(name).replace("-", "_")
        if name not in params:
            near = suggest(name, params)
            raise ValueError(
                f"{file}: {stage}.{name}: no such parameter{near}; see brainstages --help {stage}"
            )
        checked[name] = params[name].check(value, where=f"{file}: {stage}.{name}")
    return checked


def _parse_option(name: str, value: Any, file: Path) -> Any:
    """Bring a file's value into the option's type; refuse other kinds of values."""
    kind: Any = next(f.type for f in fields(Config) if f.name == name)
    where = f"{file}: {name}: found {tell(value)}, expected"
    if kind is float and type(value) is int:
        value = float(value)
    if kind in (bool, int, float, str):
        if type(value) is not kind:
            raise ValueError(f"{where} {kind.__name__}")
        return value
    if get_origin(kind) is tuple:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise ValueError(f"{where} a list of words (in quotes)")
        return tuple(values)
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            raise ValueError(f"{where} values by name")
        if Path not in get_args(kind):
            return value
        if not all(isinstance(text, str) for pair in value.items() for text in pair):
            raise ValueError(f"{where} paths by name")
        return {k: Path(v).resolve() for k, v in value.items()}
    if not isinstance(value, str):
        raise ValueError(f"{where} a path")
    return Path(value).resolve()


def _plain(value: Any) -> Any:
    """Turn paths, tuples and mappings into what TOML knows."""
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value if v is not None]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if v is not None}
    return value if isinstance(value, bool | int | float) else str(value)
