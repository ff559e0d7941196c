"""Learning curves of all trainings, and what each regulariser reached."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.classifier.gather import read_key
from stages.classifier.tables import Row, number, read_rows

Rows = list[dict[str, Any]]


def read_histories(paths: Sequence[str]) -> tuple[dict[str, Rows], Rows]:
    """Read learning curves of kept trainings, and what each regulariser reached."""
    curves: dict[str, Rows] = {}
    reached: dict[tuple[str, str, str, str], list[Row]] = {}
    for path in sorted(paths):
        key = read_key(path)
        rows = [row for row in read_rows(path) if "validation_loss" in row]
        kept = [row for row in rows if row["is_kept"] == "True"]
        for row in kept:
            one = (key["target"], key["arm"], key["net"], row["regulariser"])
            reached.setdefault(one, []).append(row)
        for row in rows:
            point: dict[str, Any] = {
                name: number(row[name]) for name in ("epoch", "train_loss", "validation_loss")
            }
            point["run"] = (key["fold"], row["member"], row["regulariser"])
            curves.setdefault(f"{key['target']} {key['arm']} {key['net']}", []).append(point)
    tried: Rows = []
    for (target, arm, network, kind), found in sorted(reached.items()):
        if network not in ("reg", "regbn"):
            continue
        mean: dict[str, Any] = {"target": target, "arm": arm, "network": network}
        mean |= {"regulariser": kind, "trainings": len(found)}
        for name in ("validation_loss", "validation_accuracy", "validation_error"):
            values = [number(r[name]) for r in found if name in r]
            if values:
                mean[f"mean_{name}"] = float(np.nanmean(values))
        tried.append(mean)
    return curves, tried
