"""What is asked of whole volumes beside their slices: copies, size, and a look at three planes.

Volumes are compared as slices are, by ``memorisation`` and ``anatomy``, on voxels of at least 4 mm:
means of finer ones, since a person is known by less than that. They are not moved to find copies:
all lie alike, and models of volumes are not trained on moved ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.generation.anatomy import BRAIN_SHARE, compare
from stages.generation.memorisation import audit_copies
from stages.generation.slices import Pixels
from stages.generation.tables import Row, read_rows
from stages.generation.verdicts import HELD_OUT, SYNTHETIC
from stages.generation.volumes import Brains, load_brains

AUDIT_MM = 4.0
SHOWN = 2  # volumes of each kind in the figure


@dataclass(frozen=True)
class Wholes:
    """Volumes of one origin with group and name (participant or label) of each."""

    brains: Brains
    groups: NDArray[Any]
    names: NDArray[Any]

    def of(self, group: str) -> Brains:
        """Take those of one group."""
        return Brains(self.brains.voxels[self.groups == group], self.brains.voxel_mm)


@dataclass(frozen=True)
class Audit:
    """What was found: rows of tables (copies, near copies one by one, sizes) and of a figure."""

    audits: list[dict[str, Any]]
    near: list[dict[str, Any]]
    sizes: list[dict[str, Any]]
    rows: dict[str, list[Pixels]]


def audit_wholes(
    brains: Brains,
    lossy: Brains,
    cohort: str,
    volumes: Sequence[str],
    tables: Sequence[str],
    seen: Mapping[str, Sequence[str]],
    groups: Sequence[str],
    *,
    redraws: int,
    seed: int,
) -> Audit:
    """Audit synthetic volumes beside training and held-out ones.

    Parameters
    ----------
    brains, lossy
        All of the cohort, and what the codec leaves of them: copies are sought among the latter,
        since a codec blurs what a model remembers.
    volumes, tables
        Files of synthetic volumes and of how they were made; those of a condition share a folder.
    seen
        Condition → whom its model was trained on, ``bids::sub-…``.
    """
    train, held_out, learnt, new = (
        _pick(some, [r for r in read_rows(cohort) if r["split"] == part], "participant_id")
        for some in (brains, lossy)
        for part in ("train", "test")
    )
    by_folder = {Path(path).parent: read_rows(path) for path in tables}
    made = {}
    for path in volumes:
        rows = by_folder[Path(path).parent]
        made[rows[0]["condition"]] = _pick(load_brains(path), rows, "image")
    audits, near, closest = find_volume_copies(learnt, new, made, seen, redraws=redraws, seed=seed)
    sizes = compare_size(train, held_out, made, groups)
    return Audit(audits, near, sizes, plane_rows(held_out, made, closest, groups))


def find_volume_copies(
    train: Wholes,
    held_out: Wholes,
    made: Mapping[str, Wholes],
    seen: Mapping[str, Sequence[str]],
    *,
    redraws: int,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[Brains, int]]]:
    """Look for copies of training volumes.

    Returns
    -------
    audits, near : list of dict
        Rows of ``memorisation.audit_copies``, and the near copies one by one.
    closest : list of (volumes, place)
        The synthetic volumes closest to a training volume, each followed by that one.
    """
    T, H = (flatten_volumes(wholes.brains) for wholes in (train, held_out))
    people = np.array([f"bids::{name}" for name in train.names])
    audits, near = [], []
    pairs: list[tuple[float, Brains, int, int]] = []
    for condition, wholes in made.items():
        own = np.flatnonzero(np.isin(people, seen[condition]))
        numbers, is_copy, nearest, distance = audit_copies(
            flatten_volumes(wholes.brains),
            T[own],
            H,
            redraws=redraws,
            seed=seed,
            find=find_nearest,
        )
        place = own[nearest]
        audits.append({"condition": condition, "compared": "volumes", **numbers})
        near += [
            {
                "condition": condition,
                "compared": "volumes",
                "group": wholes.groups[i],
                "image": wholes.names[i],
                "training_participant": train.names[place[i]],
                "rms": float(distance[i]),
            }
            for i in np.flatnonzero(is_copy)
        ]
        order = np.argsort(distance)[:SHOWN]
        pairs += [(float(distance[i]), wholes.brains, int(i), int(place[i])) for i in order]
    closest: list[tuple[Brains, int]] = []
    for _, brains, i, partner in sorted(pairs, key=lambda pair: pair[0])[:SHOWN]:
        closest += [(brains, i), (train.brains, partner)]
    return audits, near, closest


def find_nearest(
    volumes: NDArray[np.float64], among: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find for each row of (n, D) its nearest row of (m, D): root mean square distance, place."""
    square = (volumes**2).sum(1)[:, None] - 2 * volumes @ among.T + (among**2).sum(1)
    place = square.argmin(1)
    exact = ((volumes - among[place]) ** 2).mean(1)  # the expansion above loses small distances
    return np.sqrt(exact), place


