"""Claims: pages of 1,000 participants are written in at most 30 s, those of one in at most 5 s; a
group page of 1,000 participants opens, filters and sorts in at most 2 s each. Pages with their
pictures weigh at most 5 MB for a participant and 15 MB for a stage.

One stage, one scan of 32 columns and three figures per participant, on one core. The browser is the
Chromium on PATH, headless and without a network; without one its rows are left out, and said.

Pages are weighed where a run left them: give its output folder.

    python -m tests.benchmarks.report [--participants 1000] [--weigh OUT_DIR] [--out DIR]
"""

import argparse
import tempfile
import time
from pathlib import Path

from bids_app import report
from tests.benchmarks.record import save
from tests.bids_app.test_report import read_spec, weigh
from tests.bids_app.test_report_browser import CHROMIUM, USE_TABLE, ask, write_study


def main() -> None:
    """Measure everything and write ``report.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--weigh", type=Path, help="folder with pages of a run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out, seconds = write_study(folder, given.participants)
        rows = [
            {"what": f"pages of {given.participants}", "seconds": seconds, "aim": "seconds <= 30"}
        ]
        started = time.perf_counter()
        report.write(out, [read_spec(folder)], {"toy": out / "brainstages-toy"}, ["0001"])
        spent = time.perf_counter() - started
        rows.append(
            {"what": "pages of one, and the group's", "seconds": spent, "aim": "seconds <= 5"}
        )
        if CHROMIUM:
            page = out / "brainstages-toy" / "toy.html"
            told = ask(page, USE_TABLE, folder / "profile", is_timed=True)
            rows += [
                {"what": f"group page: {part}", "seconds": told[part] / 1000, "aim": "seconds <= 2"}
                for part in ("open", "filter", "sort")
            ]
        else:
            print("no chromium on PATH: what a browser takes was left out")
    rows = [{**row, "seconds": round(row["seconds"], 2)} for row in rows]
    save("report", rows + (weigh_pages(given.weigh) if given.weigh else []), ["jinja2"], given.out)


def weigh_pages(out_dir: Path) -> list[dict[str, object]]:
    """Find the heaviest page of a participant and of a stage."""
    rows: list[dict[str, object]] = []
    stages = [
        root / f"{root.name.partition('-')[2]}.html" for root in out_dir.glob("brainstages-*")
    ]
    for what, pages, most in (
        ("participant", list(out_dir.glob("sub-*.html")), 5),
        ("stage", [page for page in stages if page.exists()], 15),
    ):
        weights = {page: weigh(page) for page in pages}
        heaviest = max(weights, key=lambda page: weights[page])
        name = f"heaviest page of a {what} ({heaviest.name}, of {len(pages)})"
        rows.append({"what": name, "mb": round(weights[heaviest] / 1e6, 2), "aim": f"mb <= {most}"})
    return rows


if __name__ == "__main__":
    main()
