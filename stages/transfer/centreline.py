"""Centrelines of vessels: where they run, how wide they are, where they fork."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from stages.transfer.volumes import Floats

NEIGHBOURS = np.ones((3, 3, 3), dtype=int)
FORK_DEGREE = 3
PEAK_SIZE = 5  # voxels


@dataclass(frozen=True)
class Centreline:
    """Points on the centreline: voxels (n, 3), radius and distance to the next fork in mm."""

    voxels: NDArray[np.int64]
    radii_mm: Floats
    fork_mm: Floats


def trace(mask: NDArray[np.bool_], spacing_mm: float) -> Centreline:
    """Thin a vessel mask to its centreline.

    A fork is a voxel of the centreline with three or more neighbours on it. The radius is the
    distance to the wall; where there is no fork at all, its distance is infinite.
    """
    skeleton = skeletonize(mask) > 0
    voxels = np.argwhere(skeleton)
    to_wall = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    degree = ndimage.convolve(skeleton.astype(int), NEIGHBOURS, mode="constant") - 1
    where = tuple(voxels.T)
    forks = voxels[degree[where] >= FORK_DEGREE]
    fork_mm = np.full(len(voxels), np.inf)
    if len(forks):
        fork_mm = cKDTree(forks).query(voxels)[0] * spacing_mm
    return Centreline(voxels, to_wall[where] * spacing_mm, fork_mm)


def add_peaks(line: Centreline, mask: NDArray[np.bool_], spacing_mm: float) -> Centreline:
    """Add the places that are farthest from the wall around: a sac need not bend the centreline."""
    to_wall = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    peaks = np.argwhere(mask & (to_wall >= ndimage.maximum_filter(to_wall, PEAK_SIZE)))
    radii = to_wall[tuple(peaks.T)] * spacing_mm
    _, nearest = cKDTree(line.voxels).query(peaks)
    return Centreline(
        np.concatenate([line.voxels, peaks]),
        np.concatenate([line.radii_mm, radii]),
        np.concatenate([line.fork_mm, line.fork_mm[nearest]]),
    )


def thin_out(voxels: NDArray[np.int64], step: float) -> NDArray[np.int64]:
    """Choose points at least ``step`` voxels apart, in the order given; returns their indices."""
    if not len(voxels):
        return np.zeros(0, dtype=np.int64)
    tree = cKDTree(voxels)
    is_open = np.ones(len(voxels), dtype=bool)
    chosen = []
    for index in range(len(voxels)):
        if is_open[index]:
            chosen.append(index)
            is_open[tree.query_ball_point(voxels[index], step * (1 - 1e-9))] = False
    return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True)
class Candidates:
    """Places to judge: voxels (n, 3), calibre and fork of the vessel they sit on, lesion or not."""

    voxels: NDArray[np.int64]
    calibre_mm: Floats
    fork_mm: Floats
    lesion: NDArray[np.int64]  # 0 for none, else the number of the lesion


def find_candidates(
    mask: NDArray[np.bool_],
    lesions: NDArray[np.integer[Any]] | None,
    *,
    spacing_mm: float,
    step_mm: float,
    reach_mm: float,
    clear_mm: float,
) -> Candidates:
    """Place candidates along the centrelines, the widest places first; say which are lesions.

    Calibre and fork of a candidate are those of the vessel that carries it: of the centreline that
    remains when the lesions are cut away. Else a sac would count as a wide vessel and its neck as
    a fork, and matching would pair sacs with wide forks instead of with places like their own.

    Parameters
    ----------
    mask : array, (x, y, z), bool
        The vessels, sacs included.
    lesions : array of int, optional
        0 outside; each lesion its number.
    step_mm : float
        Least distance between candidates.
    reach_mm : float
        A candidate inside a lesion, or this near to it, is positive.
    clear_mm : float
        Those farther than ``reach_mm`` but nearer than this are neither and left out.
    """
    whole = add_peaks(trace(mask, spacing_mm), mask, spacing_mm)
    widest_first = np.argsort(-whole.radii_mm, kind="stable")
    chosen = widest_first[thin_out(whole.voxels[widest_first], step_mm / spacing_mm)]
    voxels = whole.voxels[chosen]
    if lesions is None or not lesions.any():
        none = np.zeros(len(voxels), dtype=np.int64)
        return Candidates(voxels, whole.radii_mm[chosen], whole.fork_mm[chosen], none)
    distance, nearest = ndimage.distance_transform_edt(
        lesions == 0, sampling=spacing_mm, return_indices=True
    )
    where = tuple(voxels.T)
    number = lesions[tuple(nearest[(slice(None), *where)])].astype(np.int64)
    is_lesion = distance[where] <= reach_mm
    is_kept = is_lesion | (distance[where] > clear_mm)
    healthy = trace(mask & (lesions == 0), spacing_mm)
    calibre, fork = whole.radii_mm[chosen].copy(), whole.fork_mm[chosen].copy()
    is_clear = distance[tuple(healthy.voxels.T)] > reach_mm
    carriers = healthy.voxels[is_clear]
    if len(carriers):
        _, index = cKDTree(carriers).query(voxels)
        calibre, fork = healthy.radii_mm[is_clear][index], healthy.fork_mm[is_clear][index]
    lesion = np.where(is_lesion, number, 0)
    return Candidates(voxels[is_kept], calibre[is_kept], fork[is_kept], lesion[is_kept])


def match_negatives(
    calibre_mm: Floats,
    is_near_fork: NDArray[np.bool_],
    is_lesion: NDArray[np.bool_],
    ratio: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Choose negatives with the calibres and forks of the positives, ``ratio`` for each.

    For each positive, in random order, the unused negatives nearest in calibre among those that
    are as near to a fork or not; others only when these are used up.

    Returns
    -------
    chosen : array, (n,), bool
        True for chosen negatives.
    """
    chosen = np.zeros(len(calibre_mm), dtype=bool)
    noise = rng.random(len(calibre_mm)) * 1e-6  # equals in random order
    for index in rng.permutation(np.flatnonzero(is_lesion)):
        open_ = np.flatnonzero(~is_lesion & ~chosen)
        if not len(open_):
            break
        apart = np.abs(np.log(calibre_mm[open_] / calibre_mm[index])) + noise[open_]
        apart += 1e3 * (is_near_fork[open_] != is_near_fork[index])
        chosen[open_[np.argsort(apart)[:ratio]]] = True
    return chosen
