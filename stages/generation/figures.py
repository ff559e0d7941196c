"""Reportlets: arrays → PNG. Each says at its foot what is real in it, and what made the rest."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

import matplotlib.pyplot as plt

Pixels = NDArray[np.uint8]

DPI = 100
NOTE_LETTERS = 17  # of the note at the foot, per inch
COLUMNS = 8


def draw_rows(
    path: str | Path, rows: Mapping[str, Sequence[Pixels]], title: str, *, note: str
) -> None:
    """Draw rows of slices, each with its name; rows may differ in length."""
    columns = max(1, *(len(slices) for slices in rows.values()))
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(1.25 * columns + 0.3, 1.45 * len(rows) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for line, (name, slices) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, pixels in zip(line, slices, strict=False):
            ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        line[0].set_title(name, fontsize=8, loc="left")
    figure.suptitle(title, fontsize=9)
    _save(figure, path, note)


def draw_cohort(path: str | Path, slices: Mapping[str, Pixels], *, note: str) -> None:
    """Draw examples of each group's training slices, and their mean as the last."""
    rows = {
        f"{group} (n = {len(own)}; last: mean)": [
            *own[: COLUMNS - 1],
            own.mean(0).round().astype(np.uint8),
        ]
        for group, own in slices.items()
    }
    draw_rows(path, rows, "Training slices", note=note)


def draw_losses(
    path: str | Path,
    losses: Mapping[str, NDArray[np.float64]],
    validation: Mapping[str, NDArray[np.float64]],
    *,
    note: str,
) -> None:
    """Draw losses against step: on slices and prior images (if any), as running means.

    On validation people, (k, 2) of step and loss, as they are, with a ring around the least.
    """
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, values in losses.items():
        window = max(1, len(values) // 100)
        for column, what in enumerate(("slices", "prior images")):
            if values[:, column].any():
                smooth = np.convolve(values[:, column], np.ones(window) / window, "valid")
                steps = np.arange(len(smooth)) + window
                axes.semilogy(steps, smooth, lw=1, label=f"{name} {what}".strip())
    for name, seen in validation.items():
        (line,) = axes.semilogy(*seen.T, ".-", ms=3, lw=1, label=f"{name} validation".strip())
        least = seen[seen[:, 1].argmin()]
        axes.plot(*least, "o", ms=8, mfc="none", c=line.get_color())
    axes.set(xlabel="step", ylabel="weighted mean squared error")
    axes.legend(fontsize=8, frameon=False)
    _save(figure, path, note)


def draw_ratios(
    path: str | Path,
    rows: Mapping[str, NDArray[np.float64]],
    cut: float | None,
    groups: Sequence[str],
    *,
    note: str,
) -> None:
    """Draw the log-likelihood ratio of every slice, one line per set of slices."""
    figure, axes = plt.subplots(figsize=(7.5, 0.42 * len(rows) + 1.2), layout="constrained")
    rng = np.random.default_rng(0)
    for height, (name, values) in enumerate(rows.items()):
        jitter = rng.uniform(-0.25, 0.25, len(values))
        colour = "C1" if name.startswith("synthetic") else "0.35"
        axes.plot(values, height + jitter, ".", ms=3, c=colour, alpha=0.6)
        if len(values):
            axes.plot([values.mean()] * 2, [height - 0.4, height + 0.4], c="k", lw=1.2)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, c="0.4", lw=0.8, ls="--")
    if cut is not None:
        axes.axvline(cut, c="r", lw=0.8)
    axes.set_xlabel(f"log p({groups[0]}) - log p({groups[1]}), nats", fontsize=8)
    _save(figure, path, note)


def _save(figure: Any, path: str | Path, note: str) -> None:
    text = textwrap.fill(note, int(NOTE_LETTERS * figure.get_figwidth()))
    figure.supxlabel(text, fontsize=7, color="0.4")
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
