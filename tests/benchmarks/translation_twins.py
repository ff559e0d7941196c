"""Claims: planted ageing is recovered (group NCC ≥ 0.8, person ≥ 0.6, ROI AUC ≥ 0.9, right signs).

Twins whose exact counterfactual is known; the networks see 120 young and 120 other old people and
are tested on 60 unseen ones. Variants: residual and plain generators, float32 and bfloat16, the
null control. Beside each the time of training on one thread.

    python -m tests.benchmarks.translation_twins [--variants residual plain …] [--out FOLDER]
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from tests.benchmarks import record
from tests.stages.translation import twins

VARIANTS = {
    "residual": {},
    "residual, bfloat16": {"precision": "bfloat16"},
    "plain": {"is_residual": False},
    "null": {},
}


def main() -> None:
    """Train every variant, measure both directions, and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=12, help="30 steps of 4 images each")
    parser.add_argument("--decay", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    people, test = twins.make_twins(240, seed=1), twins.make_twins(60, seed=2)
    judge = twins.train_judge(twins.make_twins(80, seed=3))
    rows = []
    for name in arguments.variants:
        x, y = people.young[:120], people.old[120:]
        if name == "null":
            x, y = people.young[:60], people.young[60:120]
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            nets = twins.train_pair(
                x, y, Path(folder), epochs=arguments.epochs, decay=arguments.decay, **VARIANTS[name]
            )
            seconds = time.perf_counter() - started
        found = twins.measure(nets, test, origin="young" if name == "null" else "")
        made = twins.translate(nets, test)
        for direction, row in found.items():
            is_old = twins.judge_old(judge, made[direction]).mean()
            rows.append(
                {
                    "variant": name,
                    "direction": direction,
                    **{key: round(value, 3) for key, value in row.items()},
                    "judged_target": round(is_old if direction == "toOld" else 1 - is_old, 3),
                    "train_s": round(seconds),
                }
            )
    record.save("translation_twins", rows, ["torch", "numpy", "nilearn"], arguments.out)


if __name__ == "__main__":
    main()
