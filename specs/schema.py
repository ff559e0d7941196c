"""What a stage is: read from YAML, checked key by key, frozen.

An error names the file, the key, what was found and what was expected, and suggests the nearest
valid word, so that whoever adds a stage learns the format from its mistakes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specs.entities import ENTITY_ORDER, PATH_PARTS
from specs.reading import StrictMapping, suggest, tell

TYPES = {"float": float, "int": int, "str": str, "bool": bool}
LEVELS = ("participant", "group")
RESERVED = ("seed",)  # keyword that every step gets besides its inputs, outputs and parameters


@dataclass(frozen=True)
class Param:
    """One parameter of a step.

    ``many`` means a list of values. ``min`` and ``max`` are inclusive, in ``unit``.
    """

    name: str
    type: str
    default: Any
    help: str
    many: bool = False
    choices: tuple[Any, ...] = ()
    min: float | None = None
    max: float | None = None
    unit: str = ""

    def check(self, value: Any, *, where: str) -> Any:
        """Return the value in this parameter's type.

        Raises
        ------
        ValueError
            Wrong type, out of range or not among the choices; says where the value was given.
        """
        if self.many:
            values = value if isinstance(value, list | tuple) else [value]
            if not values:
                raise ValueError(f"{where}: found an empty list, expected at least one {self.type}")
            return [self._check_one(v, where) for v in values]
        return self._check_one(value, where)

    def _check_one(self, value: Any, where: str) -> Any:
        kind = TYPES[self.type]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise ValueError(
                f"{where}: found {tell(value)} ({type(value).__name__}), expected {self.type}"
            )
        if self.choices and value not in self.choices:
            near = suggest(str(value), map(str, self.choices))
            listed = ", ".join(map(str, self.choices))
            raise ValueError(f"{where}: found {tell(value)}{near}, expected one of {listed}")
        for bound, is_wrong, word in (
            (self.min, lambda b: value < b, "at least"),
            (self.max, lambda b: value > b, "at most"),
        ):
            # NaN compares false with everything, so it is refused by the negated comparison.
            if bound is not None and (is_wrong(bound) or value != value):
                unit = f" {self.unit}" if self.unit else ""
                raise ValueError(f"{where}: found {value}{unit}, expected {word} {bound}{unit}")
        return value


@dataclass(frozen=True)
class Input:
    """Files a step reads: where they come from and which of them.

    ``query`` maps an entity to a value, a list of values (any of them), ``"!value"`` (anything
    else), None (absent) or ``"*"`` (present). With ``many`` the step gets a list of paths,
    otherwise exactly one.
    """

    name: str
    source: str
    query: Mapping[str, Any]
    many: bool = False
    optional: bool = False
    help: str = ""


@dataclass(frozen=True)
class Output:
    """One file a step writes, named in one of three ways.

    ``bids``: entities added to those of the job. ``path``: a path inside the dataset. In both,
    ``{entity}`` and ``{parameter}`` stand for what tells the job from its siblings.
    ``table``: rows that are merged by ``key`` into a table shared by many jobs (``scans``,
    ``participants``, or a template). ``metadata`` goes into the JSON sidecar.
    """

    name: str
    bids: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    table: str = ""
    key: str = ""
    optional: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    help: str = ""


@dataclass(frozen=True)
class Resources:
    """What one job needs at most; ``minutes`` is the expected time on the stated ``cpus``."""

    cpus: int = 1
    memory_gb: float = 1.0
    gpus: int = 0
    minutes: float = 1.0
    disk_mb: float = 1.0


@dataclass(frozen=True)
class Step:
    """One function ``run`` and how its jobs are cut: one per combination of ``over``."""

    name: str
    summary: str
    level: str
    over: tuple[str, ...]
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    params: Mapping[str, Param]
    resources: Resources

    @property
    def entities_over(self) -> tuple[str, ...]:
        """The BIDS entities among ``over``."""
        return tuple(name for name in self.over if name in ENTITY_ORDER)

    @property
    def signature(self) -> tuple[str, ...]:
        """Keywords of the step's ``run``, in order."""
        return (*self.inputs, *self.outputs, *self.params, *RESERVED)


@dataclass(frozen=True)
class Spec:
    """A stage: its steps, the container image that runs it, and named sets of parameters.

    ``version`` is part of every result's identity: raise it when results change, and what was
    made by the former version is made again. ``methods`` is what a paper would say of it;
    ``libraries`` are the packages whose versions can change results and are therefore recorded.
    """

    name: str
    version: str
    summary: str
    image: str
    steps: Mapping[str, Step]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    methods: str = ""
    libraries: tuple[str, ...] = ()
    references: tuple[str, ...] = ()

    @property
    def params(self) -> dict[str, Param]:
        """Parameters of all steps; steps that share a name share the parameter."""
        return {name: param for step in self.steps.values() for name, param in step.params.items()}

    @property
    def sources(self) -> set[str]:
        """Where the stage's inputs come from."""
        return {i.source for step in self.steps.values() for i in step.inputs.values()}


def parse_spec(data: Any, *, file: Path) -> Spec:
    """Check a stage's description and freeze it.

    Raises
    ------
    ValueError
        The first mistake: file, key, what was found, what was expected.
    """
    top = StrictMapping(data, file=file, key="")
    spec = Spec(
        name=top.text("name"),
        version=top.text("version"),
        summary=top.text("summary"),
        image=top.text("image"),
        steps={name: _step(name, body) for name, body in top.children("steps", needed=True)},
        presets={name: body.plain() for name, body in top.children("presets")},
        methods=top.text("methods", default=""),
        libraries=tuple(top.texts("libraries")),
        references=tuple(top.texts("references")),
    )
    top.finish()
    _check_consistency(spec, top)
    return spec


