"""ComBat: remove location and scale of a site from features, keep those of covariates.

Johnson et al. 2007 as used for images by Fortin et al. 2018: for feature v of person j at site i

    Y = alpha_v + X_j beta_v + gamma_iv + delta_iv eps

gamma and delta are shrunk over features by an empirical Bayes prior (normal, inverse gamma). Kept
apart in fit and apply, so that a test set is never learnt from. The maintained package
neuroHarmonize asks for numpy < 2, hence these lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MAX_ITERATIONS, TOLERANCE = 1000, 1e-6


@dataclass(frozen=True)
class Combat:
    """A fitted model of p features, q covariates and s sites.

    Attributes
    ----------
    sites : list of str
    alpha : array, (p,)
        Mean over people.
    beta : array, (q, p)
        Effect of covariates, which is kept.
    sigma : array, (p,)
        Standard deviation of what site and covariates leave.
    gamma, delta : array, (s, p)
        Shift and squared scale of each site, in units of sigma.
    """

    sites: list[str]
    alpha: Array
    beta: Array
    sigma: Array
    gamma: Array
    delta: Array

    def to_json(self) -> dict[str, Any]:
        """Give plain lists."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Combat:
        """Read what :meth:`to_json` gave."""
        arrays = {k: np.asarray(v, dtype=float) for k, v in data.items() if k != "sites"}
        return cls(sites=list(data["sites"]), **arrays)


def fit_combat(features: Array, sites: Sequence[str], covariates: Array) -> Combat:
    """Learn the effects of sites.

    Parameters
    ----------
    features : array, (n, p)
        At least two, none of them constant.
    sites
        Site of each person.
    covariates : array, (n, q)
        Numbers whose effect is kept (q may be 0): never the value that is to be predicted.

    Raises
    ------
    ValueError
        A site with one person, one site only, a constant feature, or covariates that the sites
        determine.
    """
    names = sorted(set(sites))
    count = np.array([list(sites).count(name) for name in names])
    lonely = [name for name, number in zip(names, count, strict=True) if number < 2]
    if lonely:
        raise ValueError(
            f"site {', '.join(lonely)} has one person, so its spread cannot be told; leave the"
            " person out or join the site with another"
        )
    if len(names) < 2:
        raise ValueError(f"one site only ({names[0]}): there is nothing to harmonize")
    constant = np.flatnonzero(np.ptp(features, axis=0) == 0)
    if constant.size or features.shape[1] < 2:
        raise ValueError(
            f"{features.shape[1]} features of which {constant.size} are constant; the prior over"
            " features needs at least two that vary"
        )
    site = np.eye(len(names))[[names.index(name) for name in sites]]
    design = np.hstack([site, covariates])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("a covariate is constant or told by the site; its effect cannot be kept")
    coefficients, *_ = np.linalg.lstsq(design, features, rcond=None)
    alpha = np.asarray(count / count.sum() @ coefficients[: len(names)], dtype=np.float64)
    beta = np.asarray(coefficients[len(names) :], dtype=np.float64)
    left = features - design @ coefficients
    sigma = np.asarray(np.sqrt((left**2).mean(axis=0)), dtype=np.float64)
    z = (features - alpha - covariates @ beta) / sigma
    estimates = [_shrink(z[site[:, i] == 1]) for i in range(len(names))]
    gamma = np.stack([shift for shift, _ in estimates])
    delta = np.stack([spread for _, spread in estimates])
    return Combat(names, alpha, beta, sigma, gamma, delta)


def apply_combat(model: Combat, features: Array, sites: Sequence[str], covariates: Array) -> Array:
    """Remove a fitted model's site effects, (n, p).

    Raises
    ------
    ValueError
        A site the model has not seen.
    """
    unseen = sorted(set(sites) - set(model.sites))
    if unseen:
        raise ValueError(
            f"site {', '.join(unseen)} was not seen when ComBat was fitted (on"
            f" {', '.join(model.sites)}); fit again with people of that site in training"
        )
    index = [model.sites.index(name) for name in sites]
    kept = model.alpha + covariates @ model.beta
    z = (features - kept) / model.sigma
    z = (z - model.gamma[index]) / np.sqrt(model.delta[index])
    return np.asarray(z * model.sigma + kept)


def _shrink(z: Array) -> tuple[Array, Array]:
    """Give a site's posterior shift and squared scale from its standardised data, (n, p).

    Equations (3.1) and the supplement of Johnson et al. 2007: alternate the two conditional
    posterior means until neither moves.
    """
    n = len(z)
    mean, variance = z.mean(axis=0), z.var(axis=0, ddof=1)
    prior_mean, prior_variance = mean.mean(), mean.var(ddof=1)
    m, s2 = variance.mean(), variance.var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    gamma, delta = mean, variance
    for _ in range(MAX_ITERATIONS):
        moved = (n * prior_variance * mean + delta * prior_mean) / (n * prior_variance + delta)
        spread = (b + 0.5 * ((z - moved) ** 2).sum(axis=0)) / (n / 2 + a - 1)
        change = max(np.abs(moved - gamma).max(), np.abs(spread - delta).max())
        gamma, delta = moved, spread
        if change < TOLERANCE:
            break
    return gamma, delta
