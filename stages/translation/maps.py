"""Maps of differences: definitions, the t-map they are compared with, agreement of maps; pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Z_95 = 1.959964
TOP_SHARE = 0.1  # of a map's voxels that count as its peak when peaks are compared


def t_map(target: Array, origin: Array) -> tuple[Floats, Floats]:
    """Test target − origin in every voxel, (n, …) and (m, …): Student's t and two-sided p.

    Both groups' variances are pooled; voxels that vary in neither group get t = 0 and p = 1.
    """
    n, m = len(target), len(origin)
    difference = target.mean(0, dtype=np.float64) - origin.mean(0, dtype=np.float64)
    squares = (n - 1) * target.var(0, ddof=1, dtype=np.float64)
    squares += (m - 1) * origin.var(0, ddof=1, dtype=np.float64)
    error = np.sqrt(squares / (n + m - 2) * (1 / n + 1 / m))
    t = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    p = np.where(error > 0, 2 * stats.t.sf(np.abs(t), n + m - 2), 1.0)
    return t, p


def fdr(p: Floats) -> Floats:
    """Correct p values, (n,), for the false discovery rate (Benjamini & Hochberg 1995)."""
    p = np.asarray(p, dtype=float)
    q = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


def correlate(a: Array | Floats, b: Array | Floats, mask: NDArray[np.bool_]) -> float:
    """Correlate two maps inside a mask (normalised cross-correlation); NaN if one is constant."""
    x, y = np.asarray(a[mask], dtype=float), np.asarray(b[mask], dtype=float)
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / size) if size else float("nan")


def overlap_peaks(a: Array, b: Array, mask: NDArray[np.bool_], share: float = TOP_SHARE) -> float:
    """Measure how far the highest voxels of two maps coincide (Dice); ``share`` by chance."""
    x, y = a[mask], b[mask]
    tops = [v >= np.quantile(v, 1 - share) for v in (x, y)]
    return float(2 * (tops[0] & tops[1]).sum() / max(1, tops[0].sum() + tops[1].sum()))


def bootstrap_correlation(
    differences: Array,
    target: Array,
    origin: Array,
    mask: NDArray[np.bool_],
    *,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """Redraw participants: 95 % interval of the correlation of mean difference and t-map.

    The deviation over redraws of Fisher's z, around the correlation found. Percentiles would lie
    too low: a t-map of redrawn people is noisier than theirs, and correlates less with anything.

    Parameters
    ----------
    differences, origin : array, (n, …)
        Of the same participants, who are redrawn together.
    target : array, (m, …)
    """
    rng = np.random.default_rng(seed)
    d, x, y = (a[:, mask] for a in (differences, origin, target))
    everywhere = np.ones(d.shape[1], dtype=bool)
    found = []
    for _ in range(draws):
        i, j = rng.integers(len(x), size=len(x)), rng.integers(len(y), size=len(y))
        t, _ = t_map(y[j], x[i])
        found.append(correlate(d[i].mean(0), t, everywhere))
    t, _ = t_map(y, x)
    middle = np.arctanh(correlate(d.mean(0), t, everywhere))
    half = Z_95 * float(np.nanstd(np.arctanh(found), ddof=1))
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


def mean_interval(values: NDArray[np.floating]) -> tuple[float, float, float, int]:
    """Average values: mean, 95 % interval (Student's t), how many."""
    own = np.asarray(values, dtype=float)
    own = own[~np.isnan(own)]
    if len(own) < 2:
        return (
            float(own.mean()) if len(own) else float("nan"),
            float("nan"),
            float("nan"),
            len(own),
        )
    half = stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own))
    return float(own.mean()), float(own.mean() - half), float(own.mean() + half), len(own)