def _step(name: str, data: StrictMapping) -> Step:
    step = Step(
        name=name,
        summary=data.text("summary"),
        level=data.choice("level", LEVELS),
        over=tuple(data.texts("over")),
        inputs={n: _input(n, body) for n, body in data.children("inputs")},
        outputs={n: _output(n, body) for n, body in data.children("outputs", needed=True)},
        params={n: _param(n, body) for n, body in data.children("params")},
        resources=_resources(data),
    )
    data.finish()
    for word in step.over:
        if word not in ENTITY_ORDER and not (word in step.params and step.params[word].many):
            near = suggest(word, [*ENTITY_ORDER, *(p.name for p in step.params.values() if p.many)])
            data.fail("over", word, f"BIDS entities or parameters with 'many: true'{near}")
    names = step.signature
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        data.fail("", twice, "different names for inputs, outputs and parameters (seed is taken)")
    return step


def _input(name: str, data: StrictMapping) -> Input:
    item = Input(
        name=name,
        source=data.text("from"),
        query=data.child("query").plain() if "query" in data else {},
        many=data.flag("many"),
        optional=data.flag("optional"),
        help=data.text("help"),
    )
    for key in item.query:
        if key not in ENTITY_ORDER and key not in PATH_PARTS:
            near = suggest(key, [*ENTITY_ORDER, *PATH_PARTS])
            data.fail("query", key, f"BIDS entities by their short names{near}")
        wanted = item.query[key]
        values = wanted if isinstance(wanted, list) else [wanted]
        if not all(isinstance(value, str | int | None) for value in values):
            data.fail(f"query.{key}", wanted, "a word, a list of words or null")
    if not item.query and item.source != "option":
        data.fail("query", None, "at least one entity, such as {suffix: T1w}")
    data.finish()
    return item


def _output(name: str, data: StrictMapping) -> Output:
    if sum(way in data for way in ("bids", "path", "table")) != 1:
        data.fail("", sorted(data.keys()), "exactly one of bids, path, table")
    table = data.child("table") if "table" in data else None
    item = Output(
        name=name,
        bids=data.child("bids").plain() if "bids" in data else {},
        path=data.text("path") if "path" in data else "",
        table=table.text("path") if table else "",
        key=table.text("key") if table else "",
        optional=data.flag("optional"),
        metadata=data.child("metadata").plain() if "metadata" in data else {},
        help=data.text("help", default=""),
    )
    if table:
        table.finish()
    if item.bids:
        for key in ("suffix", "extension"):
            if key not in item.bids:
                data.fail(f"bids.{key}", None, "a value, such as T1w or .nii.gz")
        for key in item.bids:
            if key not in ENTITY_ORDER and key not in PATH_PARTS:
                near = suggest(key, [*ENTITY_ORDER, *PATH_PARTS])
                data.fail("bids", key, f"BIDS entities by their short names{near}")
    template = item.path or item.table
    for text in (template, *item.bids.values()):
        if not isinstance(text, str) or re.search(r"[{}]", re.sub(r"\{\w+\}", "", text)):
            data.fail("", text, "text in which {name} alone stands for a part of the job's key")
    if template.startswith("/") or ".." in template.split("/"):
        data.fail("path", template, "a path inside the stage's dataset")
    data.finish()
    return item


def _param(name: str, data: StrictMapping) -> Param:
    param = Param(
        name=name,
        type=data.choice("type", tuple(TYPES)),
        default=data.take("default"),
        help=data.text("help"),
        many=data.flag("many"),
        choices=_choices(data),
        min=_bound(data, "min"),
        max=_bound(data, "max"),
        unit=data.text("unit", default=""),
    )
    param.check(param.default, where=f"{data.file}: {data.key}.default")
    if param.many and not isinstance(param.default, list):
        data.fail("default", param.default, "a list, since many is true")
    data.finish()
    return param


def _choices(data: StrictMapping) -> tuple[Any, ...]:
    choices = data.take("choices", default=[])
    if not isinstance(choices, list):
        data.fail("choices", choices, "a list")
    return tuple(choices)


def _bound(data: StrictMapping, key: str) -> float | None:
    bound = data.take(key, default=None)
    if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float)):
        data.fail(key, bound, "a number")
    if bound is not None and data.take("type") not in ("int", "float"):
        data.fail(key, bound, "no bound, since only numbers have one")
    return bound


def _resources(step: StrictMapping) -> Resources:
    if "resources" not in step:
        return Resources()
    data = step.child("resources")
    default = Resources()
    resources = Resources(
        cpus=data.number("cpus", default.cpus, least=1),
        memory_gb=data.number("memory_gb", default.memory_gb, least=0),
        gpus=data.number("gpus", default.gpus, least=0),
        minutes=data.number("minutes", default.minutes, least=0),
        disk_mb=data.number("disk_mb", default.disk_mb, least=0),
    )
    data.finish()
    return resources


def _check_consistency(spec: Spec, top: StrictMapping) -> None:
    """Check what concerns several steps: shared parameters and presets."""
    params: dict[str, Param] = {}
    for step in spec.steps.values():
        for name, param in step.params.items():
            if params.setdefault(name, param) != param:
                top.fail(
                    f"steps.{step.name}.params.{name}",
                    "another declaration than an earlier step's",
                    "the same one, since both answer to the same option",
                )
    for preset, values in spec.presets.items():
        for name, value in values.items():
            key = f"presets.{preset}.{name}"
            if name not in params:
                top.fail(key, name, f"a parameter of the stage{suggest(name, params)}")
            params[name].check(value, where=f"{top.file}: {key}")
