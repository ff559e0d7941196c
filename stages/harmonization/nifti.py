"""Read headers without their voxels, read volumes, write volumes byte for byte alike."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

Array = NDArray[np.float32]
BROKEN = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError)
#: gzip effort: level 1 writes three times faster than 6 for a tenth more bytes.
COMPRESSION = 1


class Volume(NamedTuple):
    """A 3D image in the order nearest to RAS+."""

    data: Array  # (x, y, z)
    affine: NDArray[np.float64]  # (4, 4), voxel -> world, mm

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size, mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)


def read_header(path: str | Path) -> dict[str, Any]:
    """Describe an image by its header, in the order nearest to RAS+.

    Returns
    -------
    dict
        ``shape_x`` …, ``zoom_x`` … (mm), ``fov_x`` … (mm), ``fov_ml``, ``orientation`` (axis codes
        as stored), ``sform_code``, ``qform_code``, ``dtype``, ``slope`` and ``checksum``.

    Raises
    ------
    ValueError
        No readable NIfTI, or not 3D.
    """
    image = _open(path)
    header = image.header
    order = np.argsort(nib.io_orientation(image.affine)[:, 0])
    shape = np.array(image.shape[:3])[order]
    zooms = np.array(header.get_zooms()[:3], dtype=float)[order]
    slope = header["scl_slope"].item()
    found: dict[str, Any] = {}
    for axis, name in enumerate("xyz"):
        found[f"shape_{name}"] = int(shape[axis])
        found[f"zoom_{name}"] = round(float(zooms[axis]), 4)
        found[f"fov_{name}"] = round(float(shape[axis] * zooms[axis]), 2)
    return found | {
        "fov_ml": round(float(np.prod(shape * zooms)) / 1000, 1),
        "orientation": "".join(map(str, nib.aff2axcodes(image.affine))),
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
        "dtype": str(header.get_data_dtype()),
        "slope": round(float(slope), 8) if np.isfinite(slope) else "n/a",
        "checksum": read_checksum(path),
    }


def read_checksum(path: str | Path) -> str:
    """Tell an image by the CRC-32 and the length of its bytes before compression.

    gzip keeps both in its last eight bytes, so nothing is decompressed; a plain file is read.
    """
    with open(path, "rb") as handle:
        if handle.read(2) == b"\x1f\x8b":
            handle.seek(-8, io.SEEK_END)
            return handle.read(8).hex()
        handle.seek(0)
        content = handle.read()
    return (
        zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(8, "little")[:4]
    ).hex()


def load(path: str | Path) -> Volume:
    """Load a volume in the order nearest to RAS+.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Broken, not 3D, or with values that are not finite.
    """
    image = _open(path)
    try:
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    except BROKEN as error:
        raise ValueError(f"{path}: truncated ({error}); make the file again") from error
    if not np.isfinite(data).all():
        raise ValueError(f"{path}: NaN or infinite values; run preprocessing on the image first")
    orientation = nib.io_orientation(image.affine)
    moved = nib.apply_orientation(data, orientation)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)
    return Volume(np.ascontiguousarray(moved), affine)


def save(path: str | Path, data: Array, affine: NDArray[np.float64]) -> None:
    """Write as int16 with a scale factor; nothing but the arguments decides the bytes.

    Rounding is below a 65,000th of the largest magnitude, far less than noise.
    """
    peak = float(np.abs(data).max())
    slope = peak / 32767 if peak > 0 else 1.0
    image = nib.Nifti1Image(np.rint(data / np.float32(slope)).astype(np.int16), affine)
    image.set_sform(affine, code="aligned")
    image.set_qform(affine, code="aligned", strip_shears=True)
    header = image.header.copy()
    header.set_xyzt_units("mm", "sec")
    # Written by hand because nibabel chooses its own scale factors on saving.
    header.set_slope_inter(slope, 0.0)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with (
        open(path, "wb") as file,
        gzip.GzipFile(
            filename="", mode="wb", compresslevel=COMPRESSION, fileobj=file, mtime=0
        ) as z,
    ):
        z.write(header.binaryblock + b"\x00\x00\x00\x00")
        z.write(np.asarray(image.dataobj).tobytes(order="F"))


def _open(path: str | Path) -> Any:
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        image: Any = nib.load(path)
        shape = image.shape
    except BROKEN as error:
        raise ValueError(f"{path}: no readable NIfTI image ({error}); copy it again") from error
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape[:3]) < 2:
        raise ValueError(
            f"{path}: shape {'x'.join(map(str, shape))}, expected a 3D volume; give one volume per"
            " file or run preprocessing"
        )
    return image
