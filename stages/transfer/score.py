"""Step score: the probability of a lesion along the vessels of one angiogram."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from stages.transfer import figures, provenance
from stages.transfer.booster import Stumps
from stages.transfer.centreline import find_candidates
from stages.transfer.cutting import cut_slices
from stages.transfer.files import read
from stages.transfer.judging import keep_peaks
from stages.transfer.models import load_model
from stages.transfer.network import apply
from stages.transfer.tables import write_rows
from stages.transfer.tasks import LANDMARK, parse_source
from stages.transfer.vesselness import outline_vessels
from stages.transfer.volumes import ZOOM_TOLERANCE, Floats, Volume, load, save

logger = logging.getLogger(__name__)

FINDINGS = 10


def run(
    *,
    image: str | None,
    models: list[str],
    cards: list[str],
    boosters: list[str],
    vessel_mask: str,
    probability: str,
    findings: str,
    figure: str,
    scorer: str,
    vessel_spacing_mm: float,
    vessel_radii_mm: list[float],
    vessel_low: float,
    vessel_high: float,
    least_vessel_mm3: float,
    candidate_step_mm: float,
    apart_mm: float,
    ct_low: float,
    ct_high: float,
    seed: int,
) -> None:
    """Write vessel mask, probability map and the most suspicious places; nothing without booster.

    Raises
    ------
    ValueError
        No vessel is found, the source asked for has no booster, or its booster learnt from
        voxels of another size.
    """
    if image is None or not boosters:
        logger.info("no booster yet; run level group with lesion masks first")
        return
    name = choose_source(boosters, scorer)
    net, card = load_model(_of(models, name), _of(cards, name))
    arrays, about = read(_of(boosters, name))
    platt = arrays.pop("platt")
    stumps = Stumps(**arrays)
    if abs(about["spacing_mm"] - vessel_spacing_mm) > ZOOM_TOLERANCE * vessel_spacing_mm:
        raise ValueError(
            f"{name} learnt lesions on voxels of {about['spacing_mm']:g} mm, this scores on"
            f" {vessel_spacing_mm:g} mm; give --transfer-vessel-spacing-mm {about['spacing_mm']:g}"
        )
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    volume, mask = outline_vessels(
        image,
        vessel_spacing_mm,
        (ct_low, ct_high),
        radii_mm=vessel_radii_mm,
        low=vessel_low,
        high=vessel_high,
        least_mm3=least_vessel_mm3,
    )
    found = find_candidates(
        mask,
        None,
        spacing_mm=float(volume.zooms.mean()),
        step_mm=candidate_step_mm,
        reach_mm=0.0,
        clear_mm=0.0,
    )
    X = apply(net, cut_slices(volume.data, found.voxels, card["Input"]["Size"]), about["layer"])
    p = 1 / (1 + np.exp(-(platt[0] * stumps.stage(X)[:, -1] + platt[1])))
    values = paint(mask, found.voxels, p)
    origin = provenance.join(
        [about["origin"], provenance.SYNTHETIC if provenance.is_synthetic(image) else "real"]
    )
    raw = load(image)
    save(vessel_mask, to_grid(mask.astype(np.uint8), volume, raw), raw.affine)
    save(probability, to_grid(values, volume, raw), raw.affine)
    _write_sidecar(probability, name, about, card, origin)
    places = volume.to_world(found.voxels.astype(float))
    rows = [
        {
            "rank": rank,
            **dict(zip("xyz", map(float, places[k]), strict=True)),
            "probability": float(p[k]),
            "calibre_mm": float(found.calibre_mm[k]),
            "to_fork_mm": float(found.fork_mm[k]) if np.isfinite(found.fork_mm[k]) else None,
        }
        for rank, k in enumerate(keep_peaks(places, p, apart_mm)[:FINDINGS], start=1)
    ]
    write_rows(findings, rows)
    title = f"{Path(image).name}: lesion probability by {name}"
    figures.draw_map(Path(figure), volume.data, mask, title, origin, values=values)
    logger.info("%s: %d candidates, highest %.3f", Path(image).name, len(p), p.max())


def choose_source(boosters: list[str], wanted: str) -> str:
    """Choose the source whose booster scores: the one named, or the most landmarks, or the first.

    Raises
    ------
    ValueError
        The one named has no booster.
    """
    names = [Path(path).parent.name for path in boosters]
    if wanted:
        if wanted not in names:
            raise ValueError(f"scorer {wanted!r} has no booster; there are {', '.join(names)}")
        return wanted
    kinds = {name: parse_source(name) for name in names}
    marks = [name for name in names if kinds[name].name == LANDMARK]
    return max(marks, key=lambda name: kinds[name].landmarks) if marks else names[0]


def paint(
    mask: NDArray[np.bool_], voxels: NDArray[np.int64], values: Floats
) -> NDArray[np.float32]:
    """Give each vessel voxel the value of the nearest candidate; 0 outside the vessels."""
    painted = np.zeros(mask.shape, dtype=np.float32)
    inside = np.argwhere(mask)
    painted[tuple(inside.T)] = values[cKDTree(voxels).query(inside)[1]]
    return painted


def to_grid(data: NDArray[Any], own: Volume, target: Volume) -> NDArray[Any]:
    """Put an image onto another grid, by nearest neighbours."""
    to_own = np.linalg.inv(own.affine) @ target.affine
    moved: NDArray[Any] = ndimage.affine_transform(
        data, to_own[:3, :3], to_own[:3, 3], output_shape=target.data.shape, order=0
    )
    return moved


def _of(paths: list[str], name: str) -> str:
    return next(path for path in paths if Path(path).parent.name == name)


def _write_sidecar(
    path: str, name: str, about: dict[str, Any], card: dict[str, Any], origin: str
) -> None:
    found = {
        "Source": name,
        "SourceParameters": card["Parameters"],
        "LesionShareInTraining": about["lesion_share"],
        "TrainingParticipants": about["participants"],
        "Provenance": origin,
    }
    sidecar = Path(path).with_name(Path(path).name.partition(".")[0] + ".json")
    sidecar.write_text(json.dumps(found), encoding="utf-8")
