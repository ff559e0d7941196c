"""Step prepare: read an arm's images once onto the grid of the networks, and deal the folds."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from stages.classifier import cohort as parts_of
from stages.classifier.cohort import (
    ALIGNED,
    BY_VOXELS,
    DEALT_HERE,
    REGISTERED,
    UNUSED,
    check_folds,
    check_leaks,
)
from stages.classifier.images import Volume, conform, fingerprint, make_grid
from stages.classifier.provenance import origin_of
from stages.classifier.scans import find_scans, load_scan
from stages.classifier.tables import Row, read_people, read_rows, write_rows
from stages.classifier.targets import CLASSIFICATION, Labels, find_target, read_labels

logger = logging.getLogger(__name__)
SPACE = "MNI152NLin2009aSym"
CONTENT = {
    "mnibrain": "Brain, linearly aligned with the template",
    "mnigm": "T1w where grey matter prevails, linearly aligned with the template",
    "mnigmfraction": "Fraction of grey matter, linearly aligned with the template",
    "mnitissues": "Fractions of grey matter, white matter and fluid, linearly aligned with the"
    " template, times the head's volume over the template's",
    "ownbrain": "Brain in its own frame and size, its centroid in the grid's middle",
    "uprightbrain": "Brain in its own size, turned to lie as the template does",
    "uprighthead": "Whole head in its own size, turned to lie as the template does, 0 around it",
}
CHANNELS = {"mnigmfraction": ("GM",), "mnitissues": ("GM", "WM", "CSF")}  # fractions; else T1w


def run(
    *,
    participants: str,
    harmonized: list[str],
    registered: list[str],
    own: list[str],
    fractions: list[str],
    alignments: list[str],
    dealt: str | None,
    cohort: str,
    images: str,
    grid: str,
    arm: str,
    target: list[str],
    define: list[str],
    grid_mm: float,
    folds: int,
    n_train: int,
    n_test: int,
    seed: int,
) -> None:
    """Write the stack of images, who is in which part, and what the grid and the classes are.

    Raises
    ------
    ValueError
        No images of the arm, images that do not fit together, targets that cannot be made, or a
        participant or image in two parts.
    """
    people = read_people(participants)
    scans = find_scans([*harmonized, *registered, *own, *fractions], alignments, arm)
    scans = [scan for scan in scans if parts_of.participant_of(scan.name) in people]
    if not scans:
        how = "preprocessing, with profile mni-gm" if arm in DEALT_HERE else "harmonization with it"
        raise ValueError(f"arm {arm}: no images of participants in participants.tsv; run {how}")
    first = load_scan(scans[0], arm)
    layout = make_grid(first.data.shape[1:], first.zooms, grid_mm=grid_mm)
    size = (len(scans), len(first.data), *layout.input_shape)
    stack = open_memmap(images, mode="w+", dtype="<f4", shape=size)
    rows: list[Row] = []
    for index, scan in enumerate(scans):
        volume = load_scan(scan, arm)
        _check_alike(volume, first, scan.channels[0], scans[0].name, by_voxels=arm in BY_VOXELS)
        stack[index] = conform(volume.data, layout)
        name = parts_of.participant_of(scan.name)
        about = {c: people[name].get(c, "n/a") for c in ("age", "sex", "site")}
        rows.append(
            {
                "row": str(index),
                "participant_id": name,
                "filename": scan.name,
                "image_hash": fingerprint(volume.data),
                **about,
            }
        )
    stack.flush()

    fingerprint_rows = read_rows(dealt) if dealt else []
    told: dict[str, Any] = {}
    for name in target:
        wanted = find_target(name, define)
        labels = read_labels(wanted, people)
        if arm in DEALT_HERE:
            here = {row["participant_id"]: people[row["participant_id"]] for row in rows}
            rng = np.random.default_rng([seed, *name.encode()])
            parts = parts_of.draw_parts(
                here, labels, folds=folds, n_train=n_train, n_test=n_test, rng=rng
            )
        else:
            names = [row["participant_id"] for row in rows]
            parts = parts_of.take_parts(names, fingerprint_rows, labels, arm)
        number = check_folds(parts, labels)
        check_leaks(_place(rows, name, labels, parts))
        told[name] = {
            "Task": labels.task,
            "Classes": list(labels.classes),
            "Column": wanted.column,
            "Rules": list(wanted.rules),
            "Folds": number,
        }
        logger.info("arm %s, target %s: %d participants", arm, name, len(parts))
    write_rows(cohort, rows)
    affine = layout.move_affine(first.affine)
    # Heads in their own frames lie anywhere in the world; only the grid is common.
    if arm not in REGISTERED and ALIGNED.get(arm) != "upright":
        affine = layout.move_affine(np.diag([*layout.zooms, 1.0]))
    about_grid = {
        "Arm": arm,
        "Space": SPACE if arm in REGISTERED else ALIGNED.get(arm, f"desc-{arm}"),
        "Content": CONTENT.get(arm, f"T1w as harmonization's arm {arm} gives it"),
        "Channels": list(CHANNELS.get(arm, ("T1w",))),
        "Intensity": "none" if arm in CHANNELS else "standardise",
        "Grid": layout.to_json(),
        "Affine": affine.tolist(),
        "Targets": told,
        "Provenance": origin_of(participants),
    }
    Path(grid).write_text(json.dumps(about_grid, indent=1) + "\n", encoding="utf-8")


def _place(
    rows: Sequence[Row],
    target: str,
    labels: Labels,
    parts: Mapping[str, tuple[str, int | None]],
) -> list[Row]:
    """Add a target's label and part to each row; return the rows with the part alone."""
    placed = []
    for row in rows:
        split, fold = parts.get(row["participant_id"], (UNUSED, None))
        part = {"split": split, "fold": "n/a" if fold is None else str(fold)}
        value = "n/a"
        if split != UNUSED:
            found = labels.values[row["participant_id"]]
            value = labels.classes[int(found)] if labels.task == CLASSIFICATION else f"{found:g}"
        placed.append({**row, **part})
        row[f"{target}_label"] = value
        row |= {f"{target}_{key}": cell for key, cell in part.items()}
    return placed


def _check_alike(volume: Volume, first: Volume, path: str, other: str, *, by_voxels: bool) -> None:
    """Refuse images of different shape or, unless the arm goes by voxels, voxel size."""
    has_one_size = by_voxels or np.allclose(volume.zooms, first.zooms, atol=1e-3)
    if volume.data.shape != first.data.shape or not has_one_size:
        raise ValueError(
            f"{path}: shape {_times(volume.data.shape[1:])} and voxels of"
            f" {_times(volume.zooms)} mm, but {other} has {_times(first.data.shape[1:])} and"
            f" {_times(first.zooms)} mm;"
            " mixed shapes need harmonization with an arm that makes one grid"
        )


def _times(sizes: Sequence[float]) -> str:
    return "x".join(f"{s:g}" for s in sizes)
