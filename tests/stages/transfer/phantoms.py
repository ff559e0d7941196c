"""Vessel trees with forks in noisy tissue, and sacs on their walls: truth known.

Sacs are as bright as the vessels, and are put on trunks and forks alike, so that neither
brightness, calibre nor a fork tells them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline

SHAPE = (56, 56, 48)
SPACING_MM = 0.6
TISSUE, VESSEL, NOISE = 90.0, 200.0, 9.0


@dataclass(frozen=True)
class Phantom:
    """Image, vessels without sacs, sacs (by number), and centrelines with radii, in voxels."""

    image: np.ndarray
    vessels: np.ndarray
    sacs: np.ndarray
    points: np.ndarray
    radii: np.ndarray
    forks: np.ndarray


def make_phantom(seed: int, *, sacs: int, shape: tuple[int, int, int] = SHAPE) -> Phantom:
    """Grow a tree of two trunks that fork, and put sacs on its walls."""
    rng = np.random.default_rng(seed)
    size = np.array(shape)
    points, radii, forks = [], [], []
    for _ in range(2):
        radius = rng.uniform(1.4, 2.0)
        start = np.array([rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), 0.0]) * (size - 1)
        end = np.array([rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), 1.0]) * (size - 1)
        line = _curve(rng, start, end)
        points.append(line)
        radii.append(np.full(len(line), radius))
        for place in rng.uniform(0.25, 0.75, 2):
            at = int(place * len(line))
            border = rng.permutation([0.0, 1.0, rng.uniform()])
            border[2] = rng.uniform(0.2, 0.9)
            branch = _curve(rng, line[at], border * (size - 1))
            points.append(branch)
            radii.append(np.full(len(branch), radius * rng.uniform(0.65, 0.9)))
            forks.append(line[at])
    points, radii = np.concatenate(points), np.concatenate(radii)
    is_in = ((points >= 0) & (points <= size - 1)).all(1)
    points, radii = points[is_in], radii[is_in]
    lumen = _balls(shape, points, radii)
    numbers = np.zeros(shape, dtype=np.uint8)
    filled = lumen.copy()
    inner = ((points > 9) & (points < size - 10)).all(1)
    for number in range(1, sacs + 1):
        if number % 2 and forks:
            near = np.linalg.norm(points - forks[rng.integers(len(forks))], axis=1)
            pool = np.flatnonzero(inner & (near < 5))
        else:
            pool = np.flatnonzero(inner)
        pool = pool if len(pool) else np.flatnonzero(inner)
        at = int(rng.choice(pool))
        radius = rng.uniform(2.0, 3.6)
        direction = _across(rng, points, at)
        centre = points[at] + direction * (radii[at] + 0.75 * radius)
        ball = _balls(shape, centre[None], np.array([radius]))
        outside, _ = ndimage.label((ball > 0.5) & (lumen < 0.5) & (numbers == 0))
        sizes = np.bincount(outside.ravel())
        sizes[0] = 0
        numbers[(outside == sizes.argmax()) & (outside > 0)] = number  # a vessel may cut it in two
        filled = np.maximum(filled, ball)
    clean = TISSUE + (VESSEL - TISSUE) * filled
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    clean = clean + 6 * texture / texture.std() * (1 - filled)
    noise = rng.standard_normal((2, *shape)) * NOISE
    image = np.sqrt((clean + noise[0]) ** 2 + noise[1] ** 2)  # Rician
    return Phantom(image.astype(np.int16), lumen > 0.5, numbers, points, radii, np.array(forks))


def write_dataset(
    root: Path, cases: int, *, seed: int = 0, shape: tuple[int, int, int] = SHAPE
) -> tuple[Path, Path]:
    """Write cases as a raw dataset and the sacs as a derivative; two cases of three have one."""
    raw, lesions = root / "raw", root / "lesions"
    for folder, kind in ((raw, "raw"), (lesions, "derivative")):
        folder.mkdir(parents=True)
        about = {
            "Name": f"vessel phantoms, {kind}",
            "BIDSVersion": "1.10.0",
            "DatasetType": kind,
            "License": "CC0",
            "Authors": ["brainstages developers"],
            "GeneratedBy": [{"Name": "phantom"}],
        }
        (folder / "dataset_description.json").write_text(json.dumps(about))
        (folder / "README.md").write_text("# Vessel phantoms\n\nMade by a program.\n" * 5)
    rows = ["participant_id\tsacs"]
    for case in range(cases):
        count = 0 if case % 3 == 2 else 1 + (case % 3 == 1 and case % 2)
        phantom = make_phantom(seed + case, sacs=count, shape=shape)
        name = f"sub-{case + 1:03d}"
        write_image(raw / name / "anat" / f"{name}_angio.nii.gz", phantom.image)
        write_image(lesions / name / "anat" / f"{name}_label-aneurysm_mask.nii.gz", phantom.sacs)
        rows.append(f"{name}\t{count}")
    (raw / "participants.tsv").write_text("\n".join(rows) + "\n")
    return raw, lesions


def write_image(path: Path, data: np.ndarray, spacing_mm: float = SPACING_MM) -> Path:
    """Write a volume with cubic voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, np.diag([spacing_mm] * 3 + [1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def _curve(rng: np.random.Generator, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, 5)
    knots = start + (end - start) * t[:, None]
    knots[1:-1] += rng.normal(0, 3.0, (3, 3))
    count = int(4 * np.linalg.norm(end - start)) + 2
    return CubicSpline(t, knots)(np.linspace(0, 1, count))


def _across(rng: np.random.Generator, points: np.ndarray, at: int) -> np.ndarray:
    """A random direction at right angles to the vessel."""
    along = points[min(at + 1, len(points) - 1)] - points[max(at - 1, 0)]
    along = along / max(np.linalg.norm(along), 1e-9)
    direction = rng.standard_normal(3)
    direction -= direction @ along * along
    return direction / np.linalg.norm(direction)


def _balls(shape: tuple[int, ...], centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Fill balls with soft edges of one voxel, 0..1."""
    filled = np.zeros(shape)
    for centre, radius in zip(centres, radii, strict=True):
        low = np.maximum(np.floor(centre - radius - 1).astype(int), 0)
        high = np.minimum(np.ceil(centre + radius + 2).astype(int), shape)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.stack(
            np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"),
            -1,
        )
        away = np.linalg.norm(grid - centre, axis=-1)
        filled[box] = np.maximum(filled[box], np.clip(radius + 0.5 - away, 0, 1))
    return filled
