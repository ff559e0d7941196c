"""Step fit: predict one participant's responses from features, condition by condition."""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.encoding import figures
from stages.encoding.analysis import (
    Fits,
    Maps,
    Results,
    Rows,
    compare_lags,
    compare_spaces,
    fit_conditions,
)
from stages.encoding.data import load_spaces, prepare
from stages.encoding.delays import parse_condition
from stages.encoding.design import Sampling
from stages.encoding.evaluation import Q_LEVEL
from stages.encoding.grids import Grid, TableGrid, VolumeGrid, open_grid, read_regions
from stages.encoding.provenance import SYNTHETIC, join_origins
from stages.encoding.recordings import is_synthetic, read_runs
from stages.encoding.responses import Responses
from stages.encoding.selection import assign_folds
from stages.encoding.tables import write_rows

logger = logging.getLogger(__name__)

MNI = "_space-MNI152"  # in the names of series that fsaverage's surfaces fit


def run(
    *,
    bold: list[str],
    masks: list[str],
    confound_tables: list[str],
    events: list[str],
    stims: list[str],
    features: list[str],
    regions: str | None,
    conditions_table: str,
    regions_table: str,
    volume_maps: str,
    surface_maps: str,
    grayordinate_maps: str,
    region_maps: str,
    penalties_figure: str,
    lags_figure: str,
    map_figure: str,
    surface_figure: str,
    conditions: list[str],
    penalties: list[float],
    protocol: str,
    test: list[str],
    folds: int,
    lags: list[float],
    frame: str,
    combine: str,
    high_pass_hz: float,
    confounds: list[str],
    drop_initial: int,
    drop_initial_test: int,
    partition: bool,
    banded_iterations: int,
    permutations: int,
    block: int,
    least_ceiling: float,
    seed: int,
) -> None:
    """Write a participant's tables, maps and figures.

    Raises
    ------
    ValueError
        Runs, events, features or masks that do not fit together; says which and why.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parsed = [parse_condition(text) for text in conditions]
    runs = read_runs(
        *([Path(p) for p in paths] for paths in (bold, events, stims, confound_tables))
    )
    grid = open_grid(runs[0].bold, [Path(p) for p in masks])
    series, provenance = load_spaces([Path(p) for p in features], parsed)
    if any(is_synthetic(run.bold) for run in runs):
        provenance = {model: join_origins([o, SYNTHETIC]) for model, o in provenance.items()}
    with tempfile.TemporaryDirectory(dir=Path(conditions_table).parent) as folder:
        data = prepare(
            runs,
            grid,
            parsed,
            series,
            provenance,
            Path(folder),
            test=test,
            longest_lag_s=max(*(c.reach_s for c in parsed), *lags),
            drops=(drop_initial, drop_initial_test),
            sampling=Sampling(runs[0].tr_s if frame == "mean" else 0.0, combine),
            high_pass_hz=high_pass_hz,
            confounds=confounds,
        )
        logger.info("%s", _describe(data.responses))
        fits = Fits(
            data=data,
            fold=assign_folds(data.responses.runs, folds=folds),
            penalties=penalties,
            device=device,
            seed=seed,
        )
        results = fit_conditions(
            fits,
            parsed,
            protocol=protocol,
            block=block,
            permutations=permutations,
            least_ceiling=least_ceiling,
        )
        origin = join_origins(data.provenance.values())
        where = "held-out training runs" if protocol == "selected" else "test runs, raw features"
        figures.draw_penalties(Path(penalties_figure), penalties, results.curves, where, origin)
        if results.found:
            best = compare_lags(fits, parsed[0].model, lags, results)
            chosen = results.maps["lag"][data.responses.varies]
            figures.draw_lags(Path(lags_figure), lags, best, chosen, parsed[0].model, origin)
            compare_spaces(fits, parsed, results, partition=partition, iterations=banded_iterations)
            results.maps["constant"] = (~data.responses.varies).astype(np.float32)
            members = _members(grid, regions)
            rows = _region_rows(results, members, data.responses, origin)
            write_rows(Path(regions_table), rows)
            targets = (volume_maps, surface_maps, grayordinate_maps, region_maps)
            _write_maps(grid, targets, results.maps, origin)
            name = results.best
            drawn = (results.found[name].r, f"r of {name}", origin)
            figures.draw_map(Path(map_figure), grid, *drawn)
            if isinstance(grid, VolumeGrid) and MNI in runs[0].bold.name:
                figures.draw_on_surface(Path(surface_figure), grid, *drawn)
        write_rows(Path(conditions_table), results.rows)


def _members(grid: Grid, regions: str | None) -> dict[str, NDArray[np.bool_]]:
    """Name the regions of a grid; a table's columns are regions already."""
    if isinstance(grid, TableGrid):
        places = np.arange(grid.size)
        return {column: places == index for index, column in enumerate(grid.columns)}
    everywhere = {"all": np.ones(grid.size, dtype=bool)}
    return everywhere if regions is None else everywhere | read_regions(Path(regions), grid)


def _region_rows(
    results: Results,
    members: Mapping[str, NDArray[np.bool_]],
    responses: Responses,
    origin: str,
) -> Rows:
    """Average the maps over each region's voxels that vary."""
    rows: Rows = []
    for name, result in results.found.items():
        for region, is_member in members.items():
            inside = is_member & responses.varies
            row: dict[str, Any] = {"condition": name, "region": region, "provenance": origin}
            row["n_voxels"] = int(inside.sum())
            row["n_constant"] = int((is_member & ~responses.varies).sum())
            if inside.any():
                row["mean_r"] = float(result.r[inside].mean())
                row["max_r"] = float(result.r[inside].max())
                row["share_significant"] = float((result.q[inside] < Q_LEVEL).mean())
                row["median_lag"] = float(np.median(results.maps["lag"][inside]))
                ratio = results.maps.get(f"r/ceiling {name}")
                known = inside & (ratio > 0) if ratio is not None else np.zeros(0, dtype=bool)
                if ratio is not None and known.any():
                    row["mean_r_over_ceiling"] = float(ratio[known].mean())
            rows.append(row)
    return rows


def _write_maps(grid: Grid, targets: Sequence[str], maps: Maps, origin: str) -> None:
    """Write the maps in the format of the responses, and their names into the JSON beside them."""
    (target,) = (Path(t) for t in targets if t.endswith(grid.extension))
    grid.write(target, maps)
    sidecar = {"Maps": list(maps), "Provenance": origin}
    stem = target.name.removesuffix(grid.extension)
    target.with_name(f"{stem}.json").write_text(json.dumps(sidecar, indent=1), encoding="utf-8")


def _describe(responses: Responses) -> str:
    return (
        f"{len(responses.varies)} voxels ({int((~responses.varies).sum())} constant),"
        f" {len(responses.runs)} training and {len(responses.blocks)} test samples,"
        f" {len(responses.repeats)} repeats"
    )
