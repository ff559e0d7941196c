"""Step judge: ask classifiers that never saw a participant what they take the translation for."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.translation import figures, judging, volumes
from stages.translation.judging import Verdict
from stages.translation.portable import (
    CLASSIFICATION,
    REGRESSION,
    Judge,
    find_cards,
    is_about,
    load_judge,
)
from stages.translation.tables import entity_of, participant_of, read_rows, write_rows

logger = logging.getLogger(__name__)


def run(
    *,
    images: list[str],
    probsegs: list[str],
    brains: list[str],
    translated: list[str],
    cohort: str,
    summary: str,
    models: list[str],
    judges: str | None,
    confusion: str,
    table1: str,
    rates: str,
    verdict_table: str,
    figure: str,
    headline: str,
    content: str,
    judged: list[str],
    seed: int,
) -> None:
    """Write confusions before and after translation, the study's table, and rates.

    Without any classifier nothing is written, and a warning says so.

    Raises
    ------
    ValueError
        A judge that has seen everybody it is to judge, of another space or with other classes.
    """
    paths = {"gm": images, "gmfraction": probsegs, "brain": brains}[content]
    domains = json.loads(Path(summary).read_text())["Domains"]
    found_cards = [c for c in find_cards(models, None) if is_about(c, content, domains)]
    found_cards += find_cards([], judges) if judges else []
    panel = [load_judge(path, content) for path in found_cards]
    panel = [j for j in panel if judged == ["all"] or j.name in judged or j.target in judged]
    if not panel:
        logger.warning(
            "no judge: no classifier tells %s apart; run stage classifier, or give a model's folder"
            " with --weights judges=PATH",
            " from ".join(domains),
        )
        return
    rows = {row["participant_id"]: row for row in read_rows(cohort)}
    files = _list_files(paths, translated, rows, domains)
    verdicts: list[Verdict] = []
    table: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for task in (CLASSIFICATION, REGRESSION):
        own = {j.name: j for j in panel if j.task == task}
        if not own:
            continue
        if task == CLASSIFICATION:
            for j in own.values():
                judging.match_classes(j.classes, domains, j.name)
        chosen, overlap = judging.choose_judges(sorted(files), {n: j.seen for n, j in own.items()})
        for name, people in overlap.items():
            logger.info("%s has seen %d participants and does not judge them", name, len(people))
        unjudged = sorted(set(files) - set(chosen))
        if unjudged:
            logger.warning(
                "%d participants are known to every judge, left out: %s",
                len(unjudged),
                ", ".join(unjudged[:10]),
            )
        values = _ask_all(files, chosen, own)
        if task == CLASSIFICATION:
            verdicts = _decide(values, own, rows, domains)
            for v in verdicts:
                table.append(
                    {
                        "participant_id": v.participant,
                        "split": v.split,
                        "origin": v.origin,
                        "target": v.toward or "n/a",
                        "predicted": v.predicted,
                        "probability": v.probability,
                        "judges": len(chosen[v.participant]),
                    }
                )
            found += judging.rates(verdicts, domains)
        else:
            quantities = {key: float(value[0]) for key, value in values.items()}
            found += [
                row | {"units": "as the model's"}
                for row in judging.shifts(
                    quantities,
                    {p: r["classes"] for p, r in rows.items()},
                    {p: r["split"] for p, r in rows.items()},
                )
            ]
    write_rows(rates, found)
    if verdicts:
        write_rows(confusion, judging.count(verdicts, domains))
        write_rows(table1, judging.tabulate(verdicts, domains))
        write_rows(verdict_table, table)
        figures.draw_confusions(Path(figure), verdicts, domains)
        Path(headline).write_text(json.dumps({"Headline": _headline(found, domains)}, indent=1))


Files = dict[str, dict[str, str]]  # participant → domain translated to, or "" → image


def _list_files(
    paths: Sequence[str],
    translated: Sequence[str],
    rows: dict[str, dict[str, str]],
    domains: Sequence[str],
) -> Files:
    """Pair every participant's image with its translations."""
    files: Files = {}
    for path in paths:
        if participant_of(path) in rows:
            files.setdefault(participant_of(path), {}).setdefault("", path)
    for path in translated:
        for d in domains:
            if entity_of(path, "desc") == f"to{d}" and participant_of(path) in files:
                files[participant_of(path)].setdefault(d, path)
    files = {p: own for p, own in files.items() if len(own) > 1}
    if not files:
        raise ValueError("nobody of the cohort was translated; run level participant first")
    return files


def _ask_all(
    files: Files, chosen: dict[str, list[str]], panel: dict[str, Judge]
) -> dict[tuple[str, str], Any]:
    """Average what a participant's judges say of every image of it."""
    answers: dict[tuple[str, str], Any] = {}
    for participant, names in chosen.items():
        for toward, path in files[participant].items():
            volume = volumes.load(path)
            said = [panel[n].ask(panel[n].prepare(volume)[None])[0] for n in names]
            answers[participant, toward] = np.mean(said, axis=0)
    return answers


def _decide(
    values: dict[tuple[str, str], Any],
    panel: dict[str, Judge],
    rows: dict[str, dict[str, str]],
    domains: Sequence[str],
) -> list[Verdict]:
    """Take the likelier of the two domains."""
    first = next(iter(panel.values()))
    if any(j.classes != first.classes for j in panel.values()):
        raise ValueError(
            "the judges differ in their classes; choose some with --translation-judged"
        )
    names = judging.match_classes(first.classes, domains, first.name)
    index = {d: first.classes.index(own) for own, d in names.items()}
    verdicts = []
    for (participant, toward), shares in values.items():
        own = {d: float(shares[i]) for d, i in index.items()}
        best = max(own, key=lambda d: own[d])
        row = rows[participant]
        verdicts.append(
            Verdict(
                participant,
                row["split"],
                row["classes"],
                toward,
                best,
                own[best] / sum(own.values()),
            )
        )
    return verdicts


def _headline(found: Sequence[dict[str, Any]], domains: Sequence[str]) -> str:
    split = "test" if any(row["split"] == "test" for row in found) else "train"
    parts = []
    for d in domains:
        cells = {row["metric"]: row for row in found if (row["split"], row["origin"]) == (split, d)}
        if {"effectiveness", "accuracy_before"} <= cells.keys():
            before, after = cells["accuracy_before"], cells["effectiveness"]
            parts.append(
                f"{d}: {before['value']:.0%} judged {d} before translation,"
                f" {after['value']:.0%} ({after['ci_low']:.0%}–{after['ci_high']:.0%}) judged the"
                f" other after (n {after['n']}, {split})"
            )
    return "Judges that saw neither: " + "; ".join(parts) + "."
