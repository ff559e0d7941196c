"""Step summarize: all participants' numbers as the study's tables and as a reviewer wants them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from stages.encoding import figures, resnet50, vgg16
from stages.encoding.feature_file import read_about
from stages.encoding.provenance import REAL, join_origins
from stages.encoding.published import compare, describe_models, read_printed
from stages.encoding.tables import number, read_rows, write_rows

MEASURES = (
    "mean_voxel_r",
    "mean_cv_r",
    "share_significant",
    "mean_ceiling",
    "mean_r_over_ceiling",
    "mean_pattern_r",
    "two_way_accuracy",
    "mean_r2",
)
PARAMETERS = {"vgg16": vgg16.PARAMETERS, "resnet50": resnet50.PARAMETERS}


def run(
    *,
    conditions_tables: list[str],
    regions_tables: list[str],
    features: list[str],
    summary: str,
    models: str,
    table2: str,
    pairs: str,
    group: str,
    group_regions: str,
    curves_figure: str,
    table2_figure: str,
    people_figure: str,
    regions_figure: str,
    seed: int,
) -> None:
    """Write the tables and figures over participants.

    Raises
    ------
    ValueError
        No participant's table has a row.
    """
    people = {_participant(path): read_rows(Path(path)) for path in conditions_tables}
    rows = [row | {"participant": name} for name, table in people.items() for row in table]
    if not rows:
        raise ValueError("no participant's table has a row; run step fit again")
    origins = {str(about["model"]): str(about["weights"]) for about in map(read_about, features)}
    printed = read_printed()
    write_rows(Path(models), describe_models(origins, PARAMETERS, printed))
    origin = join_origins(row["provenance"] for row in rows if row["provenance"] != "n/a")
    grid = [row for row in rows if row["protocol"] == "published"]
    if grid:
        cells = compare(grid, printed)
        write_rows(Path(table2), cells)
        write_rows(Path(pairs), compare_models(cells))
        _draw_cells(cells, Path(curves_figure), Path(table2_figure), origin)
    others = [r for r in rows if r["protocol"] != "published"]
    means = summarize(others, ("condition", "protocol"), MEASURES)
    write_rows(Path(group), means)
    text = {"Headline": tell_best(means), "Provenance": origin}
    Path(summary).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    chosen = [row for row in rows if row["protocol"] == "selected"]
    if chosen:
        _draw(Path(people_figure), chosen, "condition", "mean_voxel_r", origin)
    places = [
        row | {"participant": _participant(path)}
        for path in regions_tables
        for row in read_rows(Path(path))
    ]
    if places:
        measures = ("mean_r", "share_significant", "median_lag", "mean_r_over_ceiling")
        write_rows(Path(group_regions), summarize(places, ("condition", "region"), measures))
        first = [row for row in places if row["condition"] == places[0]["condition"]]
        _draw(Path(regions_figure), first, "region", "mean_r", origin)


def summarize(
    rows: Sequence[Mapping[str, str]], keys: Sequence[str], measures: Sequence[str]
) -> list[dict[str, Any]]:
    """Average measures over participants with 95 % intervals of Student's t.

    Parameters
    ----------
    rows : sequence of mapping
        One per participant and group.
    keys : sequence of str
        Columns that name a group.
    measures : sequence of str
        Columns to average; participants without a value do not count.

    Returns
    -------
    table : list of dict
        One row per group and measure: mean, interval, p of the mean being above 0 (one-sided t
        test), and n.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    table = []
    for group, members in groups.items():
        for measure in measures:
            values = np.array([number(row.get(measure, "n/a")) for row in members])
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            low, high, p = np.nan, np.nan, np.nan
            if len(values) > 1 and values.std() > 0:
                test = stats.ttest_1samp(values, 0.0)
                low, high = (float(v) for v in test.confidence_interval(0.95))
                p = float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)
            table.append(
                {
                    **dict(zip(keys, group, strict=True)),
                    "measure": measure,
                    "mean": float(values.mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "p_above_zero": p,
                    "n_participants": len(values),
                    "provenance": join_origins(
                        row["provenance"] for row in members if row["provenance"] != "n/a"
                    ),
                }
            )
    return table


def tell_best(means: Sequence[Mapping[str, Any]]) -> str:
    """Tell how well the condition predicts that cross-validation of training runs puts first.

    Parameters
    ----------
    means : sequence of mapping
        As ``summarize`` gives them, by condition and protocol. Test runs have no say in which
        condition is told of.
    """
    selected = {
        (row["condition"], row["measure"]): row for row in means if row["protocol"] == "selected"
    }
    promised = {name: row["mean"] for (name, m), row in selected.items() if m == "mean_cv_r"}
    if not promised:
        return "Correlations are those of the study's protocol, penalties seen on test runs."
    best = max(promised, key=lambda name: promised[name])
    row = selected[best, "mean_voxel_r"]
    people = row["n_participants"]
    spread = f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]" if people > 1 else ""
    where = "" if row["provenance"] == REAL else f" ({row['provenance']})"
    told = (
        f"Mean correlation on test runs {row['mean']:.3f}{spread} with {best}, which"
        f" cross-validation of training runs puts first; {people} participant{'s' * (people > 1)}"
    )
    significant = selected.get((best, "share_significant"))
    if significant:
        told += f", {significant['mean']:.0%} of voxels significant"
    return f"{told}{where}."


