"""Outputs of a model as rows of a table: probabilities, decisions, years."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.classifier.calibration import Bias, correct_gap, softmax
from stages.classifier.tables import Row


def describe_predictions(
    rows: Sequence[Row],
    outputs: Sequence[tuple[str, int, NDArray[np.float32]]],
    target: str,
    task: Mapping[str, Any],
    *,
    temperature: float,
    bias: Bias,
) -> list[dict[str, Any]]:
    """Write one row per (set, row of the cohort, output), label included."""
    table = []
    for name, index, output in outputs:
        row = rows[index]
        label = row[f"{target}_label"]
        read = read_output(output, task, temperature=temperature)
        found: dict[str, Any] = {
            "set": name,
            "participant_id": row["participant_id"],
            "filename": row["filename"],
            "label": label,
            **read,
        }
        if not task["Classes"]:
            true, years = float(label), np.array([read["predicted"]])
            found["gap"] = float(years[0] - true)
            found["gap_corrected"] = float(correct_gap(np.array([true]), years, bias)[0])
        table.append(found)
    return table


def read_output(
    output: NDArray[np.float32], task: Mapping[str, Any], *, temperature: float
) -> dict[str, Any]:
    """Read one output, (k,): the decision and calibrated probabilities, or the quantity."""
    if not task["Classes"]:
        return {"predicted": float(output[0])}
    p = softmax(output[None].astype(np.float64), temperature)[0]
    names = task["Classes"]
    return {
        "predicted": names[int(output.argmax())],
        **{f"p_{name}": float(value) for name, value in zip(names, p, strict=True)},
        **{f"logit_{name}": float(value) for name, value in zip(names, output, strict=True)},
    }
