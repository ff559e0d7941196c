"""Coronal slices of made-up people of two groups, whose difference is known.

CN and AD differ in nothing but the lateral ventricles (wider in AD) and medial temporal grey matter
(thinner in AD); size, shape, folding, brightness and noise are drawn for each person alike.
"""

import numpy as np

SIZE = 160
VENTRICLE = {"CN": 6.0, "AD": 12.0}  # half width, mm
TEMPORAL = {"CN": 11.0, "AD": 6.0}  # radius of medial temporal grey matter, mm


def draw_person(group: str, rng: np.random.Generator) -> np.ndarray:
    """Draw one slice, (160, 160), uint8, top row first."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    x, y = x - rng.normal(0, 1.0), y - rng.normal(0, 1.0)
    wide, high = rng.normal(62, 2), rng.normal(54, 2)
    angle, radius = np.arctan2(y / high, x / wide), np.hypot(x / wide, y / high)
    folds = 0.06 * np.cos(14 * angle + rng.uniform(0, 6.28)) + 0.03 * np.cos(
        23 * angle + rng.uniform(0, 6.28)
    )
    white = _inside(0.82 + folds - radius, 0.03)
    image = 0.55 * _inside(1 - radius, 0.03) + 0.35 * white
    half = VENTRICLE[group] * np.exp(rng.normal(0, 0.12))
    for side in (-1, 1):
        shape = np.hypot((x - side * (2 + half)) / half, (y + 6) / (1.4 * half))
        image *= 1 - 0.85 * _inside(1 - shape, 0.12)
        thick = TEMPORAL[group] * np.exp(rng.normal(0, 0.1))
        blob = _inside(1 - np.hypot(x - side * 24, y - 28) / thick, 0.12)
        image = image * (1 - blob) + 0.5 * blob
    image *= rng.normal(1, 0.04) * _inside(1.02 - radius, 0.03)
    image += np.where(radius < 1.02, rng.normal(0, 0.015, image.shape), 0)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def draw_people(counts: dict[str, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw slices, (n, 160, 160), and their groups as text."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(list(counts), list(counts.values()))
    return np.stack([draw_person(group, rng) for group in groups]), groups


def _inside(depth: np.ndarray, edge: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(depth / edge * 4, -50, 50)))
