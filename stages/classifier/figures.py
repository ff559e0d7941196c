"""Reportlets: arrays → PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.classifier.provenance import REAL
from stages.classifier.statistics import CALIBRATION_BINS, Estimate

Array = NDArray[np.float32]
COLOURS = ("#1b6ca8", "#e07b39", "#5b8e3e", "#8e4585", "#b3261e", "#7a7a7a", "#c7a008", "#2a9d8f")


def draw_bars(
    bars: Mapping[str, Mapping[str, Estimate]],
    dots: Mapping[str, Mapping[str, float]],
    lines: Mapping[str, float],
    *,
    what: str,
    dot: str,
    line: str,
    top: float | None,
    note: str,
    path: Path,
) -> None:
    """Draw bars with intervals: groups (arms) × kinds (networks).

    Parameters
    ----------
    bars, dots
        Group → kind → what the bar, and the dot over it, shows.
    lines
        Group → level drawn across its bars (chance).
    """
    kinds = list(dict.fromkeys(kind for group in bars.values() for kind in group))
    width = 0.8 / max(len(kinds), 1)
    figure = Figure(figsize=(max(6.5, 2.5 + len(bars) * (1 + 0.25 * len(kinds))), 3.8), dpi=110)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for place, (group, values) in enumerate(bars.items()):
        for number, kind in enumerate(kinds):
            if kind not in values:
                continue
            estimate, x = values[kind], place + (number - (len(kinds) - 1) / 2) * width
            colour = COLOURS[number % len(COLOURS)]
            label = (
                kind if place == next(i for i, v in enumerate(bars.values()) if kind in v) else None
            )
            axes.bar(x, estimate.value, width * 0.9, color=colour, label=label, zorder=2)
            spread = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
            if np.isfinite(spread).all():
                axes.errorbar(x, estimate.value, np.abs(spread), color="0.2", capsize=2, zorder=3)
            if kind in dots.get(group, {}):
                axes.plot(
                    x,
                    dots[group][kind],
                    "D",
                    color="white",
                    markeredgecolor="black",
                    markersize=5,
                    zorder=4,
                )
        if group in lines:
            axes.hlines(
                lines[group],
                place - 0.48,
                place + 0.48,
                color="black",
                linestyle="--",
                linewidth=1,
                zorder=5,
            )
    axes.set_xticks(range(len(bars)), list(bars))
    axes.set_ylabel(what)
    if top:
        axes.set_ylim(0, top)
    texts = [
        t for t in (f"diamonds: {dot}" if dot else "", f"dashed: {line}" if line else "", note) if t
    ]
    figure.suptitle("; ".join(texts), fontsize=8)
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    _save(figure, path)


def draw_curves(curves: Mapping[str, Sequence[Mapping[str, float]]], note: str, path: Path) -> None:
    """Draw training (thin) and validation loss (thick) by epoch, one panel per model."""
    names = list(curves)
    columns = min(4, max(1, len(names)))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.0 * columns + 0.5, 2.3 * rows + 0.4), layout="constrained", dpi=100)
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes, name in zip(panels, names, strict=False):
        by_run: dict[Any, list[Mapping[str, float]]] = {}
        for row in curves[name]:
            by_run.setdefault(row["run"], []).append(row)
        for number, points in enumerate(by_run.values()):
            colour = COLOURS[number % len(COLOURS)]
            epochs = [p["epoch"] + 1 for p in points]
            axes.plot(epochs, [p["train_loss"] for p in points], color=colour, linewidth=0.7)
            axes.plot(epochs, [p["validation_loss"] for p in points], color=colour, linewidth=1.6)
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("epoch", fontsize=7)
        axes.tick_params(labelsize=7)
    for axes in panels[len(names) :]:
        axes.axis("off")
    panels[0].set_ylabel("loss", fontsize=8)
    figure.suptitle(f"thin: training, thick: inner validation{note}", fontsize=8)
    _save(figure, path)


def draw_calibration(
    found: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.float64]]], note: str, path: Path
) -> None:
    """Draw how often decisions of a given confidence are right: (is right, confidence) by model."""
    figure = Figure(figsize=(5.6, 4), layout="constrained", dpi=110)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for number, (name, (right, confidence)) in enumerate(found.items()):
        bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)
        kept = [b for b in np.unique(bins) if (bins == b).sum() >= 3]
        axes.plot(
            [confidence[bins == b].mean() for b in kept],
            [right[bins == b].mean() for b in kept],
            "o-",
            color=COLOURS[number % len(COLOURS)],
            markersize=4,
            linewidth=1,
            label=name,
        )
    axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"bins of three and more{note}", fontsize=8, loc="left")
    axes.legend(frameon=False, fontsize=7)
    _save(figure, path)


def draw_quantities(
    found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], note: str, path: Path
) -> None:
    """Draw predicted over true values, one panel per model."""
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.8 * columns, 2.9 * rows), layout="constrained", dpi=110)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, (true, predicted)) in zip(panels, found.items(), strict=False):
        low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
        axes.plot([low, high], [low, high], color="0.7", linewidth=1)
        axes.plot(true, predicted, ".", color=COLOURS[0], markersize=4)
        axes.set_title(f"{name}: MAE {np.abs(predicted - true).mean():.2f}", fontsize=8)
        axes.set(xlabel="true", ylabel="predicted")
        axes.tick_params(labelsize=7)
    for axes in panels[len(found) :]:
        axes.axis("off")
    figure.suptitle(f"held-out folds{note}", fontsize=8)
    _save(figure, path)


def draw_maps(image: Array, maps: Mapping[str, Array], title: str, origin: str, path: Path) -> None:
    """Draw each map over three slices through its own maximum; grey: the image."""
    figure = Figure(figsize=(8, 2.5 * len(maps) + 0.5), layout="constrained", dpi=90)
    for row, (name, values) in zip(
        figure.subplots(len(maps), 3, squeeze=False), maps.items(), strict=True
    ):
        centre = np.unravel_index(int(np.abs(values).argmax()), values.shape)
        limit = max(float(np.percentile(np.abs(values), 99.8)), 1e-12)
        is_signed = bool((values < 0).any())
        for axis, axes in enumerate(row):
            cut = np.take(image, centre[axis], axis=axis).T
            over = np.take(values, centre[axis], axis=axis).T
            axes.imshow(cut, cmap="gray", origin="lower")
            axes.imshow(
                over,
                cmap="RdBu_r" if is_signed else "inferno",
                vmin=-limit if is_signed else 0,
                vmax=limit,
                alpha=np.clip(np.abs(over) / limit, 0, 0.75),
                origin="lower",
            )
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(name, fontsize=7)
    figure.suptitle(title + ("" if origin in (REAL, "") else f" ({origin})"), fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})
