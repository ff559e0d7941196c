"""Read and write volumes whose axes lie along the world's."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]
BROKEN = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError)
TOLERANCE = 1e-3


class Volume(NamedTuple):
    """A 3D image in the order nearest to RAS+."""

    data: Array  # (x, y, z)
    affine: Matrix  # (4, 4), voxel → world, mm


def load(path: str | Path) -> Volume:
    """Load a volume of a template's space, in RAS+ order.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Broken, not 3D, not finite, or with axes oblique to the world's.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        image: Any = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except BROKEN as error:
        raise ValueError(f"{path}: no readable NIfTI image ({error}); make it again") from error
    if data.ndim != 3:
        raise ValueError(f"{path}: {data.ndim} dimensions, expected a 3D volume; give one per file")
    if not np.isfinite(data).all():
        raise ValueError(f"{path}: NaN or infinite values; run preprocessing on the image first")
    orientation = nib.io_orientation(image.affine)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)
    scale = affine[:3, :3]
    if np.abs(scale - np.diag(np.diag(scale))).max() > TOLERANCE * np.abs(scale).max():
        raise ValueError(
            f"{path}: its axes are oblique; translation works in a template's space, give images"
            " registered to it (preprocessing, profile mni-gm)"
        )
    moved = nib.apply_orientation(data, orientation)
    return Volume(np.ascontiguousarray(moved), affine)


def check_same_grid(path: str | Path, volume: Volume, shape: object, affine: Matrix) -> None:
    """Refuse an image on another grid than the one that a model or a group has.

    Raises
    ------
    ValueError
        Another shape, voxel size or place; says both.
    """
    if tuple(volume.data.shape) == tuple(shape) and np.allclose(  # type: ignore[arg-type]
        volume.affine, affine, atol=TOLERANCE
    ):
        return
    raise ValueError(
        f"{path}: grid {_tell(volume.data.shape, volume.affine)}, expected"
        f" {_tell(shape, np.asarray(affine))}; images must share space and resolution, run"
        " preprocessing on all of them alike"
    )


def save(path: str | Path, data: Array, affine: Matrix) -> None:
    """Write a map or an image as float32, RAS+, world coordinates in both forms (aligned)."""
    image = nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine)
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def describe(path: str | Path, found: Mapping[str, Any]) -> None:
    """Write JSON beside an image; it is merged into its BIDS sidecar."""
    target = Path(path)
    name = target.name.partition(".")[0] + ".json"
    target.with_name(name).write_text(json.dumps(found, indent=1), encoding="utf-8")


def _tell(shape: Any, affine: Matrix) -> str:
    sizes = "x".join(str(int(n)) for n in shape)
    zooms = "x".join(f"{abs(z):g}" for z in np.diag(affine)[:3])
    corner = ", ".join(f"{o:g}" for o in affine[:3, 3])
    return f"{sizes} of {zooms} mm from ({corner})"
