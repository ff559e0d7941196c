"""Step sample: draw synthetic slices of every group, the same ones for the same seed."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from stages.generation import figures
from stages.generation.build import choose_device, load_generator, read_card
from stages.generation.sampling import draw_seed, sample
from stages.generation.slices import save_stack
from stages.generation.tables import read_rows, write_rows
from stages.generation.volumes import Brains, save_brains, to_voxels

logger = logging.getLogger(__name__)

SHOWN = 3  # volumes per group in the figure


def run(
    *,
    weights: str,
    card: str,
    prompts: str,
    base: str | None,
    samples: str,
    table: str,
    figure: str,
    volumes: str,
    planes: str,
    condition: str,
    image: list[str],
    sampling_steps: int,
    guidance: float,
    sampling_batch: int,
    seed: int,
) -> None:
    """Write the slices, the volumes that they were cut from, and how each was made, row by row.

    Raises
    ------
    ValueError
        The weights are not those of the card.
    OSError
        The disk is full.
    """
    about = read_card(card)
    digest = about["SHA256"][Path(weights).name]
    if hashlib.sha256(Path(weights).read_bytes()).hexdigest() != digest:
        raise ValueError(f"{weights}: not the weights that {card} describes; train again")
    texts = {r["group"]: r["prompt"] for r in read_rows(prompts) if r["condition"] == condition}
    rows: list[dict[str, Any]] = []
    stacks, shown = [], {}
    wholes, shown_planes = [], {}
    for group, text in texts.items():
        generator = load_generator(about, weights, base, group=group, device=choose_device())
        seeds = [draw_seed(seed, condition, group, label) for label in image]
        made = sample(
            generator,
            [text] * len(image),
            seeds,
            steps=sampling_steps,
            guidance=guidance,
            batch=sampling_batch,
        )
        pixels = generator.to_slices(made)
        stacks.append(pixels)
        shown[f"{group}: {text}"] = list(pixels[: figures.COLUMNS])
        if "VoxelMm" in about:
            whole = Brains(to_voxels(made), about["VoxelMm"])
            wholes.append(whole.voxels)
            some = range(min(SHOWN, len(image)))
            shown_planes[f"{group}: {text}"] = [plane for i in some for plane in whole.planes(i)]
        more = {"voxel_mm": about["VoxelMm"]} if "VoxelMm" in about else {}
        rows += [
            {
                "place": len(rows) + i,
                "condition": condition,
                "group": group,
                "image": label,
                "prompt": text,
                "seed": seeds[i],
                "guidance": guidance,
                "sampling_steps": sampling_steps,
                "sampler": "DDIM",
                "model_sha256": digest,
                "provenance": about["Provenance"],
                **more,
            }
            for i, label in enumerate(image)
        ]
        logger.info("%s %s: %d slices", condition, group, len(pixels))
    save_stack(samples, np.concatenate(stacks))
    write_rows(table, rows)
    figures.draw_rows(figure, shown, f"Synthetic ({condition})", note=about["Provenance"])
    if wholes:
        save_brains(volumes, Brains(np.concatenate(wholes), about["VoxelMm"]))
        title = f"Synthetic, coronal, axial and sagittal ({condition})"
        figures.draw_rows(planes, shown_planes, title, note=about["Provenance"])
