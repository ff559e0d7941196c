"""Two groups of made-up people, a model from scratch, prompts that differ in much or in little.

Claim: with disjoint words and equal numbers, a network trained on real (made-up) slices calls at
least 80 % of synthetic ones the group asked for, within 20 minutes on two cores; with shared words
and 3:4 imbalance the contrast of the prompts is smaller, and the verdict names the cause. Two more
arms change one of the two at a time. All arms of a seed see people drawn alike and have the same
budget; a longer budget prolongs the training of the shorter one, as the stage does.

    python -m tests.benchmarks.generation_phantoms FOLDER --seeds 0 1 --steps 600 2400
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from stages.generation.tables import read_rows
from tests.benchmarks import record
from tests.stages.generation import steps

EVEN, UNEVEN = {"AD": 150, "CN": 150}, {"AD": 150, "CN": 200}
DISJOINT = {"word": ["shrunken", "youthful"], "prompt": ["{word}"]}
SHARED = {"word": ["AD", "CN"], "prompt": ["{word}, a MRI brain, ADNI2"]}
ARMS: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "disjoint": (EVEN, DISJOINT | {"balance": True}),
    "shared": (UNEVEN, SHARED | {"balance": False}),
    "disjoint-uneven": (UNEVEN, DISJOINT | {"balance": False}),
    "shared-even": (EVEN, SHARED | {"balance": True}),
}


def run_arm(name: str, seed: int, budget: int, args: argparse.Namespace) -> dict[str, Any]:
    """Run one arm from slices to verdict; say what it found and how long it took."""
    counts, own = ARMS[name]
    folder = args.folder / f"{name}-{seed}"
    people = steps.write_people(folder / "raw", counts, seed=seed)
    given = {
        "size": args.size,
        "width": args.width,
        "steps": budget,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "ema_decay": 0.995,
        "sampling_steps": 20,
        "image": [f"{i:03d}" for i in range(1, args.images + 1)],
        "evaluation_size": 48,
        "judge_epochs": 15,
        "grids": 2,
        "checkpoints": str(folder / "state"),
        "save_every": 200,
        "redraws": 1000,
    }
    started = time.perf_counter()
    made = steps.run_all(folder / str(budget), people, seed=seed, **(given | own))["evaluate"]
    verdict = json.loads(made["verdict"].read_text())
    row: dict[str, Any] = {
        "arm": name,
        "seed": seed,
        "steps": budget,
        "minutes": (time.perf_counter() - started) / 60,
    }
    for line in read_rows(made["table1"]):
        if line["group"] != "n/a" and line["origin"] in ("synthetic", "held-out real"):
            row[f"right, {line['slices']}"] = number(line["right_share_network"])
            row[f"outliers, {line['slices']}"] = number(line["outlier_rate"])
    for line in read_rows(made["contrasts"]):
        if line["slices"] == "synthetic":
            wanted = ("contrast", "ci_low", "ci_high", "share_of_real", "auc")
            row |= {key: number(line[key]) for key in wanted}
    (copies,) = read_rows(made["memorisation"])
    row |= {key: number(copies[key]) for key in ("ratio", "copy_rate", "membership_auc")}
    return row | {"warnings": verdict["Warnings"]}


def number(cell: str) -> float | None:
    """Read a cell; None where there is no number, as when all slices are outliers."""
    return None if cell == "n/a" else float(cell)


def main() -> None:
    """Run the arms and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", nargs="+", type=int, default=[600, 2400])
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for seed in args.seeds:
        for name in args.arms:
            minutes = 0.0
            for budget in sorted(args.steps):
                row = run_arm(name, seed, budget, args)
                minutes += row["minutes"]  # those of the shorter budgets included
                rows.append(row | {"minutes": round(minutes, 2)})
                record.save("generation_phantoms", rows, ["torch", "diffusers"], args.out)


if __name__ == "__main__":
    main()
