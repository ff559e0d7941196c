"""Plain measures of a slice that a picture may get wrong while looking well."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from stages.generation.instruments import Slices
from stages.generation.slices import Pixels
from stages.generation.tables import Row
from stages.generation.verdicts import HELD_OUT, SYNTHETIC

Array = NDArray[np.float64]

BRAIN_SHARE = 0.12  # of the brightest percentile; darker is background unless enclosed
DARK_SHARE = 0.45  # of the median within the brain; darker is fluid
CENTRE = 0.5  # ventricles are looked for in the inner half of the brain, by distance to its rim


def measure(pixels: Pixels) -> dict[str, Array]:
    """Measure slices, (n, 160, 160), uint8.

    Returns
    -------
    measures : dict of array, (n,)
        brain_area_cm2; ventricle_fraction (dark area in the inner half of the brain over its
        area); symmetry (correlation of the slice with its mirror image about the brain's middle).
    """
    rows = [_measure_one(p.astype(np.float64)) for p in pixels]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def compare(made: Mapping[str, Array], real: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Compare each measure with real slices: medians, share within the real 95 %, KS test."""
    rows = []
    for name, values in made.items():
        low, high = np.quantile(real[name], [0.025, 0.975])
        test = stats.ks_2samp(values, real[name])
        rows.append(
            {
                "measure": name,
                "median": float(np.median(values)),
                "real_median": float(np.median(real[name])),
                "real_low": float(low),
                "real_high": float(high),
                "within_real_95": float(((values >= low) & (values <= high)).mean()),
                "ks": float(test.statistic),
                "p_ks": float(test.pvalue),
                "n": len(values),
                "n_real": len(real[name]),
            }
        )
    return rows


def compare_anatomy(
    train: Slices,
    held_out: Slices,
    made: dict[str, tuple[Slices, list[Row]]],
    groups: list[str],
    variants: Mapping[str, Slices],
) -> list[dict[str, Any]]:
    """Compare measures of synthetic and held-out slices with those of training slices.

    Variants of held-out slices, such as those brought through the models' resolution, stand beside
    them: fine detail counts in every measure.
    """
    rows = []
    for group in groups:
        real = measure(train.of(group))
        sets = {f"{SYNTHETIC} ({c})": s.of(group) for c, (s, _) in made.items()}
        sets[HELD_OUT] = held_out.of(group)
        sets |= {name: slices.of(group) for name, slices in variants.items()}
        for name, pixels in sets.items():
            if len(pixels):
                found = compare(measure(pixels), real)
                rows += [{"slices": name, "group": group, **row} for row in found]
    return rows


def _measure_one(pixels: Array) -> dict[str, float]:
    bright = np.percentile(pixels, 99)
    parts, count = ndimage.label(pixels > BRAIN_SHARE * bright)
    if not count:
        return {"brain_area_cm2": 0.0, "ventricle_fraction": 0.0, "symmetry": 0.0}
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, np.arange(1, count + 1))
    brain = ndimage.binary_fill_holes(parts == 1 + int(np.argmax(sizes)))
    depth = ndimage.distance_transform_edt(brain)
    inner = depth > CENTRE * depth.max()
    dark = inner & (pixels < DARK_SHARE * np.median(pixels[brain]))
    return {
        "brain_area_cm2": float(brain.sum() / 100),  # 1 mm pixels
        "ventricle_fraction": float(dark.sum() / brain.sum()),
        "symmetry": _symmetry(pixels, brain),
    }


def _symmetry(pixels: Array, brain: NDArray[np.bool_]) -> float:
    """Correlate with the mirror image about the column through the brain's centre."""
    middle = ndimage.center_of_mass(brain)[1]
    shift = 2 * (middle - (pixels.shape[1] - 1) / 2)
    mirrored = ndimage.shift(pixels[:, ::-1], (0, shift), order=1)
    either = brain | (mirrored > 0)
    if pixels[either].std() == 0 or mirrored[either].std() == 0:
        return 0.0
    return float(np.corrcoef(pixels[either], mirrored[either])[0, 1])
