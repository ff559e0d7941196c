"""Aligns a brain with the template by 6, 7, 9 or 12 degrees of freedom.

Both images are brains without their skulls. The transform ``A(p)`` takes template points ``x`` to
subject points and minimises, with a free contrast ``a`` and brightness ``b``,

    sum over x of  (a * subject(A(p) x) + b - template(x))^2,

whose minimum is the maximum of their correlation (Evangelidis 2008). The sum runs over the
template's brain and a rim around it, because the border carries size and position. It is solved by
Gauss-Newton steps with Levenberg's damping, which need ten to twenty evaluations where gradient
descent needs hundreds; the derivative averages the gradients of the two images (Malis 2004), which
widens the range of convergence. The search starts from the centres of mass with a set of rotations
at 8 mm, the best is refined at 4 and 3 mm, and freedom is added step by step (rigid with one scale,
three scales, shears) as in FLIRT (Jenkinson 2001).

Every voxel is used and nothing is random. A transform is a matrix (4, 4) from template world to
subject world (RAS+, mm): the one that resamples the subject on the template's grid, which is what
``from-T1w_to-MNI..._xfm`` files hold in ANTs and fMRIPrep.

References
----------
Friston et al. (1995), Spatial registration and normalization of images, Hum Brain Mapp 3.
Jenkinson & Smith (2001), A global optimisation method for robust affine registration of brain
images, Med Image Anal 5.
Malis (2004), Improving vision-based control using efficient second-order minimization techniques,
ICRA.
Evangelidis & Psarakis (2008), Parametric image alignment using enhanced correlation coefficient
maximization, IEEE Trans PAMI 30.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from stages.preprocessing import geometry, itk

#: Voxel sizes of the search and of the refinement.
SEARCH_MM = 8.0
REFINE_MM = (4.0, 3.0)
#: Head poses tried about each axis, degrees; a head held at 45 degrees is still found.
START_ANGLES = (-30.0, 0.0, 30.0)
#: How far the sum reaches beyond the template's brain.
RIM_MM = 8.0
#: Typical distance from the brain's centre: makes a radian and a millimetre comparable.
RADIUS_MM = 60.0
#: Free parameters by degrees of freedom, as columns that combine the twelve of :func:`compose`.
_FREE = {
    6: np.eye(12)[:, :6],
    7: np.column_stack([np.eye(12)[:, :6], np.r_[np.zeros(6), np.ones(3), np.zeros(3)]]),
    9: np.eye(12)[:, :9],
    12: np.eye(12),
}

Array = NDArray[np.float64]


class Alignment(NamedTuple):
    """A linear transform and how well it fits."""

    matrix: Array  # (4, 4), template world -> subject world, RAS+ mm
    correlation: float  # of the two smoothed brains over the template's brain and its rim


class _Level(NamedTuple):
    """What one resolution needs, sampled once."""

    points: Array  # (n, 3), world mm
    values: Array  # (n,), template there
    gradients: Array  # (n, 3), of the template, per mm
    moving: tuple[NDArray[np.float32], ...]  # subject and its three world gradients, (x, y, z)
    to_index: Array  # (4, 4), subject world -> voxel


def align(
    moving: NDArray[Any],
    moving_affine: NDArray[Any],
    fixed: NDArray[Any],
    fixed_affine: NDArray[Any],
    *,
    dof: tuple[int, ...] = (6, 7, 9, 12),
) -> dict[int, Alignment]:
    """Align a brain with a template, adding freedom step by step.

    Parameters
    ----------
    moving : array, (x, y, z)
        The subject's brain, bias-corrected, 0 outside.
    fixed : array, (x, y, z)
        The template's brain, 0 outside.
    moving_affine, fixed_affine : array, (4, 4)
        Voxel to world, mm.
    dof : tuple of {6, 7, 9, 12}
        Wanted degrees of freedom. 6: the posture, that is rotation and translation; they are those
        of the 7-dof fit about the template brain's centre, so that a brain smaller than the
        template is not pushed to one of its ends. 7: with one scale. 9: three scales. 12: affine.

    Returns
    -------
    dict
        For each wanted number of degrees of freedom its :class:`Alignment`.

    Raises
    ------
    ValueError
        When either brain is empty, or another number of degrees of freedom is asked for.
    """
    if unknown := set(dof) - set(_FREE):
        raise ValueError(f"{sorted(unknown)} degrees of freedom, expected 6, 7, 9 or 12")
    if not np.any(moving > 0) or not np.any(fixed > 0):
        raise ValueError("a brain is empty, nothing can be registered; check the brain mask")
    search, *levels = (
        _level(moving, moving_affine, fixed, fixed_affine, mm) for mm in (SEARCH_MM, *REFINE_MM)
    )
    centre = _centre_of_mass(fixed, fixed_affine)
    shift = _centre_of_mass(moving, moving_affine) - centre
    angles = itertools.product(np.deg2rad(START_ANGLES), repeat=3)
    tried = [
        _fit(np.r_[shift, RADIUS_MM * np.array(start), np.zeros(6)], search, centre, 7, steps=15)
        for start in angles
    ]
    parameters = max(tried, key=lambda result: result[1])[0]
    for level in levels:
        parameters, correlation = _fit(parameters, level, centre, 7)
    posture = np.r_[parameters[:6], np.zeros(6)]
    found = {
        6: Alignment(compose(posture, centre), _correlation(posture, levels[-1], centre)),
        7: Alignment(compose(parameters, centre), correlation),
    }
    for number in (9, 12):
        if number <= max(dof):
            parameters, correlation = _fit(parameters, levels[-1], centre, number)
            found[number] = Alignment(compose(parameters, centre), correlation)
    return {number: found[number] for number in dof}


def carry_brain(
    head: NDArray[Any],
    affine: NDArray[Any],
    brain: NDArray[np.bool_],
    matrix: NDArray[Any],
    shape: tuple[int, ...],
    grid: NDArray[Any],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample a brain on the template's grid by cubic splines.

    Parameters
    ----------
    head : array, (x, y, z)
        Intensities.
    affine : array, (4, 4)
        Voxel to world, mm.
    brain : bool array, (x, y, z)
        Its mask.
    matrix : array, (4, 4)
        Template world to subject world, mm.
    shape, grid
        The template's voxels and affine.

    Returns
    -------
    carried : array, (i, j, k), float32
        At least 0, for splines overshoot; 0 outside the mask.
    inside : bool array, (i, j, k)
        The mask on the template's grid.
    """
    inside = itk.resample(brain, affine, matrix, shape, grid) > 0.5
    carried = np.zeros(shape, dtype=np.float32)
    for box in ndimage.find_objects(inside.astype(np.uint8)):  # none, or the one around the brain
        corner = grid.copy()
        corner[:3, 3] = grid[:3, :3] @ [edge.start for edge in box] + grid[:3, 3]
        size = inside[box].shape
        found = itk.resample(np.where(brain, head, 0), affine, matrix, size, corner, order=3)
        carried[box] = np.where(inside[box], np.maximum(found, 0), 0)
    return carried, inside


