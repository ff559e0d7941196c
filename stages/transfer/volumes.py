"""Volumes of any kind on an isotropic grid, 8 bits deep, in RAS+ order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

logger = logging.getLogger(__name__)

Floats = NDArray[np.floating[Any]]

CT_SUFFIXES = ("CT", "ct")
AIR_HU = -1000.0
THICK_FACTOR = 3.0  # slices thicker than this many target voxels are worth a warning
UPPER_PERCENTILE = 99.5
ZOOM_TOLERANCE = 0.01


@dataclass(frozen=True)
class Volume:
    """Voxels and where they are: data (x, y, z), affine (4, 4) voxel → world in mm, RAS+."""

    data: NDArray[Any]
    affine: Floats

    @property
    def zooms(self) -> Floats:
        """Voxel size along each axis, mm."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(0))

    def to_voxels(self, points_mm: Floats) -> Floats:
        """Turn world coordinates, (n, 3) in mm, into voxel coordinates."""
        return nib.affines.apply_affine(np.linalg.inv(self.affine), points_mm)

    def to_world(self, points: Floats) -> Floats:
        """Turn voxel coordinates, (n, 3), into world coordinates in mm."""
        return nib.affines.apply_affine(self.affine, points)


def load(path: str | Path) -> Volume:
    """Read a 3D image in the voxel order nearest to RAS+.

    Raises
    ------
    ValueError
        The image is not 3D or has values that are not finite everywhere it matters.
    """
    image: Any = nib.load(path)
    shape = image.shape
    if len(shape) == 4 and shape[3] == 1:
        image = image.slicer[..., 0]
    elif len(shape) != 3:
        raise ValueError(f"{path}: {len(shape)}D image, expected 3D; give one volume")
    image = nib.as_closest_canonical(image)
    data = np.asanyarray(image.dataobj)
    if data.dtype.kind == "f":
        data = np.nan_to_num(data.astype(np.float32), posinf=0.0, neginf=0.0)
    return Volume(data, np.asarray(image.affine, dtype=float))


def save(path: str | Path, data: NDArray[Any], affine: Floats) -> None:
    """Write a NIfTI image with the dtype of the data, in mm."""
    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def make_isotropic(volume: Volume, spacing_mm: float, *, order: int = 1) -> Volume:
    """Resample to cubic voxels along the volume's own axes.

    Parameters
    ----------
    volume : Volume
        Any voxel size.
    spacing_mm : float
        Side of the new voxels.
    order : int
        0 for labels, 1 for images; images are smoothed first along axes that lose samples.

    Returns
    -------
    volume : Volume
        float32 (images) or the given dtype (labels). The first voxel's centre stays in place.
    """
    steps = spacing_mm / volume.zooms
    if order and volume.zooms.max() > THICK_FACTOR * spacing_mm:
        logger.warning(
            "voxels of %s mm are put on a %g mm grid: along the thick axis detail is interpolated",
            "x".join(f"{z:.3g}" for z in volume.zooms),
            spacing_mm,
        )
    data = volume.data.astype(np.float32) if order else volume.data
    if np.allclose(steps, 1.0, atol=ZOOM_TOLERANCE):
        return Volume(data, volume.affine)
    if order and (steps > 1).any():
        sigma = np.where(steps > 1, np.sqrt(np.maximum(steps**2 - 1, 0.0)) / 2.355, 0.0)
        data = ndimage.gaussian_filter(data, sigma, mode="nearest")
    shape = tuple(int(n) for n in np.floor((np.array(data.shape) - 1) / steps + 1e-6) + 1)
    moved = ndimage.affine_transform(
        data, np.diag(steps), output_shape=shape, order=order, mode="nearest"
    )
    return Volume(moved, volume.affine @ np.diag([*steps, 1.0]))


def scale_intensity(data: Floats, window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Map intensities to 0..255: a window for CT, percentiles for MR.

    MR: 0 is the 1st percentile of all voxels, 255 the 99.5th of those above the mean, so that the
    amount of air around the body does not matter.

    Raises
    ------
    ValueError
        The image is constant.
    """
    if window is None:
        above = data[data > data.mean()]
        if not above.size:
            raise ValueError(f"all voxels are {data.flat[0]:g}: an empty image; give another")
        window = (float(np.percentile(data, 1)), float(np.percentile(above, UPPER_PERCENTILE)))
    low, high = window
    scaled = (data.astype(np.float32) - low) * np.float32(255.0 / (high - low))
    return np.clip(scaled, 0, 255).round().astype(np.uint8)


def prepare(
    path: str | Path, spacing_mm: float, ct_window: tuple[float, float] = (-200.0, 500.0)
) -> Volume:
    """Read an image, make it isotropic and scale it to 0..255.

    Parameters
    ----------
    path : path
        Its suffix (``_CT``) says whether it is windowed in HU.
    spacing_mm : float
        Side of the voxels.
    ct_window : tuple of float
        Lower and upper end in HU.

    Raises
    ------
    ValueError
        Not 3D, or constant; names the file.
    """
    suffix = Path(path).name.partition(".")[0].rpartition("_")[2]
    volume = make_isotropic(load(path), spacing_mm)
    try:
        scaled = scale_intensity(volume.data, ct_window if suffix in CT_SUFFIXES else None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Volume(scaled, volume.affine)


def check_same_grid(path: str | Path, mask: Volume, image: Volume) -> None:
    """Refuse a mask or label map that is not on the image's grid.

    Raises
    ------
    ValueError
        Says both shapes, or by how much the voxels are apart.
    """
    if mask.data.shape != image.data.shape:
        raise ValueError(
            f"{path}: its grid is {mask.data.shape}, the image's {image.data.shape};"
            " resample it to the image with nearest neighbours"
        )
    corners = np.array([[0, 0, 0], np.array(image.data.shape) - 1], dtype=float)
    apart = np.abs(mask.to_world(corners) - image.to_world(corners)).max()
    if apart > 0.5 * image.zooms.min():
        raise ValueError(
            f"{path}: same shape as the image, but its corners are {apart:.1f} mm away;"
            " give the mask that was drawn on this image"
        )
