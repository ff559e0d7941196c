"""The study's printed numbers beside ours."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.encoding.provenance import REAL
from stages.encoding.tables import read_rows

# A data file that travels with every image; nothing of the package beside it is imported.
PRINTED = Path(__file__).parents[2] / "specs" / "published" / "movie-encoding.tsv"


def read_printed() -> dict[str, float]:
    """Read the study's numbers by item: Table 1, and Table 2 as ``name_cell`` names its cells."""
    return {row["item"]: float(row["value"]) for row in read_rows(PRINTED)}


def name_cell(condition: str, penalty: float) -> str:
    """Name a cell of Table 2.

    >>> name_cell("vgg16@4,5,6", 25000.0)
    'vgg16@4,5,6_25000'
    """
    return f"{condition}_{penalty:g}"


def compare(
    rows: Sequence[Mapping[str, str]], printed: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Average participants' cells and put the printed number and the difference beside each.

    Printed numbers stand only beside real data and trained weights.

    Parameters
    ----------
    rows : sequence of mapping
        Of all participants: condition, penalty, mean_voxel_r, provenance.
    printed : mapping
        Item → correlation, from ``read_printed``.

    Returns
    -------
    table : list of dict
        One row per cell, in the order of ``rows``; ``rank`` is the condition's among those at the
        same penalty.
    """
    cells: dict[tuple[str, float], list[Mapping[str, str]]] = {}
    for row in rows:
        cells.setdefault((row["condition"], float(row["penalty"])), []).append(row)
    means = {
        key: sum(float(r["mean_voxel_r"]) for r in cell) / len(cell) for key, cell in cells.items()
    }
    table = []
    for (condition, penalty), cell in cells.items():
        origins = {row["provenance"] for row in cell}
        mean = means[condition, penalty]
        is_real = origins == {REAL}
        known = printed.get(name_cell(condition, penalty), math.nan) if is_real else math.nan
        rivals = [value for (_, alpha), value in means.items() if alpha == penalty]
        best = max(value for (name, _), value in means.items() if name == condition)
        table.append(
            {
                "condition": condition,
                "n_features": cell[0]["n_features"],
                "penalty": penalty,
                "mean_voxel_r": mean,
                "n_participants": len(cell),
                "rank": 1 + sum(value > mean for value in rivals),
                "is_best_of_condition": str(mean == best).lower(),
                "published": known,
                "difference": mean - known,
                "provenance": "+".join(sorted(origins)),
            }
        )
    return table


def describe_models(
    provenance: Mapping[str, str], counts: Mapping[str, int], printed: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Repeat Table 1 with the parameters that our networks have.

    Error rates are the printed ones: ImageNet is not part of any data set here.
    """
    return [
        {
            "model": model,
            "parameters": count,
            "published_parameters": int(printed[f"parameters_{model}"]),
            "published_top1_error": printed[f"top1_error_{model}"],
            "published_top5_error": printed[f"top5_error_{model}"],
            "weights": provenance.get(model, "not used"),
        }
        for model, count in counts.items()
    ]
