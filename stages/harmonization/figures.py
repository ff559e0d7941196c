"""Reportlets: arrays → PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.harmonization.estimates import Estimate
from stages.harmonization.placement import Array

COLOURS = ("#1b6ca8", "#e07b39", "#5b8e3e", "#8e4585", "#7a7a7a")
PLANES = ("sagittal", "coronal", "axial")
VERDICTS = {"PASS": "#3a7d34", "WARN": "#b07d00", "FAIL": "#b3261e"}


def draw_cohort(
    slices: Sequence[int], labels: Sequence[str], least: int, mode: int, title: str, path: Path
) -> None:
    """Draw how many slices the people of each class have, and their share by slice count."""
    figure = Figure(figsize=(8, 4.4), layout="constrained", dpi=110)
    counts, shares = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    low, high = min(slices), max(slices)
    step = max(1, -(-(high - low + 1) // 40))
    edges = np.arange(low, high + step + 1, step) - 0.5
    names = sorted(set(labels))
    heights = [
        np.histogram([s for s, c in zip(slices, labels, strict=True) if c == name], edges)[0]
        for name in names
    ]
    total, below = np.sum(heights, axis=0), np.zeros(len(edges) - 1)
    middle = (edges[:-1] + edges[1:]) / 2
    for name, height, colour in zip(names, heights, _cycle(names), strict=True):
        counts.bar(middle, height, step * 0.9, below, color=colour, label=f"{name} ({sum(height)})")
        below = below + height
        with np.errstate(invalid="ignore"):
            shares.plot(middle, height / total, "o-", color=colour, markersize=3.5, linewidth=1)
        overall = height.sum() / total.sum()
        shares.axhline(overall, color=colour, linewidth=0.7, linestyle=":")
    counts.axvline(mode, color="black", linewidth=0.8)
    counts.annotate("mode", (mode, counts.get_ylim()[1]), ha="center", va="bottom", fontsize=8)
    if least > low:
        counts.axvspan(edges[0], least - 0.5, color="0.85", zorder=0)
    counts.set_ylabel("participants")
    counts.legend(frameon=False, fontsize=8)
    shares.set(xlabel="slices", ylabel="share of class", ylim=(-0.05, 1.05))
    shares.annotate(
        "dotted: whole cohort", (0.99, 0.05), xycoords="axes fraction", ha="right", fontsize=7
    )
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_scan(before: Array, after: Array, title: str, path: Path) -> None:
    """Draw the three middle slices of an image before and after; voxels are drawn square."""
    figure = Figure(figsize=(7.5, 5), layout="constrained", dpi=90)
    for row, (data, name) in zip(
        figure.subplots(2, 3), ((before, "before"), (after, "after")), strict=True
    ):
        low, high = np.percentile(data[::2, ::2, ::2], [1, 99.5])
        for axis, panel in enumerate(row):
            plane = np.take(data, data.shape[axis] // 2, axis=axis)
            panel.imshow(plane.T, cmap="gray", origin="lower", vmin=low, vmax=high)
            panel.set(xticks=[], yticks=[])
            panel.set_xlabel(
                f"{PLANES[axis]} {'×'.join(map(str, plane.shape))}",
                fontsize=8,
            )
        row[0].set_ylabel(name)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_audit(
    arms: Mapping[str, Mapping[str, Estimate | None]],
    verdicts: Mapping[str, str],
    flips: Mapping[str, float | None],
    chance: float,
    title: str,
    path: Path,
) -> None:
    """Draw balanced accuracies with their intervals, one panel per arm under its verdict.

    ``flips`` is the share of predictions that change in another field of view; None where there is
    no other.
    """
    figure = Figure(figsize=(2.2 + 1.9 * len(arms), 3.6), layout="constrained", dpi=110)
    panels = np.atleast_1d(figure.subplots(1, len(arms), sharey=True))
    for panel, (arm, found) in zip(panels, arms.items(), strict=True):
        for place, (name, estimate) in enumerate(found.items()):
            if estimate is None:
                panel.annotate("–", (place, chance), ha="center", va="center", color="0.5")
                continue
            error = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
            colour = "0.6" if name == "size" else COLOURS[0]
            panel.errorbar(place, estimate.value, error, fmt="o", color=colour, capsize=3)
        panel.axhline(chance, color="0.5", linewidth=0.8, linestyle=":")
        panel.axhline(chance + 0.1, color=VERDICTS["FAIL"], linewidth=0.6, linestyle=":")
        panel.set_xticks(range(len(found)), list(found), rotation=60, fontsize=8)
        panel.set_xlim(-0.6, len(found) - 0.4)
        panel.set_ylim(max(0.0, chance - 0.3), 1.02)
        n = next(e.n for e in found.values() if e is not None)
        share = flips[arm]
        told = "one field of view" if share is None else f"{share:.0%} change with field of view"
        panel.annotate(told, (0.5, 0.02), xycoords="axes fraction", ha="center", fontsize=7)
        panel.set_title(
            f"{arm}\n{verdicts[arm]} (n = {n})", fontsize=9, color=VERDICTS[verdicts[arm]]
        )
    panels[0].set_ylabel("balanced accuracy")
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def _cycle(names: Sequence[str]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(names))]


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # Without a date and a version in it, the same picture is the same file.
    figure.savefig(path, metadata={"Software": None})
