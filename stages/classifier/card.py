"""A model's card: what it judges, what it must be given, who influenced it, how good it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.classifier.calibration import Bias
from stages.classifier.images import Grid
from stages.classifier.statistics import METRICS, measure_quantity
from stages.classifier.tables import Row

INTENSITY = {
    "standardise": "any scale: the graph gives voxels that are not 0 mean 0 and variance 1; voxels"
    " outside must be 0",
    "none": "as they are, fractions",
}


def describe_input(about: Mapping[str, Any], layout: Grid, scaling: str) -> dict[str, Any]:
    """Say what the graph's input ``image`` is."""
    found = {
        "Space": about["Space"],
        "Arm": about["Arm"],
        "Shape": list(layout.input_shape),
        "SpacingMm": list(layout.spacing_mm),
        "Affine": about["Affine"],
        "Content": about["Content"],
        "Channels": about["Channels"],
        "Intensity": INTENSITY[scaling],
    }
    if layout.plane:
        found |= {"Plane": layout.plane, "PlaneIndex": layout.index}
    return found


def describe_model(
    name: str,
    *,
    target: str,
    task: Mapping[str, Any],
    arm: str,
    network: str,
    rows: Sequence[Row],
    seen: Sequence[str],
    table: Sequence[Mapping[str, Any]],
    temperature: float,
    bias: Bias,
    provenance: str,
    licence: str,
) -> dict[str, Any]:
    """Fill in a card; ``rows`` are those learnt from, ``seen`` whom pretrained weights had seen."""
    people = sorted({f"bids::{row['participant_id']}" for row in rows} | set(seen))
    card: dict[str, Any] = {
        "Name": name,
        "Task": task["Task"],
        "Target": target,
        "Column": task["Column"],
        "Rules": task["Rules"],
        "Classes": task["Classes"],
        "Arm": arm,
        "Network": network,
        "TrainingParticipants": people,
        "TrainingImages": sorted({row["image_hash"] for row in rows}),
        "Temperature": temperature,
        "Metrics": summarise(table, task),
        "Provenance": provenance,
        "Licence": licence,
        "Use": "Research only, no diagnosis.",
    }
    if not task["Classes"]:
        card["Units"] = "years" if task["Column"] == "age" else "as in participants.tsv"
        card["Bias"] = {"Intercept": bias.intercept, "Slope": bias.slope}
    return card


def summarise(table: Sequence[Mapping[str, Any]], task: Mapping[str, Any]) -> dict[str, Any]:
    """Give each set's number of images and leading numbers."""
    found: dict[str, Any] = {}
    for name in ("validation", "fold", "test"):
        rows = [row for row in table if row["set"] == name]
        if not rows:
            continue
        if task["Classes"]:
            index = {c: k for k, c in enumerate(task["Classes"])}
            true = np.array([index[row["label"]] for row in rows])
            p = np.array([[row[f"p_{c}"] for c in task["Classes"]] for row in rows])
            values = {m: METRICS[m](true, p) for m in ("balanced_accuracy", "accuracy", "auc")}
        else:
            true = np.array([float(row["label"]) for row in rows])
            values = measure_quantity(true, np.array([row["predicted"] for row in rows]))
        found[name] = {
            "Images": len(rows),
            **{m: None if v != v else round(float(v), 4) for m, v in values.items()},
        }
    return found
