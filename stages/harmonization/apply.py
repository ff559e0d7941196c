"""Place one image as an arm asks and map its intensities."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from stages.harmonization import figures, nifti, views
from stages.harmonization.intensity import find_scale
from stages.harmonization.placement import GEOMETRIES, move_affine
from stages.harmonization.tables import Row, read_table, write_table

logger = logging.getLogger(__name__)


def run(
    *,
    image: str,
    mask: str,
    grey: str | None,
    registered: str | None,
    table: str,
    plan: str,
    harmonized: str,
    scans: str,
    person: str,
    figure: str,
    arm: str,
    seed: int,
) -> None:
    """Write the image of one arm; nothing, if its participant was not drawn into the arm."""
    known = _look_up(table, image, arm)
    if known[f"cohort_{arm}"] != "yes":
        logger.info("%s: not in arm %s", Path(image).name, arm)
        return
    todo = json.loads(Path(plan).read_text())
    volume = nifti.load(image)
    inside = nifti.load(mask).data > 0
    geometry_name, target = views.read_target(todo, arm)
    fractions = nifti.load(grey).data if grey else None
    try:
        geometry = views.describe(volume, inside)
        data = views.keep_content(volume.data, inside, fractions, todo["Content"])
        scale = find_scale(volume.data[inside], todo["Intensity"])
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error

    if geometry_name == "template":
        if registered is None:
            raise FileNotFoundError(
                f"{image}: arm template needs the image on the template's grid; run preprocessing"
                " with registration, or choose another arm"
            )
        on_template = nifti.load(registered)
        placed, affine = scale(on_template.data), on_template.affine
    else:
        placement = GEOMETRIES[geometry_name](geometry, target)
        placed = views.render(data, placement, scale)
        affine = move_affine(volume.affine, placement)
    nifti.save(harmonized, placed, affine)
    _write_sidecar(harmonized, arm, todo)
    before, after = ("x".join(map(str, d.shape)) for d in (data, placed))
    row = {
        "filename": f"anat/{Path(harmonized).name}",
        "shape_before": before,
        "shape": after,
        "zooms_before": "x".join(f"{z:.4g}" for z in volume.zooms),
        "zooms": "x".join(f"{z:.4g}" for z in nifti.Volume(placed, affine).zooms),
    }
    write_table(scans, [row])
    parts = [c for c in known if c in ("stratum", "split", "fold") or c.startswith("cohort_")]
    own = {"participant_id": known["participant_id"]} | {c: known[c] for c in parts}
    write_table(person, [own])
    origin = " (synthetic data)" if known["provenance"] == "synthetic" else ""
    figures.draw_scan(data, placed, f"{Path(image).name} → {arm}{origin}", Path(figure))


def _look_up(table: str, image: str, arm: str) -> Row:
    """Find an image's row in the fingerprint.

    Raises
    ------
    ValueError
        The fingerprint knows neither the image nor the arm.
    """
    name = Path(image).name
    for row in read_table(table):
        if row["filename"] == name:
            if f"cohort_{arm}" not in row:
                raise ValueError(f"{table}: no arm {arm}; run level group again with this arm")
            return row
    raise ValueError(f"{table}: no row for {name}; run level group again with all participants")


def _write_sidecar(harmonized: str, arm: str, plan: dict[str, object]) -> None:
    """Say beside the image what was done to it; the file is merged into its BIDS sidecar."""
    found = {
        "Arm": arm,
        "SkullStripped": plan["Content"] != "head",
        "IntensityScale": plan["Intensity"],
        "Target": plan["Arms"][arm],  # type: ignore[index]
    }
    path = Path(harmonized)
    path.with_name(path.name.partition(".")[0] + ".json").write_text(json.dumps(found))
