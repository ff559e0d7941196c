"""A person: what stays the same from scan to scan, and the planted effects of sex and age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from bids_app.demo.template import CSF, GM, WM, Array, HeadTemplate, sample

Sex = Literal["F", "M"]

AGE_RANGE_Y = (20.0, 80.0)
SEX_SCALE = 1.03
AGEING_GM_LOSS = 0.35
AGEING_VENTRICLE_MM = 3.0
VENTRICLE_REACH_MM = 10.0  # tissue further from the ventricles than this hardly moves

WARP_RMS_MM, WARP_SIGMA_MM = 3.0, 12.0
TEXTURE_SIGMA_MM, THICKNESS_SIGMA_MM = 6.0, 20.0
NOISE_MM = 4.0  # spacing of the white noise that is smoothed into warp and texture


@dataclass(frozen=True)
class Anatomy:
    """Describe a person apart from sex and age.

    Attributes
    ----------
    seed : int
        Of warp and texture.
    scale : float
        Linear size relative to the template, before the effect of sex.
    warp_rms_mm : float
        Root mean square length of the warp.
    rim_mm, skull_mm, scalp_mm : float
        Thickness of the CSF rim, of the skull and of the scalp.
    """

    seed: int
    scale: float = 1.0
    warp_rms_mm: float = WARP_RMS_MM
    rim_mm: float = 3.0
    skull_mm: float = 6.5
    scalp_mm: float = 6.0


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a person: scale N(.93, .02) and plausible thicknesses of CSF rim, skull and scalp.

    The template is larger than people are: its brain holds 1.9 l, an adult's about 1.5 l.
    """
    return Anatomy(
        seed=int(rng.integers(2**31)),
        scale=float(rng.normal(0.93, 0.02)),
        rim_mm=float(rng.uniform(2.0, 3.5)),
        skull_mm=float(rng.uniform(5.5, 8.0)),
        scalp_mm=float(rng.uniform(4.5, 8.0)),
    )


def ageing(age_y: float) -> float:
    """Return the share of the planted effects of age: 0 at 20 years, 1 at 80, linear between.

    Raises
    ------
    ValueError
        If the age is outside 20 to 80 years.

    >>> ageing(50)
    0.5
    """
    low, high = AGE_RANGE_Y
    if not low <= age_y <= high:
        raise ValueError(f"age {age_y:g}: phantoms age between {low:g} and {high:g} years")
    return (age_y - low) / (high - low)


def head_scale(anatomy: Anatomy, sex: Sex) -> float:
    """Return the linear size of the head relative to the template, the effect of sex included.

    Raises
    ------
    ValueError
        If the sex is not one the effect is defined for.
    """
    if sex not in ("F", "M"):
        raise ValueError(f"sex {sex!r}: the planted effect is defined for 'F' and 'M'")
    return anatomy.scale * (SEX_SCALE if sex == "M" else 1.0)


def draw_warp(anatomy: Anatomy, template: HeadTemplate) -> tuple[Array, Array, Array]:
    """Draw the smooth warp and the mottle and thickness of a person's tissues, coarse grid.

    Returns
    -------
    warp : array, (3, i, j, k), mm
    texture, thickness : array, (i, j, k)
        Smooth and very smooth noise of unit variance.
    """
    rng = np.random.default_rng(anatomy.seed)
    shape = template.hull_mm.shape
    extent_mm = np.array(shape) * template.coarse_affine[0, 0]
    noise_shape = tuple(np.ceil(extent_mm / NOISE_MM).astype(int))
    sigmas_mm = (WARP_SIGMA_MM,) * 3 + (TEXTURE_SIGMA_MM, THICKNESS_SIGMA_MM)
    *warp, texture, thickness = (
        _smooth_noise(rng, noise_shape, shape, sigma_mm) for sigma_mm in sigmas_mm
    )
    return np.stack(warp) * np.float32(anatomy.warp_rms_mm / np.sqrt(3)), texture, thickness


def push_from_ventricles(warp: Array, template: HeadTemplate, share: float) -> Array:
    """Add to a warp the outward shift of the tissue around growing ventricles.

    The tissue that is found at a distance s > D from the original surface of the ventricles comes
    from s - D exp(-((s - D) / L)^2): the surface moves by D, and what is far stays.

    Parameters
    ----------
    warp : array, (3, i, j, k)
        From the coarse grid of the template to the template, mm.
    template : HeadTemplate
        Where the ventricles are.
    share : float
        Of the ageing effect, 0 to 1.

    Returns
    -------
    array, (3, i, j, k), mm
    """
    if share == 0:
        return warp
    growth = AGEING_VENTRICLE_MM * share
    # Four reaches away nothing is left of the push, so most of the grid need not be visited.
    is_near = template.ventricle_mm < growth + 4 * VENTRICLE_REACH_MM
    at = np.argwhere(is_near).T + warp[:, is_near] / np.float32(template.coarse_affine[0, 0])
    distance, *outward = (
        ndimage.map_coordinates(field, at, output=np.float32, order=1, mode="nearest")
        for field in (template.ventricle_mm, *template.outward)
    )
    beyond = np.maximum(distance - growth, 0)
    pushed = warp.copy()
    pushed[:, is_near] -= np.stack(outward) * growth * np.exp(-((beyond / VENTRICLE_REACH_MM) ** 2))
    return pushed


def paint_brain(
    p: Array, template: HeadTemplate, *, widened: Array, share: float, is_male: bool
) -> tuple[Array, Array, Array, Array]:
    """Sample the brain of the template and apply the effects of sex and age on tissue.

    Parameters
    ----------
    p : array, (3, n)
        Template points, mm.
    template : HeadTemplate
        What is sampled.
    widened : array, (n,)
        Weight, 0 to 1, of the CSF that fills the widened ventricles.
    share : float
        Of the ageing effect.
    is_male : bool
        Whether the effect of sex is present.

    Returns
    -------
    t1, gm, wm, brain : array, (n,)
        T1w intensity (premultiplied by `brain`), tissue fractions, brain fraction.
    """
    t1, gm, wm, brain = (
        sample(volume, template.affine, p)
        for volume in (template.t1, template.gm, template.wm, template.brain)
    )
    if is_male:
        mask = sample(template.sex_mask, template.coarse_affine, p)
        gain = template.sex_gain * mask * gm * (1 - gm)
        # Grey matter takes the place of white matter and CSF in the proportion found.
        rest = np.maximum(1 - gm, 1e-3)
        t1 += gain * (GM - (wm * WM + (rest - wm) * CSF) / rest)
        wm *= 1 - gain / rest
        gm += gain
    if share > 0:
        mask = sample(template.ageing_mask, template.coarse_affine, p)
        loss = AGEING_GM_LOSS * share * mask * gm
        t1 -= loss * (GM - CSF)
        gm -= loss
        t1 += widened * (brain * CSF - t1)
        gm *= 1 - widened
        wm *= 1 - widened
    return t1, gm, wm, brain


def _smooth_noise(
    rng: np.random.Generator, noise_shape: tuple[int, ...], shape: tuple[int, ...], sigma_mm: float
) -> Array:
    noise = rng.standard_normal(noise_shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, sigma_mm / NOISE_MM, mode="wrap")
    smooth /= smooth.std()
    return ndimage.zoom(smooth, np.array(shape) / np.array(noise_shape), order=1)
