"""What is printed: the plan, the summary, a stage's description, the graph; the only printing."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import specs
from bids_app import log, report_results, report_site
from bids_app.describe import describe, stage_table
from bids_app.errors import AppError, Exit
from bids_app.export import EXPORTS, boutiques, stages_of_raw_data
from bids_app.layout import STAGE_PREFIX
from bids_app.plan import Plan
from bids_app.report_runs import REMEDIES, group_failures
from specs.job import Job

SHOWN_FAILURES = 10


def describe_stages(names: Sequence[str]) -> int:
    """Print stages' descriptions, or the list of stages."""
    try:
        text = "\n".join(describe(specs.load(n)) for n in names) or "\n".join(stage_table()) + "\n"
    except ValueError as error:
        raise AppError(Exit.USAGE, str(error)) from error
    print(text, end="")
    return 0


def export_files(arguments: Sequence[str]) -> int:
    """Write the files of other launchers: ``FORMAT FOLDER [STAGE …]``."""
    if len(arguments) < 2 or arguments[0] not in EXPORTS:
        raise AppError(
            Exit.USAGE, f"usage: brainstages export {{{','.join(EXPORTS)}}} FOLDER [STAGE …]"
        )
    try:
        stages = stages_of_raw_data(arguments[2:])
    except ValueError as error:
        raise AppError(Exit.USAGE, str(error)) from error
    return print_files(EXPORTS[arguments[0]](stages), Path(arguments[1]))


def print_boutiques() -> int:
    """Print the description of the command line that the BIDS execution specification asks for."""
    print(json.dumps(boutiques(), indent=4))
    return 0


def print_files(contents: Mapping[str, str], folder: Path | None) -> int:
    """Write files into a folder and list them; without a folder, print their contents."""
    for name, text in contents.items():
        if folder is None:
            print(f"### {name}\n{text}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)
    return 0


def print_plan(plan: Plan, pending: Sequence[Job]) -> None:
    """Print a table of the jobs by step with the time, memory and disk they are expected to need.

    Time is that of all jobs one after another, in minutes; memory that of one job.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    for job in plan.jobs:
        counts.setdefault((job.stage, job.step), [0, 0])[0] += 1
    for job in pending:
        counts[job.stage, job.step][1] += 1
    rows = []
    for (stage, name), (total, to_run) in counts.items():
        need = specs.load(stage).steps[name].resources
        rows.append(
            (f"{stage}.{name}", str(total), str(to_run), f"{to_run * need.minutes:.1f} min",
             str(need.cpus), f"{need.memory_gb:g} GB", f"{to_run * need.disk_mb / 1000:.2f} GB")
        )  # fmt: skip
    head = ("step", "jobs", "to run", "time, one by one", "cores", "memory", "disk")
    print(_columns([head, *rows]))
    for problem in plan.problems:
        print(f"cannot be planned: {problem.message}")


def print_summary(summary: Mapping[str, Any], out_dir: Path, run_dir: Path) -> None:
    """Print how a run ended: failures with reason and remedy, what was made, where to look."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = [""]
    for group in group_failures(summary["failures"])[:SHOWN_FAILURES]:
        labels = [f"sub-{label}" for label in group["labels"]]
        who = ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")
        where = f"{group['stage']}.{group['step']}" + (f" ({who})" if who else "")
        remedy = REMEDIES.get(int(group.get("exit_code", 0)), "")
        others = len(group["reasons"]) - 1
        more = f" (and the same of {others} more)" if others else ""
        text = f"FAILED {where}: {group['reason']}{more}. {remedy}".strip()
        lines += [textwrap.fill(text, width, subsequent_indent="    "), ""]
    rows = [_made(name, out_dir) for name in summary["stages"]]
    if any(rows):
        lines.append(_columns([("stage", "participants", "finding"), *filter(None, rows)], width))
        lines.append("")
    jobs = ", ".join(f"{count} {name}" for name, count in summary["jobs"].items())
    start = out_dir / "brainstages.html"
    where_to_look = [("jobs", jobs), ("log", str(run_dir))]
    where_to_look += [("report", str(start))] if start.is_file() else []
    lines.append(_columns(where_to_look))
    print("\n".join(lines), file=log.Listener(sys.stderr))


def resource_table(states: Mapping[str, Mapping[str, Any]]) -> str:
    """Tabulate what each job took: seconds and the process's peak memory in GB."""
    rows = [
        (job, str(state["seconds"]), str(state["peak_memory_gb"]))
        for job, state in sorted(states.items())
        if "seconds" in state
    ]
    return "\n".join("\t".join(row) for row in [("job", "seconds", "peak_memory_gb"), *rows]) + "\n"


def graph(jobs: Sequence[Job], needs: Mapping[str, Mapping[str, str]]) -> str:
    """Write jobs and what they wait for in Graphviz' language."""
    nodes = [f'  "{job.id}";' for job in jobs]
    edges = [f'  "{before}" -> "{job.id}";' for job in jobs for before in needs[job.id]]
    return "\n".join(["digraph brainstages {", "  rankdir=LR;", *nodes, *edges, "}"]) + "\n"


def _made(stage: str, out_dir: Path) -> tuple[str, str, str] | None:
    """Tell in a row what a stage made; None if there is nothing."""
    root = out_dir / f"{STAGE_PREFIX}{stage}"
    if not root.is_dir():
        return None
    try:
        found = report_results.headlines(root)
    except (OSError, ValueError):
        found = []  # the report has said so
    if report_site.is_idle(root):
        found = ["nothing was written: no step found what it reads"]
    return stage, str(sum(p.is_dir() for p in root.glob("sub-*"))), " ".join(found)


def _columns(rows: Sequence[Sequence[str]], width: int = 0) -> str:
    """Set rows in columns as wide as their widest cell, cut to a width if one is given."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(room) for cell, room in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(x if not width or len(x) <= width else f"{x[: width - 1]}…" for x in lines)
