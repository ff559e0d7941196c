"""Claim: ``--help``, ``--version`` and a dry run of one participant take at most 0.6 s each.

Beside the parsers of fMRIPrep and MRIQC where Pythons that have them are named; they cannot be
installed with ours, nor with one another. Processes in turns, with warm disk caches.

    python -m tests.benchmarks.startup [--peers fmriprep=PYTHON mriqc=PYTHON] [--rounds 5]
        [--out DIR]
"""

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.index import dry_run, run_app, toy_checkout, write_dataset
from tests.benchmarks.record import save, time_in_turns
from tests.conftest import REPOSITORY

MODULE = "{}.cli.run"


def main() -> None:
    """Time all and write ``startup.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", nargs="+", default=[], metavar="NAME=PYTHON", help="and who has it installed"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkout, data = toy_checkout(root / "checkout"), write_dataset(root / "data", 1)
        actions = {
            "brainstages --help": lambda: run_app(REPOSITORY, "--help"),
            "brainstages --version": lambda: run_app(REPOSITORY, "--version"),
            "brainstages, dry run of one participant": lambda: dry_run(checkout, data),
        }
        for peer in given.peers:
            name, _, python = peer.partition("=")
            command = [python, "-W", "ignore", "-m", MODULE.format(name), "--help"]
            actions[f"{name} --help"] = partial(
                subprocess.run, command, check=True, capture_output=True
            )
        if not given.peers:
            print("no --peers: fMRIPrep and MRIQC are left out")
        rows = time_in_turns(actions, given.rounds)
    for row in rows:
        if row["what"].startswith("brainstages"):
            row["aim"] = "seconds <= 0.6"
    save("startup", rows, ["brainstages"], given.out)


if __name__ == "__main__":
    sys.exit(main())
