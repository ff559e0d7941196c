"""Tables that say to which group slices belong, real ones beside synthetic ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SYNTHETIC, HELD_OUT, TRAINING = "synthetic", "held-out real", "training real"
FENCE = 3.0  # outliers lie beyond Q1 - 3 IQR, fixed before looking


@dataclass(frozen=True)
class Judged:
    """Slices of one origin, and what was found of each.

    Attributes
    ----------
    origin
        synthetic, held-out real, training real, or a variant of these.
    condition, group
        Prompt and group that were asked for, or the real group.
    log_likelihood : array, (n, groups)
        Under each group's density, nats.
    log_probability : array, (n, groups)
        Of the judging network.
    is_outlier : array, (n,)
    """

    origin: str
    condition: str
    group: str
    log_likelihood: Array
    log_probability: Array
    is_outlier: Flags

    @property
    def name(self) -> str:
        """Say what the slices are."""
        return f"{self.origin} {self.group}" + (f" ({self.condition})" if self.condition else "")


def name_blurred(size: int) -> str:
    """Name held-out slices that went through a model's resolution."""
    return f"{HELD_OUT} at {size} pixels"


def find_fences(log_likelihood: Array, residual: Array) -> tuple[Array, float]:
    """Set the limits of what counts as a slice, from held-out real slices alone.

    Parameters
    ----------
    log_likelihood : array, (n, groups)
    residual : array, (n,)
        Distance from the space of principal components, which a density within it cannot see.

    Returns
    -------
    least : array, (groups,)
        Q1 - 3 IQR of the log-likelihoods.
    most : float
        Q3 + 3 IQR of the residuals.
    """
    low, high = np.quantile(log_likelihood, [0.25, 0.75], axis=0)
    first, third = np.quantile(residual, [0.25, 0.75])
    return low - FENCE * (high - low), float(third + FENCE * (third - first))


def flag_outliers(log_likelihood: Array, residual: Array, least: Array, most: float) -> Flags:
    """Tell which slices are below the fence of every density, or outside of the space."""
    return np.asarray((log_likelihood < least).all(1) | (residual > most))


