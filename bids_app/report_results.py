"""What a stage's dataset holds to show: figures, tables, headlines, models, provenance.

Nothing here knows a stage. Conventions: figures in ``figures/`` folders (png, svg); tables named
``*_metrics.tsv`` and ``plans/counts.tsv``; ``Headline`` and ``Provenance`` in ``plans/*.json``;
``models/**/model.json``; a figure ``desc-xBefore`` is shown under ``desc-x`` with a slider.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bids_app import files, report_runs
from bids_app.report_tables import Table, make_table
from bids_app.sink import FIGURES
from specs import SPECS_DIR, Spec
from specs.entities import parse_path
from specs.schema import Output

PUBLISHED = SPECS_DIR / "published"
PUBLISHED_COLUMN = "published"
FIGURE_TYPES = (".png", ".svg")
SCAN_ENTITIES = ("ses", "acq", "ce", "rec", "run")
BEFORE = "Before"
REAL = ("", "real", "n/a")
UNKNOWN_RANK = 999
SHOWN_OF_A_MODEL = (
    "Task", "Target", "Classes", "Units", "TrainingParticipants", "Provenance", "Licence",
    "Version",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A picture: path inside its dataset, caption, scan it is of, pixels (0 if not known)."""

    path: str
    caption: str
    scan: str
    rank: int
    width: int = 0
    height: int = 0
    before: str = ""
    bytes: int = 0


def participant_figures(root: Path, label: str, spec: Spec) -> list[Figure]:
    """List a participant's figures with the captions that the spec gives them, in its order."""
    return find_figures(root, (root / f"sub-{label}").rglob("figures/*"), spec)


def stage_figures(root: Path, spec: Spec) -> list[Figure]:
    """List the figures about the whole group."""
    return find_figures(root, (root / "figures").glob("*"), spec)


def find_figures(root: Path, paths: Iterable[Path], spec: Spec) -> list[Figure]:
    """Match figures with the outputs that promise them; those nobody promised come last."""
    outputs = [output for step in spec.steps.values() for output in step.outputs.values()]
    promised = [o for o in outputs if o.bids.get("datatype") == FIGURES or FIGURES in o.path]
    figures = []
    for path in sorted(paths):
        if path.suffix not in FIGURE_TYPES or not path.is_file():
            continue
        relative = path.relative_to(root).as_posix()
        entities = parse_path(relative) or {}
        rank, caption = UNKNOWN_RANK, f"{path.name} (not described by the stage's spec)"
        fitting = [o for o in promised if _is_named_by(o, entities, relative)]
        if fitting:
            # A name that says more than a template does is meant.
            output = min(fitting, key=_looseness)
            rank = promised.index(output)
            caption = str(output.metadata.get("Description", output.help))
        scan = " ".join(f"{k}-{entities[k]}" for k in SCAN_ENTITIES if k in entities)
        width, height = _size(path)
        figures.append(
            Figure(relative, caption, scan, rank, width, height, bytes=path.stat().st_size)
        )
    return sorted(_pair(figures), key=lambda f: (f.scan, f.rank, f.path))


def stage_tables(
    root: Path, spec: Spec, published: Mapping[str, str], *, is_real: bool = True
) -> list[Table]:
    """Read the tables of results about the whole group.

    Rows that name an ``item`` that a study published get its number beside them. Of tables that
    are not about real data, columns with published numbers are left out.
    """
    paths = [*root.glob("plans/counts.tsv"), *root.glob("*_metrics.tsv")]
    return _tables(root, paths, spec, published, is_real=is_real)


def participant_tables(root: Path, label: str, spec: Spec) -> list[Table]:
    """Read the tables of results about one participant."""
    return _tables(root, (root / f"sub-{label}").rglob("*_metrics.tsv"), spec, {})


def scans(root: Path, label: str) -> list[dict[str, str]]:
    """Read a participant's rows about scans: geometry and quality."""
    paths = sorted((root / f"sub-{label}").rglob("*_scans.tsv"))
    return [row for path in paths for row in files.read_table(path)]


def all_scans(root: Path) -> list[dict[str, str]]:
    """Gather all participants' rows about scans, each with the participant's name in front."""
    folders = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    return [{"participant_id": name, **row} for name in folders for row in scans(root, name[4:])]


def published_numbers(runs: Sequence[Mapping[str, Any]], stage: str) -> dict[str, str]:
    """Look up what the study printed whose recipe the stage's latest run followed, by item.

    Nothing for synthetic data: their numbers say nothing about the study's.
    """
    latest = report_runs.latest_run(runs, stage)
    if latest is None or not latest.get("recipe") or latest.get("synthetic"):
        return {}
    rows = files.read_table(PUBLISHED / f"{latest['recipe']}.tsv")
    return {row["item"]: row["value"] for row in rows if "item" in row and "value" in row}


def headlines(root: Path) -> list[str]:
    """Collect the sentences that group steps want to be read first."""
    found = [data.get("Headline") for data in _plans(root)]
    return [str(text) for text in found if text]


def provenance(root: Path, runs: Sequence[Mapping[str, Any]], stage: str) -> list[str]:
    """Say what is not real about a stage's results: synthetic data, random weights.

    Told from the latest run, from ``Provenance`` in plans and model cards, and from the columns
    ``provenance`` and ``weights`` of result tables.
    """
    latest = report_runs.latest_run(runs, stage)
    told = ["synthetic data"] if latest is not None and latest.get("synthetic") else []
    told += [str(data.get("Provenance", "")) for data in [*_plans(root), *_cards(root)]]
    for path in sorted(root.glob("*_metrics.tsv")):
        rows = files.read_table(path)
        told += [row.get(column, "") for row in rows for column in ("provenance", "weights")]
    words = dict.fromkeys(
        part.strip()
        for text in told
        for part in re.split(r"[+;]", text)
        if re.search("synth|random|phantom|demo", part, re.IGNORECASE)
    )
    return join_words(words)


