"""Probabilities that mean what they say, and brain age without its known bias."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Array = NDArray[np.float64]
LEAST = 10  # predictions that a temperature or a bias is fitted on


class Bias(NamedTuple):
    """Predicted = intercept + slope · true, fitted on validation participants."""

    intercept: float
    slope: float


def softmax(logits: Array, temperature: float = 1.0) -> Array:
    """Turn logits, (n, k), into probabilities that sum to 1."""
    scaled = logits / temperature
    weight = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def log_loss(
    logits: Array, labels: NDArray[np.intp], temperature: float = 1.0, *, smooth: bool = False
) -> float:
    """Mean of -log of the probability given to the true class.

    Smoothed, the true class of n_c cases counts (n_c + 1) / (n_c + 2) and the others share the rest
    (Platt 1999): cases that are all judged right then do not ask for certainty.
    """
    log_p = np.log(np.clip(softmax(logits, temperature), 1e-12, None))
    own = log_p[np.arange(len(labels)), labels]
    if not smooth:
        return float(-own.mean())
    share = (np.bincount(labels)[labels] + 1) / (np.bincount(labels)[labels] + 2)
    others = (log_p.sum(axis=1) - own) / (logits.shape[1] - 1)
    return float(-(share * own + (1 - share) * others).mean())


def fit_temperature(logits: Array, labels: NDArray[np.intp]) -> float:
    """Find the temperature that makes validation logits likeliest (Guo et al. 2017), smoothed.

    It changes no decision. Between 0.05 and 20; 1 for fewer than ten predictions.
    """
    if len(labels) < LEAST:
        return 1.0
    found = optimize.minimize_scalar(
        lambda t: log_loss(logits, labels, float(np.exp(t)), smooth=True),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


def fit_bias(true: Array, predicted: Array) -> Bias:
    """Fit the line that predictions follow: old are judged too young, young too old."""
    if len(true) < LEAST or np.ptp(true) == 0:
        return Bias(0.0, 1.0)
    slope, intercept = np.polyfit(true, predicted, 1)
    return Bias(float(intercept), float(slope))


def correct_gap(true: Array, predicted: Array, bias: Bias) -> Array:
    """Subtract the gap expected at this true age from predicted - true (de Lange & Cole 2020).

    The true age goes in, so this is no better prediction of age; errors are never computed from it.
    """
    return predicted - (bias.intercept + bias.slope * true)
