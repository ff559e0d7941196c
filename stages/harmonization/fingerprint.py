"""Describe every scan by its header, draw the cohorts, deal the splits, and write the plan."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.harmonization import cohort as draws
from stages.harmonization import figures, nifti, splits, summaries
from stages.harmonization.intensity import find_landmarks, fit_nyul
from stages.harmonization.scans import (
    CLASS,
    check_classes,
    describe_scans,
    exclude,
    first_of_each,
    read_classes,
    shapes_of,
)
from stages.harmonization.tables import (
    Row,
    read_column,
    read_people,
    scan_key,
    write_table,
)

logger = logging.getLogger(__name__)
AXES = {"x": 0, "y": 1, "z": 2}


def run(
    *,
    images: list[str],
    masks: list[str],
    scans: list[str],
    raw_images: list[str],
    sidecars: list[str],
    participants: str,
    given_plan: str | None,
    table: str,
    plan: str,
    counts: str,
    balance: str,
    figure: str,
    label: str,
    label_cuts: str,
    arm: list[str],
    slice_axis: str,
    min_slices: int,
    n_random: int,
    n_per_class: int,
    quota: str,
    spacing_mm: float,
    test_fraction: float,
    folds: int,
    content: str,
    intensity: str,
    nyul_images: int,
    seed: int,
) -> None:
    """Write who is in the cohort, in which part, and how images are to be placed."""
    people = read_people(participants)
    values = read_column(people, label, path=participants)
    classes = read_classes(values, label_cuts, label)
    rows = describe_scans(images, scans, raw_images, sidecars, people)
    axis = AXES.get(slice_axis, draws.find_slice_axis(shapes_of(rows)))
    for row in rows:
        row["n_slices"] = row[f"shape_{'xyz'[axis]}"]
        row[CLASS] = classes.get(row["participant_id"], "")
    exclude(rows, people, min_slices, label)

    chosen = first_of_each(rows)
    check_classes(chosen, label, rows)
    shapes = shapes_of(chosen)
    given = json.loads(Path(given_plan).read_text()) if given_plan else None
    mode, _ = draws.find_mode(shapes) if given is None else (tuple(given["ModeShape"]), 0)
    drawn = _draw_arms(chosen, arm, mode, n_random, n_per_class, draws.parse_quota(quota), seed)
    for row in rows:
        for name in arm:
            is_drawn = row["excluded"] == "n/a" and row["participant_id"] in drawn[name]
            row[f"cohort_{name}"] = "yes" if is_drawn else "no"
    dealt = _deal(chosen, people, arm, test_fraction, folds, seed)
    for row in rows:
        is_out = row["excluded"] != "n/a"
        row |= summaries.NO_PART if is_out else dealt[row["participant_id"]]

    if given is None:
        written = _make_plan(chosen, arm, axis, mode, spacing_mm, content, intensity)
        if intensity == "nyul":
            training = [r for r in chosen if dealt[r["participant_id"]]["split"] == splits.TRAIN]
            picked = np.random.default_rng(seed).permutation(len(training))[:nyul_images]
            names = {training[i]["filename"] for i in picked}
            written["Intensity"]["landmarks"] = _fit_landmarks(images, masks, names)
    else:
        written = _check_given(given, arm, str(given_plan))
    Path(plan).write_text(json.dumps(written, indent=2) + "\n")
    write_table(table, rows)
    write_table(counts, summaries.count(rows, chosen, arm, mode, people))
    write_table(balance, summaries.balance(chosen, people, dealt, label))
    slices = [int(row["n_slices"]) for row in chosen]
    is_synthetic = all(row["provenance"] == "synthetic" for row in rows)
    title = f"Slices by {label}{' (synthetic data)' if is_synthetic else ''}"
    told = [row[CLASS] for row in chosen]
    figures.draw_cohort(slices, told, min_slices, int(mode[axis]), title, Path(figure))
    logger.info("%d scans, %d participants drawn from", len(rows), len(chosen))


def _draw_arms(
    chosen: Sequence[Row],
    arms: Sequence[str],
    mode: Sequence[int],
    n_random: int,
    n_per_class: int,
    quota: Mapping[str, int],
    seed: int,
) -> dict[str, set[str]]:
    """Draw each arm's participants; each has its own generator, so no arm disturbs another."""
    labels = [row[CLASS] for row in chosen]
    in_mode = [tuple(shape) == tuple(mode) for shape in shapes_of(chosen).tolist()]
    drawn = {}
    for name in arms:
        rng = np.random.default_rng([seed, *name.encode()])
        picked = draws.draw_arm(
            name,
            labels,
            in_mode,
            n_random=n_random,
            n_per_class=n_per_class,
            quota=quota,
            rng=rng,
        )
        drawn[name] = {chosen[i]["participant_id"] for i in picked}
    return drawn


def _deal(
    chosen: Sequence[Row],
    people: Mapping[str, Row],
    arms: Sequence[str],
    test_fraction: float,
    folds: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Give participant → stratum, split and fold."""
    strata = [
        (row[CLASS], "".join(row[f"cohort_{name}"][0] for name in arms), row["site"])
        for row in chosen
    ]
    ages = [summaries.number(people[row["participant_id"]].get("age", "n/a")) for row in chosen]
    split, fold = splits.split(
        strata, ages, test_fraction=test_fraction, folds=folds, rng=np.random.default_rng(seed)
    )
    return {
        row["participant_id"]: {"stratum": " ".join(stratum), "split": s, "fold": f}
        for row, stratum, s, f in zip(chosen, strata, split, fold, strict=True)
    }


def _make_plan(
    chosen: Sequence[Row],
    arms: Sequence[str],
    axis: int,
    mode: Sequence[int],
    spacing_mm: float,
    content: str,
    method: str,
) -> dict[str, Any]:
    shapes = shapes_of(chosen)
    zooms = np.array([[float(row[f"zoom_{a}"]) for a in "xyz"] for row in chosen])
    spacing = spacing_mm or float(round(np.median(zooms), 3))
    common = np.floor((shapes * zooms).min(axis=0) / spacing + 1e-6).astype(int)
    median = list(draws.find_median(shapes))
    grids = {
        "native": [],  # images of the mode shape keep their own grid
        "zerobackground": shapes.max(axis=0).tolist(),
        "resize": median,
        "croppad": median,
        "isotropic": common.tolist(),
        "template": [],  # whatever grid preprocessing registered to
    }
    geometries = {name: draws.ARMS[name].geometry for name in arms}
    return {
        "SliceAxis": axis,
        "ModeShape": list(mode),
        "MedianShape": median,
        "Content": content,
        "Intensity": {"method": method},
        "Arms": {
            name: {"Geometry": g, "Shape": grids[g], "SpacingMm": spacing}
            for name, g in geometries.items()
        },
    }


def _check_given(given: dict[str, Any], arms: Sequence[str], path: str) -> dict[str, Any]:
    lacking = [name for name in arms if name not in given["Arms"]]
    if lacking:
        raise ValueError(
            f"{path}: no arm {', '.join(lacking)} in this plan (it has {', '.join(given['Arms'])})"
        )
    return given


def _fit_landmarks(images: Sequence[str], masks: Sequence[str], names: set[str]) -> list[float]:
    """Learn Nyúl's standard histogram from some images."""
    mask_of = {scan_key(path): path for path in masks}
    landmarks = []
    for path in images:
        if Path(path).name in names:
            inside = nifti.load(mask_of[scan_key(path)]).data > 0
            landmarks.append(find_landmarks(nifti.load(path).data[inside]))
    return fit_nyul(landmarks)
