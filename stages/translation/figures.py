"""Reportlets: arrays → PNG. Images are drawn with the world's up upwards, left on the left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from stages.translation.grids import PLANES, Grid
from stages.translation.judging import Verdict

mpl.use("Agg")

import matplotlib.pyplot as plt

Array = NDArray[Any]
DPI = 100
MOST_SLICES = 8
SYNTHETIC = "translated images are synthetic"


def draw_losses(path: Path, losses: Sequence[Mapping[str, float]], name: str) -> None:
    """Draw losses by epoch: adversarial; cycle and identity; the discriminators'."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
    epochs = [row["epoch"] for row in losses]
    for panel, starts in zip(axes, (("adversarial",), ("cycle", "identity"), ("D_",)), strict=True):
        for key in losses[-1]:
            if key.startswith(starts):
                panel.plot(epochs, [row[key] for row in losses], label=key, lw=1.2)
        panel.set(xlabel="epoch")
        panel.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("loss")
    axes[2].axhline(0.25, c="0.6", lw=0.6, ls=":")  # a discriminator that cannot tell
    figure.suptitle(f"Training on {name}; dotted: a discriminator that cannot tell", fontsize=9)
    _save(figure, path)


def draw_samples(
    path: Path,
    G: torch.nn.Module,
    F: torch.nn.Module,
    shown: Sequence[Array],
    domains: Sequence[str],
    title: str,
) -> None:
    """Draw training images, translations, differences and ways back; rows alternate domains."""
    rows = []
    for images, there, back, label in (
        (shown[0], G, F, f"{domains[0]} to {domains[1]}"),
        (shown[1], F, G, f"{domains[1]} to {domains[0]}"),
    ):
        device = next(there.parameters()).device
        batch = torch.from_numpy(images).to(device)
        with torch.inference_mode():
            made = there(batch)
            returned = back(made)
        for i in range(len(images)):
            three = [_flat(a[i].float().cpu().numpy()) for a in (batch, made, returned)]
            rows.append((label if i == 0 else "", three))
    figure, axes = plt.subplots(
        len(rows), 4, figsize=(6.4, 1.6 * len(rows) + 0.4), squeeze=False, layout="constrained"
    )
    for line, (label, (before, after, returned_image)) in zip(axes, rows, strict=True):
        _grey(line[0], before)
        _grey(line[1], after)
        _change(line[2], after - before, 1.0)
        _grey(line[3], returned_image)
        line[0].set_title(label, fontsize=7, loc="left")
    for panel, name in zip(axes[0], ("", "translated", "difference", "and back"), strict=True):
        if name:
            panel.set_title(name, fontsize=7)
    figure.suptitle(f"{title}; {SYNTHETIC}", fontsize=8)
    _save(figure, path)


def draw_translation(
    path: Path, before: Array, after: Array, returned: Array, grid: Grid, title: str
) -> None:
    """Draw a participant's slices before, after, difference, and back.

    A row is one picture: drawn for everybody, a panel per slice would take longer than translation.
    """
    picks = _picks(before, grid)
    width = _slice(before, picks[0][0]).shape[0]
    first, then, back = (
        np.concatenate([_slice(a, k) for k, _ in picks]) for a in (before, after, returned)
    )
    size = (max(4.5, 1.7 * len(picks) + 0.8), 7)
    figure, axes = plt.subplots(4, 1, figsize=size, layout="constrained")
    for panel, row, name in (
        (axes[0], first, "before"),
        (axes[1], then, "translated"),
        (axes[3], back, "and back"),
    ):
        _grey(panel, row)
        panel.set_title(name, fontsize=8, loc="left")
    shown = _change(axes[2], (then - first) / 2, 0.4)
    axes[2].set_title("difference", fontsize=8, loc="left")
    for i, (_, label) in enumerate(picks):
        x = (i + 0.5) * width
        axes[0].text(x, 0, label, fontsize=7, color="0.7", ha="center", va="bottom")
    figure.colorbar(shown, ax=axes.tolist(), shrink=0.4, label="difference, share of range")
    figure.suptitle(f"{title}; {SYNTHETIC}", fontsize=9)
    _save(figure, path)


