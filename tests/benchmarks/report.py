"""Claims: pages of 1,000 participants are written in at most 30 s, those of one in at most 5 s; a
group page of 1,000 participants opens, filters and sorts in at most 2 s each.

One stage, one scan of 32 columns and three figures per participant, on one core. The browser is the
Chromium on PATH, headless and without a network; without one its rows are left out, and said.

    python -m tests.benchmarks.report [--participants 1000] [--out DIR]
"""

import argparse
import tempfile
import time
from pathlib import Path

from bids_app import report
from tests.benchmarks.record import save
from tests.bids_app.test_report import read_spec
from tests.bids_app.test_report_browser import CHROMIUM, USE_TABLE, ask, write_study


def main() -> None:
    """Measure everything and write ``report.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out, seconds = write_study(folder, given.participants)
        rows = [{"what": f"pages of {given.participants}", "seconds": seconds, "claim": 30}]
        started = time.perf_counter()
        report.write(out, [read_spec(folder)], {"toy": out / "brainstages-toy"}, ["0001"])
        spent = time.perf_counter() - started
        rows.append({"what": "pages of one, and the group's", "seconds": spent, "claim": 5})
        if CHROMIUM:
            page = out / "brainstages-toy" / "toy.html"
            told = ask(page, USE_TABLE, folder / "profile", is_timed=True)
            rows += [
                {"what": f"group page: {part}", "seconds": told[part] / 1000, "claim": 2}
                for part in ("open", "filter", "sort")
            ]
        else:
            print("no chromium on PATH: what a browser takes was left out")
    save("report", [{**r, "seconds": round(r["seconds"], 2)} for r in rows], ["jinja2"], given.out)


if __name__ == "__main__":
    main()
