"""Small images with landmarks, small angiograms, made once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stages.transfer.phantoms import write_image

MARKS = 6
SPACING_MM = 2.0


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make_head(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make an ellipsoid with six different textures at places that vary, and their label map."""
    rng = np.random.default_rng(seed)
    shape = np.array([44, 40, 36])
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    centre = shape / 2 + rng.uniform(-1.5, 1.5, 3)
    image = 400.0 * (np.linalg.norm((grid - centre) / (shape * 0.45), axis=-1) < 1)
    labels = np.zeros(shape, dtype=np.uint8)
    places = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    for number, direction in enumerate(places, start=1):
        at = centre + np.array(direction) * shape * 0.24 + rng.uniform(-1, 1, 3)
        away = grid - at
        near = np.linalg.norm(away, axis=-1)
        pattern = np.cos(near * (0.5 + 0.25 * number)) * 250
        if number % 2:
            pattern = np.sign(away[..., number % 3]) * 200
        image = np.where(near < 6, 500 + pattern, image)
        labels[near < 2.5] = number
    return (image + rng.normal(0, 12, shape)).astype(np.float32), labels


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Nine images and their label maps."""
    root = tmp_path_factory.mktemp("heads")
    pairs = []
    for index in range(9):
        image, labels = make_head(index)
        stem = root / f"sub-{index + 1:02d}"
        pairs.append(
            (
                write_image(stem.with_name(f"{stem.name}_T1w.nii.gz"), image, SPACING_MM),
                write_image(
                    stem.with_name(f"{stem.name}_desc-toy_dseg.nii.gz"), labels, SPACING_MM
                ),
            )
        )
    return pairs
