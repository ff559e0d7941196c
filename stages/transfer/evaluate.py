"""Step evaluate: the study's results over participants: accuracy, curves, differences, FROC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.transfer import figures, provenance
from stages.transfer.files import read
from stages.transfer.judging import (
    bootstrap,
    by_case,
    compare_delong,
    draw_cases,
    measure_auc,
    read_froc,
    trace_froc,
)
from stages.transfer.models import read_card
from stages.transfer.tables import Row, read_rows, write_rows
from stages.transfer.tasks import LANDMARK, parse_source

SHOWN_ROUNDS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
LEVELS = {"patch": "patches", "case": "cases"}
FEW = 5  # "few weak learners": the study's claim is tested at 1 to this many


@dataclass(frozen=True)
class Scores:
    """What one source's booster says of the held-out cases' candidates."""

    source: str
    origin: str
    staged: NDArray[Any]  # (n, rounds)
    rivals: dict[str, NDArray[Any]]
    is_lesion: NDArray[np.bool_]
    lesions: NDArray[np.int64]
    used: NDArray[np.bool_]
    places_mm: NDArray[Any]
    cases: NDArray[Any]
    about: dict[str, Any]

    def levels(self, values: NDArray[Any]) -> dict[str, tuple[NDArray[Any], NDArray[Any], Any]]:
        """Scores, truth and cases of patches (lesions and matched negatives) and of cases."""
        patch = (values[self.used], self.is_lesion[self.used], self.cases[self.used])
        top, has_lesion = by_case(values, self.is_lesion, self.cases)
        return {"patch": patch, "case": (top, has_lesion, np.unique(self.cases))}


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
        headline.append(_tell_differences(rows, differences, origin))
    write_rows(counts, items)
    text = {"Headline": " ".join(part for part in headline if part)}
    Path(summary).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def read_scores(path: str) -> Scores:
    """Read what step boost wrote."""
    arrays, about = read(path)
    rivals = {n: arrays[n] for n in ("probe", "finetuned") if np.isfinite(arrays[n]).any()}
    return Scores(
        about["source"],
        about["origin"],
        arrays["staged"],
        rivals,
        arrays["lesions"] > 0,
        arrays["lesions"],
        arrays["used"],
        arrays["places_mm"],
        np.array(about["cases"]),
        about,
    )


def judge_sources(found: Sequence[Scores], draws: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Measure areas by weak learners with intervals, and differences from the first source.

    All sources are judged on the same bootstrap samples of cases, so that differences are paired.
    """
    rows: list[Row] = []
    differences: list[Row] = []
    for level in LEVELS:
        kept: dict[str, NDArray[Any]] = {}
        values, truth, owners = found[0].levels(found[0].staged)[level]
        samples = draw_cases(owners, draws, np.random.default_rng(seed))
        for own in found:
            values, truth, owners = own.levels(own.staged)[level]
            auc = measure_auc(values, truth)
            boot = np.array([measure_auc(values[s], truth[s]) for s in samples])
            kept[own.source] = boot
            low, high = _quantiles(boot)
            for index in range(len(auc)):
                rows.append(
                    _auc_row(
                        level,
                        own,
                        "adaboost",
                        index + 1,
                        auc[index],
                        low[index],
                        high[index],
                        truth,
                        owners,
                    )
                )
            for rule, other in own.rivals.items():
                if level == "case" and not np.isfinite(other).all():
                    continue  # fine-tuned networks judge only the patches that are compared
                v, t, o = own.levels(other)[level]
                a, b = bootstrap(lambda s, v=v, t=t: measure_auc(v[s], t[s]), samples)  # type: ignore[misc]
                rows.append(
                    _auc_row(
                        level, own, rule, None, float(measure_auc(v, t)), float(a), float(b), t, o
                    )
                )
        first = found[0]
        for own in found[1:]:
            differences += _differences(level, first, own, kept)
    return rows, differences


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


