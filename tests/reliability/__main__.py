"""Run the suite, or a piece of it, and write the table of what was broken and what was lost.

``python -m tests.reliability [--kills 100] [--minutes 30] [--quick] [--add] [tests or options]``

Without tests all of them are run. With ``--add`` the rows of other pieces stay in the table: the
counts are kept in ``docs/reliability.json``, from which the page is made.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
COUNTS = DOCUMENT.with_suffix(".json")
HEAD = """\
# Reliability: what was broken on purpose, and what was lost

Made by `python -m tests.reliability`, in one piece or several (`--add`); do not edit.
Each fault is injected into runs of small stages or of the demo; then the run is started again.
*Survived* means: the exit code and its reason were right, no result was half-written, nothing of
the other participants was lost, and the next run did what was missing, with the same bytes as an
undisturbed run. While runs were killed or worked side by side, the kernel told of every file that
was made or changed under its final name (inotify): each would count as lost.

| fault | injected | survived | lost | to repeat |
|---|---:|---:|---:|---|
"""
TAIL = """
What is not the same byte for byte in two runs: pages (they tell times), `logs/` (times, run names)
and the path in `DatasetLinks`, which follows where the datasets lie. Results of numerical libraries
are repeated on the same kind of processor with the same number of threads per job.

Packages: `constraints.txt` pins every one that is installed, `constraints.lock` adds the SHA-256 of
its file (made by `python -m tests.reliability.lock`), and the tests compare the two. A scan for
known vulnerabilities by `pip-audit` was tried once; it could look none of the packages up.

What is not covered: a machine that loses power between a rename and its way to the disk; a file
system that locks on one machine only (Lustre mounted with `localflock`): runs on several machines
then may do work twice, never lose any.
"""
DEMO = """
Runs over the demo use all stages with the preset `tiny` and still fewer epochs. Kills come in
chains: a run is killed, started again with another runner and number of processes, killed again; at
the end each file must have the bytes of a run that nothing disturbed, and the work folder may never
hold more than twice what that run's held. Until then a group's results may lack a person whose job
was killed. With `--minutes` a chain may end before all kills came; the table counts those that did.
"""
NO_DEMO = (
    "\nNot in this table: runs over all stages of the demo (`tests/reliability/test_real.py`).\n"
)
PARTIAL = "\nThe last run was interrupted: faults that it did not come to are missing or older.\n"


class Ledger:
    """Collects what the tests note by ``tally``; a test that fails counts as one lost.

    ``rows``: fault → injected, lost, test, kills (asked for) and date.
    """

    def __init__(self, kills: int) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.tests: set[str] = set()
        self._kills = kills

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a finished test in."""
        if report.when != "call" and not report.failed:
            return
        test = report.nodeid.partition("[")[0]
        faults = [value for name, value in report.user_properties if name == "fault"]
        if report.failed and not any(lost for _, _, lost in faults):
            faults = [(test.rpartition("::")[2].removeprefix("test_").replace("_", " "), 1, 1)]
        self.tests.add(test)
        for fault, injected, lost in faults:
            row = {"injected": 0, "lost": 0, "test": test}
            row = self.rows.setdefault(fault, row | {"date": time.strftime("%Y-%m-%d")})
            if "kill" in fault:
                row["kills"] = self._kills
            row["injected"] += injected
            row["lost"] += lost

    def join(self, before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Put the rows among those of earlier pieces; a test that ran again replaces its rows."""
        kept = {fault: row for fault, row in before.items() if row["test"] not in self.tests}
        return dict(sorted((kept | self.rows).items(), key=lambda item: item[1]["test"]))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Set rows as a table with their sum."""
    lines = []
    for fault, row in rows.items():
        count, lost = row["injected"], row["lost"]
        kills = f"--kills {row['kills']} " if "kills" in row else ""
        command = f"`python -m tests.reliability --add {kills}{row['test']}`"
        lines.append(f"| {fault} | {count} | {count - lost} | {lost} | {command} |")
    total = sum(row["injected"] for row in rows.values())
    lost = sum(row["lost"] for row in rows.values())
    lines.append(f"| **all** | **{total}** | **{total - lost}** | **{lost}** | |")
    return "\n".join(lines) + "\n"


def page(rows: dict[str, dict[str, Any]]) -> str:
    """Set the whole page."""
    has_demo = any("all stages" in fault for fault in rows)
    machine = f"\nLast made on Linux {platform.release()}, {os.cpu_count()} cores, Python "
    machine += f"{platform.python_version()}.\n"
    return HEAD + table(rows) + machine + (DEMO if has_demo else NO_DEMO) + TAIL


def main() -> int:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="moments of kill -9 (default: 30)")
    parser.add_argument(
        "--minutes", type=float, help="end a chain of kills of the demo after these"
    )
    parser.add_argument("--quick", action="store_true", help="leave out what needs the demo")
    parser.add_argument("--add", action="store_true", help="keep the rows of tests not run now")
    given, options = parser.parse_known_args()
    os.environ["BRAINSTAGES_KILLS"] = str(given.kills)
    if given.minutes:
        os.environ["BRAINSTAGES_MINUTES"] = str(given.minutes)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not any(option.startswith("tests/") for option in options):
        options.insert(0, str(Path(__file__).parent))
    chosen = ["-m", "not slow"] if given.quick else []
    ledger = Ledger(given.kills)
    code = pytest.main([*options, *chosen], plugins=[ledger])
    before = json.loads(COUNTS.read_text()) if given.add and COUNTS.is_file() else {}
    rows = ledger.join(before)
    COUNTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = page(rows)
    if code == pytest.ExitCode.INTERRUPTED:
        text += PARTIAL
    DOCUMENT.write_text(text, encoding="utf-8")
    print(DOCUMENT)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
