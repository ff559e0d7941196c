"""Bulbs planted on the vessels of real angiograms: geometry real, lesions known."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from tests.stages.transfer.phantoms import NOISE, TISSUE, VESSEL, write_image

SPACING_MM = 0.6


def plant(path: Path, seed: int, *, count: int, rendered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Put bulbs on the walls of an angiogram whose vessels were cut out.

    Parameters
    ----------
    path : Path
        Angiogram, 0 outside the vessels.
    count : int
        Bulbs, 1.2 to 2.4 mm in radius, as bright as the vessel below them.
    rendered : bool
        Give vessels and surroundings the intensities and noise of the phantoms, so that only the
        geometry is real; else the image stays as it is.

    Returns
    -------
    image, bulbs : arrays on a grid of 0.6 mm; bulbs are numbered
    """
    rng = np.random.default_rng(seed)
    source = nib.as_closest_canonical(nib.load(path))
    data = np.asarray(source.dataobj, dtype=np.float32)
    zoom = np.array(source.header.get_zooms()[:3]) / SPACING_MM
    data = ndimage.zoom(data, zoom, order=1)
    lumen = data > 0.35 * np.percentile(data[data > 0], 95)
    labels, _ = ndimage.label(lumen, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    lumen = np.isin(labels, np.flatnonzero(sizes > 300))
    inside = ndimage.distance_transform_edt(lumen)
    outward = np.stack(np.gradient(ndimage.gaussian_filter(lumen.astype(np.float32), 2)), -1)
    wall = np.argwhere(lumen & (inside <= 1.0))
    margin = 18
    wall = wall[((wall > margin) & (wall < np.array(data.shape) - margin)).all(1)]
    bulbs = np.zeros(data.shape, dtype=np.uint8)
    image = data.copy()
    placed: list[np.ndarray] = []
    for at in wall[rng.permutation(len(wall))]:
        if len(placed) == count:
            break
        if placed and min(np.linalg.norm(at - other) for other in placed) < 25:
            continue
        direction = -outward[tuple(at)]
        length = np.linalg.norm(direction)
        if length < 1e-3:
            continue
        radius = rng.uniform(1.2, 2.4) / SPACING_MM
        centre = at + direction / length * 0.75 * radius
        low = np.floor(centre - radius - 1).astype(int)
        box = tuple(slice(a, a + int(2 * radius) + 4) for a in low)
        grid = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), -1)
        ball = np.linalg.norm(grid - centre, axis=-1) <= radius
        new = ball & ~lumen[box]
        if new.sum() < 0.4 * ball.sum():
            continue  # it would lie between vessels
        image[box][new] = np.median(data[box][lumen[box]])
        placed.append(at)
        bulbs[box][new] = len(placed)
    if rendered:
        soft = ndimage.gaussian_filter(((lumen | (bulbs > 0)) * 1.0).astype(np.float32), 0.6)
        clean = TISSUE + (VESSEL - TISSUE) * soft
        noise = rng.standard_normal((2, *data.shape)).astype(np.float32) * NOISE
        image = np.sqrt((clean + noise[0]) ** 2 + noise[1] ** 2)
    return image.astype(np.float32), bulbs


def write_bulbs(path: Path, folder: Path, sub: str, seed: int, **given) -> tuple[Path, Path]:
    """Write image and mask as a participant of a dataset that says what it is."""
    image, bulbs = plant(path, seed, **given)
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "Name": "bulbs planted on vessels of real angiograms",
        "BIDSVersion": "1.10.0",
        "GeneratedBy": [{"Name": "phantom"}],
    }
    (folder / "dataset_description.json").write_text(json.dumps(about))
    stem = folder / f"sub-{sub}" / "anat" / f"sub-{sub}"
    return (
        write_image(stem.with_name(f"sub-{sub}_angio.nii.gz"), image, SPACING_MM),
        write_image(stem.with_name(f"sub-{sub}_label-aneurysm_mask.nii.gz"), bulbs, SPACING_MM),
    )
