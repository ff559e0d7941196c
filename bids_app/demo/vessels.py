"""Make small angiograms: a tree of arteries, with or without an aneurysm on a wall.

Vessels are bright tubes that fork and grow thinner; an aneurysm is a sphere on a vessel's wall, as
bright as the vessel. Noise is Rician.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

SHAPE = (72, 72, 60)
VOXEL_MM = 0.6
BACKGROUND, VESSEL, NOISE = 100.0, 320.0, 14.0
TRUNK_RADIUS_MM, BRANCH_MM, THINNER, GENERATIONS = 1.7, 13.0, 0.8, 4
STEP_MM = 0.3


@dataclass(frozen=True)
class Angiogram:
    """An image, (x, y, z) int16, its aneurysm mask, uint8, and voxel -> world in mm."""

    image: NDArray[np.int16]
    aneurysm: NDArray[np.uint8]
    affine: NDArray[np.float64]


def make_angiogram(rng: np.random.Generator, *, has_aneurysm: bool) -> Angiogram:
    """Draw one angiogram."""
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = -VOXEL_MM * (np.array(SHAPE) - 1) / 2
    points, radii = _grow_tree(rng)
    grid = np.indices(SHAPE).reshape(3, -1).T @ affine[:3, :3] + affine[:3, 3]
    inside = _fraction_inside(grid, points, radii)
    sac = np.zeros(len(grid))
    if has_aneurysm:
        at = int(rng.integers(len(points) // 8, len(points) * 2 // 3))
        sideways = rng.standard_normal(3)
        radius = rng.uniform(1.6, 2.4)
        centre = points[at] + (radii[at] + 0.5 * radius) * sideways / np.linalg.norm(sideways)
        sac = _soft(radius - np.linalg.norm(grid - centre, axis=1))
    signal = BACKGROUND + (VESSEL - BACKGROUND) * np.maximum(inside, sac)
    noisy = np.hypot(signal + NOISE * rng.standard_normal(len(grid)),
                     NOISE * rng.standard_normal(len(grid)))  # fmt: skip
    return Angiogram(
        noisy.round().astype(np.int16).reshape(SHAPE),
        (sac > 0.5).astype(np.uint8).reshape(SHAPE),
        affine,
    )


def _grow_tree(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grow centrelines from below; return points (n, 3) in mm and radii (n,) in mm."""
    low = -VOXEL_MM * (SHAPE[2] - 1) / 2
    points, radii = [], []
    tips = [(np.array([0.0, 0.0, low]), np.array([0.0, 0.0, 1.0]), TRUNK_RADIUS_MM)]
    for generation in range(GENERATIONS):
        following = []
        for start, heading, radius in tips:
            bend = 0.03 * rng.standard_normal(3)
            for _ in range(int(BRANCH_MM * 0.85**generation / STEP_MM)):
                heading = heading + bend * STEP_MM
                heading /= np.linalg.norm(heading)
                start = start + STEP_MM * heading
                points.append(start)
                radii.append(radius)
            apart = rng.standard_normal(3)
            apart -= (apart @ heading) * heading
            apart *= 0.75 / np.linalg.norm(apart)
            following += [(start, heading + s * apart, THINNER * radius) for s in (-1, 1)]
        tips = following
    return np.array(points), np.array(radii)


def _fraction_inside(
    grid: NDArray[np.float64], points: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    distance, nearest = cKDTree(points).query(grid)
    return _soft(radii[nearest] - distance)


def _soft(depth_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn depth below a surface into the share of a voxel that is inside."""
    return np.clip(0.5 + depth_mm / VOXEL_MM, 0, 1)
