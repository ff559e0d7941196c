"""Bright tubes in a volume: multi-scale vesselness, hysteresis, small components left out.

Vesselness is Sato's (1998) as scikit-image has it: over scales σ, σ² times the mean of the two most
negative curvatures of the smoothed image, where they are negative. Unlike Frangi's it has no
constants that depend on the whole image, so that a volume can be worked through slab by slab, and
it does not fall to nothing on a sac, which would lose the lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, sato

from stages.transfer.volumes import Volume, prepare

REACH = 6  # a slab's margin in σ: the smoothing is cut off at 4 σ, twice derived at step 1
CONNECTED = np.ones((3, 3, 3), dtype=bool)
LEAST_BRIGHTNESS = 0.4  # of 0..1 between tissue and brightest vessels: keeps the wall tight


def measure_vesselness(
    data: NDArray[Any], sigmas: Sequence[float], slab: int = 48
) -> NDArray[np.float32]:
    """Measure how much of a bright tube each voxel is.

    Parameters
    ----------
    data : array, (x, y, z)
        Cubic voxels; 0..1 gives vesselness in units of contrast.
    sigmas : sequence of float
        Scales in voxels; a tube of radius r answers most at about r.
    slab : int
        Planes at a time along the last axis, which bounds memory; of no effect on the result.

    Returns
    -------
    vesselness : array, (x, y, z), float32, ≥ 0
    """
    margin = int(np.ceil(REACH * max(sigmas)))
    found = np.empty(data.shape, dtype=np.float32)
    depth = data.shape[2]
    for start in range(0, depth, slab):
        stop = min(start + slab, depth)
        low, high = max(start - margin, 0), min(stop + margin, depth)
        part = np.asarray(data[:, :, low:high], dtype=np.float32)
        tubes = sato(part, sigmas=list(sigmas), black_ridges=False, mode="nearest")
        found[:, :, start:stop] = tubes[:, :, start - low : stop - low]
    return found


def rescale(data: NDArray[Any]) -> NDArray[np.float32]:
    """Map intensities so that tissue is about 0 and the brightest vessels are 1.

    Tissue is the median of what is not air; vessels are the 99.9th percentile of all voxels. Where
    only vessels were kept (all else 0) tissue is 0.
    """
    body = data[data > 0]
    is_cut_out = body.size < 0.1 * data.size
    tissue = 0.0 if is_cut_out or not body.size else float(np.median(body))
    bright = float(np.percentile(body if is_cut_out and body.size else data, 99.9))
    return np.clip((data.astype(np.float32) - tissue) / max(bright - tissue, 1e-6), 0, 1)


def outline_vessels(
    image: str, spacing_mm: float, ct_window: tuple[float, float], **settings: Any
) -> tuple[Volume, NDArray[np.bool_]]:
    """Read an angiogram onto cubic voxels and find its vessels.

    Takes the settings of ``find_vessels``; what that refuses is told with the image's name.
    """
    volume = prepare(image, spacing_mm, ct_window)
    try:
        return volume, find_vessels(volume, **settings)
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error


def find_vessels(
    volume: Volume,
    *,
    radii_mm: Sequence[float],
    low: float,
    high: float,
    least_mm3: float,
) -> NDArray[np.bool_]:
    """Find the vessels of an isotropic volume.

    Parameters
    ----------
    volume : Volume
        Cubic voxels.
    radii_mm : sequence of float
        Scales of the vesselness.
    low, high : float
        Hysteresis: what is above ``low`` and hangs together with something above ``high``.
    least_mm3 : float
        Smaller components are left out.

    Returns
    -------
    mask : array, (x, y, z), bool

    Raises
    ------
    ValueError
        There is no vessel; says what was tried.
    """
    spacing = float(volume.zooms.mean())
    data = rescale(volume.data)
    tubes = measure_vesselness(data, [r / spacing for r in radii_mm])
    mask = apply_hysteresis_threshold(tubes, low, high) & (data > LEAST_BRIGHTNESS)
    mask = ndimage.binary_fill_holes(mask)
    labels, count = ndimage.label(mask, CONNECTED)
    sizes = np.bincount(labels.ravel()) * spacing**3
    is_kept = sizes >= least_mm3
    is_kept[0] = False
    if not is_kept.any():
        raise ValueError(
            f"no vessel found: the strongest vesselness is {tubes.max():.3f} (threshold {high:g}),"
            f" {count} components, the largest {sizes[1:].max(initial=0.0):.1f} mm³ (at least"
            f" {least_mm3:g} needed); is it an angiography with bright vessels? else lower"
            " --transfer-vessel-high"
        )
    return np.asarray(is_kept[labels])