def compare_models(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare models at equal lags, penalty by penalty.

    Raw features of different scale make one penalty mean different things: a difference at equal
    penalty is not a difference between models, so each model's best is compared too.
    """
    by_lags: dict[str, dict[str, dict[float, float]]] = {}
    for cell in cells:
        model, _, lags = str(cell["condition"]).partition("@")
        by_lags.setdefault(lags, {}).setdefault(model, {})[cell["penalty"]] = cell["mean_voxel_r"]
    table = []
    for lags, models in by_lags.items():
        names = list(models)
        for index, first in enumerate(names):
            for second in names[index + 1 :]:
                rows = [
                    (f"{a:g}", models[first][a], models[second][a])
                    for a in sorted(models[first].keys() & models[second].keys())
                ]
                rows.append(("best", max(models[first].values()), max(models[second].values())))
                table += [
                    {
                        "lags": lags,
                        "penalty": penalty,
                        "first": first,
                        "second": second,
                        "first_r": x,
                        "second_r": y,
                        "difference": x - y,
                    }
                    for penalty, x, y in rows
                ]
    return table


def _draw_cells(
    cells: Sequence[Mapping[str, Any]], curves_figure: Path, table_figure: Path, origin: str
) -> None:
    """Draw Table 2 as curves and as a table, ours and, where it stands beside ours, the study's."""
    names = list(dict.fromkeys(cell["condition"] for cell in cells))
    penalties = sorted({cell["penalty"] for cell in cells})
    ours, theirs = np.full((2, len(names), len(penalties)), np.nan)
    for cell in cells:
        place = names.index(cell["condition"]), penalties.index(cell["penalty"])
        ours[place], theirs[place] = cell["mean_voxel_r"], cell["published"]
    known = theirs if np.isfinite(theirs).any() else None
    figures.draw_penalties(
        curves_figure,
        penalties,
        dict(zip(names, ours, strict=True)),
        "test runs, raw features",
        origin,
        None if known is None else dict(zip(names, known, strict=True)),
    )
    figures.draw_grid(table_figure, names, penalties, ours, origin, known)


def _draw(
    path: Path, rows: Sequence[Mapping[str, str]], key: str, measure: str, origin: str
) -> None:
    names = list(dict.fromkeys(row[key] for row in rows))
    values = [[number(r.get(measure, "n/a")) for r in rows if r[key] == name] for name in names]
    values = [[v for v in people if np.isfinite(v)] or [0.0] for people in values]
    figures.draw_people(path, names, values, measure.replace("_", " "), origin)


def _participant(path: str) -> str:
    return Path(path).name.partition("_")[0]
