"""What is known of each scan, which scans are left out, and which stands for its participant."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.harmonization import cohort, nifti, splits
from stages.harmonization.metadata import SCANNER
from stages.harmonization.tables import (
    Row,
    inherit,
    participant_of,
    read_sidecars,
    read_table,
    scan_key,
)

logger = logging.getLogger(__name__)
CLASS, EXCLUDED = "class", "excluded"


def read_classes(values: Mapping[str, str], cuts: str, label: str) -> dict[str, str]:
    """Give participant → class; those without are left out."""
    if cuts:
        try:
            limits = [float(part) for part in cuts.split(",")]
        except ValueError:
            raise ValueError(f"label_cuts: found {cuts!r}, expected numbers as in 45,50") from None
        classes = cohort.cut_values(list(values.values()), limits)
        return {name: c for name, c in zip(values, classes, strict=True) if c}
    known = {name: value for name, value in values.items() if value != "n/a"}
    different = len(set(known.values()))
    if different > 10:
        raise ValueError(
            f"column {label!r} has {different} different values, expected a few classes;"
            f" make two of a number with --harmonization-label-cuts 45,50"
        )
    return known


def describe_scans(
    images: Sequence[str],
    scans: Sequence[str],
    raw_images: Sequence[str],
    sidecars: Sequence[str],
    people: Mapping[str, Row],
) -> list[dict[str, Any]]:
    """Give one row per image, sorted by name, so that a participant's first session comes first."""
    raw = {scan_key(path): nifti.read_header(path) for path in raw_images}
    known = read_sidecars(sidecars)
    volumes = {
        scan_key(row["filename"]): row["brain_volume_ml"]
        for path in scans
        for row in read_table(path)
        if row.get("brain_volume_ml", "n/a") != "n/a"
    }
    rows: list[dict[str, Any]] = []
    for path in sorted(images):
        key, name = scan_key(path), participant_of(path)
        found = inherit(key, known)
        scanner = {field: str(found[field]) for field in SCANNER if field in found}
        rows.append(
            {
                "participant_id": name,
                "filename": Path(path).name,
                **nifti.read_header(path),
                **{f"raw_{k}": v for k, v in raw.get(key, {}).items()},
                **scanner,
                "brain_volume_ml": volumes.get(key, "n/a"),
                "site": people.get(name, {}).get("site", _join(scanner)),
                "provenance": "synthetic" if found.get("Synthetic") else "real",
            }
        )
    return rows


def exclude(
    rows: Sequence[dict[str, Any]], people: Mapping[str, Row], min_slices: int, label: str
) -> None:
    """Say for each image why it is left out, or n/a."""
    for row in rows:
        if int(row["n_slices"]) < min_slices:
            row[EXCLUDED] = f"fewer than {min_slices} slices"
        elif row["participant_id"] not in people:
            row[EXCLUDED] = "no row in participants.tsv"
        else:
            row[EXCLUDED] = "n/a" if row[CLASS] else f"no {label}"
    kept = [row for row in rows if row[EXCLUDED] == "n/a"]
    twins = splits.find_duplicates([row["checksum"] for row in kept])
    if twins:
        logger.warning("%d images are copies of others and left out; see fingerprint", len(twins))
    for later, first in twins.items():
        kept[later][EXCLUDED] = f"same image as {kept[first]['filename']}"


def first_of_each(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose the image that stands for each participant: the first that is not excluded."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row[EXCLUDED] == "n/a":
            first.setdefault(row["participant_id"], row)
    return list(first.values())


def check_classes(chosen: Sequence[Row], label: str, rows: Sequence[Row]) -> None:
    """Refuse a cohort without two classes; the message says why scans were left out."""
    found = Counter(row[CLASS] for row in chosen)
    if len(found) < 2:
        reasons = Counter(row[EXCLUDED] for row in rows if row[EXCLUDED] != "n/a")
        told = "; ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none excluded"
        what = f"one class only ({next(iter(found))})" if found else "nobody left"
        raise ValueError(
            f"label {label!r}: {what} among {len(rows)} images ({told}); two classes are needed"
        )


def shapes_of(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.intp]:
    """Give voxel counts along (x, y, z), (n, 3)."""
    return np.array([[int(row[f"shape_{a}"]) for a in "xyz"] for row in rows])


def _join(scanner: Mapping[str, str]) -> str:
    """Tell the scanner where no site is given, so that sites are not mixed unseen."""
    parts = [scanner[k] for k in ("InstitutionName", "ManufacturersModelName") if k in scanner]
    return " ".join(parts) or "n/a"
