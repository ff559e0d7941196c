"""What this process may use: cores and memory as given by affinity, cgroup or SLURM.

``os.cpu_count()`` tells what the node has, not what a job on it was given; using it on a cluster
oversubscribes the node.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_cpus(environ: Mapping[str, str], *, cgroup: Path = CGROUP) -> int:
    """Count the cores this process may use (at least one)."""
    counts = [len(os.sched_getaffinity(0))]
    if environ.get("SLURM_CPUS_PER_TASK", "").isdigit():
        counts.append(int(environ["SLURM_CPUS_PER_TASK"]))
    quota, period = [*_read(cgroup / "cpu.max").split(), "", ""][:2]  # cgroup v2: "200000 100000"
    if not quota:
        quota = _read(cgroup / "cpu/cpu.cfs_quota_us").strip()
        period = _read(cgroup / "cpu/cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit():
        counts.append(int(quota) // int(period))
    return max(1, min(counts))


def available_memory_gb(
    environ: Mapping[str, str], *, cgroup: Path = CGROUP, meminfo: Path = MEMINFO
) -> float:
    """Tell how much memory this process may use, in GiB."""
    limits = []
    total = re.search(r"MemTotal:\s+(\d+) kB", _read(meminfo))
    if total:
        limits.append(int(total[1]) / 2**20)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        value = _read(cgroup / name).strip()
        if value.isdigit():
            limits.append(int(value) / 2**30)
    if environ.get("SLURM_MEM_PER_NODE", "").isdigit():
        limits.append(int(environ["SLURM_MEM_PER_NODE"]) / 2**10)
    return min(limits, default=4.0)


def parse_memory_gb(text: str) -> float:
    """Read an amount of memory: a bare number is MB, suffixes K, M, G and T are understood.

    >>> parse_memory_gb("8192"), parse_memory_gb("12G"), parse_memory_gb("0.5T")
    (8.0, 12.0, 512.0)

    Raises
    ------
    ValueError
        Anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), flags=re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"found {text!r}, expected a number of MB or a number with K, M, G or T")
    power = {"K": -2, "": -1, "M": -1, "G": 0, "T": 1}[match[2].upper()]
    return float(match[1]) * 1024.0**power


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
