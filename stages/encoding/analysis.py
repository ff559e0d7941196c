"""All conditions of one participant: rows of the table and maps, gathered as they are made."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.ceiling import relative
from stages.encoding.comparison import score_lags, split_by_bands, split_by_ridge
from stages.encoding.data import Data
from stages.encoding.delays import Condition
from stages.encoding.evaluation import (
    Q_LEVEL,
    Evaluation,
    Prediction,
    ceiling_of,
    choose,
    judge,
    predict_selected,
    score_grid,
)
from stages.encoding.provenance import join_origins

logger = logging.getLogger(__name__)

Floats = NDArray[Any]
CHOSEN = "chosen"  # for each voxel the condition that cross-validation on training runs preferred

Rows = list[dict[str, Any]]
Maps = dict[str, Floats]


@dataclass(frozen=True)
class Fits:
    """What all fits of a participant share."""

    data: Data
    fold: NDArray[np.intp]
    penalties: Sequence[float]
    device: str
    seed: int

    def average(self, values: Floats) -> float:
        """Average over the voxels that vary."""
        return float(values[self.data.responses.varies].mean())

    def label(self, condition: Condition, width: int) -> dict[str, Any]:
        """Describe a condition in a row of the table."""
        return {
            "condition": condition.name,
            "model": condition.model,
            "lags": condition.timing,
            "n_features": width,
            "provenance": self.data.provenance[condition.model],
        }


@dataclass
class Results:
    """Rows of the table, maps by name, mean correlations by penalty, and tested conditions."""

    rows: Rows = field(default_factory=list)
    maps: Maps = field(default_factory=dict)
    curves: dict[str, Floats] = field(default_factory=dict)
    found: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The one condition that cross-validation on training runs found best on average."""
        names = [name for name in self.found if name != CHOSEN]
        return max(names, key=lambda name: self.found[name].summary["mean_cv_r"])


def fit_conditions(
    fits: Fits,
    conditions: Sequence[Condition],
    *,
    protocol: str,
    block: int,
    permutations: int,
    least_ceiling: float,
) -> Results:
    """Fit and test every condition by the protocol: selected, published or both.

    Of several conditions the best by cross-validation is tested too, voxel by voxel.
    """
    results = Results()
    responses = fits.data.responses
    judged = partial(
        judge,
        responses=responses,
        block=block,
        permutations=permutations,
        least_ceiling=least_ceiling,
        seed=fits.seed,
    )
    best: Prediction | None = None
    for condition in conditions:
        X, T = fits.data.design(condition)
        labels = fits.label(condition, X.shape[1])
        if protocol != "selected":
            r = score_grid(X, T, responses, fits.penalties, device=fits.device)
            curve = r[:, responses.varies].mean(1)
            results.curves[condition.name] = curve
            results.rows += [
                {**labels, "protocol": "published", "penalty": a, "mean_voxel_r": float(mean)}
                for a, mean in zip(fits.penalties, curve, strict=True)
            ]
        if protocol != "published":
            prediction, selection = predict_selected(
                X, T, responses, fits.fold, fits.penalties, device=fits.device
            )
            best = choose(best, prediction)
            result = judged(prediction)
            results.found[condition.name] = result
            on_folds = selection.r[:, responses.varies].mean(1)
            results.curves.setdefault(condition.name, on_folds)
            results.rows.append({**labels, "protocol": "selected", **result.summary})
        logger.info("%s: mean r %.4f", condition.name, results.rows[-1]["mean_voxel_r"])
    if best is not None and len(conditions) > 1:
        results.found[CHOSEN] = judged(best)
        origin = join_origins(fits.data.provenance.values())
        row = {"condition": CHOSEN, "protocol": CHOSEN, "provenance": origin}
        results.rows.append({**row, **results.found[CHOSEN].summary})
    if results.found:
        results.maps |= _condition_maps(fits, results.found, least_ceiling)
    return results


def compare_lags(fits: Fits, model: str, lags: Sequence[float], results: Results) -> Floats:
    """Add each voxel's best single lag; return the lags' mean cross-validated correlations."""
    singles = [Condition(model, (lag,)) for lag in lags]
    designs = {single.name: fits.data.design(single) for single in singles}
    r = score_lags(designs, fits.data.responses, fits.fold, fits.penalties, device=fits.device)
    best = np.asarray(lags)[r.argmax(0)]
    results.maps["lag"] = np.where(fits.data.responses.varies, best, 0.0)
    means = np.array([fits.average(row) for row in r])
    results.rows += [
        {**fits.label(single, designs[single.name][0].shape[1]), "protocol": "lag"}
        | {"mean_cv_r": float(mean)}
        for single, mean in zip(singles, means, strict=True)
    ]
    return means


def compare_spaces(
    fits: Fits,
    conditions: Sequence[Condition],
    results: Results,
    *,
    partition: bool,
    iterations: int,
) -> None:
    """Add what feature spaces explain alone, and by banded ridge what each space and lag explains.

    A space that several conditions name is taken with the lags of the first.
    """
    spaces = {c.model: c for c in reversed(conditions)}
    shared = (fits.data.responses, fits.fold, fits.penalties)
    if partition and len(spaces) > 1:
        designs = {model: fits.data.design(c) for model, c in spaces.items()}
        parts = split_by_ridge(designs, *shared, device=fits.device)
        _add_parts(fits, parts, results, protocol="unique")
    if iterations > 0:
        singles = [
            single
            for c in spaces.values()
            for single in ([c] if c.is_hrf else [Condition(c.model, (lag,)) for lag in c.lags_s])
        ]
        bands = {single.name: fits.data.design(single) for single in singles}
        r, parts = split_by_bands(
            bands, *shared, iterations=iterations, seed=fits.seed, device=fits.device
        )
        _add_parts(fits, parts, results, protocol="banded")
        results.maps["r banded"] = r
        origin = join_origins(fits.data.provenance.values())
        row = {"condition": "all bands", "protocol": "banded", "provenance": origin}
        results.rows.append({**row, "mean_voxel_r": fits.average(r)})


def _add_parts(fits: Fits, parts: Mapping[str, Floats], results: Results, *, protocol: str) -> None:
    origin = join_origins(fits.data.provenance.values())
    results.maps |= {f"{protocol} {name}": values for name, values in parts.items()}
    results.rows += [
        {"condition": name, "protocol": protocol, "provenance": origin}
        | {"mean_r2": fits.average(values)}
        for name, values in parts.items()
    ]


def _condition_maps(fits: Fits, found: Mapping[str, Evaluation], least_ceiling: float) -> Maps:
    """Name the maps of all conditions; what cannot be estimated is 0, as its own map tells."""
    maps: Maps = {f"r {name}": result.r for name, result in found.items()}
    ceiling = ceiling_of(fits.data.responses)
    if ceiling is not None:
        maps["ceiling"] = ceiling
        for name, result in found.items():
            ratio = relative(result.r, ceiling, least=least_ceiling)
            maps[f"r/ceiling {name}"] = np.nan_to_num(ratio)
    for name, result in found.items():
        maps[f"log10 penalty {name}"] = np.log10(np.where(result.penalty > 0, result.penalty, 1.0))
        maps[f"significant {name}"] = (result.q < Q_LEVEL).astype(np.float32)
    promised = np.stack([result.promised for name, result in found.items() if name != CHOSEN])
    best = promised.argmax(0) + 1.0
    maps["best condition"] = np.where(fits.data.responses.varies, best, 0.0)
    return maps
