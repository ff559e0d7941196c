"""Claim: between real young and old, mean translation correlates with the t-map, r ≥ 0.4 in tissue.

Gathers what a run of the app over real people found: judges' verdicts, agreement of maps, regions,
controls. The run, after preprocessing with profile mni-gm:

    brainstages BIDS OUT participant group --stages classifier translation --preset demo
        --classifier-target agegroup --classifier-arm mnigm
    python -m tests.benchmarks.translation_real OUT/brainstages-translation [--out FOLDER]
"""

import argparse
from pathlib import Path

from stages.translation.tables import entity_of, read_rows
from tests.benchmarks import record

TABLES = ("confusion", "judge", "agreementTo", "regionsTo", "controlsTo")


def main() -> None:
    """Read the tables and save them as one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    rows = []
    for path in sorted(arguments.folder.rglob("*_metrics.tsv")):
        name = entity_of(path, "desc")
        if name.startswith(TABLES):
            rows += [
                {"table": name} | {k: v for k, v in row.items() if v != "n/a"}
                for row in read_rows(path)
            ]
    if not rows:
        parser.error(f"{arguments.folder}: no tables of stage translation; run it first")
    record.save("translation_real", rows, ["torch", "numpy", "nilearn"], arguments.out)


if __name__ == "__main__":
    main()
