"""Is it a brain? Cleaning of a mask, the numbers that tell, and what they may be.

The limits are wide: they are to catch failures, not to judge anatomy. Volumes span a newborn's to
the largest adult's intracranial volume; the others were set beside the values of held-out heads,
which are in the model card.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
Mask = NDArray[np.bool_]

#: name: (fails below, warns below, warns above, fails above)
LIMITS: dict[str, tuple[float, float, float, float]] = {
    "volume_ml": (400, 900, 2100, 2700),
    "sharpness": (0.85, 0.95, 1, 1),
    "agreement": (0.85, 0.95, 1, 1),
    "spread": (0.99, 1.01, 1.12, 1.3),
    "cut": (0, 0, 0.02, 0.4),
}
MEANING = {
    "volume_ml": "intracranial volume in ml",
    "sharpness": "sharpness of the probabilities",
    "agreement": "agreement of the looks at 4 mm and 2 mm",
    "spread": "spread (a ball has 1)",
    "cut": "share of the brain's surface on the edge of the image",
}


def dice(a: Mask, b: Mask) -> float:
    """Return the Dice overlap 2 |a and b| / (|a| + |b|) of two masks; 0 if both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / max(1, total)


def clean(mask: Mask) -> Mask:
    """Keep the largest component (6 neighbours) and fill its holes."""
    out = np.zeros(mask.shape, bool)
    if not mask.any():
        return out
    # Within the bounding box, with a rim that joins all that is outside.
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    labels, n = ndimage.label(np.pad(mask[box], 1))
    if n > 1:
        labels = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    outside, _ = ndimage.label(labels == 0)
    out[box] = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return out


def measure(mask: Mask, affine: Array) -> dict[str, float]:
    """Return volume (ml), spread and cut of a mask, the last two only if it is not empty.

    spread is the root mean square distance from the centre over that of a ball of the same volume,
    1.03 for brains. cut is the share of the surface (voxel faces) that lies on the edge of the
    image.
    """
    count = int(np.count_nonzero(mask))
    volume_ml = count * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    if not count:
        return {"volume_ml": 0.0}
    points = np.argwhere(mask)[:: max(1, count // 50_000)] @ affine[:3, :3].T
    radius_mm = (3 * volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    spread = float(np.sqrt(points.var(axis=0).sum()) / (np.sqrt(3 / 5) * radius_mm))
    surface = on_edge = 0
    for axis in range(3):
        rows = np.moveaxis(mask, axis, 0)
        edge = int(np.count_nonzero(rows[0])) + int(np.count_nonzero(rows[-1]))
        on_edge += edge
        surface += edge + int(np.count_nonzero(rows[1:] != rows[:-1]))
    return {"volume_ml": volume_ml, "spread": spread, "cut": on_edge / surface}


def judge(checks: dict[str, float]) -> tuple[str, tuple[str, ...], float]:
    """Compare numbers with `LIMITS`.

    Parameters
    ----------
    checks : dict
        Numbers by name.

    Returns
    -------
    flag : {"pass", "warn", "fail"}
    reasons : tuple of str
        One for each number outside its usual range.
    plausibility : float
        The worst check: 1 inside the usual range, falling to 0 where it fails.

    Examples
    --------
    >>> judge({"volume_ml": 1400.0})
    ('pass', (), 1.0)
    >>> judge({"volume_ml": 650.0})
    ('warn', ('intracranial volume in ml is 650, usual are 900 to 2100',), 0.5)
    """
    reasons, plausibility = [], 1.0
    for name, value in checks.items():
        fail_low, warn_low, warn_high, fail_high = LIMITS[name]
        if warn_low <= value <= warn_high:
            continue
        reasons.append(f"{MEANING[name]} is {value:.3g}, usual are {warn_low:g} to {warn_high:g}")
        if value < warn_low:
            score = (value - fail_low) / (warn_low - fail_low)
        else:
            score = (fail_high - value) / (fail_high - warn_high)
        plausibility = min(plausibility, max(0.0, score))
    flag = "pass" if not reasons else "warn" if plausibility > 0 else "fail"
    return flag, tuple(reasons), plausibility