def draw_maps(path: Path, mean: Array, named: Mapping[str, Array], grid: Grid, title: str) -> None:
    """Draw maps, one per row, over the outline of the mean image; each with its own scale."""
    picks = _picks(mean, grid)
    figure, axes = plt.subplots(
        len(named),
        len(picks),
        figsize=(max(4.5, 1.7 * len(picks) + 1.2), 2 * len(named) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (name, values) in enumerate(named.items()):
        limit = max(float(np.quantile(np.abs(values[np.abs(mean + 1) > 0.1]), 0.995)), 1e-6)
        for column, (k, label) in enumerate(picks):
            panel = axes[row, column]
            shown = _change(panel, _slice(values, k), limit)
            outline = _slice(mean, k)
            if outline.max() > -0.8:
                panel.contour(outline.T, [-0.8], colors="0.5", linewidths=0.5)
            if row == 0:
                panel.set_title(label, fontsize=7)
        axes[row, 0].text(
            -0.08,
            0.5,
            name,
            rotation=90,
            va="center",
            ha="right",
            fontsize=7,
            transform=axes[row, 0].transAxes,
        )
        figure.colorbar(shown, ax=axes[row].tolist(), shrink=0.8)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_persons(
    path: Path,
    people: Sequence[str],
    images: Array,
    change: Array,
    cam: tuple[str, Mapping[str, Array]] | None,
    grid: Grid,
    title: str,
) -> None:
    """Draw single participants: image, difference and, where there is one, the heat map."""
    columns = 3 if cam else 2
    figure, axes = plt.subplots(
        len(people),
        columns,
        figsize=(2.1 * columns, 2 * len(people) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for i, person in enumerate(people):
        picks = _picks(images[i], grid)
        k, label = picks[len(picks) // 2]
        _grey(axes[i, 0], _slice(images[i], k))
        _change(axes[i, 1], _slice(change[i], k) / 2, 0.4)
        axes[i, 0].set_title(f"{person} {label}", fontsize=7)
        if cam:
            axes[i, 2].set_axis_off()
            if person in cam[1]:
                axes[i, 2].imshow(_slice(cam[1][person], k).T, origin="lower", cmap="inferno")
    axes[0, 1].set_title("difference", fontsize=7)
    if cam:
        axes[0, 2].set_title(f"Grad-CAM, {cam[0]}", fontsize=7)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_regions(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw every region's change beside the real groups' difference; stars: q < .05."""
    own = [row for row in rows if "mean_change" in row]
    figure, panel = plt.subplots(figsize=(6.5, 0.35 * len(own) + 1.2), layout="constrained")
    places = np.arange(len(own))
    for shift, key, q, name, color in (
        (0.19, "mean_change", "q", "translated − before", "C0"),
        (-0.19, "real_difference", "real_q", "real groups", "0.7"),
    ):
        values = [row[key] for row in own]
        panel.barh(places + shift, values, 0.36, color=color, label=name)
        for place, value, row in zip(places, values, own, strict=True):
            if row[q] < 0.05:
                panel.text(
                    value, place + shift, "*", va="center", ha="left" if value > 0 else "right"
                )
    panel.axvline(0, c="0.3", lw=0.6)
    panel.set_yticks(places, [row["region"] for row in own], fontsize=7)
    panel.invert_yaxis()
    panel.set_xlabel("mean difference, share of range; * q < .05", fontsize=8)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=2)
    panel.set_title(title, fontsize=9)
    _save(figure, path)


def draw_confusions(path: Path, verdicts: Sequence[Verdict], domains: Sequence[str]) -> None:
    """Draw shares of verdicts before and after translation, per part of the cohort."""
    splits = sorted({v.split for v in verdicts})
    figure, axes = plt.subplots(
        len(splits), 2, figsize=(6, 2.6 * len(splits) + 0.3), squeeze=False, layout="constrained"
    )
    for line, split in zip(axes, splits, strict=True):
        for panel, is_after in zip(line, (False, True), strict=True):
            counts = np.array(
                [
                    [
                        sum(
                            v.split == split
                            and v.origin == o
                            and v.predicted == d
                            and (v.toward not in ("", o) if is_after else not v.toward)
                            for v in verdicts
                        )
                        for d in domains
                    ]
                    for o in domains
                ]
            )
            shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
            panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
            for i, j in np.ndindex(2, 2):
                panel.text(
                    j,
                    i,
                    f"{counts[i, j]}\n{shares[i, j]:.0%}",
                    ha="center",
                    va="center",
                    color="w" if shares[i, j] > 0.6 else "k",
                )
            labels = [f"{o} to {domains[1 - i]}" if is_after else o for i, o in enumerate(domains)]
            panel.set_yticks([0, 1], labels, fontsize=8)
            panel.set_xticks([0, 1], [f"judged {d}" for d in domains], fontsize=8)
            panel.set_title(f"{split}, {'after' if is_after else 'before'}", fontsize=9)
    _save(figure, path)


def draw_surface(path: Path, volume: Array, affine: NDArray[np.float64], title: str) -> None:
    """Draw a map of the template's space on fsaverage5, from outside and inside."""
    import nibabel as nib
    from nilearn import datasets, plotting, surface

    meshes = datasets.fetch_surf_fsaverage("fsaverage5")
    image = nib.Nifti1Image(volume, affine)
    textures = {h: surface.vol_to_surf(image, meshes[f"pial_{h}"]) for h in ("left", "right")}
    limit = max(float(np.nanquantile(np.abs(np.concatenate(list(textures.values()))), 0.99)), 1e-6)
    figure = plt.figure(figsize=(10, 3))
    views = [("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral")]
    for index, (side, view) in enumerate(views):
        panel = figure.add_subplot(1, 4, index + 1, projection="3d")
        plotting.plot_surf(
            meshes[f"infl_{side}"],
            surf_map=np.nan_to_num(textures[side]),
            bg_map=meshes[f"sulc_{side}"],
            hemi=side,
            view=view,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            axes=panel,
            figure=figure,
            colorbar=index == 3,
        )
        panel.set_title(f"{side} {view}", fontsize=8)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def _picks(samples: Array, grid: Grid) -> list[tuple[int, str]]:
    """Choose slices to show, spread over those there are, with their place as label."""
    axis = grid.axes[2] if grid.dims == 3 else grid.axes[PLANES[grid.plane]]
    name = {0: "x", 1: "y", 2: "z"}[PLANES.get(grid.plane, 2)]
    chosen = (
        np.unique(
            np.linspace(0, axis.n - 1, min(MOST_SLICES, axis.n) + 2).round().astype(int)[1:-1]
        )
        if axis.n > 2
        else np.arange(axis.n)
    )
    return [(int(k), f"{name} = {axis.centres[k]:.0f} mm") for k in chosen]


def _slice(samples: Array, k: int) -> Array:
    """Cut a slice from (slices, 1, a, b) or an axial one from (1, 1, x, y, z)."""
    return samples[k, 0] if samples.ndim == 4 else samples[0, 0, :, :, k]


def _flat(image: Array) -> Array:
    """Take an image, (1, a, b), or the middle axial slice of a volume, (1, x, y, z)."""
    return image[0] if image.ndim == 3 else image[0, :, :, image.shape[3] // 2]


def _grey(panel: Any, image: Array) -> None:
    panel.imshow(image.T, origin="lower", cmap="gray", vmin=-1, vmax=1)
    panel.set_axis_off()


def _change(panel: Any, image: Array, limit: float) -> Any:
    panel.set_axis_off()
    return panel.imshow(image.T, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
