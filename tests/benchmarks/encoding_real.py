"""Claim: the stage finds what is there in real recordings, with controls beside it.

Sherlock (17 people, Chen et al. 2017): annotations of the movie (arousal, valence, indoors, music,
words, speech, people, camera, begin of segments and scenes) at lags of 1.5 to 12 s predict region
courses; trained on run 1, tested on run 2. The mean course of 16 whole recordings is predicted
in early visual cortex with r ≥ 0.22 and in the hippocampus with r ≥ 0.15; intervals redraw people.
Single people are far below that in the hippocampus, which is printed beside. A topic model of the
plot and annotations moved by half a run are the controls. The recordings were high-pass filtered by
their authors, so drift is not removed again.

Haxby (one slice, 12 runs): eight categories at lags of 2.5 to 7.5 s, whole runs held out.

    python -m tests.benchmarks.encoding_real --data ../shared/data --out results
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from stages.encoding.tables import read_rows
from tests.benchmarks import record
from tests.stages.encoding import real
from tests.stages.encoding.steps import call

LAGS = "1.5,3,4.5,6,7.5,9,10.5,12"
OPTIONS: dict[str, Any] = {
    "conditions": [f"stim@{LAGS}"],
    "test": ["*run-2*"],
    "high_pass_hz": 0.0,
    "drop_initial": 0,
    "drop_initial_test": 0,
    "lags": [0.0, 3.0, 4.5, 6.0, 7.5, 9.0],
    "permutations": 199,
    "banded_iterations": 0,
}


def main() -> None:
    """Run everything, print the table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--draws", type=int, default=200)
    args = parser.parse_args()
    source = args.data / "sherlock"
    annotations = real.annotate(source)
    half = real.RUN_LENGTHS[0] // 2
    moved = np.vstack([np.roll(part, half, 0) for part in np.split(annotations, [946])])
    spaces = {"annotations": annotations, "topics": real.read_topics(source), "moved": moved}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows += pmc_voxels(source, Path(folder) / "pmc")
        rows += haxby(args.data / "haxby_slice", Path(folder) / "haxby")
        for name, features in spaces.items():
            rows += group_mean(source, Path(folder) / name, features, args.draws, name)
            rows += people(source, Path(folder) / name, features, name)
    record.save("encoding_real", rows, ["numpy", "torch", "pandas"], args.out)


def group_mean(
    source: Path, root: Path, features: np.ndarray, draws: int, name: str
) -> list[dict[str, Any]]:
    """Predict the mean course of all people."""
    real.write_group_mean(source, root, features, draws=draws)
    r = fit_regions(root / "sub-mean", root)
    rows = []
    for region in real.REGIONS:
        redrawn = [r[f"{region}+draw{draw}"] for draw in range(draws)]
        low, high = np.quantile(redrawn, [0.025, 0.975])
        rows.append(
            _row(f"sherlock mean course, {name}", region, r[f"{region}+mean"], low, high, 16)
        )
    return rows


def people(source: Path, root: Path, features: np.ndarray, name: str) -> list[dict[str, Any]]:
    """Predict every person's courses, and average correlations by step summarize."""
    real.write_people(source, root, features)
    tables = []
    for folder in sorted(root.glob("sub-[0-9]*")):
        tables.append(fit(folder, root / "fits" / folder.name)["regions_table"])
    made = call(
        "summarize",
        root / "group",
        regions_tables=tables,
        conditions_tables=[
            table.parents[1] / "conditions_table" / table.name.replace("regions", "conditions")
            for table in tables
        ],
    )
    return [
        _row(
            f"sherlock people, {name}",
            row["region"],
            *(float(row[key]) for key in ("mean", "ci_low", "ci_high")),
            int(row["n_participants"]),
        )
        for row in read_rows(made["group_regions"])
        if row["measure"] == "mean_r"
    ]


def pmc_voxels(source: Path, root: Path) -> list[dict[str, Any]]:
    """Predict 481 voxels of one person."""
    real.write_pmc_voxels(source, root)
    made = fit(root, root / "fit", bold="*_bold.nii.gz")
    return [_summary("sherlock person 1, 481 voxels", made)]


def haxby(source: Path, root: Path) -> list[dict[str, Any]]:
    """Predict the voxels of a slice from categories; two runs are held out."""
    real.write_haxby(source, root)
    made = fit(
        root,
        root / "fit",
        bold="*_bold.nii.gz",
        masks=sorted(root.glob("*_mask.nii.gz")),
        conditions=["stim@2.5,5,7.5"],
        test=["*run-11*", "*run-12*"],
        lags=[0.0, 2.5, 5.0, 7.5],
        high_pass_hz=0.008,
    )
    return [_summary("haxby slice, categories", made)]


def fit(
    folder: Path, out: Path, *, bold: str = "*_timeseries.tsv", **options: Any
) -> dict[str, Path]:
    """Run step fit on a folder that the converter wrote."""
    return call(
        "fit",
        out,
        stem=folder.name,
        bold=sorted(folder.glob(bold)),
        stims=sorted(folder.glob("*_stim.tsv.gz")),
        **{**OPTIONS, **options},
    )


def fit_regions(folder: Path, out: Path) -> dict[str, float]:
    """Fit and return each region's correlation."""
    rows = read_rows(fit(folder, out / "fits" / folder.name)["regions_table"])
    return {row["region"]: float(row["mean_r"]) for row in rows}


def _summary(what: str, made: dict[str, Path]) -> dict[str, Any]:
    (row,) = (r for r in read_rows(made["conditions_table"]) if r["protocol"] == "selected")
    values = (float(row[key]) for key in ("mean_voxel_r", "ci_low", "ci_high"))
    share = float(row["share_significant"])
    return _row(what, "all voxels", *values, 1) | {"significant": round(share, 3)}


def _row(what: str, region: str, r: float, low: float, high: float, n: int) -> dict[str, Any]:
    values = {"r": round(r, 3), "ci_low": round(low, 3), "ci_high": round(high, 3)}
    return {"what": what, "region": region, **values, "people": n}


if __name__ == "__main__":
    main()
