"""Write files that depend on nothing but their content: images, JSON, tables."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray


def save_image(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    orientation: str = "RAS",
    scale: float = 1.0,
) -> None:
    """Save integers as .nii.gz that depends on nothing but the arguments.

    Parameters
    ----------
    path : Path
        Its folder is made if needed.
    data : array, (x, y, z), int16 or uint8
        RAS+ order.
    affine : array, (4, 4)
        Voxel -> world, mm; becomes both sform and qform, code 1 (scanner).
    orientation : str
        Axis codes in which voxels are stored; the world position of each stays the same.
    scale : float
        Multiplies the stored integers on reading.
    """
    image = nib.Nifti1Image(data, affine)
    target = nib.orientations.axcodes2ornt(orientation)
    image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), target))
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(scale, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gzip(path, image.to_bytes())


def write_gzip(path: Path, content: bytes) -> None:
    """Compress to a file that depends on the content alone."""
    buffer = io.BytesIO()
    # No name and no time in the gzip header, or the same image would differ from run to run.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=buffer, mtime=0) as stream:
        stream.write(content)
    path.write_bytes(buffer.getvalue())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, making the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_tsv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of equal keys as a table; numbers with six digits."""
    rows = list(rows)
    lines = ["\t".join(rows[0])]
    for row in rows:
        cells = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values())
        lines.append("\t".join(cells))
    path.write_text("\n".join(lines) + "\n")
