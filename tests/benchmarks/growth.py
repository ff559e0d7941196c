"""How cost grows, with the floor beside it: ridge with voxels, a training step with volume.

The floor is what the operations alone take at the machine's measured float32 matrix rate, and what
moving the responses once takes at its measured memory bandwidth. Each volume is trained in a
process of its own, whose peak memory is told. ``index`` has the growth with participants.

    python -m tests.benchmarks.growth [--threads 2] [--out DIR]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bids_app.launch import MEMORY
from stages.classifier.program import build_member
from tests.benchmarks.encoding_ridge import (
    least_multiplications,
    make_features,
    make_responses,
    measure_rate,
    ours,
)
from tests.benchmarks.record import exponent, save

VOXELS = (1024, 4096, 16_384, 65_536)
SIDES = (64, 96, 128, 160, 192)
N, M, P = 4497, 300, 2048


def measure_bandwidth(megabytes: int = 512, rounds: int = 5) -> float:
    """Measure how many bytes a copy reads and writes per second."""
    source = np.ones(megabytes * 2**17)
    target = np.empty_like(source)
    least = np.inf
    for _ in range(rounds):
        started = time.perf_counter()
        np.copyto(target, source)
        least = min(least, time.perf_counter() - started)
    return 2 * source.nbytes / least


def ridge_rows(rate: float, bandwidth: float) -> list[dict]:
    """Time 12 penalties of one condition at each number of voxels; rate in GFLOP/s."""
    X, T = make_features(N, M, P)
    rows = []
    for voxels in VOXELS:
        with tempfile.TemporaryDirectory() as folder:
            Y, Z = make_responses(N, M, voxels, Path(folder))
            started = time.perf_counter()
            ours(X, T, Y, Z, "cpu")
            seconds = time.perf_counter() - started
        operations = 2 * least_multiplications(N, M, P) * voxels
        rows.append(
            {
                "what": "ridge, 12 penalties",
                "size": voxels,
                "seconds": round(seconds, 2),
                "floor: operations": round(operations / rate / 1e9, 2),
                "floor: memory": round(voxels * (N + M) * 4 / bandwidth, 2),
            }
        )
    sizes, costs = ([row[key] for row in rows] for key in ("size", "seconds"))
    return [*rows, {"what": "ridge, exponent", "seconds": round(exponent(sizes, costs), 2)}]


def train_once(side: int) -> dict:
    """Time a training step on one volume, after one to warm up; tell its operations and memory."""
    torch.manual_seed(0)
    last = torch.channels_last_3d  # as the stage trains
    network = build_member("bn", (side,) * 3, classes=2).network.train().to(memory_format=last)
    optimiser = torch.optim.Adam(network.parameters())
    image = torch.randn(2, 1, side, side, side).to(memory_format=last)
    label = torch.tensor([0, 1])

    def step() -> None:
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image), label).backward()
        optimiser.step()

    with FlopCounterMode(display=False) as counter:
        step()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return {
        "seconds": sorted(seconds)[1],
        "operations": counter.get_total_flops(),
        "peak_gb": int(peak[1]) / 2**20 if peak else None,
    }


def training_rows(rate: float, threads: int) -> list[dict]:
    """Train at each size, in processes of their own."""
    rows = []
    for side in SIDES:
        command = [sys.executable, "-m", "tests.benchmarks.growth"]
        done = subprocess.run(
            [*command, "--side", str(side), "--threads", str(threads)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **MEMORY},  # as stages are started
        )
        told = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            {
                "what": "training step, two volumes of side",
                "size": side,
                "seconds": round(told["seconds"], 3),
                "floor: operations": round(told["operations"] / rate / 1e9, 3),
                "peak_gb": round(told["peak_gb"], 2),
            }
        )
    voxels, costs = [row["size"] ** 3 for row in rows], [row["seconds"] for row in rows]
    fitted = round(exponent(voxels, costs), 2)
    return [*rows, {"what": "training, exponent over voxels", "seconds": fitted}]


def main() -> None:
    """Measure all and write ``growth.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.side:
        print(json.dumps(train_once(given.side)))
        return
    rate, bandwidth = measure_rate("cpu"), measure_bandwidth()
    rows = [
        {"what": "matrix rate, float32 GFLOP/s", "seconds": "", "size": round(rate)},
        {"what": "memory bandwidth, GB/s", "seconds": "", "size": round(bandwidth / 1e9, 1)},
        *ridge_rows(rate, bandwidth),
        *training_rows(rate, given.threads),
    ]
    save("growth", rows, ["torch", "numpy"], given.out)


if __name__ == "__main__":
    main()
