"""Landmarks of a whole volume: a coarse search, a shape fitted to what it finds, a fine search.

1. The network looks at a coarse grid over the body. For each landmark the place with the highest
   probability is kept if the landmark is the likeliest class there.
2. The mean shape of the training participants is moved onto these places by an affine transform,
   fitted again and again with less weight on what does not fit (Tukey's biweight).
3. Around the place where the shape says it should be, each landmark is searched on a fine grid; its
   place is the mean of the grid weighted by the probability, twice, the second time finer.

A landmark that the network sees nowhere keeps the place that the shape gives it, with its low
probability beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.transfer.cutting import cut_slices
from stages.transfer.landmark_source import BODY_LEVEL
from stages.transfer.network import MiniVGG, apply
from stages.transfer.volumes import Floats, Volume

COARSE_MM = 14.0
FINE_MM = (4.0, 2.5)  # half the width of the fine grids of 3 × 3 × 3
PRIOR_MM = 8.0  # how far from the shape's place a landmark may well be (standard deviation)
SURE = 0.5
LEAST_SEEN = 4
TUKEY_MM = 20.0
ITERATIONS = 20


@dataclass(frozen=True)
class Detected:
    """Places (K, 3) in voxels and probabilities (K,) of landmarks, in the order of the classes."""

    points: Floats
    probabilities: Floats


def average_shape(people: list[Mapping[str, Floats]], names: list[str]) -> dict[str, list[float]]:
    """Average the landmarks' places relative to each person's own centre, RAS mm."""
    sums: dict[str, list[Floats]] = {name: [] for name in names}
    for person in people:
        present = [name for name in names if name in person]
        centre = np.mean([person[name] for name in present], axis=0)
        for name in present:
            sums[name].append(person[name] - centre)
    return {name: np.mean(places, axis=0).tolist() for name, places in sums.items()}


def detect(volume: Volume, net: MiniVGG, shape_mm: Floats, size: int) -> Detected:
    """Find all landmarks.

    Parameters
    ----------
    volume : Volume
        0..255 on the grid that the network was trained with.
    net : MiniVGG
        Its last class is the background.
    shape_mm : array, (K, 3)
        Mean shape, RAS mm about its centre.
    size : int
        Side of the patches.

    Raises
    ------
    ValueError
        Fewer than four landmarks are recognised anywhere: another part of the body, another
        contrast, or another orientation than the network was trained on.
    """
    zooms = volume.zooms
    step = np.maximum(np.round(COARSE_MM / zooms), 1).astype(int)
    grid = np.stack(
        np.meshgrid(
            *(np.arange(s // 2, n, s) for s, n in zip(step, volume.data.shape, strict=True)),
            indexing="ij",
        ),
        -1,
    ).reshape(-1, 3)
    grid = grid[volume.data[tuple(grid.T)] > BODY_LEVEL]
    seen = apply(net, cut_slices(volume.data, grid, size), "probabilities")
    best = seen[:, :-1].argmax(0)
    is_seen = (seen[best, np.arange(seen.shape[1] - 1)] > SURE) if len(grid) else np.zeros(0, bool)
    if is_seen.sum() < LEAST_SEEN:
        raise ValueError(
            f"{int(is_seen.sum())} of {len(shape_mm)} landmarks are recognised anywhere, at least"
            f" {LEAST_SEEN} needed; is it the same kind of image as in training?"
        )
    places_mm = volume.to_world(grid[best].astype(float))
    weights = seen[best, np.arange(len(best))] * is_seen
    expected = fit_shape(shape_mm, places_mm, weights)
    for half_mm in FINE_MM:
        offsets = np.stack(np.meshgrid(*[np.array([-1, 0, 1])] * 3, indexing="ij"), -1).reshape(
            -1, 3
        )
        around = volume.to_voxels(expected)[:, None] + offsets * half_mm / zooms
        rounded = np.round(around).astype(int).reshape(-1, 3)
        found = apply(net, cut_slices(volume.data, rounded, size), "probabilities")
        own = np.repeat(np.arange(len(expected)), len(offsets))
        p = found[np.arange(len(found)), own].reshape(len(expected), -1).astype(float)
        prior = np.exp(-0.5 * (offsets**2).sum(1) * (half_mm / PRIOR_MM) ** 2)
        mass = p * prior + 1e-4 * prior  # with no sight at all the shape's place stays
        place = (rounded.reshape(*p.shape, 3) * mass[..., None]).sum(1) / mass.sum(1)[:, None]
        expected = volume.to_world(place)
    return Detected(volume.to_voxels(expected), p.max(1))


def fit_shape(shape_mm: Floats, places_mm: Floats, weights: Floats) -> Floats:
    """Move a shape onto places by a robust affine transform; places of weight 0 do not count.

    Few places cannot carry 12 parameters: the transform is pulled towards mere translation.

    Returns
    -------
    moved : array, (K, 3), mm
    """
    is_used = weights > 0
    start = np.median(places_mm[is_used] - shape_mm[is_used], axis=0)
    moved = shape_mm + start
    pull = np.diag([1.0, 1.0, 1.0, 0.0]) * 1e3  # mm²: a landmark or two of a head's size
    for _ in range(ITERATIONS):
        apart = np.linalg.norm(places_mm - moved, axis=1)
        scale = max(TUKEY_MM, 2.0 * float(np.median(apart[is_used])))
        w = weights * np.clip(1 - (apart / scale) ** 2, 0, None) ** 2
        if (w > 0).sum() < LEAST_SEEN:
            break
        X = np.column_stack([shape_mm, np.ones(len(shape_mm))])
        residual = places_mm - shape_mm - start
        B = np.linalg.solve(X.T @ (w[:, None] * X) + pull, X.T @ (w[:, None] * residual))
        moved = shape_mm + start + X @ B
    return moved


def measure_errors(found: Mapping[str, Floats], truth: Mapping[str, Floats]) -> dict[str, float]:
    """Measure how far each landmark that is known is from where it was found, mm."""
    return {n: float(np.linalg.norm(found[n] - p)) for n, p in truth.items() if n in found}


def as_points(detected: Detected, names: list[str], volume: Volume) -> dict[str, NDArray[Any]]:
    """Name the places found, RAS mm."""
    return dict(zip(names, volume.to_world(detected.points), strict=True))
