"""Where responses are: voxels of a mask, vertices, grayordinates or regions; reading and writing.

A grid knows how many places it has, reads a run as places × volumes, a part at a time, and writes
maps, one number per place, in the format the series came in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
VOLUMES_AT_A_TIME = 32
AFFINE_TOLERANCE_MM = 1e-2


class Grid(Protocol):
    """What all kinds of grids can do."""

    extension: ClassVar[str]

    @property
    def size(self) -> int:
        """Number of places."""

    def read(self, path: Path) -> Iterator[Floats]:
        """Yield a run in parts, (places, volumes) each, in order of time."""

    def write(self, path: Path, maps: Mapping[str, Floats]) -> None:
        """Write named maps, (places,) each, as one file."""


@dataclass(frozen=True)
class VolumeGrid:
    """Voxels inside a mask, in C order of (x, y, z)."""

    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]

    extension: ClassVar[str] = ".nii.gz"

    @property
    def size(self) -> int:
        """Number of voxels in the mask."""
        return int(self.mask.sum())

    def read(self, path: Path) -> Iterator[Floats]:
        """Yield masked volumes; see Grid."""
        # Kept open: a compressed file is read once from front to back, not anew for each part.
        image = _load(path, keep_file_open=True)
        check_grid(path, image, self.mask.shape, self.affine)
        for start in range(0, image.shape[3], VOLUMES_AT_A_TIME):
            volumes = np.asarray(image.dataobj[..., start : start + VOLUMES_AT_A_TIME])
            yield volumes[self.mask].astype(np.float32)

    def write(self, path: Path, maps: Mapping[str, Floats]) -> None:
        """Write a float32 NIfTI: 3D for one map, otherwise 4D in the mapping's order."""
        data = np.zeros((*self.mask.shape, len(maps)), dtype=np.float32)
        for index, values in enumerate(maps.values()):
            data[self.mask, index] = values
        image = nib.Nifti1Image(data[..., 0] if len(maps) == 1 else data, self.affine)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)


@dataclass(frozen=True)
class SurfaceGrid:
    """Vertices of one hemisphere."""

    vertices: int

    extension: ClassVar[str] = ".func.gii"

    @property
    def size(self) -> int:
        """Number of vertices."""
        return self.vertices

    def read(self, path: Path) -> Iterator[Floats]:
        """Yield the whole run; see Grid."""
        data = np.stack([array.data for array in _load(path).darrays], axis=1)
        if len(data) != self.vertices:
            raise ValueError(f"{path}: {len(data)} vertices, but the first run has {self.vertices}")
        yield data.astype(np.float32)

    def write(self, path: Path, maps: Mapping[str, Floats]) -> None:
        """Write a GIFTI with one named data array per map."""
        arrays = [
            nib.gifti.GiftiDataArray(
                np.asarray(values, dtype=np.float32),
                intent="NIFTI_INTENT_NONE",
                datatype="NIFTI_TYPE_FLOAT32",
                meta=nib.gifti.GiftiMetaData(Name=name),
            )
            for name, values in maps.items()
        ]
        nib.save(nib.gifti.GiftiImage(darrays=arrays), path)


@dataclass(frozen=True)
class CiftiGrid:
    """Grayordinates of a CIFTI dense series."""

    axis: Any

    extension: ClassVar[str] = ".dscalar.nii"

    @property
    def size(self) -> int:
        """Number of grayordinates."""
        return len(self.axis)

    def read(self, path: Path) -> Iterator[Floats]:
        """Yield parts of the run; see Grid."""
        image = _load(path)
        if image.header.get_axis(1) != self.axis:
            raise ValueError(f"{path}: other grayordinates than the first run's")
        for start in range(0, image.shape[0], VOLUMES_AT_A_TIME):
            yield np.asarray(image.dataobj[start : start + VOLUMES_AT_A_TIME]).T.astype(np.float32)

    def write(self, path: Path, maps: Mapping[str, Floats]) -> None:
        """Write a CIFTI with one named scalar map each."""
        data = np.stack([np.asarray(values, dtype=np.float32) for values in maps.values()])
        axes = (nib.cifti2.ScalarAxis(list(maps)), self.axis)
        nib.save(nib.Cifti2Image(data, header=axes), path)


