"""Step evaluate: the study's results over participants: accuracy, curves, differences, FROC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.transfer import figures, provenance
from stages.transfer.comparing import FEW, LEVELS, Scores, judge_sources, read_scores
from stages.transfer.judging import add_missed, read_froc, trace_froc
from stages.transfer.models import read_card
from stages.transfer.tables import Row, read_rows, write_rows
from stages.transfer.tasks import LANDMARK, parse_source

ROC_ROUNDS = (1, 3, 5, 10, 50, 100, 200)
CLAIM = 0.05  # gain of area with few weak learners that the study's claim is tested at


def run(
    *,
    cards: list[str],
    scores: list[str],
    points: list[str],
    learned: str,
    curves: str,
    comparison: str,
    froc: str,
    counts: str,
    summary: str,
    curves_figure: str,
    cases_figure: str,
    roc_figure: str,
    froc_figure: str,
    bootstraps: int,
    apart_mm: float,
    seed: int,
) -> None:
    """Write the group's tables, figures and the sentence to read first."""
    described = sorted((read_card(path) for path in cards), key=lambda card: _rank(card["Name"]))
    accuracy = [row for card in described for row in card["Accuracy"]]
    accuracy += summarize_errors(points, seed)
    if accuracy:
        write_rows(learned, accuracy)
    headline = [_tell_landmarks(accuracy)]
    items = [
        {
            "item": "landmark_classes",
            "value": max((parse_source(c["Name"]).landmarks for c in described), default=0),
        },
        *(
            {"item": f"top1_{r['source']}", "value": r["value"]}
            for r in accuracy
            if (r["measure"], r["part"]) == ("top1", "all")
        ),
    ]
    found = sorted((read_scores(path) for path in scores), key=lambda s: _rank(s.source))
    if found:
        rows, differences = judge_sources(found, bootstraps, seed)
        write_rows(curves, rows)
        if differences:
            write_rows(comparison, differences)
        origin = provenance.join(s.origin for s in found)
        drawn = {"patch": curves_figure, "case": cases_figure}
        for level, path in drawn.items():
            _draw_curves(Path(path), rows, level, origin)
        _draw_roc(Path(roc_figure), found, origin)
        _write_froc(froc, froc_figure, found, apart_mm, origin)
        first = found[0]
        items += [
            {
                "item": "cases",
                "value": first.about["n_test"]
                if first.about["folds"] > 1
                else first.about["n_train"] + first.about["n_test"],
            },
            {"item": "cases_train", "value": first.about["n_train"]},
            {"item": "cases_test", "value": first.about["n_test"]},
        ]
        items += _count_differences(differences)
        headline.append(tell_differences(differences, origin))
    write_rows(counts, items)
    text = {"Headline": " ".join(part for part in headline if part)}
    Path(summary).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def tell_differences(differences: Sequence[Row], origin: str) -> str:
    """Tell what landmarks gain with few weak learners over every other kind of source.

    Random weights are among these: a gain over photographs alone would not show that learning
    landmarks is what helps.
    """
    means = [r for r in differences if r["weak_learners"].startswith("mean")]
    patches = [r for r in means if r["level"] == "patch" and np.isfinite(r["difference"])]
    # With fewer landmarks is compared only where there is nothing else.
    others = [r for r in patches if parse_source(r["second"]).name != LANDMARK]
    shown = others or patches[:1]
    if not shown:
        return ""
    where = "" if origin == provenance.REAL else f" ({origin} data)"
    parts = []
    for row in shown:
        low, high = row["ci_low"], row["ci_high"]
        said = "more" if low > 0 else "less" if high < 0 else "neither clearly more nor less"
        verdict = "is met" if low >= CLAIM else "is not met" if high < CLAIM else "is open"
        parts.append(
            f"{said} than {row['second']}, area {row['auc_first']:.3f} against"
            f" {row['auc_second']:.3f}, difference {row['difference']:+.3f} ({low:+.3f} to"
            f" {high:+.3f}), a gain of at least {CLAIM:g} {verdict}"
        )
    few = shown[0]["weak_learners"].removeprefix("mean ")
    first = shown[0]["first"]
    return f"With {few} weak learners{where} {first} features tell lesions {'; '.join(parts)}."


