"""Step explain: what translation towards one domain changes, beside what is known otherwise."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from stages.translation import agreement as agreements
from stages.translation import checkpoint, evaluation, figures, maps, regions, volumes
from stages.translation.dataset import Source, by_participant, read_samples
from stages.translation.grids import (
    Grid,
    axes_of,
    box_weights,
    gather,
    linear_weights,
    resample,
    scatter,
    to_samples,
)
from stages.translation.intensities import find_scale
from stages.translation.people import REAL
from stages.translation.portable import ARMS, SPACE
from stages.translation.tables import entity_of, participant_of, read_rows, write_rows

logger = logging.getLogger(__name__)

Array = NDArray[Any]
LEAST_SURFACE_MM = 60.0  # a stack thinner than this leaves most of the surface without values
SHOWN = 5


def run(
    *,
    images: list[str],
    probsegs: list[str],
    brains: list[str],
    differences: list[str],
    cohort: str,
    summary: str,
    card: str,
    effects: list[str],
    gradcams: list[str],
    atlas: str | None,
    mean_map: str,
    rest_map: str,
    real_map: str,
    statistic_map: str,
    regions_table: str,
    agreement: str,
    controls: str,
    headline: str,
    maps_figure: str,
    persons_figure: str,
    regions_figure: str,
    surface_figure: str,
    content: str,
    domains: str,
    bootstraps: int,
    seed: int,
) -> None:
    """Write mean difference maps, the t-map of real images, regions, agreements and controls.

    Raises
    ------
    ValueError
        Nobody was translated towards the domain, or images of different grids.
    """
    about = checkpoint.read_card(Path(card))
    names = json.loads(Path(summary).read_text())["Domains"]
    target, (origin,) = domains, [d for d in names if d != domains]
    grid = checkpoint.grid_of(about)
    source = Source(tuple(about["Source"]["Shape"]), np.array(about["Source"]["Affine"]))
    axes = axes_of(source.shape, source.affine)
    rows = {row["participant_id"]: row for row in read_rows(cohort)}
    paths = by_participant({"gm": images, "gmfraction": probsegs, "brain": brains}[content])
    real = {
        d: {
            p: read_samples(own[:1], source, grid)[0]
            for p, own in sorted(paths.items())
            if p in rows and rows[p][REAL] == d
        }
        for d in names
    }
    changes = _read_changes(differences, paths, real[origin], target, source, grid)
    people = sorted(changes)
    x = np.stack([real[origin][p] for p in people])
    y = np.stack(list(real[target].values()))
    change = np.stack([changes[p] for p in people])
    tissue = evaluation.tissue_mask(np.concatenate([x, y]))

    t, p_values = maps.t_map(y, x)
    definitions = {
        "difference of means": (x + change).mean(0) - x.mean(0),
        "mean of differences": change.mean(0),
        "mean real target minus mean translated": y.mean(0) - (x + change).mean(0),
    }
    effect = definitions["difference of means"]
    real_difference = y.mean(0) - x.mean(0)
    for path, samples, unit in (
        (mean_map, effect / 2, "share of the range (twice the median of the tissue)"),
        (rest_map, definitions["mean real target minus mean translated"] / 2, "share of the range"),
        (real_map, real_difference / 2, "share of the range"),
        (statistic_map, t, "Student's t"),
    ):
        volumes.save(path, scatter(samples.astype(np.float32), grid, axes), source.affine)
        volumes.describe(
            path, {"Units": unit, "Origin": origin, "Target": target, "n": len(people)}
        )

    splits = [rows[p]["split"] for p in people], [rows[p]["split"] for p in real[target]]
    found = agreements.compare_maps(
        *(x, y, change, splits, tissue, definitions), bootstraps=bootstraps, seed=seed
    )
    q = maps.fdr(p_values[tissue])
    found.append(
        {
            "metric": "share of tissue voxels where real groups differ (q < .05)",
            "value": float((q < 0.05).mean()),
            "n": len(x) + len(y),
        }
    )
    cams = _read_cams([c for c in gradcams if ARMS[content] in entity_of(c, "desc")], people, grid)
    for model, own in cams.items():
        found += agreements.compare_cams(model, own, people, change, tissue)
    write_rows(agreement, [{"direction": f"{origin}To{target}"} | row for row in found])

    masks = regions.atlas_masks(Path(atlas), grid) if atlas else regions.box_masks(grid)
    table = regions.compare(masks, tissue, change / 2, y / 2, x / 2)
    write_rows(regions_table, table)
    by_pair = {Path(path).parent.name: load_file(path) for path in effects}
    control_rows = agreements.compare_controls(by_pair, target, tissue)
    write_rows(controls, control_rows)
    told = agreements.tell(f"{origin} to {target}", found, table, control_rows)
    Path(headline).write_text(json.dumps({"Headline": told}, indent=1), encoding="utf-8")

    title = f"{origin} to {target}, n {len(people)}"
    figures.draw_maps(
        Path(maps_figure),
        x.mean(0),
        {
            "translated − before": effect / 2,
            "real groups": real_difference / 2,
            "t of real groups": t,
        },
        grid,
        title,
    )
    cam = next(iter(cams.items()), None)
    figures.draw_persons(Path(persons_figure), people[:SHOWN], x, change, cam, grid, title)
    figures.draw_regions(Path(regions_figure), table, title)
    across = [a for a in grid.axes if a.n > 1]
    if len(across) == 3 and min(a.n * a.step for a in across) >= LEAST_SURFACE_MM:
        volume = scatter((effect / 2).astype(np.float32), grid, axes)
        figures.draw_surface(Path(surface_figure), volume, source.affine, title)


def _read_changes(
    differences: Sequence[str],
    paths: Mapping[str, list[str]],
    origin: Mapping[str, Array],
    target: str,
    source: Source,
    grid: Grid,
) -> dict[str, Array]:
    """Read what was changed in everybody of the origin, in network units."""
    found: dict[str, Array] = {}
    axes = axes_of(source.shape, source.affine)
    for path in differences:
        p = participant_of(path)
        if entity_of(path, "desc") != f"to{target}" or p not in origin or p in found:
            continue
        volume = volumes.load(path)
        volumes.check_same_grid(path, volume, source.shape, source.affine)
        scale = find_scale(volumes.load(paths[p][0]).data, paths[p][0])
        found[p] = gather(volume.data, axes, grid) * np.float32(2 / scale)
    if len(found) < 2:
        raise ValueError(
            f"{len(found)} participants translated to {target}, at least 2 needed; run level"
            " participant first"
        )
    return found


def _read_cams(
    paths: Sequence[str], people: Sequence[str], grid: Grid
) -> dict[str, dict[str, Array]]:
    """Read heat maps that lie in the template's space, model by model."""
    found: dict[str, dict[str, Array]] = {}
    for path in paths:
        p = participant_of(path)
        if p not in people or entity_of(path, "space") not in (SPACE, ""):
            continue
        volume = volumes.load(path)
        axes = axes_of(volume.data.shape, volume.affine)
        weights = [
            box_weights(a, own, own.step) if a.step < own.step else linear_weights(a, own)
            for a, own in zip(axes, grid.axes, strict=True)
        ]
        found.setdefault(entity_of(path, "desc"), {})[p] = to_samples(
            resample(volume.data, weights), grid
        )
    return found
