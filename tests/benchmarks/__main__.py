"""Run benchmarks by name and make docs/benchmarks.md from what they, and people, wrote.

    python -m tests.benchmarks --list
    python -m tests.benchmarks [NAME ...]      # without a name: all
    python -m tests.benchmarks --page          # make the page from what was measured before

Each runs in a process of its own, one after the other; nothing else should run on the machine
meanwhile. Rows, versions and hardware go to docs/benchmarks/<name>.json; what was tried, and what
it gave, is written by hand beside it, in <name>.md.
"""

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.record import met

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = DOCS / "benchmarks"


@dataclass(frozen=True)
class Benchmark:
    """A script of this folder, and how it is called to measure one claim."""

    script: str
    options: tuple[str, ...] = ()


BENCHMARKS = {
    "spine": Benchmark("spine"),
    "startup": Benchmark("startup"),
    "index": Benchmark("index"),
    "brain-extraction": Benchmark("brain_extraction"),
    "preprocessing": Benchmark("preprocessing", ("--peers",)),
    "harmonization": Benchmark("harmonization_speed"),
    "audit": Benchmark("harmonization_audit"),
    "audit-phantoms": Benchmark("harmonization_audit", ("--phantoms",)),
    "ridge": Benchmark(
        "encoding_ridge", ("--voxels", "8192", "--repeats", "5", "--reference-penalties", "2")
    ),
    "ridge-full": Benchmark("encoding_ridge", ("--voxels", "65665", "--references", "none")),
    "ridge-table2": Benchmark(
        "encoding_ridge", ("--voxels", "65665", "--references", "none", "--features", "table2")
    ),
    "encoding-real": Benchmark("encoding_real", ("--data", "../shared/data")),
    "classifier": Benchmark("classifier_speed"),
    "translation": Benchmark("translation_speed"),
    "booster": Benchmark("transfer_booster"),
    "generation": Benchmark("generation_speed"),
    "report": Benchmark("report"),
    "growth": Benchmark("growth"),
    "scale": Benchmark("scale"),
    "containers": Benchmark("containers"),
}


def main() -> int:
    """Run what was asked for; return how many failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--list", action="store_true", help="name them and what they claim")
    parser.add_argument("--page", action="store_true", help="make the page and nothing else")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    if given.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:16} {claim_of(benchmark.script)}")
        return 0
    failed = [] if given.page else [n for n in given.names or BENCHMARKS if not run(n)]
    (DOCS / "benchmarks.md").write_text(make_page(RESULTS))
    print(f"{DOCS / 'benchmarks.md'} made; failed: {', '.join(failed) or 'none'}")
    return len(failed)


def run(name: str) -> bool:
    """Run one benchmark; tell whether it ended well."""
    benchmark = BENCHMARKS[name]
    module = f"tests.benchmarks.{benchmark.script}"
    print(f"== {name}: {claim_of(benchmark.script)}", flush=True)
    command = [sys.executable, "-m", module, *benchmark.options, "--out", str(RESULTS)]
    return subprocess.run(command, check=False).returncode == 0


def claim_of(script: str) -> str:
    """Return the first paragraph of a script's docstring."""
    text = importlib.import_module(f"tests.benchmarks.{script}").__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split())


def make_page(folder: Path) -> str:
    """Write what was measured as Markdown: what was aimed at, then each benchmark's tables."""
    records = [(path, json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    parts = [
        "# Benchmarks",
        "Made by `python -m tests.benchmarks` from the files in `docs/benchmarks/`; do not edit."
        " Each table tells the machine it was measured on. A ratio is the peer's time over ours,"
        " the median of paired runs in turns, with the least and the largest of them.",
        "## Where we stand",
        _table([_claim(record, row) for _, record in records for row in record["rows"]]),
    ]
    for path, record in records:
        parts += [f"## {record['benchmark'].replace('_', ' ')}", *_tell(record)]
        tried = path.with_suffix(".md")
        parts += [tried.read_text().strip()] if tried.exists() else []
    return "\n\n".join(parts) + "\n"


def _claim(record: dict, row: dict) -> dict:
    """Say of a row with an aim whether it is met; nothing of others."""
    if "aim" not in row:
        return {}
    column = row["aim"].split()[0]
    names = [str(row[key]) for key in ("head", "size", "features", "what") if key in row]
    return {
        "benchmark": record["benchmark"].replace("_", " "),
        "beside, or what": ", ".join(names),
        "got": f"{_cell(row[column])} ({row['spread']})" if column == "ratio" and "spread" in row
        else _cell(row[column]),
        "aim": row["aim"],
        "met": "yes" if met(row) else "**no**",
    }  # fmt: skip


def _tell(record: dict) -> list[str]:
    """Make a table of rows, or one for each name in the column ``table``; then the machine."""
    tables: dict[str, list[dict]] = {}
    for row in record["rows"]:
        name = row.get("table", "")
        tables.setdefault(name, []).append({k: v for k, v in row.items() if k != "table"})
    hardware = record["hardware"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts = []
    for name, rows in tables.items():
        parts += [f"**{name}**"] if name else []
        parts += [_table(rows)]
    return [
        *parts,
        f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gb']} GB; {versions}.",
    ]


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows under all columns that any of them has; empty rows are left out."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column, "")) for column in columns] for row in rows if row]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
