"""What benchmarks share: pairs of timings, how cost grows, what is written down."""

import json
import operator
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

AIM = re.compile(r"(\w+) (<=|>=) ([\d.]+)")


def time_in_turns(
    actions: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    *,
    aim: str = "",
    times: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Time actions in turns; what disturbs the machine meets all of them alike.

    Parameters
    ----------
    actions
        What is timed under its name; ours first, then its peers.
    rounds
        How often each is run.
    aim
        What is claimed of every peer, as ``met`` reads it: ``ratio >= 5``.
    times
        For a peer of which only a part is run, how many times its seconds count.

    Returns
    -------
    list of dict
        A row per action: ``seconds``, the median; for a peer also ``ratio``, the median over rounds
        of its time over ours in the same round, and ``spread``, the least and the largest of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            spent = time.perf_counter() - started
            seconds[name].append(spent * (times or {}).get(name, 1.0))
    first, *peers = actions
    rows: list[dict[str, Any]] = [{"what": first, "seconds": statistics.median(seconds[first])}]
    for name in peers:
        ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds[first], strict=True)]
        rows.append(
            {
                "what": name,
                "seconds": statistics.median(seconds[name]),
                "ratio": statistics.median(ratios),
                "spread": f"{min(ratios):.3g} to {max(ratios):.3g}",
            }
            | ({"aim": aim} if aim else {})
        )
    return rows


def met(row: Mapping[str, Any]) -> bool:
    """Tell whether a row's ``aim`` is met: a column, <= or >=, and a bound.

    >>> met({"what": "scikit-learn", "ratio": 4.8, "aim": "ratio >= 5"})
    False
    """
    column, sign, bound = AIM.fullmatch(row["aim"]).groups()  # type: ignore[union-attr]
    compare = operator.le if sign == "<=" else operator.ge
    return bool(compare(row[column], float(bound)))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit cost = a x size^b by least squares of the logarithms; return b."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


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
