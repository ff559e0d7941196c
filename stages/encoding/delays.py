"""From what was on the screen when to one row of features per volume.

The response at time t follows what was shown at t − lag (Boynton et al. 1996; Nishimoto et al. 2011
take several lags, a finite impulse response). Several lags are laid side by side, or averaged, or
averaged with the weights of the canonical hemodynamic response.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

Floats = NDArray[Any]

HRF = "hrf"
HRF_LAGS_S = tuple(float(lag) for lag in range(1, 25))  # where the canonical response is sampled
HRF_REACH_S = 10.0  # volumes are fitted from here on; 93 % of its positive lobe is over by then


@dataclass(frozen=True)
class Shown:
    """One stimulus on the screen, s from the run's first volume, and its feature series.

    ``features`` is (frames, features), one row each 1/``rate_hz`` s from the stimulus' begin; an
    image has one row.
    """

    name: str
    onset_s: float
    duration_s: float
    rate_hz: float
    features: Floats


@dataclass(frozen=True)
class Condition:
    """A feature space at some lags, written ``model@lag,lag``, or convolved: ``model@hrf``."""

    model: str
    lags_s: tuple[float, ...]
    is_hrf: bool = False

    @property
    def timing(self) -> str:
        """The part behind the @."""
        return HRF if self.is_hrf else ",".join(f"{lag:g}" for lag in self.lags_s)

    @property
    def name(self) -> str:
        """The way it is written."""
        return f"{self.model}@{self.timing}"

    @property
    def reach_s(self) -> float:
        """How long after an onset volumes can be explained."""
        return HRF_REACH_S if self.is_hrf else max(self.lags_s)

    @property
    def columns(self) -> int:
        """Columns of a concatenated design per feature."""
        return 1 if self.is_hrf else len(self.lags_s)


def parse_condition(text: str) -> Condition:
    """Read ``model@lag,lag`` with lags in seconds, or ``model@hrf``.

    Raises
    ------
    ValueError
        Another form, or a lag that is negative.

    >>> parse_condition("resnet50@4,4.5")
    Condition(model='resnet50', lags_s=(4.0, 4.5))
    """
    model, at, lags = text.partition("@")
    if model and lags == HRF:
        return Condition(model, HRF_LAGS_S, is_hrf=True)
    try:
        seconds = tuple(float(lag) for lag in lags.split(","))
    except ValueError:
        seconds = ()
    if not (at and model and seconds) or min(seconds) < 0 or not np.isfinite(seconds).all():
        raise ValueError(
            f"condition {text!r}: expected MODEL@LAG,LAG in s, such as resnet50@4,5,6, or MODEL@hrf"
        )
    return Condition(model, seconds)


def sample_features(
    shown: Sequence[Shown],
    times_s: Floats,
    lags_s: Sequence[float],
    *,
    window_s: float = 0.0,
    combine: str = "concatenate",
) -> Floats:
    """Take the features that were on the screen at each time less each lag.

    Parameters
    ----------
    shown : sequence of Shown
        What a run showed, in order of onset. Between stimuli nothing is shown: features are 0.
    times_s : array, (volumes,)
        Times of volumes, s from the run's first.
    lags_s : sequence of float
        Delays, s.
    window_s : float
        0: the frame nearest to t − lag. Otherwise the mean over the frames within ± half of it.
    combine : str
        ``concatenate`` lays lags side by side, ``mean`` averages over them.

    Returns
    -------
    X : array, (volumes, features × lags) or (volumes, features), float32
        With lags side by side the first lag's features come first.
    """
    parts = [_at(shown, times_s - lag, window_s) for lag in lags_s]
    return np.hstack(parts) if combine == "concatenate" else np.mean(parts, axis=0)


def convolve_features(shown: Sequence[Shown], times_s: Floats, *, window_s: float = 0.0) -> Floats:
    """Average features over the past with the weights of the canonical response.

    Parameters are those of ``sample_features``. One column per feature is left, so that little data
    suffice, where lags side by side learn the response's shape.

    Returns
    -------
    X : array, (volumes, features), float32
    """
    weights = canonical_response(np.array(HRF_LAGS_S)).astype(np.float32)
    weights /= weights.sum()
    X = np.zeros((len(times_s), shown[0].features.shape[1]), dtype=np.float32)
    for lag, weight in zip(HRF_LAGS_S, weights, strict=True):
        X += weight * _at(shown, times_s - lag, window_s)
    return X


def canonical_response(times_s: Floats) -> Floats:
    """Evaluate the hemodynamic response that SPM has: a gamma density less a sixth of a later one.

    It peaks after 5 s and dips after 15 s (Friston et al. 1998).
    """
    return np.asarray(gamma.pdf(times_s, 6) - gamma.pdf(times_s, 16) / 6)


def _at(shown: Sequence[Shown], moments_s: Floats, window_s: float) -> Floats:
    X = np.zeros((len(moments_s), shown[0].features.shape[1]), dtype=np.float32)
    for item in shown:
        since = moments_s - item.onset_s
        is_on = (since >= 0) & (since < item.duration_s)
        last = len(item.features) - 1
        if window_s == 0:
            # Half a frame is rounded up, not to the even number as numpy's rint does.
            frames = np.floor(since[is_on] * item.rate_hz + 0.5 + 1e-6).astype(int)
            X[is_on] = item.features[np.minimum(frames, last)]
            continue
        for row in np.flatnonzero(is_on):
            edges = (since[row] + np.array([-0.5, 0.5]) * window_s) * item.rate_hz
            first, stop = np.clip(np.ceil(edges - 1e-6).astype(int), 0, last + 1)
            first = min(first, last)
            X[row] = item.features[first : max(stop, first + 1)].mean(0)
    return X


def usable_volumes(
    shown: Sequence[Shown],
    times_s: Floats,
    longest_lag_s: float,
    *,
    drop: int,
    tolerance_s: float,
    where: str,
) -> NDArray[np.bool_]:
    """Tell which volumes to keep: none before the first frame arrived, none after the last.

    Parameters
    ----------
    longest_lag_s : float
        Of all conditions, s, so that all are fitted to the same volumes.
    drop : int
        Leading volumes to leave out; -1: those before the first onset + longest lag.
    tolerance_s : float
        How long after its last stimulus, plus lag, a run may go on.
    where : str
        Names the run in the error.

    Raises
    ------
    ValueError
        The stimuli end too long before the run does.
    """
    begin, end = shown[0].onset_s, max(item.onset_s + item.duration_s for item in shown)
    tail = times_s[-1] - longest_lag_s - end
    if tail > tolerance_s:
        raise ValueError(
            f"{where}: stimuli end at {end:g} s, but volumes go on to {times_s[-1]:g} s, which is"
            f" {tail:g} s too long; correct the events or trim the BOLD series"
        )
    keep = times_s - longest_lag_s <= end
    leading = np.arange(len(times_s)) >= drop
    return keep & (leading if drop >= 0 else times_s - longest_lag_s >= begin - 1e-6)
