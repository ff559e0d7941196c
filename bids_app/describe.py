"""Specs → words: what a stage reads, writes and can be told; tables of README and docs.

``python -m bids_app.describe docs`` brings the pages of the stages and of the command line up to
date.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import specs
from bids_app.terminal_help import Parser
from specs import Spec
from specs.schema import Input, Output, Param

BEGIN, END = "<!-- generated from the spec: begin -->", "<!-- generated from the spec: end -->"

HEADINGS = {"options": "Help"}  # argparse's own group, which holds nothing else


def describe(spec: Spec) -> str:
    """Describe a stage in Markdown."""
    return f"# {spec.name} (version {spec.version})\n\n{spec.summary}\n\n{details(spec)}"


def update_page(text: str, spec: Spec) -> str:
    """Put what the spec says between the markers of a stage's page.

    Raises
    ------
    ValueError
        The markers are not there.
    """
    return _between(text, details(spec), spec.name)


def update_command_line(text: str, parser: Parser) -> str:
    """Put the options that all stages share between the markers of their page."""
    lines: list[str] = []
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.option_strings]
        if not actions or group in parser.stage_groups.values():
            continue
        rows = [(", ".join(f"`{s}`" for s in a.option_strings), _meaning(a)) for a in actions]
        lines += [
            f"## {HEADINGS.get(str(group.title), str(group.title).capitalize())}",
            "",
            *_table(("option", "meaning"), rows),
            "",
        ]
    return _between(text, "\n".join(lines), "the command line")


def _between(text: str, generated: str, name: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page of {name} lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{generated}\n{END}{after}"


def _meaning(action: argparse.Action) -> str:
    """Say what an option takes and means."""
    takes = f"{action.metavar or action.dest.upper()}: " if action.nargs != 0 else ""
    many = " (one or more)" if action.nargs == "+" else ""
    return f"{takes}{(action.help or '').replace('%%', '%')}{many}"


def details(spec: Spec) -> str:
    """Describe a stage's steps, options and references in Markdown."""
    lines: list[str] = []
    for step in spec.steps.values():
        need = step.resources
        lines += [f"## {spec.name}.{step.name}: {step.summary}", ""]
        lines += [
            f"Level {step.level}; one job per {', '.join(step.over) or 'run'};"
            f" {need.cpus} cores, {need.memory_gb:g} GB, {_gpus(need.gpus)}about"
            f" {need.minutes:g} min and {need.disk_mb:g} MB of results per job.",
            "",
        ]
        lines += ["Reads:", "", *(f"- `{i.name}`: {_input(i)}" for i in step.inputs.values()), ""]
        lines += [
            "Writes:",
            "",
            *(f"- `{o.name}`: {_output(o)}" for o in step.outputs.values()),
            "",
        ]
    lines += ["## Options", "", *parameter_table(spec), ""]
    if spec.references:
        lines += ["## References", "", *(f"- {reference}" for reference in spec.references), ""]
    return "\n".join(lines).rstrip() + "\n"


def stage_table() -> list[str]:
    """Tabulate the stages, one row each, in Markdown."""
    rows = [
        (f"`{n}`", specs.load(n).summary, ", ".join(specs.load(n).steps)) for n in specs.names()
    ]
    return _table(("stage", "what it makes", "steps"), rows)


def parameter_table(spec: Spec) -> list[str]:
    """Tabulate a stage's options, one row each, in Markdown."""
    rows = [
        (f"`--{spec.name}-{name.replace('_', '-')}`", param.help, _default(param), _range(param))
        for name, param in spec.params.items()
    ]
    return _table(("option", "meaning", "default", "values"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body]


def _input(item: Input) -> str:
    query = ", ".join(f"{k} {'absent' if v is None else v}" for k, v in item.query.items())
    words = [f"from {item.source}" if item.source != "option" else f"`--weights {item.name}=PATH`"]
    words += [query] * bool(query) + ["many"] * item.many + ["optional"] * item.optional
    return f"{item.help} ({'; '.join(words)})"


def _output(item: Output) -> str:
    if item.bids:
        pairs = [
            f"{k}-{v}" for k, v in item.bids.items() if k not in ("suffix", "extension", "datatype")
        ]
        name = "_".join(["…", *pairs, item.bids["suffix"]]) + item.bids["extension"]
    else:
        name = f"{item.table} table" if item.table else item.path
    text = item.metadata.get("Description", item.help)
    return f"`{name}`{' (optional)' if item.optional else ''} {text}".rstrip()


def _default(param: Param) -> str:
    values = param.default if param.many else [param.default]
    return " ".join(f"{value}" for value in values)


def _range(param: Param) -> str:
    if param.type == "bool":
        return "on with --…, off with --no-…"
    if param.choices:
        return ", ".join(map(str, param.choices))
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in (("≥", param.min), ("≤", param.max))
        if bound is not None
    ]
    return " ".join([param.type, *bounds, param.unit]).strip()


def _gpus(number: int) -> str:
    return f"{number} GPU, " if number else ""


def _main(arguments: Sequence[str]) -> int:
    from bids_app.cli import build_parser

    for folder in map(Path, arguments):
        docs = folder.parent if folder.name == "stages" else folder
        for name in specs.names():
            path = docs / "stages" / f"{name}.md"
            path.write_text(update_page(path.read_text("utf-8"), specs.load(name)), "utf-8")
        path = docs / "command-line.md"
        path.write_text(update_command_line(path.read_text("utf-8"), build_parser()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
