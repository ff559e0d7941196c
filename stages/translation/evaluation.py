"""What a translation does to images: changes, ways back, and how robust they are; pure.

Counterfactual metrics as in Monteiro et al. (2023): composition (asked for what it is already, an
image should not change), reversibility (there and back should be the same), minimality (little
should change); effectiveness, whether it looks like the target, needs a judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float32]
NOISE_DEVIATIONS = (0.02, 0.05, 0.1)  # of network units, −1 … 1
BATCH = 16


@dataclass(frozen=True)
class Translated:
    """Images of one domain, (n, 1, …) in −1 … 1: there, there and back, and left where they are."""

    there: Array
    back: Array
    same: Array


def apply(network: nn.Module, images: Array) -> Array:
    """Translate images, (n, 1, …) → same shape, in −1 … 1."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        made = [
            network(torch.from_numpy(images[i : i + BATCH]).to(device)).clamp(-1, 1).float().cpu()
            for i in range(0, len(images), BATCH)
        ]
    return torch.cat(made).numpy()


def translate(there: nn.Module, back: nn.Module, images: Array) -> Translated:
    """Translate images of the domain that ``there`` starts from."""
    made = apply(there, images)
    return Translated(made, apply(back, made), apply(back, images))


def measure(images: Array, made: Translated, mask: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Measure every image's translation inside a mask, (1, …) or (n, 1, …), in shares of the range.

    Returns
    -------
    rows : list of dict
        composition, reversibility and minimality: mean absolute differences, 0 … 1.
    """
    inside = np.broadcast_to(mask, images.shape)

    def mean(values: Array) -> list[float]:
        return [
            float(np.abs(v[m]).mean()) / 2 if m.any() else float("nan")
            for v, m in zip(values, inside, strict=True)
        ]

    columns = {
        "composition": mean(made.same - images),
        "reversibility": mean(made.back - images),
        "minimality": mean(made.there - images),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def noisy_cycle(
    there: nn.Module, back: nn.Module, images: Array, mask: NDArray[np.bool_], *, seed: int
) -> dict[float, float]:
    """Disturb translations before the way back and see how well originals are restored.

    Chu et al. (2017): a network may hide the original in invisible high frequencies of its
    translation instead of changing little; noise too weak to see then ruins the way back.

    Returns
    -------
    errors : dict
        Deviation of the noise → mean absolute error of the way back inside the mask, both in
        shares of the range; 0.0 is the cycle without noise.
    """
    rng = np.random.default_rng(seed)
    made = apply(there, images)
    inside = np.broadcast_to(mask, images.shape)
    errors = {}
    for deviation in (0.0, *NOISE_DEVIATIONS):
        noise = rng.normal(0, deviation, made.shape).astype(np.float32)
        restored = apply(back, made + noise)
        errors[deviation / 2] = float(np.abs(restored - images)[inside].mean()) / 2
    return errors


def tissue_mask(images: Array) -> NDArray[np.bool_]:
    """Find where images have tissue: on average more than a tenth of the range, (1, …)."""
    return (images.mean(0) + 1) / 2 > 0.1


def effect_ratio(effect: Array, reference: Array, mask: NDArray[np.bool_]) -> float:
    """Compare mean absolute differences of two mean maps inside a mask."""
    size = float(np.abs(reference[mask]).mean())
    return float(np.abs(effect[mask]).mean()) / size if size else float("nan")


def summarise(rows: list[dict[str, float]]) -> Mapping[str, Any]:
    """Average measures over images, with 95 % intervals of the mean (normal approximation)."""
    found: dict[str, Any] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        values = values[~np.isnan(values)]
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        found[name] = (
            float(values.mean()),
            float(values.mean() - half),
            float(values.mean() + half),
            len(values),
        )
    return found
