"""Write the demo dataset: python -m bids_app.demo DIR."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bids_app.demo.dataset import write_dataset

OK, USAGE, CANNOT_CREATE = 0, 64, 73


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments, write the dataset and return a BIDS App exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bids_app.demo",
        description="Write a small BIDS dataset of T1w phantoms whose truth is known.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="new or empty folder")
    parser.add_argument("--participants", type=int, default=6, help="number of persons")
    parser.add_argument("--resolution-mm", type=float, default=2.0, help="voxel size, mm")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse would leave with 2; BIDS Apps say 64 for usage
        return USAGE if stop.code else OK
    try:
        images = write_dataset(
            arguments.folder,
            participants=arguments.participants,
            resolution_mm=arguments.resolution_mm,
            seed=arguments.seed,
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE
    except OSError as error:
        print(error, file=sys.stderr)
        return CANNOT_CREATE
    print(f"{arguments.folder}: {len(images)} T1w images, truth in derivatives/truth")
    return OK


if __name__ == "__main__":
    sys.exit(main())
