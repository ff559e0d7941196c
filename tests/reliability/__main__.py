"""Run the whole suite and write the table of what was broken and what was lost.

``python -m tests.reliability [--kills 100] [--quick] [pytest options]``
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
HEAD = """\
# Reliability: what was broken on purpose, and what was lost

Made by `python -m tests.reliability{options}`; do not edit. Each fault is injected into runs of
small stages or of the demo; then the run is started again. *Survived* means: the exit code and its
reason were right, no result was half-written, nothing of the other participants was lost, and the
next run did what was missing, with the same bytes as an undisturbed run.

| fault | injected | survived | lost | to repeat |
|---|---:|---:|---:|---|
"""
TAIL = """
What is not the same byte for byte in two runs: pages (they tell times), `logs/` (times, run names)
and the path in `DatasetLinks`, which follows where the datasets lie. Results of numerical libraries
are repeated on the same kind of processor with the same number of threads per job.

What is not covered: a machine that loses power between a rename and its way to the disk; a file
system that locks on one machine only (Lustre mounted with `localflock`): runs on several machines
then may do work twice, never lose any.
"""

PARTIAL = "\nThis run was interrupted: faults that it did not come to are missing from the table.\n"


class Ledger:
    """Collects what the tests note by ``tally``; a test that fails counts as one lost."""

    def __init__(self) -> None:
        self.injected: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.test: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a finished test in."""
        if report.when != "call" and not report.failed:
            return
        test = report.nodeid.partition("[")[0]
        faults = [value for name, value in report.user_properties if name == "fault"]
        if report.failed and not faults:
            faults = [(test.rpartition("::")[2].removeprefix("test_").replace("_", " "), 1, 1)]
        for fault, injected, lost in faults:
            self.injected[fault] += injected
            self.lost[fault] += lost
            self.test.setdefault(fault, test)

    def table(self) -> str:
        """Set what was collected as rows."""
        rows = [
            f"| {fault} | {count} | {count - self.lost[fault]} | {self.lost[fault]} |"
            f" `python -m pytest {self.test[fault]}` |"
            for fault, count in self.injected.items()
        ]
        total, lost = self.injected.total(), self.lost.total()
        rows.append(f"| **all** | **{total}** | **{total - lost}** | **{lost}** | |")
        return "\n".join(rows) + "\n"


def main() -> int:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="moments of kill -9 (default: 30)")
    parser.add_argument("--quick", action="store_true", help="leave out what needs the demo")
    given, options = parser.parse_known_args()
    os.environ["BRAINSTAGES_KILLS"] = str(given.kills)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ledger = Ledger()
    chosen = ["-m", "not slow"] if given.quick else []
    code = pytest.main([str(Path(__file__).parent), *chosen, *options], plugins=[ledger])
    told = f" --kills {given.kills}{' --quick' if given.quick else ''}"
    text = HEAD.format(options=told) + ledger.table() + TAIL
    if code == pytest.ExitCode.INTERRUPTED:
        text += PARTIAL
    DOCUMENT.write_text(text, encoding="utf-8")
    print(DOCUMENT)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
