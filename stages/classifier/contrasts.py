"""Tables of which networks differ on the same images, and of which arms do not."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.classifier import comparisons
from stages.classifier.gather import Judged
from stages.classifier.statistics import balanced_accuracy

Rows = list[dict[str, Any]]


def compare_networks(judged: Sequence[Judged]) -> Rows:
    """Compare networks on the same held-out images."""
    rows: Rows = []
    for a, b in itertools.combinations(judged, 2):
        if (a.target, a.arm, a.set) != (b.target, b.arm, b.set) or a.set == "train":
            continue
        if a.people != b.people or not np.array_equal(a.true, b.true):
            continue  # folds are missing for one of them
        row: dict[str, Any] = {"target": a.target, "arm": a.arm, "set": a.set}
        row |= {"first": a.network, "second": b.network, "n_images": len(a.people)}
        if a.classes:
            rights = [j.values.argmax(axis=1) == j.labels for j in (a, b)]
            only_a, only_b, p = comparisons.mcnemar(rights[0], rights[1])
            row |= {"only_first_right": only_a, "only_second_right": only_b, "p_mcnemar": p}
            if len(a.classes) == 2 and min(np.bincount(a.labels, minlength=2)) >= 2:
                found = comparisons.delong(a.labels, a.values[:, 1], b.values[:, 1])
                row |= {"auc_difference": found.difference, "p_delong": found.p}
        else:
            errors = [np.abs(j.values - j.true) for j in (a, b)]
            row |= {"mae_difference": float(errors[0].mean() - errors[1].mean())}
            row |= {"p_wilcoxon": comparisons.wilcoxon(errors[0], errors[1])}
        rows.append(row)
    return rows


def compare_arms(judged: Sequence[Judged], margin: float, draws: int, seed: int) -> Rows:
    """Test whether arms are equivalent, network by network."""
    rows: Rows = []
    for a, b in itertools.combinations([j for j in judged if j.classes and j.set == "cv"], 2):
        if (a.target, a.network) != (b.target, b.network):
            continue
        rng = np.random.default_rng(seed)
        sides = [
            (
                j.people,
                lambda rows, j=j: balanced_accuracy(j.labels[rows], j.values[rows]),
                list(j.labels),
            )
            for j in (a, b)
        ]
        found = comparisons.tost(sides[0], sides[1], margin=margin, draws=draws, rng=rng)
        rows.append(
            {
                "target": a.target,
                "network": a.network,
                "first": a.arm,
                "second": b.arm,
                "balanced_accuracy_difference": found.difference,
                "low90": found.low,
                "high90": found.high,
                "margin": margin,
                "p_equivalence": found.p,
                "verdict": "equivalent" if found.p < 0.05 else "not shown to be equivalent",
            }
        )
    return rows