def join_words(words: Iterable[str]) -> list[str]:
    """Say each kind of provenance once: "synthetic" is "synthetic data" in short."""
    return list(dict.fromkeys("synthetic data" if w == "synthetic" else w for w in words))


def model_table(root: Path) -> Table | None:
    """Tabulate the model cards of a stage."""
    rows = []
    for path in sorted(root.glob("models/**/model.json")):
        card = _read_json(path)
        row = {"model": path.parent.relative_to(root / "models").as_posix()}
        for name in SHOWN_OF_A_MODEL:
            if name in card:
                value = card[name]
                is_people = name == "TrainingParticipants" and isinstance(value, list)
                row[name] = f"{len(value)} people" if is_people else _words(value)
        rows.append(row)
    links = {"model": {r["model"]: f"models/{r['model']}/model.json" for r in rows}}
    return make_table("Models", rows, links=links) if rows else None


def job_records(root: Path) -> Iterator[dict[str, Any]]:
    """Read what each finished job recorded of itself; ``step`` is added from its name."""
    for path in sorted(root.glob("logs/jobs/*.json")):
        record = _read_json(path)
        if record.get("outputs") and "Parameters" in record:
            yield {**record, "step": path.name.split(".")[1]}


def _tables(
    root: Path,
    paths: Iterable[Path],
    spec: Spec,
    published: Mapping[str, str],
    *,
    is_real: bool = True,
) -> list[Table]:
    tables = []
    for path in sorted(paths):
        rows = files.read_table(path)
        if not rows:
            continue
        notes = []
        if not is_real:
            rows = [
                {k: v for k, v in row.items() if not k.startswith(PUBLISHED_COLUMN)} for row in rows
            ]
        if any(row.get("item") in published for row in rows):
            rows = [_beside(row, published.get(row.get("item", ""), "")) for row in rows]
            notes = ["published: as the study printed it, on its own data."]
        relative = path.relative_to(root).as_posix()
        caption = _caption(spec, relative)
        tables.append(make_table(path.name, rows, source=relative, caption=caption, notes=notes))
    return tables


def _beside(row: Mapping[str, str], published: str) -> dict[str, str]:
    """Put the published number right after ours."""
    placed: dict[str, str] = {}
    for name, value in row.items():
        placed[name] = value
        if name == "value":
            placed["published"] = published
    return placed | {"published": published}


def _caption(spec: Spec, relative: str) -> str:
    """Find what the spec says about a table."""
    entities = parse_path(relative) or {}
    outputs = [output for step in spec.steps.values() for output in step.outputs.values()]
    fitting = [o for o in outputs if _is_named_by(o, entities, relative)]
    if not fitting:
        return ""
    output = min(fitting, key=_looseness)
    return str(output.metadata.get("Description", output.help))


def _is_named_by(output: Output, entities: Mapping[str, str], relative: str) -> bool:
    """Tell whether a file has the name of an output, in which values may be templates."""
    if output.path:
        return bool(re.fullmatch(_as_pattern(output.path), relative))
    told = {name: output.bids.get(name, "") for name in ("desc", "suffix")}
    return bool(output.bids) and all(
        re.fullmatch(_as_pattern(pattern), _after(entities.get(name, "")))
        for name, pattern in told.items()
    )


def _looseness(output: Output) -> int:
    """Count the templates in an output's name."""
    return f"{output.path} {output.bids.get('desc', '')}".count("{")


def _as_pattern(template: str) -> str:
    return re.sub(r"\\\{\w+\\\}", "[A-Za-z0-9+_-]+", re.escape(template))


def _after(label: str) -> str:
    """Name the picture that a picture 'before' belongs to."""
    return label.removesuffix(BEFORE) if label != BEFORE else label


def _pair(figures: Sequence[Figure]) -> list[Figure]:
    """Hang pictures 'before' behind those 'after'; alone, they stay."""
    paths = {figure.path: figure for figure in figures}
    used = set()
    paired = []
    for figure in figures:
        before = re.sub(r"(desc-[A-Za-z0-9+]+)", rf"\1{BEFORE}", figure.path)
        if before != figure.path and before in paths:
            figure = replace(figure, before=before, bytes=figure.bytes + paths[before].bytes)
            used.add(before)
        paired.append(figure)
    return [figure for figure in paired if figure.path not in used]


def _size(path: Path) -> tuple[int, int]:
    """Read a picture's pixels from its header, so that pages do not jump while loading."""
    with open(path, "rb") as handle:
        head = handle.read(2048)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return int(width), int(height)
    box = re.search(rb'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', head)
    return (round(float(box[1])), round(float(box[2]))) if box else (0, 0)


def _plans(root: Path) -> list[dict[str, Any]]:
    return [_read_json(path) for path in sorted(root.glob("plans/*.json"))]


def _cards(root: Path) -> list[dict[str, Any]]:
    return [_read_json(path) for path in sorted(root.glob("models/**/model.json"))]


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping; anything else is an error or empty."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    return data if isinstance(data, dict) else {}


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
