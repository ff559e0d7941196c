"""Tables about the cohort: counts as studies report them, balance, participants' columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.harmonization import cohort, splits
from stages.harmonization.scans import CLASS, EXCLUDED, shapes_of
from stages.harmonization.tables import Row

#: What stands for stratum, split and fold of those who are left out.
NO_PART: dict[str, Any] = {"stratum": "n/a", "split": "n/a", "fold": None}


def count(
    rows: Sequence[Row],
    chosen: Sequence[Row],
    arms: Sequence[str],
    mode: Sequence[int],
    people: Mapping[str, Row],
) -> list[dict[str, Any]]:
    """Tabulate what a study would report; items have the names that published tables use."""
    names = sorted({row[CLASS] for row in rows if row[CLASS]})
    counts: dict[str, Any] = {}

    def tell(item: str, members: Sequence[Row]) -> None:
        counts[item] = len(members)
        for name in names:
            counts[f"{item}_{name}"] = sum(row[CLASS] == name for row in members)

    by_person = {row["participant_id"]: row for row in reversed(rows)}
    tell("participants", list(by_person.values()))
    tell("participants_used", chosen)
    for reason, images in Counter(row[EXCLUDED] for row in rows if row[EXCLUDED] != "n/a").items():
        counts[f"images_excluded: {reason}"] = images
    ages = [number(people.get(name, {}).get("age", "n/a")) for name in by_person]
    known = [age for age in ages if not np.isnan(age)]
    if known:
        counts |= {"age_min": min(known), "age_max": max(known), "age_mean": float(np.mean(known))}
    shapes = shapes_of(chosen)
    counts["mode_shape"] = "x".join(map(str, mode))
    tell("mode", [r for r, s in zip(chosen, shapes.tolist(), strict=True) if s == list(mode)])
    counts["median_shape"] = "x".join(map(str, cohort.find_median(shapes)))
    for arm in arms:
        members = [row for row in chosen if row[f"cohort_{arm}"] == "yes"]
        tell(arm, members)
        largest = max((counts[f"{arm}_{name}"] for name in names), default=0)
        counts[f"{arm}_majority_accuracy"] = largest / max(len(members), 1)
    return [{"item": item, "value": value} for item, value in counts.items()]


def balance(
    chosen: Sequence[Row],
    people: Mapping[str, Row],
    dealt: Mapping[str, dict[str, Any]],
    label: str,
) -> list[dict[str, Any]]:
    """Test whether age, sex, site and slices differ between classes, parts and folds."""
    names = [row["participant_id"] for row in chosen]
    columns = {c: [people[n].get(c, "n/a") for n in names] for c in ("age", "sex")}
    columns["site"] = [str(row["site"]) for row in chosen]
    columns["n_slices"] = [str(row["n_slices"]) for row in chosen]
    columns[label] = [row[CLASS] for row in chosen]
    groups = {
        label: columns[label],
        "split": [dealt[n]["split"] for n in names],
        "fold": ["n/a" if dealt[n]["fold"] is None else str(dealt[n]["fold"]) for n in names],
    }
    table = []
    for between, members in groups.items():
        other = {name: column for name, column in columns.items() if name != between}
        table += [{"between": between, **row} for row in splits.check_balance(other, members)]
    return table or [{"between": "n/a", "column": "n/a"}]


def number(text: str) -> float:
    """Read a number; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
