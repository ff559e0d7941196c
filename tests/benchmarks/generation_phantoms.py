"""Two groups of made-up people, a model from scratch, two ways to prompt.

Claim: with disjoint words and equal numbers, a network trained on real (made-up) slices calls at
least 80 % of synthetic ones the group asked for, within 20 minutes on two cores; with shared words
and 3:4 imbalance the contrast of the prompts is smaller, and the verdict names the cause.

    python -m tests.benchmarks.generation_phantoms FOLDER --arm disjoint shared --steps 1200
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

ARMS: dict[str, dict[str, Any]] = {
    "disjoint": {
        "counts": {"AD": 150, "CN": 150},
        "given": {"word": ["shrunken", "youthful"], "prompt": ["{word}"], "balance": True},
    },
    "shared": {
        "counts": {"AD": 150, "CN": 200},
        "given": {"prompt": ["{word}, a MRI brain, ADNI2"], "balance": False},
    },
}


def run_arm(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run one arm from slices to verdict."""
    arm = ARMS[name]
    people = steps.write_people(folder / name / "raw", arm["counts"])
    given = {
        "size": args.size,
        "width": args.width,
        "steps": args.steps,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "ema_decay": 0.995,
        "sampling_steps": 20,
        "image": [f"{i:03d}" for i in range(1, args.images + 1)],
        "evaluation_size": 48,
        "judge_epochs": 15,
        "grids": 2,
        "checkpoints": str(folder / name / "state"),
        "save_every": 100,
        "redraws": 1000,
    }
    started = time.perf_counter()
    done = steps.run_all(folder / name, people, **(given | arm["given"]))
    minutes = (time.perf_counter() - started) / 60
    made = done["evaluate"]
    table = read_rows(made["table1"])
    verdict = json.loads(made["verdict"].read_text())
    print(name, json.dumps(verdict, indent=1))
    row: dict[str, Any] = {"arm": name, "minutes": round(minutes, 2), "steps": args.steps}
    for line in table:
        if line["origin"] in ("synthetic", "held-out real"):
            row[f"right {line['slices']}"] = line["right_share_network"]
            row[f"outliers {line['slices']}"] = line["outlier_rate"]
    for line in read_rows(made["contrasts"]):
        if line["slices"] == "synthetic":
            row |= {k: line[k] for k in ("contrast", "ci_low", "ci_high", "share_of_real", "auc")}
    return row


def main() -> None:
    """Run the arms and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arm", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [run_arm(name, args.folder, args) for name in args.arm]
    name = f"generation_phantoms_{'-'.join(args.arm)}_{args.steps}"
    record.save(name, rows, ["torch", "diffusers"], args.out)


if __name__ == "__main__":
    main()
