"""Read NIfTI files with every check a bad file deserves, and write images, fields and rows.

What is refused, with the file, the reason and the remedy in the message: a file that is empty,
truncated or no NIfTI; a volume that is not 3D; voxels of zero size; NaN or Inf; a constant image; a
header whose two coordinate systems (sform and qform) both claim to be valid and disagree.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from stages.preprocessing import geometry

#: Largest disagreement of sform and qform, at any corner of the volume, that is mere rounding.
FORM_TOLERANCE_MM = 1.0
#: gzip effort: level 1 writes three times faster than 6 for a tenth more bytes on noisy images.
COMPRESSION = 1
#: Most voxels a head may have, those of the finest whole heads there are (0.25 mm): more is damage.
MAX_VOXELS = 2**29
CHUNK = 2**24
#: Bytes that one byte of gzip can stand for at most.
DEFLATE_LIMIT = 1032
#: What reading a damaged file raises, beside nibabel's own errors.
_BROKEN = (EOFError, OSError, OverflowError, TypeError, ValueError, zlib.error)


class Volume(NamedTuple):
    """One image as stored: values, geometry and the geometry record of its header."""

    data: NDArray[np.float32]  # (i, j, k)
    affine: NDArray[np.float64]  # (4, 4), voxel -> world, mm
    record: dict[str, Any]


def load_t1w(path: Path) -> Volume:
    """Load a T1-weighted head and refuse what cannot be processed.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz``, any orientation.

    Returns
    -------
    Volume
        Scaled intensities, float32, in stored orientation.

    Raises
    ------
    ValueError
        When the file is broken, not 3D, without voxel sizes, not finite, constant, or when its
        sform and qform disagree by more than ``FORM_TOLERANCE_MM``.
    """
    volume = load_volume(path)
    data = volume.data
    if not np.isfinite(data).all():
        count = int(np.count_nonzero(~np.isfinite(data)))
        raise ValueError(
            f"{path}: {count} of {data.size} voxels are NaN or infinite; "
            "export the image again or replace those voxels (fslmaths IN -nan OUT)"
        )
    if float(np.ptp(data)) == 0.0:
        raise ValueError(
            f"{path}: every voxel has the value {data.flat[0]:g}, there is no head in it; "
            "export the image again or leave the file out (.bidsignore)"
        )
    return volume


def load_volume(path: Path) -> Volume:
    """Load any 3D volume of ours or of others with a sound header.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        As for :func:`load_t1w`, except for the intensities.
    """
    if not Path(path).exists():
        gone = "a link to what is not there; get its content (datalad get)"
        raise FileNotFoundError(f"{path}: {gone if Path(path).is_symlink() else 'no such file'}")
    try:
        image = nib.Nifti1Image.from_filename(path)
        header, affine = image.header, np.asarray(image.affine, dtype=np.float64)
        form = np.asarray(header.get_qform(), dtype=np.float64)
    except (*_BROKEN, ImageFileError, HeaderDataError, WrapStructError) as error:
        raise ValueError(
            f"{path}: {Path(path).stat().st_size} bytes that are no readable NIfTI image "
            f"({error}); the file is empty or damaged, copy or convert it again"
        ) from error
    shape = tuple(int(size) for size in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(
            f"{path}: shape {'x'.join(map(str, image.shape))}, expected a 3D volume of at least 8 "
            "voxels along each axis; give one volume per file (fslsplit or nib-conform)"
        )
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise ValueError(
            f"{path}: voxels of type {kind}, expected integers or floating point; give the "
            "magnitude of a complex image, one channel of a colour image"
        )
    stored = _stored_zooms(path)
    sizes = geometry.zooms(affine)
    if not np.isfinite(affine).all() or min(stored.min(), sizes.min()) <= 0 or _is_flat(affine):
        axes = " / ".join(" ".join(f"{number:g}" for number in row) for row in affine[:3])
        raise ValueError(
            f"{path}: voxel sizes {'x'.join(f'{size:g}' for size in stored)} mm, axes [{axes}], "
            "expected positive sizes and three directions; the header lost its geometry, convert "
            "the image from DICOM again"
        )
    _check_forms(path, header, shape, form)
    _check_size(path, header, shape)
    try:
        data = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
        _check_sum(path)
    except _BROKEN as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{path}: the header announces {'x'.join(map(str, shape))} voxels but they cannot be "
            f"read ({why}); the file is truncated or damaged, copy or convert it again"
        ) from error
    record = geometry.describe(shape, affine, header["sform_code"], header["qform_code"])
    return Volume(data, affine, record)


def save_image(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[Any],
    *,
    dtype: str,
    slope: float | None = None,
) -> None:
    """Write a volume with equal sform and qform and a gzip header free of name and time.

    Parameters
    ----------
    path : Path
        Ends in ``.nii.gz``.
    data : array, (x, y, z)
        Values in their own unit.
    affine : array, (4, 4)
        Voxel to world, mm.
    dtype : {"uint8", "int16", "float32"}
        Stored type. Integers are scaled: a value is ``slope`` times the stored number.
    slope : float, optional
        Default for ``int16``: the largest magnitude over 32767; for ``uint8``: 1.
    """
    kind = np.dtype(dtype)
    if kind == np.float32:
        slope = 1.0
    elif slope is None:
        peak = float(np.abs(data).max()) if kind == np.int16 else 0.0
        slope = peak / 32767 if peak > 0 else 1.0
    if kind == np.float32:
        stored = np.asarray(data, dtype=kind)
    else:
        limits = np.iinfo(kind)
        stored = np.asarray(data, dtype=np.float32) * np.float32(1 / slope)
        stored = np.clip(np.rint(stored), limits.min, limits.max).astype(kind)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_data_dtype(kind)
    image.set_sform(affine, code="aligned")
    # A qform holds no shears; strip_shears keeps the nearest one for the rare sheared affine.
    image.set_qform(affine, code="aligned", strip_shears=True)
    image.header.set_xyzt_units("mm", "sec")
    payload = io.BytesIO()
    # Written by hand because nibabel chooses its own scale factors on saving.
    header = image.header.copy()
    header.set_slope_inter(slope, 0.0)
    header["magic"], header["vox_offset"] = b"n+1", 352
    payload.write(header.binaryblock + b"\x00\x00\x00\x00")
    payload.write(stored.tobytes(order="F"))
    with (
        Path(path).open("wb") as raw,
        gzip.GzipFile("", mode="wb", compresslevel=COMPRESSION, fileobj=raw, mtime=0) as packed,
    ):
        packed.write(payload.getbuffer())


def save_fields(path: Path, **fields: Any) -> None:
    """Write what a step found out about an output, to be joined with that output's sidecar."""
    target = Path(path).with_name(Path(path).name.partition(".")[0] + ".json")
    target.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def save_row(path: Path, row: dict[str, Any]) -> None:
    """Write a table of one row; numbers that are not finite become ``n/a``, as in BIDS."""
    cells = [
        "n/a" if isinstance(value, float) and not math.isfinite(value) else str(value)
        for value in row.values()
    ]
    Path(path).write_text("\t".join(row) + "\n" + "\t".join(cells) + "\n", encoding="utf-8")


