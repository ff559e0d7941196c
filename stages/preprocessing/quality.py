"""Numbers by which a person decides whether to trust a result, and a flag that says where to look.

The limits of the flag are generous. On 60 healthy heads of one scanner the correlation with the
template was 0.79 to 0.88 and the overlap 0.94 to 0.97; turning an aligned head by 10 degrees left
0.66 to 0.72, by 20 degrees or moving it by 10 mm 0.51 to 0.56, turning it round 0.36 to 0.44. Very
large ventricles, children or other scanners may lie outside the limits without any error: a flag
is a reason to look at the figure.

References
----------
Ganzetti, Wenderoth & Mantini (2016), Intensity inhomogeneity correction of structural MR images: a
data-driven approach to define input algorithm parameters, Front Neuroinform 10 (the CJV).
Esteban et al. (2017), MRIQC, PLoS ONE 12.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLAGS = ("pass", "warn", "fail")
#: Measure -> (fail below, warn below, warn above, fail above).
LIMITS = {
    "brain_volume_ml": (700.0, 950.0, 2000.0, 2500.0),
    "ncc_template": (0.60, 0.75, 1.01, 1.01),
    "dice_template": (0.87, 0.92, 1.01, 1.01),
    "gm_fraction": (0.20, 0.32, 0.65, 0.80),
    "wm_fraction": (0.12, 0.22, 0.50, 0.65),
    "cjv": (0.0, 0.0, 0.7, 1.2),
}


def judge(measures: dict[str, float]) -> tuple[str, str]:
    """Compare measures with their limits.

    Parameters
    ----------
    measures : dict
        Values by the names of ``LIMITS``; other names are ignored.

    Returns
    -------
    flag : {"pass", "warn", "fail"}
        The worst of all.
    reasons : str
        The measures that are not passed, with their values; ``n/a`` when all are.

    Examples
    --------
    >>> judge({"ncc_template": 0.5, "brain_volume_ml": 1400.0})
    ('fail', 'ncc_template 0.5')
    """
    worst, reasons = 0, []
    for name, (fail_low, warn_low, warn_high, fail_high) in LIMITS.items():
        if name not in measures:
            continue
        value = measures[name]
        level = 0 if warn_low <= value <= warn_high else 1
        # NaN compares false with everything and so fails.
        level = level if fail_low <= value <= fail_high else 2
        worst = max(worst, level)
        if level:
            reasons.append(f"{name} {value:.3g}")
    return FLAGS[worst], "; ".join(reasons) or "n/a"


def tissue_contrast(
    data: NDArray[Any], fractions: NDArray[Any], *, purity: float = 0.9
) -> dict[str, float]:
    """Measure signal, noise and contrast in voxels of nearly pure tissue.

    Parameters
    ----------
    data : array, (x, y, z)
        Bias-corrected intensities.
    fractions : array, (3, x, y, z)
        CSF, grey and white matter.
    purity : float
        Fraction from which a voxel counts as pure.

    Returns
    -------
    dict
        ``snr_gm`` and ``snr_wm``: median over standard deviation within the tissue (texture counts
        as noise); ``cnr``: difference of the grey and white medians over the root of their summed
        variances; ``cjv``, coefficient of joint variation: sum of their standard deviations over
        that difference (lower is better).
    """
    grey, white = (data[fraction > purity] for fraction in fractions[1:])
    if min(grey.size, white.size) < 2:
        return dict.fromkeys(("snr_gm", "snr_wm", "cnr", "cjv"), float("nan"))
    contrast = float(np.median(white) - np.median(grey))
    spread = float(grey.std()), float(white.std())
    return {
        "snr_gm": _ratio(float(np.median(grey)), spread[0]),
        "snr_wm": _ratio(float(np.median(white)), spread[1]),
        "cnr": _ratio(contrast, float(np.hypot(*spread))),
        "cjv": _ratio(sum(spread), contrast),
    }


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the overlap of two masks, 2 |A and B| / (|A| + |B|)."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def template_correlation(aligned: NDArray[Any], target: NDArray[Any], *, block: int = 4) -> float:
    """Correlate an aligned brain with the template over all that either of them covers.

    Both are averaged over blocks first, because folds that no linear transform can align would
    otherwise hide whether the brain as a whole lies right.

    Parameters
    ----------
    aligned, target : array, (x, y, z)
        Brains on one grid, 0 outside.
    block : int
        Edge of the blocks in voxels.

    Returns
    -------
    float
        Pearson's correlation; NaN when one of them is constant.
    """
    first, second = (_block_mean(volume, block) for volume in (aligned, target))
    covered = (first > 0) | (second > 0)
    a, b = (np.asarray(volume[covered], dtype=float) for volume in (first, second))
    if a.size == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return _ratio(float(a @ b), float(np.sqrt((a @ a) * (b @ b))))


def _block_mean(volume: NDArray[Any], block: int) -> NDArray[Any]:
    fits = [size // block for size in volume.shape]
    cut = volume[tuple(slice(0, fit * block) for fit in fits)]
    split = cut.reshape(fits[0], block, fits[1], block, fits[2], block)
    return np.asarray(split.mean(axis=(1, 3, 5)))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
