"""Specs, files and settings → jobs; pure, touches no disk.

Stages and steps are taken in order; the levels only choose among them, since a group step may come
before a participant step that needs it. A step's jobs are cut along its ``over``; their outputs
join the records as if they existed already, so that later steps find them like any file: what
depends on what follows from files, as in make.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bids_app.config import Config
from bids_app.layout import RAW, BidsFile
from specs import Spec
from specs.entities import ENTITY_ORDER, build_path, check_label, parse_path
from specs.job import Job
from specs.schema import Input, Output, Step

OPTION = "option"  # source of inputs that the user names on the command line


@dataclass(frozen=True)
class Problem:
    """Why a job cannot be planned; the participant is empty where it concerns everyone."""

    stage: str
    step: str
    participant: str
    message: str


@dataclass
class Plan:
    """Jobs in an order in which they can run, and what could not be planned."""

    jobs: list[Job] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def make_plan(
    specs: Sequence[Spec],
    files: Iterable[BidsFile],
    config: Config,
    *,
    roots: Mapping[str, Path],
    participants: Sequence[str] = (),
    filters: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Plan every job of the requested stages and levels.

    Parameters
    ----------
    specs
        The stages to run, in the order in which data passes through them.
    files
        Records of all datasets (``bids_app.layout.index``).
    roots
        Where each stage writes, by its name.
    participants
        Labels that were selected: one that gets no job in a participant-level step is a problem.
    filters
        From a filter file: the name of an input, or the suffix it asks for in lower case
        (``t1w``, ``bold``), → entities that its raw files must have.
    """
    plan = Plan()
    records = _by_source(files)
    for spec in specs:
        _label_by_template(spec, records.get(spec.name, {}), roots[spec.name])
    steps = [
        (spec, step)
        for spec in specs
        for step in spec.steps.values()
        if step.level in config.levels
    ]
    for spec, step in steps:
        _plan_step(spec, step, records, config, roots, filters or {}, plan)
    for spec, step in steps:
        is_asked_for = spec.name in config.stages
        _note_missing(spec, step, participants, plan, is_asked_for=is_asked_for)
    return plan


def has_inputs(
    spec: Spec, files: Iterable[BidsFile], others: Iterable[str], levels: Iterable[str]
) -> bool:
    """Tell whether a stage can run: what it needs exists, or it or another stage makes it.

    What a stage makes for itself counts only if the step that makes it is at a requested level: a
    participant step that waits for the stage's group step has nothing to do yet.
    """
    records = _by_source(files)
    steps = [step for step in spec.steps.values() if step.level in levels]
    for needed in (i for step in steps for i in step.inputs.values()):
        if needed.optional or needed.source in others:
            continue
        if needed.source == spec.name and any(_makes(step, needed) for step in steps):
            continue
        pool = records.get(needed.source, {}).values()
        if not any(matches(file.entities, needed.query) for file in pool):
            return False
    return True


def _makes(step: Step, needed: Input) -> bool:
    """Tell whether a step writes what an input asks for, by suffix and extension."""
    for output in step.outputs.values():
        made = output.bids or parse_path(re.sub(r"\{\w+\}", "x", output.path)) or {}
        if output.table:
            made = {"suffix": output.table.partition(".")[0], "extension": ".tsv"}
        query = {k: v for k, v in needed.query.items() if k in ("suffix", "extension")}
        if matches(made, query):
            return True
    return False