def compare_size(
    train: Wholes, held_out: Wholes, made: Mapping[str, Wholes], groups: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare volumes of synthetic and held-out brains with those of training brains."""
    rows = []
    for group in groups:
        real = {"brain_volume_ml": measure_size(train.of(group))}
        sets = {f"{SYNTHETIC} ({c})": w.of(group) for c, w in made.items()} | {
            HELD_OUT: held_out.of(group)
        }
        for name, brains in sets.items():
            if len(brains.voxels):
                found = compare({"brain_volume_ml": measure_size(brains)}, real)
                rows += [{"slices": name, "group": group, **row} for row in found]
    return rows


def measure_size(brains: Brains) -> NDArray[np.float64]:
    """Measure brains, ml: the largest part above 12 % of white, with the holes in it."""
    sizes = []
    for voxels in brains.voxels:
        parts, count = ndimage.label(voxels > BRAIN_SHARE * np.percentile(voxels[voxels > 0], 99))
        largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=2)[1:]))
        is_brain = ndimage.binary_fill_holes(largest) if count else largest
        sizes.append(float(np.sum(is_brain)) * brains.voxel_mm**3 / 1000)
    return np.array(sizes)


def flatten_volumes(brains: Brains) -> NDArray[np.float64]:
    """Turn volumes into rows of voxels, 0 to 1, each at least 4 mm wide where that divides."""
    times = max(1, int(AUDIT_MM / brains.voxel_mm + 1e-6))
    n, *shape = brains.voxels.shape
    fitting = max(t for t in range(1, times + 1) if all(s % t == 0 for s in shape))
    blocks = brains.voxels.reshape(n, *[m for s in shape for m in (s // fitting, fitting)])
    return blocks.mean((2, 4, 6), dtype=np.float64).reshape(n, -1) / 255


def plane_rows(
    held_out: Wholes,
    made: Mapping[str, Wholes],
    closest: Sequence[tuple[Brains, int]],
    groups: Sequence[str],
) -> dict[str, list[Pixels]]:
    """Lay out three planes of the first volumes of each kind, and of the closest pairs."""
    rows: dict[str, list[Pixels]] = {}
    kinds = {"held out": held_out} | {f"synthetic, {c}": wholes for c, wholes in made.items()}
    for kind, wholes in kinds.items():
        for group in groups:
            own = wholes.of(group)
            some = range(min(SHOWN, len(own.voxels)))
            rows[f"{kind}: {group}"] = [plane for i in some for plane in own.planes(i)]
    for number in range(0, len(closest), 2):
        pair = [plane for brains, i in closest[number : number + 2] for plane in brains.planes(i)]
        rows[f"synthetic and its nearest training volume, {1 + number // 2}"] = pair
    return rows


def _pick(brains: Brains, rows: Sequence[Row], name: str) -> Wholes:
    places = [int(row["place"]) for row in rows]
    return Wholes(
        Brains(brains.voxels[places], brains.voxel_mm),
        np.array([row["group"] for row in rows]),
        np.array([row[name] for row in rows]),
    )
