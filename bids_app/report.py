"""Derivatives → pages: one per participant, one per stage, one start page.

Reads only figures, tables, records and statuses, so it can be run alone, long after, on another
machine. No page loads anything from a network. A report that cannot be written never makes a run
fail, and one page that cannot be written does not keep the others from being.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from bids_app import files, log, methods, report_results, report_runs
from bids_app.errors import Exit
from bids_app.report_pages import render
from bids_app.report_site import (
    Site,
    count_flags,
    count_people,
    is_idle,
    survey,
    tabulate_participants,
)
from bids_app.report_spread import find_strips
from bids_app.report_tables import Table, make_table
from specs import Spec

START = "brainstages.html"
METHODS, BIBLIOGRAPHY = "logs/CITATION.md", "logs/CITATION.bib"
SHOWN_RUNS = 50
#: What damaged, foreign or older files can bring about while a page is written.
TROUBLE = (OSError, ValueError, LookupError, TypeError, AttributeError, TemplateError)


def try_write(
    out_dir: Path, stages: Sequence[Spec], roots: Mapping[str, Path], participants: Iterable[str]
) -> str:
    """Write all pages; return what went wrong, or nothing."""
    try:
        problems = write(out_dir, stages, roots, participants)
    except TROUBLE as error:
        problems = [f"the reports could not be written: {error}"]
    for problem in problems:
        log.logger.warning("%s", problem)
    return "; ".join(problems)


def write(
    out_dir: Path, stages: Sequence[Spec], roots: Mapping[str, Path], participants: Iterable[str]
) -> list[str]:
    """Write the pages of the given participants, of all stages that are there, the start page.

    Returns
    -------
    problems : list of str
        Pages that could not be written, each with the reason.
    """
    chosen = list(participants)
    site = survey(out_dir, stages, roots, chosen)
    problems: list[str] = []

    def attempt(write_page: Callable[..., None], name: str, *arguments: Any) -> None:
        try:
            write_page(site, *arguments)
        except TROUBLE as error:
            problems.append(f"the page of {name} could not be written: {error}")

    for label in chosen:
        attempt(_write_participant, f"sub-{label}", label)
    for spec in site.stages:
        attempt(_write_stage, spec.name, spec)
    attempt(_write_start, "the whole")
    return problems


def _write_participant(site: Site, label: str) -> None:
    """Write a participant's page of all stages, and one in each stage's dataset."""
    mine = [spec for spec in site.stages if (site.roots[spec.name] / f"sub-{label}").is_dir()]
    failures = [f for f in site.failures if f["participant"] == label]
    sections = {spec.name: _section(site, spec, label) for spec in mine}
    place = site.labels.index(label) if label in site.labels else 0
    around = {
        "previous": site.labels[place - 1] if place > 0 else "",
        "next": site.labels[place + 1] if place + 1 < len(site.labels) else "",
    }

    def save(folder: Path, specs_shown: Sequence[Spec], shown: Sequence[Mapping[str, Any]]) -> None:
        html = render(
            "participant.html",
            label=label,
            sections=[
                {**sections[s.name], "prefix": _prefix(folder, site.roots[s.name])}
                for s in specs_shown
            ],
            failures=report_runs.group_failures(shown),
            around=around,
            is_whole=folder == site.out_dir,
            provenance=site.unreal(specs_shown),
            base=_prefix(folder, site.out_dir),
        )
        files.write_text(html, folder / f"sub-{label}.html", root=folder)

    if mine or failures:
        save(site.out_dir, mine, failures)
    for spec in mine:
        save(site.roots[spec.name], [spec], [f for f in failures if f["stage"] == spec.name])


def _section(site: Site, spec: Spec, label: str) -> dict[str, Any]:
    root = site.roots[spec.name]
    return {
        "spec": spec,
        "figures": report_results.participant_figures(root, label, spec),
        "unreal": site.unreal([spec]),
        "scans": _turned(report_results.scans(root, label)),
        "tables": report_results.participant_tables(root, label, spec),
    }


def _write_stage(site: Site, spec: Spec) -> None:
    root = site.roots[spec.name]
    published = report_results.published_numbers(site.runs, spec.name)
    rows = site.scans(spec.name)
    links = {r["participant_id"]: f"{r['participant_id']}.html" for r in rows}
    html = render(
        "stage.html",
        spec=spec,
        headlines=report_results.headlines(root),
        provenance=site.unreal([spec]),
        is_idle=is_idle(root),
        scans=make_table("Scans", rows, links={"participant_id": links}),
        spread=find_strips(rows),
        tables=report_results.stage_tables(root, spec, published, is_real=not site.unreal([spec])),
        models=report_results.model_table(root),
        figures=report_results.stage_figures(root, spec),
        failures=report_runs.group_failures([f for f in site.failures if f["stage"] == spec.name]),
        base=_prefix(root, site.out_dir),
    )
    files.write_text(html, root / f"{spec.name}.html", root=root)


def _write_start(site: Site) -> None:
    records = {s.name: list(report_results.job_records(site.roots[s.name])) for s in site.stages}
    text = methods.write_methods_of_results(site.stages, records)
    ran = [spec for spec in site.stages if records[spec.name]]
    files.write_text(text, site.out_dir / METHODS, root=site.out_dir)
    bibliography = methods.write_bibliography(methods.all_references(ran))
    files.write_text(bibliography, site.out_dir / BIBLIOGRAPHY, root=site.out_dir)
    latest = next((run for run in site.runs if not run["idle"]), None)
    cards = [
        {
            "spec": spec,
            "link": f"{_prefix(site.out_dir, site.roots[spec.name])}{spec.name}.html",
            "headlines": report_results.headlines(site.roots[spec.name]),
            **count_people(site, spec),
            "quality": count_flags(site, spec),
            "is_idle": is_idle(site.roots[spec.name]),
            "failed": sum(f["stage"] == spec.name for f in site.failures),
        }
        for spec in site.stages
    ]
    html = render(
        "start.html",
        latest=latest,
        asked=report_runs.settings_of(site.out_dir, latest) if latest else {},
        code_names={int(code): code.name.replace("_", " ").lower() for code in Exit},
        runs=site.runs[:SHOWN_RUNS],
        failures=report_runs.group_failures(site.failures),
        stages=cards,
        participants=tabulate_participants(site),
        provenance=site.unreal(site.stages),
        methods=text,
        files={"methods": METHODS, "bibliography": BIBLIOGRAPHY},
        base="./",
    )
    files.write_text(html, site.out_dir / START, root=site.out_dir)


def _turned(rows: Sequence[Mapping[str, str]]) -> Table | None:
    """Turn a participant's scans on the side: one row per quantity, one column per scan."""
    if not rows:
        return None
    names = [Path(row.get("filename", "scan")).name.partition(".")[0] for row in rows]
    unique = [f"{n} ({i})" if names.count(n) > 1 else n for i, n in enumerate(names)]
    columns = dict.fromkeys(column for row in rows for column in row if column != "filename")
    turned = [
        {
            "": column.replace("_", " "),
            **{n: r.get(column, "n/a") for n, r in zip(unique, rows, strict=True)},
        }
        for column in columns
    ]
    return make_table("Geometry and quality", turned)


def _prefix(page_folder: Path, folder: Path) -> str:
    """Write a folder as seen from a page, ending with a slash."""
    return f"{Path(os.path.relpath(folder, page_folder)).as_posix()}/"