def matches(entities: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    """Tell whether a file's entities answer a query.

    >>> matches({"suffix": "T1w"}, {"suffix": "T1w", "ses": None})
    True
    >>> matches({"suffix": "T1w", "run": "1"}, {"run": ["2", "3"]})
    False
    """
    for key, wanted in query.items():
        found = entities.get(key)
        if wanted is None:
            if found is not None:
                return False
        elif wanted == "*":
            if found is None:
                return False
        elif isinstance(wanted, str) and wanted.startswith("!"):
            if found == wanted[1:]:
                return False
        elif isinstance(wanted, list | tuple):
            if found not in [_text(value) for value in wanted]:
                return False
        elif found != _text(wanted):
            return False
    return True


def _plan_step(
    spec: Spec,
    step: Step,
    records: dict[str, dict[str, BidsFile]],
    config: Config,
    roots: Mapping[str, Path],
    filters: Mapping[str, Mapping[str, Any]],
    plan: Plan,
) -> None:
    params = config.stage_params(spec)
    candidates = {
        name: _Candidates(_query(item, filters), records.get(item.source, {}).values(), step.over)
        for name, item in step.inputs.items()
        if item.source != OPTION
    }
    for key in _keys(step, candidates, params):
        inputs: dict[str, str | list[str] | None] = {}
        try:
            for name, item in step.inputs.items():
                if item.source == OPTION:
                    inputs[name] = _option(spec, name, item, config)
                else:
                    inputs[name] = _choose(item, candidates[name].of(key), spec)
            outputs = {
                name: f"{roots[spec.name]}/{output_path(output, key)}"
                for name, output in step.outputs.items()
            }
        except ValueError as error:
            participant = str(key.get("sub", ""))
            where = f"{spec.name}.{step.name}{f' sub-{participant}' if participant else ''}"
            plan.problems.append(Problem(spec.name, step.name, participant, f"{where}: {error}"))
            continue
        job = Job(
            stage=spec.name,
            step=step.name,
            version=spec.version,
            level=step.level,
            key=key,
            inputs=inputs,
            outputs=outputs,
            params={name: key.get(name, params[name]) for name in step.params},
            seed=config.random_seed,
        )
        plan.jobs.append(job)
        _add_outputs(job, roots[spec.name], records)


def _note_missing(
    spec: Spec, step: Step, participants: Sequence[str], plan: Plan, *, is_asked_for: bool
) -> None:
    """Make a step, or a participant, that gets no job a problem instead of silence.

    Later steps of a participant with a problem have nothing to work on; saying so again would
    bury the reason. In a stage that nobody asked for by name, participants who lack its kind of
    data, as those without a movie, are no problem as long as others have it.
    """
    busy = {job.participant for job in plan.jobs if (job.stage, job.step) == (spec.name, step.name)}
    troubled = {problem.participant for problem in plan.problems}
    main = next((i for i in step.inputs.values() if i.source != OPTION), None)
    if main is None or main.optional:
        return  # nothing to do is no problem for a step that takes what there is
    what = f"no file matches {main.name!r} ({_tell(main)}); {_remedy(main, spec)}"
    where = f"{spec.name}.{step.name}"
    if "sub" in step.over:
        served = {job.participant for job in plan.jobs}
        for label in participants:
            if busy and not is_asked_for and label in served:
                continue
            if label not in busy and label not in troubled:
                message = f"{where} sub-{label}: {what}"
                plan.problems.append(Problem(spec.name, step.name, label, message))
    elif not busy and not troubled:
        plan.problems.append(Problem(spec.name, step.name, "", f"{where}: {what}"))


def _label_by_template(spec: Spec, files: dict[str, BidsFile], root: Path) -> None:
    """Read entities and listed parameters back from outputs that are named by a template."""
    outputs = [output for step in spec.steps.values() for output in step.outputs.values()]
    for template in {output.path for output in outputs if "{" in output.path}:
        seen: set[str] = set()
        pattern = ""
        for part in re.split(r"(\{\w+\})", template):
            name = part[1:-1]
            if not part.startswith("{"):
                pattern += re.escape(part)
            elif name in seen:
                pattern += f"(?P={name})"
            else:
                seen.add(name)
                pattern += f"(?P<{name}>[A-Za-z0-9+]+)"
        regex = re.compile(pattern)
        for path, file in files.items():
            if found := regex.fullmatch(path[len(str(root)) + 1 :]):
                files[path] = replace(file, entities={**file.entities, **found.groupdict()})


class _Candidates:
    """The files that answer an input's query, quickly found by participant."""

    def __init__(
        self, query: Mapping[str, Any], files: Iterable[BidsFile], over: tuple[str, ...]
    ) -> None:
        self._over = over
        self._files: dict[Any, list[BidsFile]] = {}
        for file in files:
            if matches(file.entities, query):
                self._files.setdefault(file.entities.get("sub"), []).append(file)

    def keys(self) -> list[dict[str, str]]:
        """List the combinations of ``over`` entities among the files."""
        keys: dict[tuple[tuple[str, str], ...], None] = {}
        for file in itertools.chain.from_iterable(self._files.values()):
            pairs = tuple(
                (e, file.entities[e])
                for e in self._over
                if e in ENTITY_ORDER and e in file.entities
            )
            keys[pairs] = None
        return [dict(pairs) for pairs in sorted(keys)]

    def of(self, key: Mapping[str, Any]) -> list[BidsFile]:
        """List the files that belong to a job: what they are labelled with agrees with its key."""
        if "sub" in self._over:
            pool = [*self._files.get(key.get("sub"), ()), *self._files.get(None, ())]
        else:
            pool = list(itertools.chain.from_iterable(self._files.values()))
        return [
            file
            for file in pool
            if all(file.entities[e] == _text(key.get(e)) for e in self._over if e in file.entities)
        ]


def output_path(output: Output, key: Mapping[str, Any]) -> str:
    """Name an output inside its dataset.

    Raises
    ------
    ValueError
        A value that would leave the dataset, or a template that asks for what the job has not.
    """
    labels = {name: _text(value) for name, value in key.items()}
    try:
        bids = {name: value.format_map(labels) for name, value in output.bids.items()}
        template = (output.path or output.table).format_map(labels)
    except KeyError as error:
        raise ValueError(f"output {output.name}: the job has no {error}") from error
    if bids:
        own = {name: value for name, value in labels.items() if name in ENTITY_ORDER}
        return build_path({**own, **bids})
    if output.table == "scans":
        own = {name: labels[name] for name in ("sub", "ses") if name in labels}
        return build_path({**own, "suffix": "scans", "extension": ".tsv"})
    if output.table == "participants":
        return "participants.tsv"
    for name, value in labels.items():
        check_label(name, value)
    return template


def _keys(
    step: Step, candidates: Mapping[str, _Candidates], params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Cut a step into jobs: combinations of entities of its first input × listed parameters."""
    main = next((candidates[n] for n, i in step.inputs.items() if n in candidates), None)
    entity_keys = main.keys() if main is not None else [{}]
    listed = [name for name in step.over if name in step.params]
    return [
        {**entities, **dict(zip(listed, values, strict=True))}
        for entities in entity_keys
        for values in itertools.product(*(params[name] for name in listed))
    ]


def _choose(item: Input, files: Sequence[BidsFile], spec: Spec) -> str | list[str] | None:
    """Take the file, or the files, that an input asks for.

    Raises
    ------
    ValueError
        None though one is needed, or several where one is expected.
    """
    if not files and not item.optional:
        raise ValueError(f"no file matches {item.name!r} ({_tell(item)}); {_remedy(item, spec)}")
    if item.many:
        return sorted(file.path for file in files)
    if len(files) > 1:
        listed = ", ".join(sorted(file.path for file in files))
        raise ValueError(
            f"{len(files)} files match {item.name!r}, one expected: {listed};"
            " remove what is not meant or choose with --bids-filter-file"
        )
    return files[0].path if files else None


def _option(spec: Spec, name: str, item: Input, config: Config) -> str | None:
    if name in config.weights:
        return str(config.weights[name])
    if item.optional:
        return None
    raise ValueError(f"needs a file that you give: --weights {name}=PATH ({item.help})")


def _query(item: Input, filters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Narrow an input's query by the user's filters, which speak of raw data only."""
    query = dict(item.query)
    if item.source == RAW:
        suffix = str(item.query.get("suffix", "")).lower()
        query |= {**filters.get(suffix, {}), **filters.get(item.name, {})}
    return query


def _add_outputs(job: Job, root: Path, records: dict[str, dict[str, BidsFile]]) -> None:
    """Let later steps find what this job will write."""
    labels = {name: _text(value) for name, value in job.key.items()}
    pool = records.setdefault(job.stage, {})
    for path in job.outputs.values():
        entities = parse_path(path[len(str(root)) + 1 :]) or {}
        pool[path] = BidsFile(job.stage, path, {**labels, **entities})


def _by_source(files: Iterable[BidsFile]) -> dict[str, dict[str, BidsFile]]:
    records: dict[str, dict[str, BidsFile]] = {}
    for file in files:
        records.setdefault(file.source, {})[file.path] = file
    return records


def _tell(item: Input) -> str:
    pairs = ", ".join(f"{k}: {'none' if v is None else v}" for k, v in item.query.items())
    return f"from {item.source}, {pairs}"


def _remedy(item: Input, spec: Spec) -> str:
    if item.source == RAW:
        return "add the file or leave the participant out"
    if item.source == spec.name:
        return f"run {spec.name} at the level that makes it first (participant or group)"
    return f"run stage {item.source} first or give it with -d {item.source}=PATH"


def _text(value: Any) -> str:
    return str(value)
