"""Divides a brain into cerebrospinal fluid, grey and white matter.

Model: each voxel holds one of five mixtures: pure fluid, half fluid and half grey, pure grey, half
grey and half white, pure white (partial volume, Santago & Gage 1995). A mixture's intensity is
Gaussian about the weighted mean of its tissues' means. How likely a mixture is beforehand comes
from the template's tissue probabilities, brought to the subject by the affine transform and blurred
for what an affine leaves unaligned (Ashburner & Friston 2005), and from the neighbours (a Markov
random field in mean-field form, Zhang 2001). Expectation-maximisation estimates means, spreads and
the mixtures' shares. The map of a tissue is the expected fraction of it in each voxel.

References
----------
Santago & Gage (1995), Statistical models of partial volume effect, IEEE Trans Image Process 4.
Zhang, Brady & Smith (2001), Segmentation of brain MR images through a hidden Markov random field
model and the expectation-maximization algorithm, IEEE Trans Med Imaging 20.
Ashburner & Friston (2005), Unified segmentation, NeuroImage 26.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.preprocessing import geometry, itk

#: Order of the tissues everywhere in this stage.
TISSUES = ("CSF", "GM", "WM")
#: Fractions of the tissues in each mixture.
MIXTURES = np.array(
    [(1, 0, 0), (0.5, 0.5, 0), (0, 1, 0), (0, 0.5, 0.5), (0, 0, 1)], dtype=np.float32
)
#: No tissue is excluded anywhere: the priors are mixed with this much of a flat one.
PRIOR_FLOOR = 0.1
#: Blur of the priors.
PRIOR_FWHM_MM = 6.0
#: Pull towards the mean fractions of the neighbours.
NEIGHBOUR_WEIGHT = 1.0
#: Voxels the parameters are estimated from, at most; all voxels are then labelled with them.
SAMPLE = 200_000


class Tissues(NamedTuple):
    """Fractions of the three tissues and the intensities they were told apart by."""

    fractions: NDArray[np.float32]  # (3, x, y, z), CSF GM WM, sum 1 in the mask and 0 outside
    means: NDArray[np.float64]  # (3,), intensity of pure tissue
    sd: NDArray[np.float64]  # (3,), noise and texture within pure tissue


def segment(
    data: NDArray[Any],
    affine: NDArray[Any],
    mask: NDArray[np.bool_],
    priors: NDArray[Any],
    *,
    iterations: int = 30,
    sweeps: int = 4,
) -> Tissues:
    """Estimate the fractions of CSF, grey and white matter in each voxel of a T1w brain.

    Parameters
    ----------
    data : array, (x, y, z)
        Bias-corrected T1w intensities.
    affine : array, (4, 4)
        Voxel to world, mm.
    mask : bool array, (x, y, z)
        Intracranial volume.
    priors : array, (3, x, y, z)
        Probabilities of CSF, grey and white matter on the same grid.
    iterations : int
        Steps of expectation-maximisation, at most.
    sweeps : int
        Updates of the neighbours' influence after it.

    Returns
    -------
    Tissues

    Raises
    ------
    ValueError
        When the mask holds fewer than 1,000 voxels, or the intensities do not rise from fluid over
        grey to white matter as in a T1w image.
    """
    count = int(np.count_nonzero(mask))
    if count < 1000:
        raise ValueError(f"the brain mask holds {count} voxels, too few to tell tissues apart")
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    inside = np.ascontiguousarray(mask[box])
    values = np.asarray(data[box], dtype=np.float32)[inside]
    chance = np.stack([prior[box][inside] for prior in priors]).astype(np.float32)
    chance = np.clip(chance, 0, 1) + np.float32(PRIOR_FLOOR)
    chance /= chance.sum(axis=0)
    step = max(1, count // SAMPLE)
    means, sd, shares = _estimate(values[::step], chance[:, ::step], iterations)

    expected = (MIXTURES @ chance) * shares[:, None]  # (5, n)
    likelihood = _likelihood(values, means, sd) * expected
    posterior = likelihood / likelihood.sum(axis=0)
    weights = 1 / geometry.zooms(affine)
    weights /= weights.sum()
    for _ in range(sweeps):
        around = _neighbour_mean(MIXTURES.T @ posterior, inside, weights)
        distance = ((MIXTURES[:, :, None] - around) ** 2).sum(axis=1)
        posterior = likelihood * np.exp(-NEIGHBOUR_WEIGHT * distance)
        posterior /= posterior.sum(axis=0)
    fractions = np.zeros((3, *data.shape), dtype=np.float32)
    for tissue, found in zip(fractions, MIXTURES.T @ posterior, strict=True):
        tissue[box][inside] = found
    return Tissues(fractions, means, sd)


def bring_priors(
    priors: NDArray[Any],
    template_affine: NDArray[Any],
    to_subject: NDArray[Any],
    shape: tuple[int, ...],
    affine: NDArray[Any],
) -> NDArray[np.float32]:
    """Blur the template's tissue probabilities and sample them on the subject's grid.

    Parameters
    ----------
    priors : array, (3, i, j, k)
        Probabilities in template space.
    to_subject : array, (4, 4)
        Template world to subject world, mm: an alignment's matrix.
    shape, affine
        The subject's grid.

    Returns
    -------
    array, (3, x, y, z), float32
    """
    sigma = PRIOR_FWHM_MM / 2.3548 / geometry.zooms(template_affine)
    blurred = (ndimage.gaussian_filter(prior, sigma, truncate=3.0) for prior in priors)
    inverse = np.linalg.inv(to_subject)
    return np.stack(
        [itk.resample(prior, template_affine, inverse, shape, affine) for prior in blurred]
    )


def _estimate(
    values: NDArray[np.float32], chance: NDArray[np.float32], iterations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Fit means, (3,), spreads, (3,), and shares of the mixtures, (5,)."""
    # Where the template is surest a tissue shows its own intensity.
    sure = chance**6
    means = np.array([_weighted_median(values, weight) for weight in sure])
    _check_order(means)
    sd = np.full(3, max(float(np.diff(means).min()) / 2, 1e-6))
    base = MIXTURES @ chance
    shares = np.full(len(MIXTURES), 0.2, dtype=np.float32)
    for _ in range(iterations):
        expected = base * shares[:, None]
        expected /= expected.sum(axis=0)
        posterior = _likelihood(values, means, sd) * expected
        posterior /= posterior.sum(axis=0)
        total = posterior.sum(axis=1, dtype=np.float64)
        shares = (total / (base / (shares @ base)).sum(axis=1, dtype=np.float64)).astype(np.float32)
        shares /= shares.sum()
        former = means
        first = (posterior @ values).astype(np.float64)
        precision = 1 / (MIXTURES @ sd**2)
        left = np.einsum("k,ki,kj->ij", total * precision, MIXTURES, MIXTURES)
        means = np.linalg.solve(left, MIXTURES.T @ (precision * first))
        _check_order(means)
        pure = posterior[::2]
        spread = [
            float(weight @ (values - mean) ** 2) / max(float(weight.sum()), 1e-9)
            for weight, mean in zip(pure, means, strict=True)
        ]
        # A floor keeps a tissue from collapsing on one stored intensity of 8-bit images.
        sd = np.maximum(np.sqrt(spread), 0.02 * (means[2] - means[0]))
        if np.abs(means - former).max() < 1e-4 * (means[2] - means[0]):
            break
    return means, sd, shares


