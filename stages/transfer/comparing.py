"""Sources compared: areas under the ROC curve by weak learners, and differences paired by case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.transfer import provenance
from stages.transfer.files import read
from stages.transfer.judging import bootstrap, by_case, compare_delong, draw_cases, measure_auc
from stages.transfer.tables import Row

SHOWN_ROUNDS = (1, 2, 3, 5, 10, 20, 50, 100, 200)
LEVELS = {"patch": "patches", "case": "cases"}
FEW = 5  # "few weak learners": differences are averaged over 1 to this many


@dataclass(frozen=True)
class Scores:
    """What one source's booster says of the held-out cases' candidates."""

    source: str
    origin: str
    staged: NDArray[Any]  # (n, rounds)
    rivals: dict[str, NDArray[Any]]
    is_lesion: NDArray[np.bool_]
    lesions: NDArray[np.int64]
    used: NDArray[np.bool_]
    places_mm: NDArray[Any]
    cases: NDArray[Any]
    about: dict[str, Any]

    def at(self, level: str, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], Any]:
        """Scores, truth and cases of patches (lesions and matched negatives) or of cases."""
        if level == "patch":
            return values[self.used], self.is_lesion[self.used], self.cases[self.used]
        return (*by_case(values, self.is_lesion, self.cases), np.unique(self.cases))


def read_scores(path: str) -> Scores:
    """Read what step boost wrote."""
    arrays, about = read(path)
    rivals = {n: arrays[n] for n in ("probe", "finetuned") if np.isfinite(arrays[n]).any()}
    return Scores(
        about["source"],
        about["origin"],
        arrays["staged"],
        rivals,
        arrays["lesions"] > 0,
        arrays["lesions"],
        arrays["used"],
        arrays["places_mm"],
        np.array(about["cases"]),
        about,
    )


def judge_sources(found: Sequence[Scores], draws: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Measure areas by weak learners with intervals, and differences from the first source.

    All sources are judged on the same bootstrap samples of cases, so that differences are paired.
    """
    rows: list[Row] = []
    differences: list[Row] = []
    for level in LEVELS:
        kept: dict[str, NDArray[Any]] = {}
        values, truth, owners = found[0].at(level, found[0].staged)
        samples = draw_cases(owners, draws, np.random.default_rng(seed))
        for own in found:
            values, truth, owners = own.at(level, own.staged)
            auc = measure_auc(values, truth)
            boot = np.array([measure_auc(values[s], truth[s]) for s in samples])
            kept[own.source] = boot
            low, high = _quantiles(boot)
            for index in range(len(auc)):
                rows.append(
                    _auc_row(
                        level,
                        own,
                        "adaboost",
                        index + 1,
                        auc[index],
                        low[index],
                        high[index],
                        truth,
                        owners,
                    )
                )
            for rule, other in own.rivals.items():
                v, t, o = own.at(level, other)
                a, b = bootstrap(lambda s, v=v, t=t: measure_auc(v[s], t[s]), samples)  # type: ignore[misc]
                rows.append(
                    _auc_row(
                        level, own, rule, None, float(measure_auc(v, t)), float(a), float(b), t, o
                    )
                )
        first = found[0]
        for own in found[1:]:
            differences += _differences(level, first, own, kept)
    return rows, differences


def _differences(
    level: str, first: Scores, own: Scores, kept: dict[str, NDArray[Any]]
) -> list[Row]:
    a, truth, _ = first.at(level, first.staged)
    b, _, _ = own.at(level, own.staged)
    rows: list[Row] = []
    rounds = a.shape[1]
    chosen = [t for t in SHOWN_ROUNDS if t <= rounds]
    boot = kept[first.source] - kept[own.source]
    for t in chosen:
        x, y = float(measure_auc(a[:, t - 1], truth)), float(measure_auc(b[:, t - 1], truth))
        low, high = _quantiles(boot[:, t - 1 : t])
        _, p = compare_delong(a[:, t - 1], b[:, t - 1], truth)
        rows.append(_difference_row(level, first, own, str(t), x, y, low[0], high[0], p))
    few = min(FEW, rounds)
    x, y = (float(np.mean(measure_auc(v[:, :few], truth))) for v in (a, b))
    low, high = _quantiles(boot[:, :few].mean(1, keepdims=True))
    rows.append(_difference_row(level, first, own, f"mean 1-{few}", x, y, low[0], high[0], None))
    return rows


def _difference_row(
    level: str,
    first: Scores,
    own: Scores,
    rounds: str,
    x: float,
    y: float,
    low: float,
    high: float,
    p: float | None,
) -> Row:
    return {
        "level": level,
        "first": first.source,
        "second": own.source,
        "weak_learners": rounds,
        "auc_first": x,
        "auc_second": y,
        "difference": x - y,
        "ci_low": float(low),
        "ci_high": float(high),
        "relative_percent": 100 * (x - y) / y if y else None,
        "p_delong": p,
        "n_cases": len(np.unique(first.cases)),
        "provenance": provenance.join([first.origin, own.origin]),
    }


def _auc_row(
    level: str,
    own: Scores,
    rule: str,
    rounds: int | None,
    auc: float,
    low: float,
    high: float,
    truth: Any,
    owners: Any,
) -> Row:
    return {
        "level": level,
        "source": own.source,
        "rule": rule,
        "weak_learners": rounds,
        "auc": float(auc),
        "ci_low": float(low),
        "ci_high": float(high),
        "n_lesion": int(truth.sum()),
        "n_normal": int((~truth).sum()),
        "n_cases": len(np.unique(owners)),
        "baseline": 0.5,
        "provenance": own.origin,
    }


def _quantiles(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if not np.isfinite(values).any():
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    low, high = np.nanquantile(values, [0.025, 0.975], axis=0)
    return low, high
