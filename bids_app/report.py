"""Derivatives → pages: one per participant, one per stage, one start page.

Reads only figures, tables, records and statuses, so it can be run alone, long after, on another
machine. No page loads anything from a network. A report that cannot be written never makes a run
fail, and one page that cannot be written does not keep the others from being.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

import specs
from bids_app import files, log, methods, report_results, report_runs
from bids_app.errors import Exit
from bids_app.report_pages import render
from bids_app.report_tables import Table, make_table
from specs import Spec

START = "brainstages.html"
METHODS, BIBLIOGRAPHY = "logs/CITATION.md", "logs/CITATION.bib"
SHOWN_RUNS = 50
#: What damaged, foreign or older files can bring about while a page is written.
TROUBLE = (OSError, ValueError, LookupError, TypeError, AttributeError, TemplateError)
QUALITY = ("qc", "qc_pass")  # columns of scans.tsv that judge a scan as a whole


@dataclass(frozen=True)
class Site:
    """What all pages of an output folder share."""

    out_dir: Path
    stages: tuple[Spec, ...]
    roots: Mapping[str, Path]
    runs: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    labels: tuple[str, ...]  # of participants who have a page


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
    site = _survey(out_dir, stages, roots, chosen)
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


def _survey(
    out_dir: Path, stages: Sequence[Spec], roots: Mapping[str, Path], chosen: Sequence[str]
) -> Site:
    """Look what is there: also stages and participants that this run did not deal with."""
    known = {spec.name: spec for spec in stages}
    for name in specs.names():
        if name in roots and name not in known:
            known[name] = specs.load(name)
    # A dataset that a run merely prepared, and in which nothing was written, is no result.
    order = [n for n in [*specs.names(), *known] if n in known and _has_results(roots[n])]
    present = tuple(known[name] for name in dict.fromkeys(order))
    runs = report_runs.read_runs(out_dir)
    failures = report_runs.standing_failures(runs, known)
    earlier = {path.stem.removeprefix("sub-") for path in out_dir.glob("sub-*.html")}
    failed = {f["participant"] for f in failures if f["participant"]}
    return Site(
        out_dir, present, roots, runs, failures, tuple(sorted({*chosen, *earlier, *failed}))
    )


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
            failures=_grouped(shown),
            around=around,
            is_whole=folder == site.out_dir,
            provenance=_provenance(site, specs_shown),
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
        "scans": _turned(report_results.scans(root, label)),
        "tables": report_results.participant_tables(root, label, spec),
    }


def _write_stage(site: Site, spec: Spec) -> None:
    root = site.roots[spec.name]
    published = report_results.published_numbers(site.runs, spec.name)
    rows = report_results.all_scans(root)
    links = {r["participant_id"]: f"{r['participant_id']}.html" for r in rows}
    html = render(
        "stage.html",
        spec=spec,
        headlines=report_results.headlines(root),
        provenance=_provenance(site, [spec]),
        scans=make_table("Scans", rows, links={"participant_id": links}),
        tables=report_results.stage_tables(root, spec, published),
        models=report_results.model_table(root),
        figures=report_results.stage_figures(root, spec),
        failures=_grouped([f for f in site.failures if f["stage"] == spec.name]),
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
            **_count_people(site, spec),
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
        failures=_grouped(site.failures),
        stages=cards,
        participants=_participants(site),
        provenance=_provenance(site, site.stages),
        methods=text,
        files={"methods": METHODS, "bibliography": BIBLIOGRAPHY},
        base="./",
    )
    files.write_text(html, site.out_dir / START, root=site.out_dir)


def _participants(site: Site) -> Table:
    """Tabulate who has which stage, with the worst quality flag of their scans."""
    states = report_runs.participant_states(site.runs, site.failures)
    rows = []
    labels = [x for x in site.labels if x in states or (site.out_dir / f"sub-{x}.html").is_file()]
    for label in sorted({*labels, *states}):
        row = {"participant": f"sub-{label}"}
        flags = []
        for spec in site.stages:
            folder = site.roots[spec.name] / f"sub-{label}"
            found = states.get(label, {}).get(spec.name, "")
            row[spec.name] = found if found == "failed" else "done" if folder.is_dir() else "–"
            if folder.is_dir():
                scans = report_results.scans(site.roots[spec.name], label)
                flags += [scan[c] for scan in scans for c in QUALITY if scan.get(c)]
        row["quality"] = next((flag for flag in ("fail", "warn", "pass") if flag in flags), "n/a")
        rows.append(row)
    links = {
        f"sub-{x}": f"sub-{x}.html" for x in states if (site.out_dir / f"sub-{x}.html").is_file()
    }
    return make_table("Participants", rows, links={"participant": links})


def _grouped(failures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put failures of one kind together: one reason, many participants."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for failure in failures:
        key = tuple(str(failure[name]) for name in ("stage", "step", "reason"))
        group = groups.setdefault(key, {**failure, "cases": []})
        group["cases"].append(failure)
    return sorted(groups.values(), key=lambda g: -len(g["cases"]))


def _provenance(site: Site, stages: Iterable[Spec]) -> list[str]:
    return report_results.join_words(
        word
        for spec in stages
        for word in report_results.provenance(site.roots[spec.name], site.runs, spec.name)
    )


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


def _count_people(site: Site, spec: Spec) -> dict[str, int]:
    """Count participants of the study apart from those that a stage made up itself."""
    folders = {path.name[4:] for path in site.roots[spec.name].glob("sub-*") if path.is_dir()}
    known = {label for run in site.runs for label in run["participants"]} | set(site.labels)
    return {"participants": len(folders & known), "made_up": len(folders - known)}


def _has_results(root: Path) -> bool:
    return root.is_dir() and (any((root / "logs" / "jobs").glob("*.json")) or _count(root) > 0)


def _count(root: Path) -> int:
    return sum(path.is_dir() for path in root.glob("sub-*"))