def summarize_errors(points: Sequence[str], seed: int) -> list[Row]:
    """Average the error of whole-image detection over participants, test and training apart."""
    rows: list[Row] = []
    people: dict[tuple[str, str, str], list[float]] = {}
    for path in points:
        for row in read_rows(path):
            if row.get("error_mm", "n/a") not in ("n/a", ""):
                key = (row["detector"], row["part"], row["participant_id"])
                people.setdefault(key, []).append(float(row["error_mm"]))
    for detector, part in sorted({key[:2] for key in people}):
        errors = [v for k, v in people.items() if k[:2] == (detector, part)]
        means = np.array([np.mean(v) for v in errors])
        draws = np.random.default_rng(seed).integers(0, len(means), (2000, len(means)))
        low, high = np.quantile(means[draws].mean(1), [0.025, 0.975])
        every = np.concatenate([np.asarray(v) for v in errors])
        rows.append(
            {
                "source": detector,
                "measure": "mean_radial_error_mm",
                "part": f"whole image, {part}",
                "value": float(every.mean()),
                "ci_low": float(low),
                "ci_high": float(high),
                "n_patches": len(every),
                "n_participants": len(means),
            }
        )
        rows.append(
            {
                **rows[-1],
                "measure": "share_within_10_mm",
                "value": float((every <= 10).mean()),
                "ci_low": None,
                "ci_high": None,
            }
        )
    return rows


def _draw_curves(path: Path, rows: Sequence[Row], level: str, origin: str) -> None:
    curves: dict[str, Any] = {}
    own = [r for r in rows if r["level"] == level and r["rule"] == "adaboost"]
    for source in dict.fromkeys(r["source"] for r in own):
        mine = [r for r in own if r["source"] == source]
        curves[source] = tuple(np.array([r[k] for r in mine]) for k in ("auc", "ci_low", "ci_high"))
    if not any(np.isfinite(c[0]).any() for c in curves.values()):
        return
    rounds = np.arange(1, len(next(iter(curves.values()))[0]) + 1)
    n = own[0]["n_cases"]
    title = f"AdaBoost on frozen features, {n} held-out cases"
    figures.draw_curves(
        path, rounds, curves, f"area under the ROC curve ({LEVELS[level]})", title, origin
    )


def _draw_roc(path: Path, found: Sequence[Scores], origin: str) -> None:
    """Draw the ROC curves of patches, a panel for each number of weak learners."""
    from sklearn.metrics import roc_curve

    panels: dict[str, dict[str, Any]] = {}
    for own in found:
        values, truth, _ = own.at("patch", own.staged)
        for t in ROC_ROUNDS:
            if t <= values.shape[1] and truth.any() and not truth.all():
                x, y, _ = roc_curve(truth, values[:, t - 1])
                panels.setdefault(f"weak learners: {t}", {})[own.source] = (x, y)
    if panels:
        figures.draw_rocs(path, panels, "ROC of patches", origin)


def _write_froc(
    table: str, figure: str, found: Sequence[Scores], apart_mm: float, origin: str
) -> None:
    rows: list[Row] = []
    curves: dict[str, Any] = {}
    for own in found:
        missed = {a["participant"]: a["missed"] for a in own.about["judged"]}
        given = add_missed(own.staged[:, -1], own.lesions, own.places_mm, own.cases, missed)
        _, alarms, sensitivity = trace_froc(*given, apart_mm)
        if not np.isfinite(sensitivity).any():
            continue
        curves[own.source] = (np.append(0, alarms), np.append(0, sensitivity))
        n = sum(a["lesions"] for a in own.about["judged"])
        for rate, value in read_froc(alarms, sensitivity).items():
            rows.append(
                {
                    "source": own.source,
                    "false_positives_per_case": rate,
                    "sensitivity": value,
                    "n_lesions": n,
                    "n_cases": len(own.about["judged"]),
                    "provenance": own.origin,
                }
            )
    if rows:
        write_rows(table, rows)
        title = "FROC over all candidates of held-out cases"
        figures.draw_frocs(Path(figure), curves, title, origin)


def _count_differences(differences: Sequence[Row]) -> list[Row]:
    return [
        {
            "item": f"{key}_vs_{r['second']}_{r['weak_learners'].replace(' ', '_')}",
            "value": r[column],
        }
        for r in differences
        if r["level"] == "patch" and r["weak_learners"] in ("1", f"mean 1-{FEW}", "200")
        for key, column in (
            ("auc_difference", "difference"),
            ("auc_relative_percent", "relative_percent"),
        )
    ]


def _rank(source: str) -> tuple[int, int, str]:
    """Sort landmark sources first, those of most landmarks before others."""
    kind = parse_source(source)
    return (0 if kind.name == LANDMARK else 1, -kind.landmarks, source)


def _tell_landmarks(rows: Sequence[Row]) -> str:
    best = next(
        (r for r in rows if (r["measure"], r["part"]) == ("top1", "all") and "ci_low" in r), None
    )
    if best is None:
        return ""
    return (
        f"{best['classes']} classes of landmarks: top-1 {best['value']:.3f}"
        f" ({best['ci_low']:.3f}–{best['ci_high']:.3f}),"
        f" {best['n_participants']} test participants."
    )
