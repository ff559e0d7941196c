"""Step evaluate: what the models are worth, with intervals, baselines and tests."""

import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.classifier import figures
from stages.classifier.contrasts import compare_arms, compare_networks
from stages.classifier.gather import Judged, gather
from stages.classifier.learning_curves import read_histories
from stages.classifier.provenance import REAL, origin_of
from stages.classifier.statistics import (
    METRICS,
    Estimate,
    balanced_accuracy,
    by_group,
    confusion,
    majority,
    measure,
    measure_quantities,
    permutation_p,
)
from stages.classifier.tables import Row, number, read_people, write_rows

logger = logging.getLogger(__name__)
Rows = list[dict[str, Any]]
AGE_BANDS = (0, 30, 45, 60, 75, 150)
REFERENCE = "linear"


def run(
    *,
    participants: str,
    predictions: list[str],
    histories: list[str],
    metrics: str,
    quantities: str,
    comparison: str,
    equivalence: str,
    regularisers: str,
    groups: str,
    confusions: str,
    headline: str,
    accuracy_figure: str,
    loss_figure: str,
    curves_figure: str,
    calibration_figure: str,
    quantity_figure: str,
    bootstraps: int,
    permutations: int,
    margin: float,
    seed: int,
) -> None:
    """Write tables and figures; what no model is there for is not written."""
    judged = gather(predictions)
    people = read_people(participants)
    origin = origin_of(participants)
    note = "" if origin == REAL else f" ({origin})"
    kinds = [j for j in judged if j.classes]
    years = [j for j in judged if not j.classes]
    found = {_key(j): _measure(j, bootstraps, seed) for j in judged}
    sentences = []
    if kinds:
        rows = [_row(j, found[_key(j)], permutations, seed, origin) for j in kinds]
        write_rows(metrics, rows)
        write_rows(confusions, _confusions(kinds))
        _draw_classes(kinds, found, note, Path(accuracy_figure), Path(loss_figure))
        held = [j for j in kinds if j.set == "cv"]
        confidences = {
            f"{j.target} {j.name}": (j.values.argmax(axis=1) == j.labels, j.values.max(axis=1))
            for j in held
        }
        figures.draw_calibration(confidences, note, Path(calibration_figure))
        sentences += _sentences(held, found, "balanced_accuracy", is_high_good=True)
    if years:
        write_rows(quantities, [_quantity_row(j, found[_key(j)], origin) for j in years])
        held = [j for j in years if j.set == "cv"]
        scatter = {f"{j.target} {j.name}": (j.true, j.values) for j in held}
        figures.draw_quantities(scatter, note, Path(quantity_figure))
        sentences += _sentences(held, found, "mae", is_high_good=False)
    pairs = compare_networks(judged)
    if pairs:
        write_rows(comparison, pairs)
    equal = compare_arms(judged, margin, bootstraps, seed)
    if equal:
        write_rows(equivalence, equal)
    curves, tried = read_histories(histories)
    if tried:
        write_rows(regularisers, tried)
    if curves:
        figures.draw_curves(curves, note, Path(curves_figure))
    write_rows(groups, _by_group(judged, people))
    text = " ".join(sentences) + (f" Data: {origin}." if origin != REAL else "")
    Path(headline).write_text(json.dumps({"Headline": text}, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", text)


def _measure(judged: Judged, draws: int, seed: int) -> dict[str, Estimate]:
    rng = np.random.default_rng(seed)
    # Training images are reported as a study may have done, without intervals: they mean nothing.
    draws = 0 if judged.set == "train" else draws
    if judged.classes:
        return measure(judged.labels, judged.values, judged.people, draws=draws, rng=rng)
    return measure_quantities(judged.true, judged.values, judged.people, draws=draws, rng=rng)


def _row(
    judged: Judged, found: Mapping[str, Estimate], permutations: int, seed: int, origin: str
) -> dict[str, Any]:
    row = _about(judged)
    for name in METRICS:
        row |= _cells(name, found[name])
        if name == "balanced_accuracy":
            decided = judged.values

            def metric(true: NDArray[np.intp], decided: Any = decided) -> float:
                return balanced_accuracy(true, decided)

            row["p_permutation"] = (
                float("nan")
                if judged.set == "train"
                else permutation_p(
                    found[name].value,
                    metric,
                    judged.labels,
                    draws=permutations,
                    rng=np.random.default_rng(seed),
                )
            )
        if name == "accuracy":
            row["majority_accuracy"] = majority(judged.labels)
    return {**row, "provenance": origin}


def _quantity_row(judged: Judged, found: Mapping[str, Estimate], origin: str) -> dict[str, Any]:
    row = _about(judged)
    for name, estimate in found.items():
        row |= _cells(name, estimate)
    row["mae_of_mean"] = float(np.abs(judged.true - judged.true.mean()).mean())
    return {**row, "provenance": origin}


def _about(judged: Judged) -> dict[str, Any]:
    return {
        "item": f"{judged.set}_{judged.target}_{judged.arm}_{judged.network}",
        "target": judged.target,
        "arm": judged.arm,
        "network": judged.network,
        "set": judged.set,
        "n_participants": len(set(judged.people)),
        "n_images": len(judged.people),
    }


def _cells(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _confusions(judged: Iterable[Judged]) -> Rows:
    """List true by predicted class in long form."""
    rows: Rows = []
    for j in judged:
        table = confusion(j.labels, j.values.argmax(axis=1), len(j.classes))
        for (a, true), (b, said) in itertools.product(enumerate(j.classes), repeat=2):
            about = _about(j)
            del about["n_participants"], about["n_images"]
            rows.append({**about, "label": true, "predicted": said, "n": int(table[a, b])})
    return rows


def _by_group(judged: Sequence[Judged], people: Mapping[str, Row]) -> Rows:
    """Measure by age band, sex and site on people held out."""
    rows: Rows = []
    for j in (j for j in judged if j.set != "train"):
        columns = {
            "age": [_band(people.get(name, {}).get("age", "n/a")) for name in j.people],
            "sex": [people.get(name, {}).get("sex", "n/a") for name in j.people],
            "site": [people.get(name, {}).get("site", "n/a") for name in j.people],
        }

        def metric(rows: NDArray[np.intp], j: Judged = j) -> dict[str, float]:
            if not j.classes:
                return {"mae": float(np.abs(j.values[rows] - j.true[rows]).mean())}
            p, true = j.values[rows], j.labels[rows]
            shares = {"accuracy": METRICS["accuracy"](true, p)}
            return shares | {"balanced_accuracy": balanced_accuracy(true, p)}

        about = {"target": j.target, "arm": j.arm, "network": j.network, "set": j.set}
        rows += [{**about, **row} for row in by_group(columns, metric)]
    return rows


def _band(age: str) -> str:
    value = number(age)
    for low, high in itertools.pairwise(AGE_BANDS):
        if low <= value < high:
            return f"{low}-{high - 1}"
    return "n/a"


def _draw_classes(
    judged: Sequence[Judged],
    found: Mapping[tuple[str, str, str, str], Mapping[str, Estimate]],
    note: str,
    accuracy_path: Path,
    loss_path: Path,
) -> None:
    """Draw accuracy and loss: arms × networks, as the study's Figure 1 has them."""
    held = [j for j in judged if j.set == "cv"]
    accuracy: dict[str, dict[str, Estimate]] = {}
    balanced: dict[str, dict[str, float]] = {}
    losses: dict[str, dict[str, Estimate]] = {}
    lines = {}
    for j in held:
        group = f"{j.target}\n{j.arm}"
        accuracy.setdefault(group, {})[j.network] = found[_key(j)]["accuracy"]
        balanced.setdefault(group, {})[j.network] = found[_key(j)]["balanced_accuracy"].value
        losses.setdefault(group, {})[j.network] = found[_key(j)]["loss"]
        lines[group] = majority(j.labels)
    figures.draw_bars(
        accuracy,
        balanced,
        lines,
        what="accuracy, held-out folds",
        dot="balanced accuracy",
        line="always the largest class",
        top=1.05,
        note=note.strip(),
        path=accuracy_path,
    )
    figures.draw_bars(
        losses,
        {},
        {group: float(np.log(2)) for group in losses},
        what="loss, held-out folds",
        dot="",
        line="log 2",
        top=None,
        note=note.strip(),
        path=loss_path,
    )


def _sentences(
    held: Sequence[Judged],
    found: Mapping[tuple[str, str, str, str], Mapping[str, Estimate]],
    metric: str,
    *,
    is_high_good: bool,
) -> list[str]:
    """Say per target which network did best, and whether it beat the linear reference."""
    sentences = []
    for target in sorted({j.target for j in held}):
        own = [j for j in held if j.target == target]
        nets = [j for j in own if j.network != REFERENCE]
        sign = 1 if is_high_good else -1

        def value(j: Judged, sign: int = sign) -> float:
            return sign * found[_key(j)][metric].value

        word = metric.replace("_", " ")
        parts = []
        if nets:
            best = max(nets, key=value)
            parts.append(f"{target}: {word} {_say(found[_key(best)][metric])} by {best.name}")
            linear = [j for j in own if j.network == REFERENCE and j.arm == best.arm]
            if linear:
                beats = value(best) > value(linear[0])
                parts.append(
                    f"the linear reference {'reaches' if beats else 'is not beaten with'}"
                    f" {_say(found[_key(linear[0])][metric])}"
                )
        else:
            best = max(own, key=value)
            parts.append(f"{target}: {word} {_say(found[_key(best)][metric])} by {best.name}")
        if best.classes:
            parts.append(
                f"always the largest class has accuracy {majority(best.labels):.2f} and balanced"
                f" accuracy {1 / len(best.classes):.2f}"
            )
        sentences.append("; ".join(parts) + ".")
    return sentences


def _say(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _key(judged: Judged) -> tuple[str, str, str, str]:
    return judged.target, judged.arm, judged.network, judged.set
