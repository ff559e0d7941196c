"""Changes by region: the eight that the study names, as coarse boxes, or a given atlas.

The boxes are in mm of MNI space, drawn around where atlases put these regions; they overlap and
cut through neighbours, and are taken only where the group's mean image has tissue. They say
"about here", no more; for borders give an atlas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from stages.translation import volumes
from stages.translation.grids import Axis, Grid, axes_of, to_samples
from stages.translation.maps import fdr
from stages.translation.tables import read_rows

Array = NDArray[Any]
Masks = Mapping[str, NDArray[np.bool_]]

# |x| from, to; y from, to; z from, to: mm, both hemispheres.
BOXES: dict[str, tuple[float, float, float, float, float, float]] = {
    "prefrontal association cortex": (0, 60, 25, 75, -15, 55),
    "frontal eye field": (20, 45, -10, 12, 40, 66),
    "supplementary motor area": (0, 12, -20, 20, 46, 76),
    "primary motor cortex": (12, 62, -35, -5, 35, 76),
    "frontal lobe": (0, 65, -15, 75, -5, 78),
    "parietal lobe": (0, 68, -80, -20, 25, 76),
    "temporal lobe": (30, 72, -65, 18, -45, 4),
    "cerebellum": (0, 55, -92, -38, -62, -20),
}
LEAST_VOXELS = 5


def box_masks(grid: Grid) -> Masks:
    """Mark the named regions on the networks' grid, (slices, 1, a, b)."""
    x, y, z = np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")
    masks = {}
    for name, (x0, x1, y0, y1, z0, z1) in BOXES.items():
        inside = (abs(x) >= x0) & (abs(x) <= x1) & (y >= y0) & (y <= y1) & (z >= z0) & (z <= z1)
        masks[name] = to_samples(inside.astype(np.float32), grid) > 0
    return masks


def atlas_masks(path: Path, grid: Grid) -> Masks:
    """Mark an atlas's regions on the networks' grid, by the nearest voxel.

    The table beside it, of the same name with .tsv, has columns index and name.

    Raises
    ------
    ValueError
        A table without these columns, or labels none of which lie on the grid.
    """
    volume = volumes.load(path)
    table = path.with_name(path.name.partition(".")[0] + ".tsv")
    if not table.exists():
        raise FileNotFoundError(f"{table}: no such file; it names the atlas's regions")
    source = axes_of(volume.data.shape, volume.affine)
    picks = [_nearest(axis, own) for axis, own in zip(source, grid.axes, strict=True)]
    labels = volume.data[np.ix_(*(np.maximum(p, 0) for p in picks))]
    x, y, z = (p >= 0 for p in picks)
    labels = labels * (x[:, None, None] & y[:, None] & z)
    masks = {}
    for row in read_rows(table):
        if "index" not in row or "name" not in row:
            raise ValueError(f"{table}: found columns {', '.join(row)}, expected index and name")
        inside = to_samples((labels == float(row["index"])).astype(np.float32), grid) > 0
        if inside.any():
            masks[row["name"]] = inside
    if not masks:
        raise ValueError(f"{path}: none of its labels lies on the translated slices")
    return masks


def compare(
    masks: Masks,
    tissue: NDArray[np.bool_],
    differences: Array,
    target: Array,
    origin: Array,
) -> list[dict[str, Any]]:
    """Test every region's change.

    Parameters
    ----------
    tissue
        Where the group's mean image has tissue; regions are taken inside it.
    differences, origin : array, (n, slices, 1, …)
        What translation changed in the participants of the domain translated from, and their
        images, in shares of the range.
    target : array, (m, slices, 1, …)
        Real images of the other domain.

    Returns
    -------
    rows
        Signed mean change with paired t, p and q; beside it the real difference of the groups,
        its t, p and q; whether the signs agree.
    """
    rows: list[dict[str, Any]] = []
    for name, region in masks.items():
        inside = region & tissue
        row: dict[str, Any] = {"region": name, "voxels": int(inside.sum())}
        if inside.sum() >= LEAST_VOXELS:
            change, there, here = (a[:, inside].mean(1) for a in (differences, target, origin))
            t, p = stats.ttest_1samp(change, 0.0)
            real_t, real_p = stats.ttest_ind(there, here)
            row |= {"mean_change": float(change.mean()), "n": len(change), "t": float(t)}
            row |= {"p": float(p), "real_difference": float(there.mean() - here.mean())}
            row |= {"real_t": float(real_t), "real_p": float(real_p)}
            same = np.sign(change.mean()) == np.sign(there.mean() - here.mean())
            row["same_sign"] = "yes" if same else "no"
        rows.append(row)
    for p_name, q_name in (("p", "q"), ("real_p", "real_q")):
        q = fdr(np.array([row.get(p_name, np.nan) for row in rows]))
        for row, value in zip(rows, q, strict=True):
            row[q_name] = float(value)
    return rows


def _nearest(source: Axis, target: Axis) -> NDArray[np.int64]:
    """Find the nearest voxel of every centre; −1 outside."""
    index = np.rint((target.centres - source.start) / source.step).astype(np.int64)
    return np.where((index >= 0) & (index < source.n), index, -1)
