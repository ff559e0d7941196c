"""Whole brains as arrays: on one upright grid, 8 bits; read, cut into slices, kept, written.

A brain keeps its own size and is turned to lie as the template does (preprocessing's rigid
alignment), so its mid-coronal plane is the slice that preprocessing cuts. The grid is isotropic,
its planes lie at -18 mm from front to back and meet at 0 between left and right; it is made larger
until networks that halve it three times can take it. Voxels are means of the brain within them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy import io, ndimage
from scipy.io.matlab import MatReadError
from torch import Tensor

from stages.generation.slices import FIRST_MM, SIZE, WHITE_PERCENTILE, Pixels

Voxels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

EXTENT_MM = (160.0, 192.0, 160.0)
MIDDLE_MM = (0.0, FIRST_MM[1], 10.0)
DIVISOR = 8
#: More of a brain than this outside of the grid: the alignment is not this brain's.
MOST_OUTSIDE = 0.02
KINDS = ("AffineTransform_double_3_3", "MatrixOffsetTransformBase_double_3_3")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AGAIN = "run preprocessing again (any profile)"


@dataclass(frozen=True)
class Brains:
    """Volumes on one grid: voxels (n, x, y, z), uint8, RAS+, and the edge of a voxel in mm."""

    voxels: Voxels
    voxel_mm: float

    def slices(self) -> Pixels:
        """Cut the mid-coronal slices, (n, 160, 160)."""
        return cut_slices(to_images(self.voxels), self.voxel_mm)

    def planes(self, place: int) -> list[Pixels]:
        """Give the middle planes of one volume, top row first: coronal, axial, sagittal."""
        x, y, z = (n // 2 for n in self.voxels.shape[1:])
        one = self.voxels[place]
        return [np.ascontiguousarray(p.T[::-1]) for p in (one[:, y], one[:, :, z], one[x])]


def grid_shape(voxel_mm: float) -> tuple[int, int, int]:
    """Count the voxels along each axis.

    >>> grid_shape(4.0), grid_shape(10.0)
    ((40, 48, 40), (16, 24, 16))
    """
    x, y, z = (DIVISOR * int(np.ceil(mm / voxel_mm / DIVISOR)) for mm in EXTENT_MM)
    return x, y, z


def grid_affine(voxel_mm: float) -> Matrix:
    """Give voxel → upright frame, mm, (4, 4)."""
    x, y, z = grid_shape(voxel_mm)
    before = np.array([(x - 1) / 2, y / 2, (z - 1) / 2])  # voxels before the middle
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = MIDDLE_MM - voxel_mm * before
    return affine


def pair_scans(
    slices: Sequence[str], brains: Sequence[str], alignments: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Find brain and alignment of each slice, by the scan's name.

    Raises
    ------
    FileNotFoundError
        A slice whose brain or alignment is not there.
    """
    found: list[Mapping[str, str]] = [
        {_scan(p): p for p in paths} for paths in (brains, alignments)
    ]
    wanted = {path: _scan(path) for path in slices}
    lacking = sorted({s for s in wanted.values() if any(s not in own for own in found)})
    if lacking:
        raise FileNotFoundError(
            f"whole brains: {len(lacking)} of {len(wanted)} scans ({lacking[0]}, …) lack"
            " desc-brain_T1w.nii.gz or from-T1w_to-upright_mode-image_xfm.mat; run preprocessing"
            " (any profile; coronal for the slices) or choose generator scratch"
        )
    return {path: (found[0][scan], found[1][scan]) for path, scan in wanted.items()}


def read_volume(brain: str, alignment: str, voxel_mm: float) -> Voxels:
    """Read one brain onto the grid, (x, y, z), uint8.

    Raises
    ------
    ValueError
        Not three-dimensional, a header without a volume, values that are not finite, nothing but
        zeros, or an alignment that takes the brain out of the grid.
    """
    image: Any = nib.load(brain)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.ndim != 3:
        raise ValueError(
            f"{brain}: shape {'x'.join(map(str, data.shape))}, expected three axes; {AGAIN}"
        )
    if not (np.isfinite(image.affine).all() and abs(np.linalg.det(image.affine[:3, :3])) > 1e-6):
        raise ValueError(f"{brain}: its affine has no volume; {AGAIN}")
    if not np.isfinite(data).all():
        raise ValueError(f"{brain}: values that are not finite; look at the scan")
    data = np.maximum(data, 0)
    if not data.any():
        raise ValueError(f"{brain}: empty volume; look at the scan")
    found = resample(data, image.affine, read_alignment(alignment), voxel_mm)
    volume_mm3 = abs(np.linalg.det(image.affine[:3, :3]))
    inside = float(found.sum()) * voxel_mm**3 / (float(data.sum()) * volume_mm3)
    if inside < 1 - MOST_OUTSIDE:
        raise ValueError(
            f"{brain}: {1 - inside:.0%} of the brain lies outside of the grid once turned by"
            f" {Path(alignment).name}; {AGAIN}"
        )
    white = float(np.percentile(found[found > 0], WHITE_PERCENTILE))
    return np.rint(np.clip(found / white, 0, 1) * 255).astype(np.uint8)