def _check_size(path: Path, header: Any, shape: tuple[int, ...]) -> None:
    """Refuse, before any memory is asked for, sizes that no head has or that the file cannot hold.

    A few kilobytes of gzip can announce, and even hold, more than any machine's memory.
    """
    voxels = math.prod(shape)
    stored = Path(path).stat().st_size
    expansion = DEFLATE_LIMIT if Path(path).suffix == ".gz" else 1
    is_cut = voxels * header.get_data_dtype().itemsize > stored * expansion
    if voxels > MAX_VOXELS or is_cut:
        raise ValueError(
            f"{path}: the header announces {'x'.join(map(str, shape))} voxels, which "
            + (f"{stored} bytes cannot hold" if is_cut else f"is more than {MAX_VOXELS}")
            + "; the file is truncated or its header damaged, copy or convert it again"
        )


def _check_sum(path: Path) -> None:
    """Read a gzip file to its end, where its checksum is: nibabel stops at the last voxel.

    Bytes after the image may go on for ever and are not read.
    """
    if Path(path).suffix != ".gz":
        return
    with gzip.open(path) as file:
        for _ in range(MAX_VOXELS * 8 // CHUNK):
            if not file.read(CHUNK):
                return


def _stored_zooms(path: Path) -> NDArray[np.float64]:
    """Read the voxel sizes as stored: nibabel on loading replaces zeros by ones."""
    with ImageOpener(str(path)) as file:
        header = nib.Nifti1Header.from_fileobj(file, check=False)
    return np.asarray(header["pixdim"][1:4], dtype=np.float64)


def _is_flat(affine: NDArray[np.float64]) -> bool:
    return bool(abs(np.linalg.det(affine[:3, :3])) < 1e-6)


def _check_forms(
    path: Path, header: Any, shape: tuple[int, ...], qform: NDArray[np.float64]
) -> None:
    """Refuse a header in which two valid coordinate systems put the corners elsewhere."""
    if int(header["sform_code"]) == 0 or int(header["qform_code"]) == 0:
        return
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    shift = (header.get_sform() - qform) @ corners
    gap = float(np.linalg.norm(shift[:3], axis=0).max())
    if not gap <= FORM_TOLERANCE_MM:
        raise ValueError(
            f"{path}: sform and qform disagree by {gap:.1f} mm, so left and right or the position "
            "are not certain; make them equal after checking which is right "
            "(fslorient -copysform2qform or -copyqform2sform)"
        )
