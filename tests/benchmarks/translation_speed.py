"""Claim: a training step takes at most 1 / 1.3 of the straightforward one's time on a CPU.

Straightforward: six generator passes and six discriminator passes in float32 with torch's own
layers, as the published code does it (``tests/stages/translation/straightforward.py``; a test shows
that gradients are equal). Beside it the step as this stage does it: joint passes and faster layers
of the same sums; the same compiled; with bfloat16 and channels last (another arithmetic: the twins'
benchmark shows what it costs). One process, one thread, medians of turns. The floor is what the
straightforward step's multiplications alone take at the rate of a large float32 matrix product.

    python -m tests.benchmarks.translation_speed [--rounds 5] [--compile] [--out FOLDER]
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from stages.translation import training
from stages.translation.cyclegan import Networks, Pool
from stages.translation.networks import Generator, PatchDiscriminator, initialise
from tests.benchmarks import record
from tests.benchmarks.encoding_ridge import measure_rate
from tests.stages.translation import straightforward

SIZES = {  # name: features, blocks, strides, batch, sides
    "demo": (16, 3, 2, 4, (56, 68)),
    "128": (32, 6, 3, 1, (128, 128)),
}
STEPS = 5  # a turn
PEER = "straightforward"


def build(features: int, blocks: int, strides: int) -> Networks:
    """Build networks with the published initialisation."""
    nets = Networks(
        *(Generator(features=features, blocks=blocks) for _ in range(2)),
        *(PatchDiscriminator(features=features, strides=strides) for _ in range(2)),
    )
    draws = torch.Generator().manual_seed(0)
    for network in nets.named().values():
        initialise(network, draws)
    return nets


def make_runner(name: str, size: tuple) -> Callable[[], None]:
    """Prepare one variant; the runner does a turn's steps."""
    features, blocks, strides, batch, sides = size
    nets = build(features, blocks, strides)
    half = "bfloat16" in name
    for network in nets.named().values():
        if name == PEER:
            straightforward.make_plain(network)
        if half:
            network.to(memory_format=torch.channels_last)
    optimisers = [
        torch.optim.Adam(itertools.chain(*(n.parameters() for n in group)), 2e-4, training.BETAS)
        for group in (nets.generators, nets.discriminators)
    ]
    run_as = nets
    if "compiled" in name:
        run_as = Networks(**{n: torch.compile(m) for n, m in nets.named().items()})
    settings = training.Settings(
        1, 0, batch, 2e-4, 10.0, 0.5, 50, False, "bfloat16" if half else "float32", 0
    )
    rng, pools = np.random.default_rng(0), [Pool(50), Pool(50)]
    x, y = torch.rand(2, batch, 1, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if half:
        x, y = (a.to(memory_format=torch.channels_last) for a in (x, y))
    step = straightforward.step if name == PEER else training._step

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            for _ in range(STEPS):
                step(run_as, optimisers, pools, x, y, settings, rng)

    return run


def main() -> None:
    """Time all variants in turn, and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument(
        "--compile", action="store_true", help="also compiled (takes a minute more)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    rate = measure_rate("cpu")
    ours = ["float32", "bfloat16", *["float32, compiled"] * arguments.compile]
    for size in arguments.sizes:
        runners = {name: make_runner(name, SIZES[size]) for name in (PEER, *ours)}
        for runner in runners.values():
            runner()  # compiles, allocates
        for name in ours:
            pair = {name: runners[name], f"{PEER}, beside {name}": runners[PEER]}
            for row in record.time_in_turns(pair, arguments.rounds, aim="ratio >= 1.3"):
                seconds = round(row.pop("seconds") / STEPS, 4)
                rows.append({"size": size, "seconds_per_step": seconds, **row})
        with FlopCounterMode(display=False) as counter:
            runners[PEER]()
        floor = counter.get_total_flops() / STEPS / rate / 1e9
        what = f"floor: its operations at {rate:.0f} GFLOP/s"
        rows.append({"size": size, "seconds_per_step": round(floor, 4), "what": what})
    record.save("translation_speed", rows, ["torch", "numpy"], arguments.out)


if __name__ == "__main__":
    main()