def resample(
    data: NDArray[np.float32], affine: Matrix, alignment: Matrix, voxel_mm: float
) -> NDArray[np.float32]:
    """Average a brain within the voxels of the grid.

    It is sampled by straight lines at points as dense as its own voxels; means of those are what
    keeps finer detail from folding into coarse voxels.

    Parameters
    ----------
    data : array, (i, j, k)
        0 outside of the brain.
    affine : array, (4, 4)
        Voxel of ``data`` → head's world, mm.
    alignment : array, (4, 4)
        Upright frame → head's world, mm.
    """
    own = float(np.sqrt((affine[:3, :3] ** 2).sum(0)).min())
    times = max(1, int(np.ceil(voxel_mm / own - 1e-6)))
    shape = grid_shape(voxel_mm)
    fine = grid_affine(voxel_mm) @ np.diag([1 / times] * 3 + [1.0])
    fine[:3, 3] += voxel_mm * (1 / times - 1) / 2  # the first point lies at the voxel's corner
    to_voxels = np.linalg.inv(affine) @ alignment @ fine
    dense = ndimage.affine_transform(
        data,
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        tuple(n * times for n in shape),
        order=1,
        mode="grid-constant",
    )
    blocks = dense.reshape([m for n in shape for m in (n, times)])
    return blocks.mean((1, 3, 5), dtype=np.float64).astype(np.float32)


def read_alignment(path: str) -> Matrix:
    """Read an ITK affine in MATLAB's format as (4, 4), upright frame → head's world, RAS+, mm.

    Raises
    ------
    ValueError
        No such format, or not a turn that keeps sizes.
    """
    try:
        entries = io.loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise ValueError(f"{path}: no readable alignment ({error}); {AGAIN}") from error
    values = np.ravel(next((entries[kind] for kind in KINDS if kind in entries), np.zeros(0)))
    centre = np.ravel(entries.get("fixed", np.zeros(0)))
    if values.size != 12 or centre.size != 3:
        raise ValueError(f"{path}: no ITK affine; {AGAIN}")
    affine = np.eye(4)
    affine[:3, :3] = values[:9].reshape(3, 3)
    affine[:3, 3] = values[9:] + centre - affine[:3, :3] @ centre  # ITK turns about ``fixed``
    turn = affine[:3, :3]
    is_rigid = np.allclose(turn.T @ turn, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0
    if not (np.isfinite(affine).all() and is_rigid):
        raise ValueError(f"{path}: no turn that keeps sizes and sides; {AGAIN}")
    return LPS_TO_RAS @ affine @ LPS_TO_RAS


def cut_slices(images: Tensor, voxel_mm: float) -> Pixels:
    """Cut mid-coronal slices on the grid of preprocessing's, by straight lines between voxels.

    Parameters
    ----------
    images : tensor, (n, 1, x, y, z), -1 to 1

    Returns
    -------
    slices : array, (n, 160, 160), uint8
        Top row first, person's left on the left.
    """
    first = grid_affine(voxel_mm)[:3, 3]
    lines = [FIRST_MM[0] + np.arange(SIZE), np.array([FIRST_MM[1]]), FIRST_MM[2] + np.arange(SIZE)]
    x, y, z = (
        torch.from_numpy(
            np.maximum(0, 1 - np.abs(points[:, None] - start - voxel_mm * np.arange(n)) / voxel_mm)
        ).float()
        for points, start, n in zip(lines, first, images.shape[2:], strict=True)
    )
    grey = (images.float().cpu().clamp(-1, 1) + 1) * 127.5  # 0 stays 0 beyond the grid
    plane = torch.einsum("px,nxyz,ry,qz->npq", x, grey[:, 0], y, z)
    return np.ascontiguousarray(plane.round().to(torch.uint8).numpy().transpose(0, 2, 1)[:, ::-1])


def to_images(voxels: Voxels) -> Tensor:
    """Turn volumes, (n, x, y, z), into images, (n, 1, x, y, z), float32, -1 to 1."""
    return torch.from_numpy(voxels).float()[:, None] / 127.5 - 1


def to_voxels(images: Tensor) -> Voxels:
    """Turn images, (n, 1, x, y, z), -1 to 1, into volumes, (n, x, y, z), uint8."""
    grey = (images.float().clamp(-1, 1) + 1) * 127.5
    return grey[:, 0].round().to(torch.uint8).cpu().numpy()


def write_volume(path: str, voxels: Voxels, voxel_mm: float) -> None:
    """Write one volume as NIfTI, (x, y, z), uint8, in the upright frame."""
    affine = grid_affine(voxel_mm)
    image = nib.Nifti1Image(np.ascontiguousarray(voxels), affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=2)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def save_brains(path: str, brains: Brains) -> None:
    """Write volumes and the edge of their voxels as safetensors."""
    tensors = {
        "volumes": np.ascontiguousarray(brains.voxels),
        "voxel_mm": np.array(brains.voxel_mm),
    }
    Path(path).write_bytes(save(tensors))


def load_brains(path: str) -> Brains:
    """Read volumes.

    Raises
    ------
    ValueError
        No such file of volumes.
    """
    try:
        tensors = load(Path(path).read_bytes())
        return Brains(tensors["volumes"], float(tensors["voxel_mm"]))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no volumes ({error}); run prepare and sample again") from error


def _scan(path: str) -> str:
    """Name the scan that a derivative was made from: its entities up to those of derivatives."""
    return re.split(r"_(?:from|space|desc)-", Path(path).name)[0]