def _likelihood(
    values: NDArray[np.float32], means: NDArray[np.float64], sd: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the density of each mixture at each value, (5, n); never all zero."""
    centres = MIXTURES @ means
    spreads = np.sqrt(MIXTURES @ sd**2)
    bounded = np.clip(values, means[0], means[2] + 2 * sd[2])
    rows = [
        np.exp(-0.5 * ((bounded - np.float32(centre)) / np.float32(spread)) ** 2) / spread
        for centre, spread in zip(centres, spreads, strict=True)
    ]
    return np.stack(rows).astype(np.float32) + np.float32(1e-20)


def _neighbour_mean(
    fractions: NDArray[np.float32], inside: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Average the fractions of the six neighbours in the mask, nearer ones counting more."""
    volume = np.zeros(inside.shape, dtype=np.float32)

    def total(values: NDArray[Any]) -> NDArray[np.float32]:
        volume[inside] = values
        summed = np.zeros_like(volume)
        for axis, weight in enumerate(weights.astype(np.float32)):
            low = [slice(None)] * 3
            high = [slice(None)] * 3
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            scaled = volume * weight
            summed[tuple(low)] += scaled[tuple(high)]
            summed[tuple(high)] += scaled[tuple(low)]
        return np.asarray(summed[inside])

    present = total(np.ones(fractions.shape[1], dtype=np.float32))
    return np.stack([total(fraction) for fraction in fractions]) / np.maximum(present, 1e-6)


def _weighted_median(values: NDArray[Any], weights: NDArray[Any]) -> float:
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order], dtype=np.float64)
    return float(values[order[np.searchsorted(cumulative, cumulative[-1] / 2)]])


def _check_order(means: NDArray[np.float64]) -> None:
    if not (means[0] < means[1] < means[2]):
        listed = ", ".join(
            f"{tissue} {mean:.4g}" for tissue, mean in zip(TISSUES, means, strict=True)
        )
        raise ValueError(
            f"tissue intensities are {listed}, but in a T1-weighted image they rise in this order; "
            "check that the image is T1-weighted and that its brain mask and registration are right"
        )
