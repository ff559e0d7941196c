"""Between arrays in RAS+ world coordinates and ITK's images and transforms in LPS+.

ITK's world has x to the left and y to the back; nibabel's has x to the right and y to the front.
Everything in this package speaks RAS+; the change of sign happens here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def to_image(data: NDArray[Any], affine: NDArray[Any]) -> sitk.Image:
    """Wrap an array (x, y, z) and its voxel-to-world affine (RAS+, mm) as an ITK image."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    matrix = _FLIP @ affine
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    # ITK wants orthonormal directions; rounding in a header must not stop it. The nearest
    # rotation is that of the polar decomposition.
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    image.SetSpacing([float(size) for size in spacing])
    image.SetOrigin([float(value) for value in matrix[:3, 3]])
    image.SetDirection([float(value) for value in (left @ right).ravel()])
    return image


def to_array(image: sitk.Image) -> NDArray[Any]:
    """Return the values of an ITK image as an array (x, y, z)."""
    return np.asarray(sitk.GetArrayFromImage(image)).T


def grid_affine(image: sitk.Image) -> NDArray[np.float64]:
    """Return the voxel-to-world affine (RAS+, mm) of an ITK image's grid."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.asarray(_FLIP @ affine)


def to_transform(matrix: NDArray[Any]) -> sitk.AffineTransform:
    """Turn a world-to-world matrix, (4, 4), RAS+ mm, into an ITK affine transform."""
    lps = _FLIP @ matrix @ _FLIP
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([float(value) for value in lps[:3, :3].ravel()])
    transform.SetTranslation([float(value) for value in lps[:3, 3]])
    return transform


def to_matrix(transform: sitk.Transform) -> NDArray[np.float64]:
    """Return the world-to-world matrix, (4, 4), RAS+ mm, of any linear ITK transform."""
    corners = np.vstack([np.zeros(3), np.eye(3)])
    moved = np.array([transform.TransformPoint(point.tolist()) for point in corners])
    lps = np.eye(4)
    lps[:3, 3] = moved[0]
    lps[:3, :3] = (moved[1:] - moved[0]).T
    return np.asarray(_FLIP @ lps @ _FLIP)


def write_transform(path: Path, matrix: NDArray[Any]) -> None:
    """Write a world-to-world matrix (RAS+, mm) as an ITK affine, readable by ANTs and SimpleITK."""
    sitk.WriteTransform(to_transform(matrix), str(path))


def read_transform(path: Path) -> NDArray[np.float64]:
    """Read a linear ITK transform as a world-to-world matrix, (4, 4), RAS+ mm."""
    return to_matrix(sitk.ReadTransform(str(path)))


def resample(
    data: NDArray[Any],
    affine: NDArray[Any],
    matrix: NDArray[Any],
    shape: tuple[int, ...],
    grid: NDArray[Any],
    *,
    order: int = 1,
) -> NDArray[np.float32]:
    """Sample a volume on another grid through a world-to-world transform.

    ``out[index] = data(inverse(affine) @ matrix @ grid @ index)``, zero outside.

    Parameters
    ----------
    data : array, (x, y, z)
        Source values.
    affine : array, (4, 4)
        Voxel to world of the source, mm.
    matrix : array, (4, 4)
        Takes world points of the target to world points of the source.
    shape : (x, y, z)
        Voxels of the target grid.
    grid : array, (4, 4)
        Voxel to world of the target, mm.
    order : {0, 1, 3}
        Nearest, linear or cubic B-spline interpolation.

    Returns
    -------
    array, (x, y, z), float32
    """
    interpolators = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}
    target = to_image(np.zeros((1, 1, 1), np.float32), grid)
    moved = sitk.Resample(
        to_image(np.asarray(data, dtype=np.float32), affine),
        [int(size) for size in shape],
        to_transform(matrix),
        interpolators[order],
        target.GetOrigin(),
        target.GetSpacing(),
        target.GetDirection(),
        0.0,
        sitk.sitkFloat32,
    )
    return np.asarray(to_array(moved), dtype=np.float32)
