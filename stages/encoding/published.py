"""The study's printed numbers beside ours."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.encoding.provenance import REAL
from stages.encoding.tables import number, read_rows

FOLDER = Path(__file__).parents[2] / "specs" / "published"
TABLE_1 = FOLDER / "movie-encoding-table1.tsv"
TABLE_2 = FOLDER / "movie-encoding-table2.tsv"


def read_table_2() -> dict[tuple[str, float], float]:
    """Read the 108 correlations by condition and penalty."""
    return {
        (row["condition"], float(row["penalty"])): float(row["mean_voxel_r"])
        for row in read_rows(TABLE_2)
    }


def compare(
    rows: Sequence[Mapping[str, str]], printed: Mapping[tuple[str, float], float]
) -> list[dict[str, Any]]:
    """Average participants' cells and put the printed number and the difference beside each.

    Printed numbers stand only beside real data and trained weights.

    Parameters
    ----------
    rows : sequence of mapping
        Of all participants: condition, penalty, mean_voxel_r, provenance.
    printed : mapping
        (condition, penalty) → correlation.

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
        known = printed.get((condition, penalty), math.nan) if origins == {REAL} else math.nan
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
    provenance: Mapping[str, str], counts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Repeat Table 1 with the parameters that our networks have.

    Error rates are the printed ones: ImageNet is not part of any data set here.
    """
    return [
        {
            "model": row["model"],
            "parameters": counts[row["model"]],
            "published_parameters": int(row["parameters"]),
            "published_top1_error": number(row["top1_error"]),
            "published_top5_error": number(row["top5_error"]),
            "weights": provenance.get(row["model"], "not used"),
        }
        for row in read_rows(TABLE_1)
    ]
