"""Reportlets: arrays → PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from stages.encoding.grids import CiftiGrid, Grid, SurfaceGrid, TableGrid, VolumeGrid
from stages.encoding.provenance import REAL
from stages.encoding.surfaces import FSAVERAGE5_VERTICES, draw_surfaces, project

mpl.use("Agg")

import matplotlib.pyplot as plt

Floats = NDArray[Any]

DPI = 110
SLICES = 8


def draw_penalties(
    path: Path,
    penalties: Sequence[float],
    curves: Mapping[str, Floats],
    where: str,
    origin: str,
    published: Mapping[str, Floats] | None = None,
) -> None:
    """Draw mean correlation against penalty, one line per condition; dashed: as published."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for index, (name, curve) in enumerate(curves.items()):
        style = ("-", "-.", ":")[index // 10 % 3]
        axes.semilogx(penalties, curve, f"o{style}", ms=3, lw=1.3, c=f"C{index % 10}", label=name)
        if published and name in published:
            axes.semilogx(penalties, published[name], "--", lw=0.8, c=f"C{index % 10}")
    axes.axhline(0, c="0.6", lw=0.6)
    axes.set(xlabel="penalty α", ylabel=f"mean r over voxels\n({where})")
    axes.set_title(_title("Penalty curves", origin), fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def draw_lags(
    path: Path, lags: Sequence[float], means: Floats, chosen: Floats, model: str, origin: str
) -> None:
    """Draw cross-validated correlation by lag, and how many voxels prefer which."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
    left.plot(lags, means, "o-", c="C0")
    left.axhline(0, c="0.6", lw=0.6)
    left.set(xlabel="lag, s", ylabel="mean r over voxels\n(held-out training runs)")
    counts = [int(np.isclose(chosen, lag).sum()) for lag in lags]
    right.bar(range(len(lags)), counts, color="C1")
    right.set_xticks(range(len(lags)), [f"{lag:g}" for lag in lags])
    right.set(xlabel="best lag, s", ylabel="voxels")
    figure.suptitle(_title(f"Single lags of {model}", origin), fontsize=10)
    _save(figure, path)


def draw_map(path: Path, grid: Grid, values: Floats, title: str, origin: str) -> None:
    """Draw a map: slices of a volume, a surface from outside, inside and flat, bars of regions."""
    if isinstance(grid, VolumeGrid):
        figure = _slices(grid, values)
    elif isinstance(grid, SurfaceGrid) and grid.vertices == FSAVERAGE5_VERTICES:
        hemisphere = "left" if "hemi-L" in path.name else "right"
        figure = draw_surfaces({hemisphere: values})
    elif isinstance(grid, TableGrid):
        figure = _bars(grid.columns, values)
    else:
        figure = _histogram(values, grid)
    figure.suptitle(_title(title, origin), fontsize=10)
    _save(figure, path)


def draw_on_surface(path: Path, grid: VolumeGrid, values: Floats, title: str, origin: str) -> None:
    """Draw a map of MNI space on fsaverage5, both hemispheres from outside, inside and flat."""
    figure = draw_surfaces(project(grid, values))
    figure.suptitle(_title(title, origin), fontsize=10)
    _save(figure, path)


def draw_grid(
    path: Path,
    conditions: Sequence[str],
    penalties: Sequence[float],
    r: Floats,
    origin: str,
    published: Floats | None = None,
) -> None:
    """Draw conditions × penalties as a table, each row's best in bold; below it as published.

    Parameters
    ----------
    r : array, (conditions, penalties)
    published : array, (conditions, penalties), optional
        NaN where nothing was printed.
    """
    size = (0.72 * len(penalties) + 2.4, 0.42 * len(conditions) + 1.0)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    limit = max(float(np.nanmax(np.abs(r))), 1e-3)
    axes.imshow(r, cmap="RdBu_r", vmin=-1.6 * limit, vmax=1.6 * limit, aspect="auto")
    for row, column in np.ndindex(r.shape):
        is_best = column == np.nanargmax(r[row])
        text = f"{r[row, column]:.4f}".replace("0.", ".", 1)
        if published is not None and np.isfinite(published[row, column]):
            text += f"\n({published[row, column]:.4f})".replace("(0.", "(.", 1)
        weight = "bold" if is_best else "normal"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, fontweight=weight)
    axes.set_xticks(range(len(penalties)), [f"{a:g}" for a in penalties], fontsize=7)
    axes.set_yticks(range(len(conditions)), conditions, fontsize=7)
    axes.set_xlabel("penalty α", fontsize=8)
    told = " (in brackets: published)" if published is not None else ""
    axes.set_title(_title(f"Mean r over voxels on the test set{told}", origin), fontsize=9)
    _save(figure, path)


def draw_reconstructions(path: Path, frames: NDArray[np.uint8], made: NDArray[np.uint8]) -> None:
    """Draw frames above what an autoencoder made of them."""
    figure, axes = plt.subplots(
        2, len(frames), figsize=(1.5 * len(frames), 3.2), squeeze=False, layout="constrained"
    )
    for column, pair in enumerate(zip(frames, made, strict=True)):
        for row, image in enumerate(pair):
            axes[row, column].imshow(image)
            axes[row, column].set_axis_off()
    axes[0, 0].set_title("shown", fontsize=8, loc="left")
    axes[1, 0].set_title("reconstructed", fontsize=8, loc="left")
    _save(figure, path)


def draw_people(
    path: Path, names: Sequence[str], values: Sequence[Sequence[float]], ylabel: str, origin: str
) -> None:
    """Draw every participant as a dot and the mean as a bar, by condition or region."""
    figure, axes = plt.subplots(figsize=(max(4, 0.55 * len(names) + 2), 3.6), layout="constrained")
    rng = np.random.default_rng(0)
    for index, people in enumerate(values):
        axes.bar(index, np.mean(people), color="0.85", edgecolor="0.4")
        jitter = rng.uniform(-0.18, 0.18, len(people)) if len(people) > 1 else [0.0]
        axes.plot(index + np.asarray(jitter), people, "o", ms=3.5, c="C0", alpha=0.8)
    axes.axhline(0, c="0.4", lw=0.6)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.set_ylabel(ylabel)
    axes.set_title(_title("Participants", origin), fontsize=10)
    _save(figure, path)


def _slices(grid: VolumeGrid, values: Floats) -> Any:
    """Lay out axial slices, radiological or not told by the letters, right of the image = +x."""
    volume = np.full(grid.mask.shape, np.nan)
    volume[grid.mask] = values
    occupied = np.flatnonzero(grid.mask.any((0, 1)))
    spread = np.linspace(occupied[0], occupied[-1], min(SLICES, len(occupied)))
    picks = np.unique(spread.round().astype(int))
    limit = max(float(np.nanquantile(np.abs(values), 0.995)), 1e-3)
    columns = min(4, len(picks))
    rows = -(-len(picks) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns, 2.0 * rows + 0.4), squeeze=False
    )
    shown: Any = None
    for ax in axes.ravel():
        ax.set_axis_off()
    for ax, k in zip(axes.ravel(), picks, strict=False):
        ax.imshow(
            np.where(grid.mask[:, :, k], 0.85, 1.0).T, origin="lower", cmap="gray", vmin=0, vmax=1
        )
        shown = ax.imshow(volume[:, :, k].T, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
        height = float((grid.affine @ [0, 0, k, 1])[2])
        ax.set_title(f"z = {height:.0f} mm", fontsize=8)
    figure.colorbar(shown, ax=axes, shrink=0.7)
    return figure


def _bars(columns: Sequence[str], values: Floats) -> Any:
    figure, axes = plt.subplots(figsize=(max(4, 0.3 * len(columns) + 2), 3), layout="constrained")
    axes.bar(range(len(columns)), values, color="C0")
    axes.axhline(0, c="0.4", lw=0.6)
    axes.set_ylabel("r")
    if len(columns) <= 40:
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=7)
    return figure


def _histogram(values: Floats, grid: SurfaceGrid | CiftiGrid | Grid) -> Any:
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.hist(values, 80, color="C0")
    axes.set(xlabel="r", ylabel=f"of {grid.size} places")
    return figure


def _title(text: str, origin: str) -> str:
    """Say in the figure itself when numbers are not from real data and trained weights."""
    return text if origin == REAL else f"{text} — {origin}"


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