def balanced_threshold(difference: Array, is_first: Flags) -> float:
    """Find the cut of a difference above which slices count as the first group.

    It is where both groups of held-out real slices err equally often, as nearly as can be; argmax
    cuts at 0 whether or not that favours one group.
    """
    values = np.unique(difference)
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    miss_first = np.array([(difference[is_first] <= c).mean() for c in cuts])
    miss_second = np.array([(difference[~is_first] > c).mean() for c in cuts])
    gap = np.abs(miss_first - miss_second)
    best = np.flatnonzero(gap == gap.min())
    return float(cuts[best[len(best) // 2]])


def find_cuts(judged: Sequence[Judged], groups: Sequence[str]) -> dict[str, float | None]:
    """Set the balanced thresholds on held-out real slices, where there are two groups."""
    real = [item for item in judged if item.origin == HELD_OUT]
    if len(groups) != 2 or not all(len(item.is_outlier) for item in real):
        return {"likelihood": None, "network": None}
    is_first = np.concatenate([np.full(len(i.is_outlier), i.group == groups[0]) for i in real])
    cuts: dict[str, float | None] = {}
    for what in ("likelihood", "network"):
        scores = np.concatenate(
            [i.log_likelihood if what == "likelihood" else i.log_probability for i in real]
        )
        cuts[what] = balanced_threshold(scores[:, 0] - scores[:, 1], is_first)
    return cuts


def tabulate(
    judged: Sequence[Judged], groups: Sequence[str], cuts: Mapping[str, float | None]
) -> list[dict[str, Any]]:
    """Make the study's Table 1: one row per origin and group; outliers are counted and left out.

    ``cuts`` holds the balanced thresholds of ``likelihood`` and ``network``, None where there are
    not two groups.
    """
    rows = []
    for item in judged:
        kept = ~item.is_outlier
        own = list(groups).index(item.group)
        likelihood, network = item.log_likelihood[kept], item.log_probability[kept]
        row: dict[str, Any] = {
            "slices": item.name,
            "origin": item.origin,
            "condition": item.condition,
            "group": item.group,
            "n": int(kept.sum()),
            "outliers": int(item.is_outlier.sum()),
            "outlier_rate": float(item.is_outlier.mean()),
        }
        for g, name in enumerate(groups):
            row[f"loglik_{name}"] = float(likelihood[:, g].mean()) if kept.any() else np.nan
        for g, name in enumerate(groups):
            row[f"predicted_{name}"] = int((network.argmax(1) == g).sum())
        row["misclassified_likelihood"] = int((likelihood.argmax(1) != own).sum())
        row["right_share_network"] = _share(network.argmax(1) == own)
        row["right_share_likelihood"] = _share(likelihood.argmax(1) == own)
        for what, scores in (("likelihood", likelihood), ("network", network)):
            cut = cuts.get(what)
            if cut is not None:
                is_first = scores[:, 0] - scores[:, 1] > cut
                row[f"balanced_{what}_{groups[0]}"] = int(is_first.sum())
                row[f"balanced_{what}_{groups[1]}"] = int((~is_first).sum())
                row[f"balanced_right_share_{what}"] = _share(is_first == (own == 0))
        rows.append(row)
    outliers = [j.log_likelihood[j.is_outlier] for j in judged if j.origin == SYNTHETIC]
    if outliers and len(found := np.concatenate(outliers)):
        row = {"slices": "outliers", "origin": SYNTHETIC, "n": len(found)}
        rows.append(row | {f"loglik_{g}": float(found[:, i].mean()) for i, g in enumerate(groups)})
    return rows


def fisher_tests(judged: Sequence[Judged], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Test whether the network names the first group more often for one prompt than for another.

    Compared are the groups within each condition, conditions within each group and over all
    groups, and real held-out groups, two-sided.
    """
    counts: dict[tuple[str, str, str], NDArray[np.intp]] = {}
    for item in judged:
        if item.origin in (SYNTHETIC, HELD_OUT):
            predicted = item.log_probability[~item.is_outlier].argmax(1)
            counts[item.origin, item.condition, item.group] = _count_first(predicted)
    conditions = list(dict.fromkeys(c for o, c, _ in counts if o == SYNTHETIC))
    pairs = [
        ((origin, condition, a), (origin, condition, b))
        for origin, condition in dict.fromkeys((o, c) for o, c, _ in counts)
        for a, b in combinations(groups, 2)
    ]
    pairs += [
        ((SYNTHETIC, one, g), (SYNTHETIC, two, g))
        for one, two in combinations(conditions, 2)
        for g in groups
    ]
    for one, two in combinations(conditions, 2):
        for name in (one, two):
            own = [n for (o, c, _), n in counts.items() if o == SYNTHETIC and c == name]
            counts[SYNTHETIC, name, "all"] = np.sum(own, axis=0)
        pairs.append(((SYNTHETIC, one, "all"), (SYNTHETIC, two, "all")))
    rows = []
    for first, second in pairs:
        if first not in counts or second not in counts:
            continue
        x, y = counts[first], counts[second]
        if not (x.sum() and y.sum()):
            continue  # nothing but outliers
        odds, p = stats.fisher_exact([x, y])
        rows.append(
            {
                "first": " ".join(filter(None, first)),
                "second": " ".join(filter(None, second)),
                "called": groups[0],
                "first_count": int(x[0]),
                "first_n": int(x.sum()),
                "second_count": int(y[0]),
                "second_n": int(y.sum()),
                "odds_ratio": float(odds),
                "p_fisher": float(p),
            }
        )
    return rows


def contrast_rows(
    judged: Sequence[Judged], groups: Sequence[str], *, redraws: int, seed: int
) -> list[dict[str, Any]]:
    """Say how far prompts move the log-likelihood ratio of two groups, with 95 % intervals.

    The contrast of groups a and b is mean LLR(a slices) - mean LLR(b slices), LLR = log p_a - log
    p_b. ``share_of_real`` is its ratio to that of held-out real slices.
    """
    rows = []
    for (i, a), (j, b) in combinations(enumerate(groups), 2):
        real: float | None = None
        origins = list(dict.fromkeys((item.origin, item.condition) for item in judged))
        for origin, condition in sorted(origins, key=lambda pair: pair[0] != HELD_OUT):
            of = {
                item.group: item.log_likelihood[~item.is_outlier]
                for item in judged
                if (item.origin, item.condition) == (origin, condition)
            }
            if not all(g in of and len(of[g]) for g in (a, b)):
                continue
            x, y = (of[g][:, i] - of[g][:, j] for g in (a, b))
            value = float(x.mean() - y.mean())
            rng = np.random.default_rng(seed)
            draws = [
                rng.choice(x, len(x)).mean() - rng.choice(y, len(y)).mean() for _ in range(redraws)
            ]
            low, high = np.quantile(draws, [0.025, 0.975])
            if origin == HELD_OUT:
                real = value
            rows.append(
                {
                    "slices": origin,
                    "condition": condition,
                    "first": a,
                    "second": b,
                    "llr_first": float(x.mean()),
                    "llr_second": float(y.mean()),
                    "contrast": value,
                    "ci_low": float(low),
                    "ci_high": float(high),
                    "share_of_real": value / real if real else np.nan,
                    "auc": _auc(x, y),
                    "n_first": len(x),
                    "n_second": len(y),
                }
            )
    return rows


def _auc(x: Array, y: Array) -> float:
    return float(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))


def _count_first(predicted: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.array([(predicted == 0).sum(), (predicted != 0).sum()])


def _share(is_right: Flags) -> float:
    return float(is_right.mean()) if len(is_right) else np.nan
