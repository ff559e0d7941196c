"""Example images while training: the same noise turned into each group's."""

from typing import Any

from stages.generation.generator import Generator
from stages.generation.sampling import draw_seed, sample
from stages.generation.slices import Pixels

GRID_STEPS, GRID_COLUMNS, GRID_BATCH = 20, 4, 8


def make_drawer(
    shown: dict[str, list[Pixels]],
    texts: dict[str, str],
    groups: list[str],
    guidance: float,
    seed: int,
) -> Any:
    """Make what draws the same noise for every group at points of the training."""

    def draw(step: int, net: Generator) -> None:
        seeds = [draw_seed(seed, "grid", str(i)) for i in range(GRID_COLUMNS)]
        for group in groups:
            images = sample(
                net,
                [texts[group]] * GRID_COLUMNS,
                seeds,
                steps=GRID_STEPS,
                guidance=guidance,
                batch=GRID_BATCH,
            )
            shown[f"{group}, step {step}"] = list(net.to_slices(images))

    return draw
