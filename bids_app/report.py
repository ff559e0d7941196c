"""Derivatives → HTML: one page per participant and stage, one per stage, one start page.

Reads only figures, tables and statuses, so it can be run alone, long after, on another machine. No
page loads anything from a network. A report that cannot be written never makes a run fail.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from bids_app import __version__, files, log
from bids_app.sink import FIGURES
from specs import SPECS_DIR, Spec
from specs.entities import parse_path
from specs.schema import Output

TEMPLATES = Path(__file__).parent / "templates"
PUBLISHED = SPECS_DIR / "published"
FIGURE_TYPES = (".png", ".svg")
SCAN_ENTITIES = ("ses", "acq", "ce", "rec", "run")


def try_write(
    out_dir: Path, stages: Sequence[Spec], roots: Mapping[str, Path], participants: Iterable[str]
) -> str:
    """Write all pages; return what went wrong, or nothing."""
    try:
        write(out_dir, stages, roots, participants)
    except (OSError, ValueError, KeyError) as error:
        log.logger.warning("the reports could not be written: %s", error)
        return str(error)
    return ""


def write(
    out_dir: Path, stages: Sequence[Spec], roots: Mapping[str, Path], participants: Iterable[str]
) -> None:
    """Write the pages of the given participants, of the stages, and the start page.

    Raises
    ------
    OSError
        A page cannot be written.
    """
    pages = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    pages.globals["version"] = __version__
    runs = read_runs(out_dir)
    failures = latest_failures(runs)
    present = [spec for spec in stages if roots[spec.name].is_dir()]
    for spec in present:
        root = roots[spec.name]
        for label in participants:
            if (root / f"sub-{label}").is_dir():
                html = pages.get_template("participant.html").render(
                    spec=spec,
                    label=label,
                    tables=participant_tables(root, label),
                    figures=participant_figures(root, label, spec),
                    failures=failures.get(label, []),
                )
                files.write_text(html, root / f"sub-{label}.html", root=root)
        html = pages.get_template("stage.html").render(
            spec=spec,
            headlines=headlines(root),
            table=stage_table(root),
            tables=stage_tables(root, published_numbers(runs, spec.name)),
            figures=stage_figures(root, spec),
            failures=_of_stage(failures, spec.name),
        )
        files.write_text(html, root / f"{spec.name}.html", root=root)
    html = pages.get_template("start.html").render(
        runs=runs[:20],
        failures=[failure for found in failures.values() for failure in found],
        stages=[(s, f"{roots[s.name].name}/{s.name}.html", _count(roots[s.name])) for s in present],
    )
    files.write_text(html, out_dir / "brainstages.html", root=out_dir)


def read_runs(out_dir: Path) -> list[dict[str, Any]]:
    """Read the statuses of all runs, the latest first; what is damaged is passed over."""
    runs = []
    for path in sorted((out_dir / "logs").glob("run-*/status.json"), reverse=True):
        try:
            runs.append(json.loads(path.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue
    return runs


def latest_failures(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Collect each participant's failures from the latest run that dealt with that participant."""
    seen: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for label in ["", *run["participants"]]:
            if label not in seen:
                seen[label] = [f for f in run["failures"] if f["participant"] == label]
    return {label: found for label, found in seen.items() if found}


def participant_figures(root: Path, label: str, spec: Spec) -> list[dict[str, str]]:
    """List a participant's figures with the captions that the spec gives them, in its order."""
    return _figures(root, (root / f"sub-{label}").rglob("figures/*"), spec)


def stage_figures(root: Path, spec: Spec) -> list[dict[str, str]]:
    """List the figures about the whole group."""
    return _figures(root, (root / "figures").glob("*"), spec)


def stage_tables(root: Path, published: Mapping[str, str]) -> list[dict[str, Any]]:
    """Read the tables of results about the whole group.

    Rows that name an ``item`` that a study published get its number beside them.
    """
    tables = []
    for path in [*sorted(root.glob("plans/counts.tsv")), *sorted(root.glob("*_metrics.tsv"))]:
        rows = files.read_table(path)
        if any(row.get("item") in published for row in rows):
            rows = [{**row, "published": published.get(row["item"], "")} for row in rows]
        if rows:
            tables.append({"name": path.name, "rows": rows, "columns": list(rows[0])})
    return tables


def published_numbers(runs: Sequence[Mapping[str, Any]], stage: str) -> dict[str, str]:
    """Look up what the study printed whose recipe the stage's latest run followed, by item.

    Nothing for synthetic data: their numbers say nothing about the study's.
    """
    latest = next((run for run in runs if stage in run["stages"]), None)
    if latest is None or not latest["recipe"] or latest["synthetic"]:
        return {}
    rows = files.read_table(PUBLISHED / f"{latest['recipe']}.tsv")
    return {row["item"]: row["value"] for row in rows if "item" in row}


def headlines(root: Path) -> list[str]:
    """Collect the sentences that group steps want to be read first."""
    found = []
    for path in sorted(root.glob("plans/*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and "Headline" in data:
            found.append(str(data["Headline"]))
    return found


def _figures(root: Path, paths: Iterable[Path], spec: Spec) -> list[dict[str, str]]:
    """Match figures with the outputs that promise them, in the order of the spec."""
    promised = [
        output
        for step in spec.steps.values()
        for output in step.outputs.values()
        if output.bids.get("datatype") == FIGURES
    ]
    figures = []
    for path in sorted(paths):
        relative = path.relative_to(root).as_posix()
        entities = parse_path(relative) or {}
        for rank, output in enumerate(promised):
            if path.suffix in FIGURE_TYPES and _is_named_by(output, entities):
                caption = str(output.metadata.get("Description", output.help))
                scan = " ".join(f"{k}-{entities[k]}" for k in SCAN_ENTITIES if k in entities)
                figure = {"path": relative, "caption": caption, "scan": scan, "rank": f"{rank:03d}"}
                figures.append(figure)
    return sorted(figures, key=lambda figure: (figure["scan"], figure["rank"], figure["path"]))


def _is_named_by(output: Output, entities: Mapping[str, str]) -> bool:
    """Tell whether a file has the entities of an output, whose values may be templates."""
    for name in ("desc", "suffix"):
        pattern = re.sub(r"\\\{\w+\\\}", "[A-Za-z0-9+]+", re.escape(output.bids.get(name, "")))
        if not re.fullmatch(pattern, entities.get(name, "")):
            return False
    return True


def participant_tables(root: Path, label: str) -> list[dict[str, Any]]:
    """Read a participant's tables of scans: geometry and quality, one column per scan."""
    tables = []
    for path in sorted((root / f"sub-{label}").rglob("*_scans.tsv")):
        rows = files.read_table(path)
        if rows:
            tables.append({"rows": rows, "columns": list(rows[0])})
    return tables


def stage_table(root: Path) -> dict[str, Any]:
    """Gather the rows of all participants' scans into one table."""
    rows = []
    columns: dict[str, None] = {}
    for path in sorted(root.glob("sub-*/**/*_scans.tsv")):
        for row in files.read_table(path):
            row = {"participant_id": path.relative_to(root).parts[0], **row}
            columns |= dict.fromkeys(row)
            rows.append(row)
    return {"rows": rows, "columns": list(columns)}


def _of_stage(failures: Mapping[str, Sequence[dict[str, Any]]], stage: str) -> list[dict[str, Any]]:
    return [f for found in failures.values() for f in found if f["stage"] == stage]


def _count(root: Path) -> int:
    return sum(path.is_dir() for path in root.glob("sub-*"))
