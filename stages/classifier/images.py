"""Volumes onto a model's grid: means over blocks of voxels, cut to whole blocks, maybe one plane.

Everything happens in voxels of the source grid, so a model's input is defined by the source's
shape and voxel size alone; affine and space say whether an image may be given to it at all.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

Array = NDArray[np.float32]
BROKEN = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError)
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
TOLERANCE_MM = 1e-3


class Volume(NamedTuple):
    """An image in the order nearest to RAS+, with channels or without."""

    data: Array  # (…, x, y, z)
    affine: NDArray[np.float64]  # (4, 4), voxel → world, mm

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size, mm."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return round(float(x), 4), round(float(y), 4), round(float(z), 4)


@dataclass(frozen=True)
class Grid:
    """How a source volume becomes a model's input.

    Attributes
    ----------
    shape, zooms
        Voxels and mm of the source, RAS+.
    blocks
        Voxels per side that are averaged.
    plane, position
        Which plane is cut out, and where along its axis (0 … 1); empty for whole volumes.
    """

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    blocks: tuple[int, int, int]
    plane: str = ""
    position: float = 0.5

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the model's input, 3D or 2D."""
        whole = tuple(n // b for n, b in zip(self.shape, self.blocks, strict=True))
        return tuple(n for axis, n in enumerate(whole) if axis != PLANES.get(self.plane, -1))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size of the model's input, mm, plane or not."""
        x, y, z = (z * b for z, b in zip(self.zooms, self.blocks, strict=True))
        return x, y, z

    @property
    def offset(self) -> tuple[int, int, int]:
        """Source voxels cut off at the low side so that blocks fit."""
        x, y, z = ((n % b) // 2 for n, b in zip(self.shape, self.blocks, strict=True))
        return x, y, z

    @property
    def index(self) -> int:
        """Which plane, in voxels of the conformed volume."""
        axis = PLANES[self.plane]
        return round(self.position * (self.shape[axis] // self.blocks[axis] - 1))

    def move_affine(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the affine of the conformed volume, whose voxels lie in their blocks' middles."""
        scale = np.diag([*self.blocks, 1.0])
        scale[:3, 3] = [o + (b - 1) / 2 for o, b in zip(self.offset, self.blocks, strict=True)]
        return affine @ scale

    def to_json(self) -> dict[str, Any]:
        """Describe the grid in plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Grid":
        """Read what ``to_json`` wrote."""
        sizes = {name: tuple(data[name]) for name in ("shape", "zooms", "blocks")}
        return cls(**sizes, plane=data["plane"], position=data["position"])


def make_grid(
    shape: tuple[int, ...],
    zooms: tuple[float, ...],
    *,
    grid_mm: float,
    plane: str = "",
    position: float = 0.5,
) -> Grid:
    """Choose blocks whose edge comes nearest to ``grid_mm``; 0 keeps the source's voxels.

    >>> make_grid((197, 233, 189), (1.0, 1.0, 1.0), grid_mm=4).input_shape
    (49, 58, 47)
    """
    blocks = tuple(max(1, round(grid_mm / z)) for z in zooms)
    if min(n // b for n, b in zip(shape, blocks, strict=True)) < 2:
        raise ValueError(
            f"grid_mm {grid_mm:g}: leaves fewer than two voxels of {'x'.join(map(str, shape))}"
            f" voxels of {'x'.join(f'{z:g}' for z in zooms)} mm; give a finer grid"
        )
    return Grid(shape, zooms, blocks, plane, position)  # type: ignore[arg-type]


def conform(data: Array, grid: Grid) -> Array:
    """Average over blocks, (…, X, Y, Z) → (…, x, y, z), or one plane; edges are cut evenly."""
    whole = [n // b for n, b in zip(grid.shape, grid.blocks, strict=True)]
    x, y, z = (slice(o, o + n * b) for o, n, b in zip(grid.offset, whole, grid.blocks, strict=True))
    cut = data[..., x, y, z]
    pairs = [size for n, b in zip(whole, grid.blocks, strict=True) for size in (n, b)]
    split = cut.reshape(*cut.shape[:-3], *pairs)
    small = split.mean(axis=(-5, -3, -1), dtype=np.float64).astype(np.float32)
    return small if not grid.plane else cut_plane(small, grid)


def cut_plane(volume: Array, grid: Grid) -> Array:
    """Cut the grid's plane out of a conformed volume, (…, x, y, z)."""
    return np.ascontiguousarray(np.take(volume, grid.index, axis=PLANES[grid.plane] - 3))


def check_fits(volume: Volume, grid: Grid, path: str | Path, *, by_voxels: bool = False) -> None:
    """Refuse an image on another grid than the model was trained with.

    Parameters
    ----------
    by_voxels
        Whether the arm gives images one shape but not one voxel size.

    Raises
    ------
    ValueError
        Another shape or voxel size; says both.
    """
    found, wanted = volume.data.shape[-3:], grid.shape
    if tuple(found) != tuple(wanted):
        raise ValueError(
            f"{path}: shape {_times(found)}, the model expects {_times(wanted)}; run the same"
            " harmonization (its plan.json) or registration that the model's card names"
        )
    if not by_voxels and not np.allclose(volume.zooms, grid.zooms, atol=TOLERANCE_MM):
        raise ValueError(
            f"{path}: voxels of {_times(volume.zooms)} mm, the model expects"
            f" {_times(grid.zooms)} mm; run the same harmonization or registration"
        )


def load(path: str | Path) -> Volume:
    """Load a volume in the order nearest to RAS+.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Broken, not 3D, or with values that are not finite.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        image: Any = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
    except BROKEN as error:
        raise ValueError(f"{path}: no readable NIfTI image ({error}); make it again") from error
    data = data.reshape(data.shape[:3]) if data.ndim > 3 and set(data.shape[3:]) == {1} else data
    if data.ndim != 3:
        raise ValueError(f"{path}: {data.ndim} dimensions, expected a 3D volume; give one per file")
    if not np.isfinite(data).all():
        raise ValueError(f"{path}: NaN or infinite values; run preprocessing on the image first")
    orientation = nib.io_orientation(image.affine)
    moved = nib.apply_orientation(data, orientation)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)
    return Volume(np.ascontiguousarray(moved), affine)


def save_map(path: str | Path, data: Array, affine: NDArray[np.float64]) -> None:
    """Write a map as float32, RAS+, world coordinates in both forms."""
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.set_sform(affine, code="aligned")
    image.set_qform(affine, code="aligned", strip_shears=True)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def fingerprint(data: Array) -> str:
    """Hash voxels, so that an image is known whatever its file is called."""
    return hashlib.sha256(np.ascontiguousarray(data, dtype="<f4").tobytes()).hexdigest()[:32]


def _times(sizes: tuple[Any, ...]) -> str:
    return "x".join(f"{s:g}" for s in sizes)
