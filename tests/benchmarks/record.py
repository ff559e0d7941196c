"""What every benchmark writes down: the rows, the machine, the versions."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def save(name: str, rows: Sequence[Mapping[str, Any]], packages: Sequence[str], out: Path) -> None:
    """Print rows as a table and write them with versions and hardware as ``<name>.json``."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([str(row.get(c, "")) for c in columns] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    record = {
        "benchmark": name,
        "rows": rows,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "hardware": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "memory_gb": _memory()},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


def _memory() -> float:
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return round(int(found[1]) / 2**20, 1) if found else 0.0
