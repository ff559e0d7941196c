"""What an output folder holds: stages, runs, people, and what all of its pages say alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import specs
from bids_app import report_results, report_runs
from bids_app.report_tables import Table, make_table
from specs import Spec

QUALITY = ("qc", "qc_pass", "qc_reasons")  # columns of scans.tsv that judge a scan as a whole
FLAGS = ("fail", "warn", "pass")  # the worst first


@dataclass(frozen=True)
class Site:
    """What all pages of an output folder share."""

    out_dir: Path
    stages: tuple[Spec, ...]
    roots: Mapping[str, Path]
    runs: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    labels: tuple[str, ...]  # of participants who have a page
    _scans: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    _unreal: dict[str, list[str]] = field(default_factory=dict)

    def scans(self, stage: str) -> list[dict[str, str]]:
        """Return all rows about scans of a stage, read once; what judges a scan stands in front."""
        if stage not in self._scans:
            first = ("participant_id", *QUALITY)
            self._scans[stage] = [
                {name: row[name] for name in first if name in row} | row
                for row in report_results.all_scans(self.roots[stage])
            ]
        return self._scans[stage]

    def unreal(self, stages: Iterable[Spec]) -> list[str]:
        """Say what is not real about some stages' results, read once."""
        words: list[str] = []
        for name in (spec.name for spec in stages):
            if name not in self._unreal:
                told = report_results.provenance(self.roots[name], self.runs, name)
                self._unreal[name] = told
            words += self._unreal[name]
        return report_results.join_words(words)


def survey(
    out_dir: Path, stages: Sequence[Spec], roots: Mapping[str, Path], chosen: Sequence[str]
) -> Site:
    """Look what is there: also stages and participants that this run did not deal with."""
    known = {spec.name: spec for spec in stages}
    for name in specs.names():
        if name in roots and name not in known:
            known[name] = specs.load(name)
    # A dataset that a run merely prepared, and in which nothing was written, is no result.
    order = [n for n in [*specs.names(), *known] if n in known and _has_results(roots[n])]
    present = tuple(known[name] for name in sorted(dict.fromkeys(order), key=_needed(known)))
    runs = report_runs.read_runs(out_dir)
    failures = report_runs.standing_failures(runs, known)
    earlier = {path.stem.removeprefix("sub-") for path in out_dir.glob("sub-*.html")}
    failed = {f["participant"] for f in failures if f["participant"]}
    return Site(
        out_dir, present, roots, runs, failures, tuple(sorted({*chosen, *earlier, *failed}))
    )


def tabulate_participants(site: Site) -> Table:
    """Tabulate who has which stage, with the worst quality flag of their scans."""
    states = report_runs.participant_states(site.runs, site.failures)
    flags: dict[str, set[str]] = {}
    for scan in (scan for spec in site.stages for scan in site.scans(spec.name)):
        label = scan["participant_id"].removeprefix("sub-")
        flags.setdefault(label, set()).update(scan.get(column, "") for column in QUALITY)
    rows = []
    labels = [x for x in site.labels if x in states or (site.out_dir / f"sub-{x}.html").is_file()]
    for label in sorted({*labels, *states}):
        row = {"participant": f"sub-{label}"}
        for spec in site.stages:
            folder = site.roots[spec.name] / f"sub-{label}"
            found = states.get(label, {}).get(spec.name, "")
            row[spec.name] = found if found == "failed" else "done" if folder.is_dir() else "–"
        row["quality"] = next((flag for flag in FLAGS if flag in flags.get(label, ())), "n/a")
        rows.append(row)
    pages = [row["participant"] for row in rows]
    links = {name: f"{name}.html" for name in pages if (site.out_dir / f"{name}.html").is_file()}
    return make_table("Participants", rows, links={"participant": links})


def count_people(site: Site, spec: Spec) -> dict[str, int]:
    """Count participants of the study apart from those that a stage made up itself."""
    folders = {path.name[4:] for path in site.roots[spec.name].glob("sub-*") if path.is_dir()}
    known = {label for run in site.runs for label in run["participants"]} | set(site.labels)
    return {"participants": len(folders & known), "made_up": len(folders - known)}


def count_flags(site: Site, spec: Spec) -> dict[str, int]:
    """Count scans by the flag that sums up their quality; the worst flag first."""
    flags = [row.get(QUALITY[0], "") for row in site.scans(spec.name)]
    return {flag: flags.count(flag) for flag in FLAGS if flag in flags}


def is_idle(root: Path) -> bool:
    """Tell whether a stage's jobs all found nothing to do."""
    return _count(root) == 0 and not any(report_results.job_records(root))


def _needed(known: Mapping[str, Spec]) -> Callable[[str], int]:
    """Rank stages by how many others read their results: what comes first is shown first."""
    direct = {name: spec.sources & known.keys() for name, spec in known.items()}

    def needs(name: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
        for source in direct[name] - seen - {name}:
            seen = needs(source, seen | {source})
        return seen

    everything = [needs(name) for name in known]
    return lambda name: -sum(name in needed for needed in everything)


def _has_results(root: Path) -> bool:
    return root.is_dir() and (any((root / "logs" / "jobs").glob("*.json")) or _count(root) > 0)


def _count(root: Path) -> int:
    return sum(path.is_dir() for path in root.glob("sub-*"))
