"""Claims: planted ageing is recovered (group NCC ≥ 0.8, person ≥ 0.6, ROI AUC ≥ 0.9, right signs).

Twins whose exact counterfactual is known; the networks see 120 young and 120 other old people and
are tested on 60 unseen ones, by a judge that saw neither. Outside of where age acts, at most 0.35
of what is changed inside. Variants: residual and plain generators, float32 and bfloat16; labels
reversed (the sign flips); the null control, two halves of the young (at most a fifth of the real
change inside). Every seed draws other people, networks and judge; the schedule was chosen on
seed 0. Beside each the processor time of training on one thread.

    python -m tests.benchmarks.translation_twins [--variants residual plain …] [--out FOLDER]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks import record
from tests.stages.translation import twins

VARIANTS = {
    "residual": {},
    "residual, bfloat16": {"precision": "bfloat16"},
    "plain": {"is_residual": False},
    "reversed": {},
    "null": {},
}


def run_variant(name: str, seed: int, epochs: int, decay: int) -> list[dict]:
    """Train one variant on its own people; measure both directions on others."""
    people, test = (twins.make_twins(n, seed=10 * seed + k) for n, k in ((240, 1), (60, 2)))
    learned = twins.make_twins(80, seed=10 * seed + 3)
    judge = twins.train_judge(learned)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        nets = twins.train_pair(
            *twins.pick_pair(people, name),
            Path(folder),
            epochs=epochs,
            decay=decay,
            seed=seed,
            **VARIANTS[name],
        )
        seconds = time.process_time() - started
    shown = twins.pick_test(test, name)
    right = np.concatenate([~twins.judge_old(judge, test.young), twins.judge_old(judge, test.old)])
    made = twins.translate(nets, shown)
    rows = []
    for direction, found in twins.measure(nets, shown).items():
        is_old = twins.judge_old(judge, made[direction]).mean()
        rows.append(
            {"variant": name, "seed": seed, "direction": direction}
            | {k: round(float(v), 3) for k, v in found.items() if not np.isnan(v)}
            | {
                "judged_old": round(float(is_old), 3),
                "judge_accuracy": round(float(right.mean()), 3),
                "train_cpu_s": round(seconds),
            }
        )
    return rows


def main() -> None:
    """Run all variants and seeds, and save after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=20, help="30 steps of 4 images each")
    parser.add_argument("--decay", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in arguments.seeds:
        for name in arguments.variants:
            rows += run_variant(name, seed, arguments.epochs, arguments.decay)
            record.save("translation_twins", rows, ["torch", "numpy", "nilearn"], arguments.out)


if __name__ == "__main__":
    main()