@dataclass(frozen=True)
class TableGrid:
    """Regions: the columns of a table of time series."""

    columns: tuple[str, ...]

    extension: ClassVar[str] = ".tsv"

    @property
    def size(self) -> int:
        """Number of regions."""
        return len(self.columns)

    def read(self, path: Path) -> Iterator[Floats]:
        """Yield the whole run; see Grid."""
        if _columns(path) != self.columns:
            raise ValueError(f"{path}: other columns than the first run's")
        yield np.genfromtxt(path, delimiter="\t", skip_header=1, ndmin=2).T.astype(np.float32)

    def write(self, path: Path, maps: Mapping[str, Floats]) -> None:
        """Write a table: one row per region, one column per map."""
        lines = ["\t".join(["region", *maps])]
        for index, column in enumerate(self.columns):
            lines.append("\t".join([column, *(f"{v[index]:.6g}" for v in maps.values())]))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def open_grid(
    first: Path, masks: Sequence[Path]
) -> VolumeGrid | SurfaceGrid | CiftiGrid | TableGrid:
    """Find out where the responses of a series are.

    Parameters
    ----------
    first : Path
        A run.
    masks : sequence of Path
        Masks of the runs; voxels in all of them are taken. None: voxels that are not 0 throughout.

    Raises
    ------
    ValueError
        Not a series over time, or a mask of another grid.
    """
    if first.name.endswith(".tsv"):
        return TableGrid(_columns(first))
    image = _load(first)
    if isinstance(image, nib.gifti.GiftiImage):
        return SurfaceGrid(len(image.darrays[0].data))
    if isinstance(image, nib.Cifti2Image):
        return CiftiGrid(image.header.get_axis(1))
    if image.ndim != 4 or image.shape[3] < 2:
        raise ValueError(f"{first}: found shape {image.shape}, expected a series of volumes (4D)")
    mask: NDArray[np.bool_] = np.ones(image.shape[:3], dtype=np.bool_)
    for path in masks:
        other = _load(path)
        check_grid(path, other, image.shape[:3], image.affine)
        mask = mask & (np.asarray(other.dataobj) > 0)
    if not masks:
        mask = (np.asarray(image.dataobj[..., :VOLUMES_AT_A_TIME]) != 0).any(3)
    if not mask.any():
        raise ValueError(f"{first}: no voxel is inside the mask of every run")
    return VolumeGrid(mask, np.asarray(image.affine))


def check_grid(path: Path, image: Any, shape: tuple[int, ...], affine: Floats) -> None:
    """Refuse an image of another grid.

    Raises
    ------
    ValueError
        Another shape, or voxels elsewhere; says what was found and expected.
    """
    if image.shape[:3] != tuple(shape[:3]):
        raise ValueError(
            f"{path}: grid of {image.shape[:3]} voxels, but BOLD has {tuple(shape[:3])}; resample"
            " it to the BOLD grid (nearest neighbour for labels)"
        )
    far = float(np.abs(image.affine - affine).max())
    if far > AFFINE_TOLERANCE_MM:
        raise ValueError(
            f"{path}: its voxels lie up to {far:.3g} mm off the BOLD grid; resample it"
        )


def read_regions(path: Path, grid: Grid) -> dict[str, NDArray[np.bool_]]:
    """Read regions as members of a grid, by name.

    A NIfTI, GIFTI or CIFTI label image; names are from GIFTI's or CIFTI's table, or ``index``,
    ``name`` of the .tsv beside a NIfTI, otherwise the numbers.

    Raises
    ------
    ValueError
        Labels of another grid, or of a kind that does not fit the responses.
    """
    names: dict[int, str] = {}
    image = _load(path)
    if isinstance(grid, VolumeGrid):
        check_grid(path, image, grid.mask.shape, grid.affine)
        labels = np.asarray(image.dataobj)[grid.mask].astype(int)
        table = path.with_name(path.name.split(".")[0] + ".tsv")
        if table.is_file():
            header, *lines = (
                line.split("\t") for line in table.read_text(encoding="utf-8-sig").splitlines()
            )
            index, name = header.index("index"), header.index("name")
            names = {int(float(line[index])): line[name] for line in lines}
    elif isinstance(grid, SurfaceGrid) and isinstance(image, nib.gifti.GiftiImage):
        labels = np.asarray(image.darrays[0].data).astype(int)
        names = image.labeltable.get_labels_as_dict()
        if len(labels) != grid.size:
            raise ValueError(f"{path}: {len(labels)} vertices, but responses have {grid.size}")
    elif isinstance(grid, CiftiGrid) and isinstance(image, nib.Cifti2Image):
        if image.header.get_axis(1) != grid.axis:
            raise ValueError(f"{path}: other grayordinates than the responses have")
        labels = np.asarray(image.dataobj)[0].astype(int)
        table = getattr(image.header.get_axis(0), "label", [{}])[0]
        names = {key: name for key, (name, _colour) in table.items()}
    else:
        raise ValueError(f"{path}: regions must be a label image on the grid of the responses")
    return {names.get(int(n), f"region{n}"): labels == n for n in np.unique(labels) if n != 0}


def _columns(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8-sig") as stream:
        return tuple(stream.readline().rstrip("\n").split("\t"))


def _load(path: Path, **options: bool) -> Any:
    """Load lazily; what nibabel cannot read is named."""
    try:
        return nib.load(path, **options)
    except nib.filebasedimages.ImageFileError as error:
        raise ValueError(f"{path}: not an image that can be read: {error}") from error
