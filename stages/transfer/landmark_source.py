"""Landmarks as a task to learn: one class per landmark and one for anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stages.transfer.cutting import cut_slices, cut_turned, draw_turns
from stages.transfer.files import Prepared
from stages.transfer.training import Batch
from stages.transfer.volumes import Floats

BACKGROUND = "background"
BODY_LEVEL = 20  # of 255: air is darker
TURN_DEGREES = 15.0
STRETCH = 0.12


class LandmarkTask:
    """Patches of chosen landmarks and of the background, from volumes in memory.

    Parameters
    ----------
    items : sequence of Prepared
        Volumes with their landmarks.
    names : sequence of str
        The landmarks, in the order of their classes; the background is the last class.
    size : int
        Side of the patches, pixels.
    shift_mm : float
        Largest shift of a training patch along each axis.
    exclusion_mm : float
        Background is at least this far from every chosen landmark.
    background : int
        Background patches per volume and epoch.
    """

    def __init__(
        self,
        items: Sequence[Prepared],
        names: Sequence[str],
        *,
        size: int,
        shift_mm: float,
        exclusion_mm: float,
        background: int,
    ) -> None:
        self.items, self.names, self.size = list(items), list(names), size
        self.shift_mm, self.exclusion_mm, self.background = shift_mm, exclusion_mm, background
        number = {name: index for index, name in enumerate(self.names)}
        self._kept = []
        for item in self.items:
            rows = [i for i, name in enumerate(item.names) if name in number]
            classes = np.array([number[item.names[i]] for i in rows], dtype=np.int64)
            self._kept.append((item.points[rows], classes))
        self._bodies = [
            find_background(item, points, exclusion_mm, size // 2)
            for item, (points, _) in zip(self.items, self._kept, strict=True)
        ]

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return [*self.names, BACKGROUND]

    def draw(self, rng: np.random.Generator) -> Batch:
        """Cut one patch per landmark and volume, moved and turned at random, and background."""
        patches, classes = [], []
        for item, (points, own), body in zip(self.items, self._kept, self._bodies, strict=True):
            shift = self.shift_mm / item.volume.zooms
            moved = points + rng.uniform(-1, 1, points.shape) * shift
            far = _pick(rng, body, self.background)
            centres = np.concatenate([moved, far + rng.uniform(-0.5, 0.5, far.shape)])
            turns = draw_turns(rng, len(centres), degrees=TURN_DEGREES, stretch=STRETCH)
            patches.append(cut_turned(item.volume.data, centres, turns, self.size))
            classes.append(np.concatenate([own, np.full(len(far), len(self.names))]))
        return np.concatenate(patches), np.concatenate(classes)

    def examine(self, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str], Floats]:
        """Cut every landmark as it is, and background drawn by the seed.

        Returns
        -------
        patches, classes, participants, places (n, 3) in the scanner's coordinates, mm
        """
        patches, classes, people, places = [], [], [], []
        for index, item in enumerate(self.items):
            points, own = self._kept[index]
            rng = np.random.default_rng([seed, index])
            centres = np.concatenate([points, _pick(rng, self._bodies[index], self.background)])
            patches.append(cut_slices(item.volume.data, np.round(centres).astype(int), self.size))
            count = len(centres) - len(points)
            classes.append(np.concatenate([own, np.full(count, len(self.names))]))
            people += [item.participant] * len(centres)
            places.append(item.volume.to_world(centres))
        return (
            np.concatenate(patches),
            np.concatenate(classes),
            people,
            np.concatenate(places),
        )


def find_background(item: Prepared, points: Floats, exclusion_mm: float, reach: int) -> Floats:
    """List voxels of the body, (n, 3), that are far enough from the chosen landmarks.

    They are at most ``reach`` voxels outside the box of all landmarks, so that no patch of them
    reaches over the edge to which the volume was cropped, which would give them away.
    """
    voxels = np.argwhere(item.volume.data > BODY_LEVEL)
    low, high = item.points.min(0) - reach, item.points.max(0) + reach
    voxels = voxels[((voxels >= low) & (voxels <= high)).all(1)]
    if not len(voxels):
        return np.zeros((0, 3))
    zooms = item.volume.zooms
    near, _ = cKDTree(points * zooms).query(voxels * zooms, distance_upper_bound=exclusion_mm)
    return voxels[~np.isfinite(near)].astype(float)


def look_up(
    train: tuple[NDArray[np.int64], Floats], places: Floats, background: int
) -> NDArray[np.int64]:
    """Guess classes from places alone, by the nearest mean place of a landmark in training.

    What this gets right needs no image; a network has to be better.
    """
    classes, known = train
    names = np.unique(classes[classes != background])
    means = np.array([known[classes == name].mean(0) for name in names])
    distance = np.linalg.norm(places[:, None] - means[None], axis=2)
    return np.where(distance.min(1) > BACKGROUND_GUESS_MM, background, names[distance.argmin(1)])


BACKGROUND_GUESS_MM = 12.0


def _pick(rng: np.random.Generator, voxels: Floats, count: int) -> Any:
    if not len(voxels):
        return np.zeros((0, 3))
    return voxels[rng.integers(0, len(voxels), count)]
