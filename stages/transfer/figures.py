"""Reportlets: arrays → PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from stages.transfer.provenance import REAL

mpl.use("Agg")

import matplotlib.pyplot as plt

Floats = NDArray[Any]

DPI = 110
PLANE_NAMES = ("axial", "coronal", "sagittal")


def draw_patches(
    path: Path, patches: NDArray[np.uint8], names: Sequence[str], title: str, origin: str
) -> None:
    """Draw the three planes of each patch below one another, patches side by side."""
    columns = min(len(patches), 12)
    blocks = -(-len(patches) // columns)
    figure, axes = plt.subplots(
        3 * blocks, columns, figsize=(0.95 * columns + 0.6, 3.1 * blocks + 0.4), squeeze=False
    )
    for ax in axes.ravel():
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_visible(False)
    for index, (patch, name) in enumerate(zip(patches, names, strict=True)):
        block, column = divmod(index, columns)
        for plane in range(3):
            ax = axes[3 * block + plane, column]
            ax.set_visible(True)
            ax.imshow(patch[plane].T, origin="lower", cmap="gray", vmin=0, vmax=255)
            if column == 0:
                ax.set_ylabel(PLANE_NAMES[plane], fontsize=6)
        top = axes[3 * block, column]
        top.text(0.03, 0.97, name[:14], color="C1", fontsize=6, va="top", transform=top.transAxes)
    figure.suptitle(_title(title, origin), fontsize=9)
    figure.subplots_adjust(
        left=0.05,
        right=0.99,
        bottom=0.01,
        top=1 - 0.55 / (3.1 * blocks + 0.4),
        wspace=0.05,
        hspace=0.12,
    )
    _save(figure, path)


def draw_training(
    path: Path,
    losses: Sequence[float],
    accuracies: Sequence[float],
    tested: float,
    title: str,
    origin: str,
) -> None:
    """Draw loss and accuracy by epoch, and the accuracy on test participants as a line."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3), layout="constrained")
    epochs = np.arange(1, len(losses) + 1)
    left.semilogy(epochs, losses, "o-", ms=3)
    left.set(xlabel="epoch", ylabel="cross-entropy (training)")
    right.plot(epochs, accuracies, "o-", ms=3, label="training, while learning")
    if tested == tested:
        right.axhline(tested, c="C1", label=f"test participants: {tested:.3f}")
    right.set(xlabel="epoch", ylabel="top-1 accuracy", ylim=(0, 1.02))
    right.legend(fontsize=7, frameon=False)
    figure.suptitle(_title(title, origin), fontsize=10)
    _save(figure, path)


def draw_curves(
    path: Path,
    rounds: Floats,
    curves: Mapping[str, tuple[Floats, Floats, Floats]],
    ylabel: str,
    title: str,
    origin: str,
) -> None:
    """Draw area under the ROC curve against weak learners, with intervals, per source."""
    figure, axes = plt.subplots(figsize=(6.2, 4), layout="constrained")
    for index, (name, (value, low, high)) in enumerate(curves.items()):
        axes.semilogx(rounds, value, c=f"C{index}", lw=1.6, label=name)
        axes.fill_between(rounds, low, high, color=f"C{index}", alpha=0.15, lw=0)
    axes.axhline(0.5, c="0.5", lw=0.7, ls=":")
    axes.set(xlabel="weak learners", ylabel=ylabel)
    axes.set_title(_title(title, origin), fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    _save(figure, path)


def draw_rocs(
    path: Path,
    panels: Mapping[str, Mapping[str, tuple[Floats, Floats]]],
    title: str,
    origin: str,
) -> None:
    """Draw ROC curves, a panel per number of weak learners, one line per source."""
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.5 * columns, 2.6 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.ravel():
        ax.set_axis_off()
    for ax, (name, curves) in zip(axes.ravel(), panels.items(), strict=False):
        ax.set_axis_on()
        for source, (x, y) in curves.items():
            ax.plot(x, y, lw=1.2, label=source)
        ax.plot([0, 1], [0, 1], c="0.6", lw=0.7, ls=":")
        ax.set(ylim=(0, 1.02), xlim=(0, 1))
        ax.set_title(name, fontsize=8)
    axes[0, 0].legend(fontsize=6, frameon=False, loc="lower right")
    figure.supxlabel("false positive rate", fontsize=8)
    figure.supylabel("sensitivity", fontsize=8)
    figure.suptitle(_title(title, origin), fontsize=10)
    _save(figure, path)


def draw_frocs(
    path: Path, curves: Mapping[str, tuple[Floats, Floats]], title: str, origin: str
) -> None:
    """Draw sensitivity over lesions against false positives per case, one line per source."""
    figure, axes = plt.subplots(figsize=(6.2, 4.4), layout="constrained")
    for name, (x, y) in curves.items():
        axes.step(x, y, where="post", lw=1.4, label=name)
    axes.set_xscale("symlog", linthresh=0.125)
    axes.set(
        xlim=(0, 16),
        ylim=(0, 1.02),
        xlabel="false positives per case",
        ylabel="sensitivity (lesions)",
    )
    axes.set_title(_title(title, origin), fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    _save(figure, path)


def draw_map(
    path: Path,
    image: NDArray[Any],
    mask: NDArray[Any],
    title: str,
    origin: str,
    *,
    lesions: NDArray[Any] | None = None,
    values: Floats | None = None,
) -> None:
    """Draw maximum projections: image, outlines of vessels and lesions, probability."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.9), layout="constrained")
    shown: Any = None
    for axis, ax in enumerate(axes):
        ax.imshow(image.max(axis).T, origin="lower", cmap="gray")
        if mask.any():
            ax.contour(mask.max(axis).T, [0.5], colors="C0", linewidths=0.4)
        if lesions is not None and lesions.any():
            ax.contour(lesions.max(axis).T, [0.5], colors="C3", linewidths=1.2)
        if values is not None:
            top = values.max(axis)
            shown = ax.imshow(
                np.ma.masked_less_equal(top, 0).T, origin="lower", cmap="hot", vmin=0, vmax=1
            )
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(("sagittal", "coronal", "axial")[axis], fontsize=8)
    if shown is not None:
        figure.colorbar(shown, ax=axes, shrink=0.7, label="probability")
    figure.suptitle(_title(title, origin), fontsize=10)
    _save(figure, path)


def draw_points(
    path: Path, image: NDArray[Any], found: Floats, truth: Floats | None, title: str, origin: str
) -> None:
    """Draw landmarks found (and true ones) over mean projections, voxel coordinates."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.9), layout="constrained")
    for axis, ax in enumerate(axes):
        others = [a for a in range(3) if a != axis]
        ax.imshow(image.mean(axis).T, origin="lower", cmap="gray")
        if truth is not None:
            ax.plot(*truth[:, others].T, "o", ms=5, mfc="none", mec="C2", label="given")
        ax.plot(*found[:, others].T, "+", ms=5, c="C1", label="found")
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0].legend(fontsize=7)
    figure.suptitle(_title(title, origin), fontsize=10)
    _save(figure, path)


def _title(text: str, origin: str) -> str:
    """Say in the figure itself when numbers are not from real data and trained weights."""
    return text if origin == REAL else f"{text} — {origin}"


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
