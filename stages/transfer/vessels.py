"""Step vessels: find a participant's vessels and the places on them that may be a lesion."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from scipy import ndimage

from stages.transfer import figures
from stages.transfer.centreline import find_candidates, match_negatives
from stages.transfer.cutting import cut_slices
from stages.transfer.files import Arrays, write
from stages.transfer.pairing import pair
from stages.transfer.provenance import REAL, SYNTHETIC, is_synthetic
from stages.transfer.vesselness import CONNECTED, outline_vessels
from stages.transfer.volumes import Volume, check_same_grid, load, make_isotropic

logger = logging.getLogger(__name__)

NEAR_FORK_MM = 3.0
PREFERRED = ("angio", "CT", "ct")  # of images that fit equally


def run(
    *,
    lesions: list[str],
    images: list[str],
    candidates: str,
    figure: str,
    vessel_spacing_mm: float,
    vessel_radii_mm: list[float],
    vessel_low: float,
    vessel_high: float,
    least_vessel_mm3: float,
    candidate_step_mm: float,
    lesion_reach_mm: float,
    lesion_clear_mm: float,
    negatives: int,
    patch_size: int,
    ct_low: float,
    ct_high: float,
    seed: int,
) -> None:
    """Write candidates with their patches, which are lesions, and which negatives match them.

    Raises
    ------
    ValueError
        No vessel, or a mask without image or on another grid.
    """
    parts: list[Arrays] = []
    total, missed, shown = 0, 0, None
    rng = np.random.default_rng(seed)
    pairs = pair(images, lesions, PREFERRED)
    for image, masks in pairs.items():
        raw = load(image)
        marked = np.zeros(raw.data.shape, dtype=bool)
        for path in masks:
            mask = load(path)
            check_same_grid(path, mask, raw)
            marked |= mask.data > 0
        labels, count = ndimage.label(marked, CONNECTED)
        volume, vessels = outline_vessels(
            image,
            vessel_spacing_mm,
            (ct_low, ct_high),
            radii_mm=vessel_radii_mm,
            low=vessel_low,
            high=vessel_high,
            least_mm3=least_vessel_mm3,
        )
        numbers = make_isotropic(
            Volume(labels.astype(np.int16), raw.affine), vessel_spacing_mm, order=0
        ).data
        spacing = float(volume.zooms.mean())
        found = find_candidates(
            vessels,
            numbers,
            spacing_mm=spacing,
            step_mm=candidate_step_mm,
            reach_mm=lesion_reach_mm,
            clear_mm=lesion_clear_mm,
        )
        is_lesion = found.lesion > 0
        is_near = found.fork_mm < NEAR_FORK_MM
        # Patches that reach far over the image's edge would give normal places away.
        edge = patch_size // 4
        limits = np.array(volume.data.shape) - edge
        is_open = is_lesion | ((found.voxels >= edge) & (found.voxels < limits)).all(1)
        matched = np.zeros(len(is_lesion), dtype=bool)
        if is_lesion.any():
            matched[is_open] = match_negatives(
                found.calibre_mm[is_open], is_near[is_open], is_lesion[is_open], negatives, rng
            )
        else:  # a case without lesion gives negatives of its own
            matched[rng.permutation(np.flatnonzero(is_open))[:negatives]] = True
        lost = count - len(np.unique(found.lesion[is_lesion]))
        parts.append(
            {
                "patches": cut_slices(volume.data, found.voxels, patch_size),
                "lesions": np.where(is_lesion, found.lesion + total, 0).astype(np.int64),
                "matched": matched,
                "places_mm": volume.to_world(found.voxels.astype(float)),
                "calibre_mm": found.calibre_mm,
                "fork_mm": found.fork_mm,
            }
        )
        total, missed = total + count, missed + lost
        shown = shown or (image, volume.data, vessels, numbers)
        logger.info(
            "%s: %d candidates, %d on %d of %d lesions, %d matched negatives",
            *(Path(image).name, len(is_lesion), is_lesion.sum(), count - lost, count),
            matched.sum(),
        )
        if lost:
            logger.warning("%s: %d lesions are not on any vessel found", Path(image).name, lost)
    origin = SYNTHETIC if any(map(is_synthetic, pairs)) else REAL
    about = {
        "participant": Path(images[0]).name.partition("_")[0],
        "images": [Path(path).name for path in pairs],
        "lesions": total,
        "missed": missed,
        "spacing_mm": vessel_spacing_mm,
        "origin": origin,
    }
    write(candidates, {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}, about)
    if shown is not None:
        name, data, vessels, numbers = shown
        title = f"{Path(name).name}: vessels (blue), lesions (red)"
        figures.draw_map(Path(figure), data, vessels, title, origin, lesions=numbers > 0)
