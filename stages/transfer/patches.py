"""Step patches: put a participant's images and their landmarks where patches are cut from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from stages.transfer import figures, landmarks
from stages.transfer.cutting import cut_slices
from stages.transfer.files import Prepared, write_prepared
from stages.transfer.pairing import pair
from stages.transfer.provenance import REAL, SYNTHETIC, is_synthetic
from stages.transfer.volumes import Volume, check_same_grid, load, prepare

logger = logging.getLogger(__name__)

SHOWN = 24
PREFERRED = ("T1w", "CT", "ct", "T2w", "FLAIR", "angio")  # of images that fit equally


def run(
    *,
    annotations: list[str],
    images: list[str],
    patches: str,
    figure: str,
    landmark_spacing_mm: float,
    patch_size: int,
    shift_mm: float,
    ct_low: float,
    ct_high: float,
    seed: int,
) -> None:
    """Write the volumes around the landmarks on an isotropic grid, and the landmarks.

    Raises
    ------
    ValueError
        An annotation without image, on another grid, or with points outside of it.
    """
    items = []
    for image, files in pair(images, annotations, PREFERRED).items():
        points: landmarks.Points = {}
        for file in files:
            found = landmarks.read_points(file)
            if file.endswith((".nii", ".nii.gz")):
                check_same_grid(file, load(file), load(image))
            landmarks.check_inside(found, load(image), file)
            points |= found
        volume = prepare(image, landmark_spacing_mm, (ct_low, ct_high))
        margin = patch_size + round(shift_mm / landmark_spacing_mm)
        cropped = crop_around(volume, points, margin)
        places = cropped.to_voxels(np.array(list(points.values())))
        name = Path(image).name
        who = name.partition("_")[0]
        origin = SYNTHETIC if is_synthetic(image) else REAL
        items.append(Prepared(who, name, origin, cropped, list(points), places))
        logger.info("%s: %d landmarks, %s voxels", name, len(points), cropped.data.shape)
    write_prepared(patches, items)
    first = items[0]
    cut = cut_slices(first.volume.data, np.round(first.points[:SHOWN]).astype(int), patch_size)
    title = f"{first.image}: {len(first.names)} landmarks, planes as channels"
    figures.draw_patches(Path(figure), cut, first.names[:SHOWN], title, first.origin)


def crop_around(volume: Volume, points: landmarks.Points, margin: int) -> Volume:
    """Keep the box of the landmarks and a margin in voxels; the rest is never looked at."""
    places = volume.to_voxels(np.array(list(points.values())))
    low = np.maximum(np.floor(places.min(0)).astype(int) - margin, 0)
    high = np.ceil(places.max(0)).astype(int) + margin + 1
    data = volume.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_world(low[None].astype(float))[0]
    return Volume(data, affine)
