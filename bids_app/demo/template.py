"""The ICBM152 2009a brain and the fields that phantoms are warped from, all in template space.

nilearn ships the symmetric ICBM152 2009a averages (T1w, grey matter, white matter; brain only,
1 mm), so nothing is downloaded. Two grids are used. The *fine* grid carries what has sharp edges:
intensities and tissue probabilities. The *coarse* grid (2 mm, and larger than the template, so
that a neck and a face fit below the brain) carries what is smooth: distances and effect masks.
Template world coordinates are RAS+ in mm, as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]

TEMPLATE = "MNI152NLin2009aSym"
COARSE_MM = 2.0
# RAS corners of the coarse grid: a margin of 30 mm around the brain, 80 mm below it for the neck.
COARSE_LOW_MM = np.array([-106.0, -146.0, -160.0])
COARSE_HIGH_MM = np.array([106.0, 120.0, 124.0])

# Median T1w intensities of voxels with tissue probability above .95 in the template itself.
CSF, GM, WM = 0.27, 0.64, 0.87

SEX_GM_GAIN = 0.08
# (centre, semi-axes) in mm for the right hemisphere; the left one is the mirror image.
SEX_REGION = (((50.0, -8.0, -22.0), (20.0, 28.0, 16.0)),)
AGEING_REGION = (
    ((30.0, 42.0, 22.0), (28.0, 26.0, 30.0)),  # frontal
    ((38.0, -56.0, 46.0), (26.0, 22.0, 24.0)),  # parietal
)


@dataclass(frozen=True)
class HeadTemplate:
    """Hold everything about the template that does not depend on a subject.

    Attributes
    ----------
    t1, gm, wm, brain : array, (x, y, z), float32
        T1w intensity (0 to 1) and probabilities on the fine grid; zero outside the brain.
    affine : array, (4, 4)
        Fine voxel -> template world, mm.
    hull_mm : array, (i, j, k), float32
        Distance outside a smooth hull of the brain, on the coarse grid; 0 inside.
    ventricle_mm : array, (i, j, k), float32
        Signed distance to the surface of the lateral ventricles; negative inside them.
    outward : array, (3, i, j, k), float32
        Unit vectors (RAS) pointing away from the lateral ventricles.
    ageing_mask, sex_mask : array, (i, j, k), float32
        Where grey matter is lost with age and gained in males; 0 to 1 with soft edges.
    coarse_affine : array, (4, 4)
        Coarse voxel -> template world, mm.
    sex_gain : float
        k in gm + k gm (1 - gm), such that grey matter in the sex mask gains exactly 8 %.
    """

    t1: Array
    gm: Array
    wm: Array
    brain: Array
    affine: Matrix
    hull_mm: Array
    ventricle_mm: Array
    outward: Array
    ageing_mask: Array
    sex_mask: Array
    coarse_affine: Matrix
    sex_gain: float


def sample(field: Array, affine: Matrix, points: Array, *, outside: float = 0.0) -> Array:
    """Interpolate a field linearly at points.

    Parameters
    ----------
    field : array, (x, y, z)
        What is interpolated.
    affine : array, (4, 4)
        Voxel -> world, mm.
    points : array, (3, n)
        World coordinates, mm.
    outside : float
        Value beyond the grid of the field.

    Returns
    -------
    array, (n,), float32

    >>> sample(np.arange(8, dtype="f4").reshape(2, 2, 2), np.eye(4), np.full((3, 1), 0.5, "f4"))
    array([3.5], dtype=float32)
    """
    inverse = np.linalg.inv(affine).astype(np.float32)
    voxels = inverse[:3, :3] @ points + inverse[:3, 3:]
    return ndimage.map_coordinates(
        field, voxels, output=np.float32, order=1, mode="constant", cval=outside
    )


@lru_cache(maxsize=2)
def load_template(*, fine_mm: int = 2) -> HeadTemplate:
    """Load the template on a 1 or 2 mm fine grid and derive the coarse fields from it.

    Raises
    ------
    ValueError
        If `fine_mm` is neither 1 nor 2.
    """
    if fine_mm not in (1, 2):
        raise ValueError(f"fine_mm is {fine_mm}; the template is kept at 1 or 2 mm")
    t1, gm, wm, brain, affine = _load_icbm152()
    halved = [_halve(volume) for volume in (gm, wm, brain)]
    affine_2mm = affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine_2mm[:3, 3] += 0.5  # the centre of the first block of 2 x 2 x 2 voxels

    coarse_affine = np.diag([COARSE_MM, COARSE_MM, COARSE_MM, 1.0])
    coarse_affine[:3, 3] = COARSE_LOW_MM
    shape = tuple(((COARSE_HIGH_MM - COARSE_LOW_MM) / COARSE_MM).astype(int) + 1)
    axes = [low + COARSE_MM * np.arange(n) for low, n in zip(COARSE_LOW_MM, shape, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    points = grid.reshape(3, -1)
    gm_c, wm_c, brain_c = (sample(v, affine_2mm, points).reshape(shape) for v in halved)

    ventricle_mm = _distance_to_ventricles(brain_c - gm_c - wm_c, grid)
    gradient = np.stack(np.gradient(ventricle_mm))
    norm = np.linalg.norm(gradient, axis=0)
    sex_mask = _ellipsoids(grid, SEX_REGION)
    if fine_mm == 2:
        t1, (gm, wm, brain), affine = _halve(t1), halved, affine_2mm
    return HeadTemplate(
        t1=t1,
        gm=gm,
        wm=wm,
        brain=brain,
        affine=affine,
        hull_mm=_distance_outside_hull(brain_c),
        ventricle_mm=ventricle_mm,
        outward=(gradient / np.maximum(norm, 1e-3)).astype(np.float32),
        ageing_mask=_ellipsoids(grid, AGEING_REGION),
        sex_mask=sex_mask,
        coarse_affine=coarse_affine,
        sex_gain=_calibrate_gain(gm, affine, sex_mask, coarse_affine),
    )


def _load_icbm152() -> tuple[Array, Array, Array, Array, Matrix]:
    # Imported here: nilearn takes a second to import, and the layers of the head do not need it.
    from nilearn import datasets

    images = [
        load(resolution=1)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
            datasets.load_mni152_brain_mask,
        )
    ]
    t1, gm, wm, brain = (image.get_fdata(dtype=np.float32) for image in images)
    return t1, gm, wm, brain, np.array(images[0].affine, dtype=float)


def _halve(volume: Array) -> Array:
    """Average blocks of 2 x 2 x 2 voxels; an odd last plane is dropped (it is background)."""
    x, y, z = (n // 2 for n in volume.shape)
    blocks = volume[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def _calibrate_gain(gm: Array, affine: Matrix, mask: Array, mask_affine: Matrix) -> float:
    """Find k such that gm + k gm (1 - gm) has `SEX_GM_GAIN` more in the mask than gm."""
    is_grey = gm > 0
    points = affine[:3, :3] @ np.argwhere(is_grey).T + affine[:3, 3:]
    weight = sample(mask, mask_affine, points.astype(np.float32))
    grey = gm[is_grey]
    return float(SEX_GM_GAIN * (grey @ weight) / ((grey * (1 - grey)) @ weight))


def _distance_outside_hull(brain: Array) -> Array:
    """Measure the distance to a hull that bridges the fissures, as the inner skull does."""
    closed = ndimage.distance_transform_edt(brain < 0.5) <= 16 / COARSE_MM
    eroded = ndimage.distance_transform_edt(closed) > 15 / COARSE_MM
    hull = ndimage.gaussian_filter(eroded.astype(np.float32), 2.0) > 0.5
    hull |= brain > 0.2  # smoothing shaves the poles off, where the brain would touch bone
    distance = ndimage.distance_transform_edt(~hull) * COARSE_MM
    # Without smoothing, the staircase of the hull would be seen in every layer of the skull.
    return ndimage.gaussian_filter(distance.astype(np.float32), 1.2)


def _distance_to_ventricles(csf: Array, grid: Array) -> Array:
    """Measure the signed distance to the lateral ventricles, the large central CSF spaces."""
    x, y, z = grid
    central = (np.abs(x) > 1) & (np.abs(x) < 45) & (np.abs(y + 20) < 60) & (z > -20) & (z < 32)
    labels, _ = ndimage.label((csf > 0.4) & central)
    right = _label_at(labels, (10.0, -30.0, 20.0))
    left = _label_at(labels, (-10.0, -30.0, 20.0))
    inside = (labels == right) | (labels == left)
    signed = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    # Half a voxel: a mask's surface lies between voxel centres, the transform measures to centres.
    signed = COARSE_MM * (signed - 0.5 * np.sign(signed))
    return ndimage.gaussian_filter(signed.astype(np.float32), 0.7)


def _label_at(labels: NDArray[np.int32], point: tuple[float, float, float]) -> int:
    index = tuple(np.round((np.array(point) - COARSE_LOW_MM) / COARSE_MM).astype(int))
    return int(labels[index])


def _ellipsoids(
    grid: Array, region: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]
) -> Array:
    """Draw ellipsoids in both hemispheres with edges about 4 mm wide."""
    x, y, z = grid
    mask = np.zeros(x.shape, np.float32)
    for centre, axes in region:
        radius = np.sqrt(
            ((np.abs(x) - centre[0]) / axes[0]) ** 2
            + ((y - centre[1]) / axes[1]) ** 2
            + ((z - centre[2]) / axes[2]) ** 2
        )
        edge = (1 - radius) * min(axes) / 4.0
        mask = np.maximum(mask, np.clip(0.5 + edge, 0, 1).astype(np.float32))
    return mask
