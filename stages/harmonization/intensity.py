"""Bring intensities of T1w images onto one scale.

Each method gives a map value → value that is applied to the whole image after it was placed, so
that 0 (no signal, outside the field of view) is mapped like any other value. Values in the brain,
(n,), are read on the native grid: the map does not depend on where the image is put.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

Array = NDArray[np.float32]

#: Percentiles of Nyúl et al. 2000 (deciles between the cut-offs).
PERCENTILES = (1.0, *(float(p) for p in range(10, 100, 10)), 99.0)
#: Width of the stripe around the white-matter peak, in quantiles (Shinohara et al. 2014).
STRIPE = 0.05
BINS = 256
#: Smoothing of the histogram, in bins, and the least height of a peak relative to the highest.
SMOOTH_BINS, LEAST_PEAK = 4.0, 0.1


@dataclass(frozen=True)
class Scale:
    """A piecewise linear map through knots (x, y), straight on beyond the outermost two."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, data: Array) -> Array:
        """Map values of any shape."""
        x, y = np.asarray(self.x), np.asarray(self.y)
        slopes = np.diff(y) / np.diff(x)
        if len(x) == 2:
            return ((data - np.float32(x[0])) * np.float32(slopes[0]) + np.float32(y[0])).astype(
                np.float32, copy=False
            )
        out = np.interp(data, x, y)
        out = np.where(data < x[0], y[0] + (data - x[0]) * slopes[0], out)
        out = np.where(data > x[-1], y[-1] + (data - x[-1]) * slopes[-1], out)
        return out.astype(np.float32)


def scale_none(values: Array) -> Scale:
    """Keep values as they are."""
    return Scale((0.0, 1.0), (0.0, 1.0))


def scale_zscore(values: Array) -> Scale:
    """Map the brain to mean 0 and standard deviation 1.

    Raises
    ------
    ValueError
        All values are the same.
    """
    return _standard(float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))


def scale_whitestripe(values: Array) -> Scale:
    """Map normal white matter to mean 0 and standard deviation 1 (Shinohara et al. 2014).

    White matter is the last peak of the T1w histogram within the brain; its stripe holds the values
    within 5 % of quantile around that peak.

    Raises
    ------
    ValueError
        All values are the same.
    """
    low, high = np.percentile(values, [0.1, 99.9])
    if not high > low:
        raise ValueError(f"every value in the brain is {low:g}, so there is no scale to find")
    counts, edges = np.histogram(values, bins=BINS, range=(float(low), float(high)))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), SMOOTH_BINS)
    peaks, _ = signal.find_peaks(smooth, prominence=LEAST_PEAK * smooth.max())
    last = int(peaks[-1]) if len(peaks) else int(np.argmax(smooth))
    peak = 0.5 * (edges[last] + edges[last + 1])
    quantile = float((values < peak).mean())
    bounds = np.quantile(values, [max(quantile - STRIPE, 0.0), min(quantile + STRIPE, 1.0)])
    stripe = values[(values >= bounds[0]) & (values <= bounds[1])]
    return _standard(float(stripe.mean(dtype=np.float64)), float(stripe.std(dtype=np.float64)))


def find_landmarks(values: Array) -> NDArray[np.float64]:
    """Read the percentiles of one brain, (11,)."""
    return np.asarray(np.percentile(values, PERCENTILES), dtype=np.float64)


def fit_nyul(landmarks: Sequence[NDArray[np.float64]]) -> list[float]:
    """Average landmarks of many brains on a scale where the outermost are 0 and 100.

    Raises
    ------
    ValueError
        No brain to learn from.
    """
    if not landmarks:
        raise ValueError("no training image to learn the standard histogram from")
    rows = np.stack(landmarks)
    spread = rows[:, -1:] - rows[:, :1]
    standard = (100.0 * (rows - rows[:, :1]) / spread).mean(axis=0)
    return [round(float(value), 6) for value in standard]


def scale_nyul(values: Array, standard: Sequence[float]) -> Scale:
    """Map a brain's landmarks onto the standard ones (Nyúl et al. 2000).

    Raises
    ------
    ValueError
        Landmarks that coincide: an image of few different values.
    """
    own = find_landmarks(values)
    if not (np.diff(own) > 0).all():
        raise ValueError(
            "percentiles of the brain's values coincide, so their histogram cannot be mapped;"
            " use zscore"
        )
    return Scale(tuple(map(float, own)), tuple(map(float, standard)))


def find_scale(values: Array, plan: Mapping[str, Any]) -> Scale:
    """Find an image's map by a plan: ``method``, and ``landmarks`` where the method was fitted.

    Parameters
    ----------
    values : array, (n,)
        Intensities in the brain.

    Raises
    ------
    ValueError
        No values, no spread, or a method nobody knows.
    """
    if values.size == 0:
        raise ValueError("the brain mask is empty, so intensities have no scale")
    method = str(plan["method"])
    if method == "nyul":
        return scale_nyul(values, plan["landmarks"])
    if method not in METHODS:
        raise ValueError(f"intensity method {method!r}; known: {', '.join([*METHODS, 'nyul'])}")
    return METHODS[method](values)


METHODS = {"none": scale_none, "zscore": scale_zscore, "whitestripe": scale_whitestripe}


def _standard(mean: float, deviation: float) -> Scale:
    if not deviation > 0:
        raise ValueError(f"every value in the brain is {mean:g}, so there is no scale to find")
    return Scale((mean, mean + deviation), (0.0, 1.0))