def compose(parameters: NDArray[Any], centre: NDArray[Any]) -> Array:
    """Build the matrix of twelve parameters about a centre.

    ``A x = R S H (x - centre) + centre + t`` with rotation R, scales S and shears H.

    Parameters
    ----------
    parameters : array, (12,)
        Translation t, mm; rotation vector times ``RADIUS_MM``; logarithms of three scales times
        ``RADIUS_MM``; three shears times ``RADIUS_MM``. All are in mm of motion at the cortex.
    centre : array, (3,)
        World point that only the translation moves, mm.

    Returns
    -------
    array, (4, 4)

    Examples
    --------
    >>> compose(np.r_[1, 2, 3, np.zeros(9)], np.zeros(3))[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    translation, rotation, scale, shear = np.split(np.asarray(parameters, dtype=float), 4)
    upper = np.eye(3)
    upper[np.triu_indices(3, 1)] = shear / RADIUS_MM
    linear = Rotation.from_rotvec(rotation / RADIUS_MM).as_matrix()
    linear = linear @ np.diag(np.exp(scale / RADIUS_MM)) @ upper
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + translation - linear @ centre
    return matrix


def _fit(
    parameters: Array, level: _Level, centre: Array, dof: int, *, steps: int = 40
) -> tuple[Array, float]:
    """Descend with damped Gauss-Newton steps; return the parameters and their correlation."""
    free = _FREE[dof]
    damping = 1e-3
    residual, jacobian, best = _linearise(parameters, level, centre, free)
    for _ in range(steps):
        # Without BLAS, whose sums depend on the number of threads.
        normal = np.einsum("ni,nj->ij", jacobian, jacobian)
        # The last two columns are contrast and brightness: solved for, then forgotten.
        normal[np.diag_indices(free.shape[1])] *= 1 + damping
        move = np.linalg.solve(normal, np.einsum("ni,n->i", jacobian, residual))[: free.shape[1]]
        trial = parameters + free @ move
        linearised = _linearise(trial, level, centre, free)
        if linearised[2] > best:
            parameters, damping = trial, max(damping / 10, 1e-6)
            residual, jacobian, best = linearised
        else:
            damping *= 10
        # A hundredth of a millimetre at the cortex is far below what a voxel tells.
        if np.abs(move).max() < 0.005 or damping > 1e3:
            break
    return parameters, best


def _linearise(
    parameters: Array, level: _Level, centre: Array, free: Array
) -> tuple[Array, Array, float]:
    """Return the residual, (n,), its derivatives, (n, free + 2), and the correlation."""
    matrix = compose(parameters, centre)
    moved = level.points @ matrix[:3, :3].T + matrix[:3, 3]
    index = level.to_index[:3, :3] @ moved.T + level.to_index[:3, 3:]
    value, *slopes = (
        ndimage.map_coordinates(volume, index, order=1, output=np.float64, prefilter=False)
        for volume in level.moving
    )
    deviation = value - value.mean()
    spread = float((deviation * deviation).sum())
    wanted = level.values - level.values.mean()
    product = float((deviation * wanted).sum())
    contrast = product / spread if spread > 0 else 0.0
    correlation = product / np.sqrt(spread * float((wanted * wanted).sum())) if spread > 0 else -1.0
    # Both images' gradients in the subject's world: (A^-1)' grad template ~ contrast * grad subject
    gradient = 0.5 * (
        contrast * np.stack(slopes, axis=1) + level.gradients @ np.linalg.inv(matrix[:3, :3])
    )
    step = 1e-3
    columns = []
    for direction in free.T:
        change = (compose(parameters + step * direction, centre) - matrix) / step
        columns.append(((level.points @ change[:3, :3].T + change[:3, 3]) * gradient).sum(axis=1))
    jacobian = np.column_stack([*columns, deviation, np.ones_like(deviation)])
    return wanted - contrast * deviation, jacobian, float(correlation)


def _correlation(parameters: Array, level: _Level, centre: Array) -> float:
    return _linearise(parameters, level, centre, _FREE[6])[2]


def _level(
    moving: NDArray[Any],
    moving_affine: NDArray[Any],
    fixed: NDArray[Any],
    fixed_affine: NDArray[Any],
    voxel_mm: float,
) -> _Level:
    """Smooth and thin both images to about this voxel size."""
    template, grid = _coarsen(fixed, fixed_affine, voxel_mm)
    subject, subject_grid = _coarsen(moving, moving_affine, voxel_mm)
    brain = template > 0.1 * template.max()
    inside = ndimage.distance_transform_edt(~brain, sampling=geometry.zooms(grid)) <= RIM_MM
    points = np.argwhere(inside) @ grid[:3, :3].T + grid[:3, 3]
    scale = float(template[brain].std())
    slopes = _world_gradients(template, grid)
    return _Level(
        points=points,
        values=template[inside].astype(float) / scale,
        gradients=np.stack([slope[inside] for slope in slopes], axis=1).astype(float) / scale,
        moving=(subject, *_world_gradients(subject, subject_grid)),
        to_index=np.asarray(np.linalg.inv(subject_grid), dtype=np.float64),
    )


def _coarsen(
    data: NDArray[Any], affine: NDArray[Any], voxel_mm: float
) -> tuple[NDArray[np.float32], Array]:
    """Average blocks of voxels to at most this size, then smooth what is left of the detail."""
    image = itk.to_image(np.asarray(data, dtype=np.float32), affine)
    factors = [max(1, int(voxel_mm / size + 0.01)) for size in geometry.zooms(affine)]
    # Blocks that do not divide the volume would drop its last voxels: pad to a multiple.
    missing = [-size % factor for size, factor in zip(image.GetSize(), factors, strict=True)]
    image = sitk.ConstantPad(image, [0, 0, 0], missing, 0.0)
    image = sitk.BinShrink(image, factors)
    grid = itk.grid_affine(image)
    sigma = 0.5 * voxel_mm / geometry.zooms(grid)
    return ndimage.gaussian_filter(itk.to_array(image), sigma, truncate=3.0), grid


def _world_gradients(data: NDArray[np.float32], grid: Array) -> tuple[NDArray[np.float32], ...]:
    """Return the derivatives along world x, y and z, per mm."""
    by_index = np.stack([np.asarray(slope) for slope in np.gradient(data)])
    by_world = np.tensordot(np.linalg.inv(grid[:3, :3]).T, by_index, axes=1)
    return tuple(by_world.astype(np.float32))


def _centre_of_mass(data: NDArray[Any], affine: NDArray[Any]) -> Array:
    """Return the mean position of the voxels above zero, RAS+ mm, (3,)."""
    inside = data > 0
    counts = [inside.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1))]
    index = [float(count @ np.arange(count.size)) / float(count.sum()) for count in counts]
    return np.asarray((affine @ [*index, 1.0])[:3])
