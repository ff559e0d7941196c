"""Claim: a training step takes at most 1 / 1.3 of the straightforward one's time on a CPU.

Straightforward: six separate generator passes and four discriminator passes in float32, as the
published code does it. Beside it the same step as this stage does it: joint passes; compiled;
with bfloat16 and channels last (another arithmetic: the twins' benchmark shows what it costs). One
process, one thread, rounds in turn; the time is the process's own, least over rounds.

    python -m tests.benchmarks.translation_speed [--rounds 5] [--out FOLDER]
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from stages.translation import training
from stages.translation.cyclegan import Networks, Pool, adversarial_loss
from stages.translation.networks import Generator, PatchDiscriminator, initialise
from tests.benchmarks import record

SIZES = {  # name: features, blocks, strides, batch, sides
    "demo": (16, 3, 2, 4, (56, 68)),
    "128": (32, 6, 3, 1, (128, 128)),
}
STRAIGHTFORWARD = "straightforward"


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


def step_straightforward(nets, optimisers, pools, x, y, settings, rng) -> None:
    """Improve all networks, every network asked for one thing at a time."""
    for network in nets.discriminators:
        network.requires_grad_(False)
    made_y = nets.G(x)
    back_x = nets.F(made_y)
    made_x = nets.F(y)
    back_y = nets.G(made_x)
    same_y, same_x = nets.G(y), nets.F(x)
    loss = adversarial_loss(nets.D_Y(made_y), is_real=True)
    loss = loss + adversarial_loss(nets.D_X(made_x), is_real=True)
    loss = loss + 10 * (back_x - x).abs().mean() + 10 * (back_y - y).abs().mean()
    loss = loss + 5 * (same_y - y).abs().mean() + 5 * (same_x - x).abs().mean()
    optimisers[0].zero_grad()
    loss.backward()
    optimisers[0].step()
    for network in nets.discriminators:
        network.requires_grad_(True)
    optimisers[1].zero_grad()
    for D, real, made, pool in ((nets.D_Y, y, made_y, pools[0]), (nets.D_X, x, made_x, pools[1])):
        old = pool.exchange(made.detach(), rng)
        loss = adversarial_loss(D(real), is_real=True) + adversarial_loss(D(old), is_real=False)
        (0.5 * loss).backward()
    optimisers[1].step()


def make_runner(name: str, size: tuple) -> Callable[[], None]:
    """Prepare one variant; the runner does one step."""
    features, blocks, strides, batch, sides = size
    nets = build(features, blocks, strides)
    run_as, half = nets, "bfloat16" in name
    if half:
        for network in nets.named().values():
            network.to(memory_format=torch.channels_last)
    if "compiled" in name:
        run_as = Networks(**{n: torch.compile(m) for n, m in nets.named().items()})
    optimisers = [
        torch.optim.Adam(itertools.chain(*(n.parameters() for n in group)), 2e-4, training.BETAS)
        for group in (nets.generators, nets.discriminators)
    ]
    settings = training.Settings(
        1, 0, batch, 2e-4, 10.0, 0.5, 50, False, "bfloat16" if half else "float32", 0
    )
    rng, pools = np.random.default_rng(0), [Pool(50), Pool(50)]
    x, y = torch.rand(2, batch, 1, *sides, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if half:
        x, y = (a.to(memory_format=torch.channels_last) for a in (x, y))
    step = step_straightforward if name == STRAIGHTFORWARD else training._step

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            step(run_as, optimisers, pools, x, y, settings, rng)

    return run


def main() -> None:
    """Time all variants in turn, and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument(
        "--compile", action="store_true", help="also compiled (takes a minute more)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    names = [STRAIGHTFORWARD, "joint passes", "joint passes, bfloat16"]
    names += ["joint passes, compiled"] * arguments.compile
    for size in arguments.sizes:
        runners = {name: make_runner(name, SIZES[size]) for name in names}
        best = dict.fromkeys(names, float("inf"))
        for runner in runners.values():
            runner()  # compiles, allocates
        for _ in range(arguments.rounds):
            for name, runner in runners.items():
                started = time.process_time()
                runner()
                best[name] = min(best[name], time.process_time() - started)
        for name, seconds in best.items():
            ratio = round(best[STRAIGHTFORWARD] / seconds, 2)
            rows.append(
                {"size": size, "step": name, "s_per_step": round(seconds, 4), "times_faster": ratio}
            )
    record.save("translation_speed", rows, ["torch", "numpy"], arguments.out)


if __name__ == "__main__":
    main()