def _differences(
    level: str, first: Scores, own: Scores, kept: dict[str, NDArray[Any]]
) -> list[Row]:
    a, truth, _ = first.levels(first.staged)[level]
    b, _, _ = own.levels(own.staged)[level]
    rows: list[Row] = []
    rounds = a.shape[1]
    chosen = [t for t in SHOWN_ROUNDS if t <= rounds]
    boot = kept[first.source] - kept[own.source]
    for t in chosen:
        x, y = float(measure_auc(a[:, t - 1], truth)), float(measure_auc(b[:, t - 1], truth))
        low, high = _quantiles(boot[:, t - 1 : t])
        _, p = compare_delong(a[:, t - 1], b[:, t - 1], truth)
        rows.append(_difference_row(level, first, own, str(t), x, y, low[0], high[0], p))
    few = min(FEW, rounds)
    x, y = (float(np.mean(measure_auc(v[:, :few], truth))) for v in (a, b))
    low, high = _quantiles(boot[:, :few].mean(1, keepdims=True))
    rows.append(_difference_row(level, first, own, f"mean 1-{few}", x, y, low[0], high[0], None))
    return rows


def _difference_row(
    level: str,
    first: Scores,
    own: Scores,
    rounds: str,
    x: float,
    y: float,
    low: float,
    high: float,
    p: float | None,
) -> Row:
    return {
        "level": level,
        "first": first.source,
        "second": own.source,
        "weak_learners": rounds,
        "auc_first": x,
        "auc_second": y,
        "difference": x - y,
        "ci_low": float(low),
        "ci_high": float(high),
        "relative_percent": 100 * (x - y) / y if y else None,
        "p_delong": p,
        "n_cases": len(np.unique(first.cases)),
        "provenance": provenance.join([first.origin, own.origin]),
    }


def _auc_row(
    level: str,
    own: Scores,
    rule: str,
    rounds: int | None,
    auc: float,
    low: float,
    high: float,
    truth: Any,
    owners: Any,
) -> Row:
    return {
        "level": level,
        "source": own.source,
        "rule": rule,
        "weak_learners": rounds,
        "auc": float(auc),
        "ci_low": float(low),
        "ci_high": float(high),
        "n_lesion": int(truth.sum()),
        "n_normal": int((~truth).sum()),
        "n_cases": len(np.unique(owners)),
        "baseline": 0.5,
        "provenance": own.origin,
    }


def _quantiles(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if not np.isfinite(values).any():
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
    return low, high


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
    from sklearn.metrics import roc_curve

    curves: dict[str, Any] = {}
    for own in found:
        values, truth, _ = own.levels(own.staged)["patch"]
        for t in (1, 10, values.shape[1]):
            if t <= values.shape[1] and truth.any() and not truth.all():
                x, y, _ = roc_curve(truth, values[:, t - 1])
                curves[f"{own.source}, {t} weak"] = (x, y)
    if curves:
        figures.draw_rocs(
            path, curves, "false positive rate", "sensitivity", "ROC of patches", origin
        )


def _write_froc(
    table: str, figure: str, found: Sequence[Scores], apart_mm: float, origin: str
) -> None:
    rows: list[Row] = []
    curves: dict[str, Any] = {}
    for own in found:
        values, lesions = own.staged[:, -1].astype(float), own.lesions
        cases, places = own.cases, own.places_mm
        missed = [(a["participant"], k) for a in own.about["judged"] for k in range(a["missed"])]
        if missed:  # lesions on no vessel found: never detected
            values = np.append(values, [-np.inf] * len(missed))
            lesions = np.append(lesions, [10_000 + k for _, k in missed])
            cases = np.append(cases, [name for name, _ in missed])
            places = np.vstack([places, np.zeros((len(missed), 3))])
        _, alarms, sensitivity = trace_froc(values, lesions, places, cases, apart_mm)
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
        figures.draw_rocs(
            Path(figure),
            curves,
            "false positives per case",
            "sensitivity (lesions)",
            title,
            origin,
            is_log=True,
        )


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


def _tell_differences(rows: Sequence[Row], differences: Sequence[Row], origin: str) -> str:
    few = next((r for r in differences if r["weak_learners"].startswith("mean")), None)
    if few is None or not np.isfinite(few["difference"]):
        return ""
    said = "more" if few["ci_low"] > 0 else "less" if few["ci_high"] < 0 else "not clearly other"
    where = "" if origin == provenance.REAL else f" ({origin} data)"
    return (
        f"With {few['weak_learners'].removeprefix('mean ')} weak learners {few['first']} features"
        f" tell lesions {said} than {few['second']}: area {few['auc_first']:.3f} against"
        f" {few['auc_second']:.3f}, difference {few['difference']:+.3f}"
        f" ({few['ci_low']:+.3f} to {few['ci_high']:+.3f}){where}."
    )
