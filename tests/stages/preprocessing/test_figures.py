"""Pictures are small, complete and the right way round."""

import numpy as np
import pytest
from PIL import Image

from stages.preprocessing import figures

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def is_like(pixels: np.ndarray, colour: figures.Colour) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < 12


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    data = np.random.default_rng(0).uniform(50, 100, (60, 70, 50)).astype(np.float32)
    mask = np.zeros(data.shape, dtype=bool)
    mask[15:45, 15:55, 10:40] = True
    return data, mask


def test_outline_is_drawn_in_every_tile(scene):
    data, mask = scene
    pixels = np.asarray(figures.outlines(data, AFFINE, [(mask, figures.RED)], caption="Mask"))
    tiles = pixels[: 3 * figures.TILE].reshape(3, figures.TILE, figures.COLUMNS, figures.TILE, 3)
    assert is_like(tiles, figures.RED).any(axis=(1, 3)).all()


def test_right_is_on_the_right_of_axial_and_coronal_slices(scene):
    data, mask = scene
    right = mask.copy()
    right[:35] = False
    pixels = np.asarray(
        figures.outlines(data, AFFINE, [(mask, figures.RED), (right, figures.CYAN)], caption="")
    )
    for row in (0, 1):
        tile = pixels[row * figures.TILE : (row + 1) * figures.TILE, : figures.TILE]
        assert np.nonzero(is_like(tile, figures.CYAN))[1].mean() > figures.TILE / 2


def test_top_is_at_the_top_of_coronal_slices(scene):
    data, mask = scene
    top = mask.copy()
    top[:, :, :30] = False
    pixels = np.asarray(
        figures.outlines(data, AFFINE, [(mask, figures.RED), (top, figures.CYAN)], caption="")
    )
    tile = pixels[figures.TILE : 2 * figures.TILE, : figures.TILE]
    assert np.nonzero(is_like(tile, figures.CYAN))[0].mean() < figures.TILE / 2


def test_tissues_get_their_colours(scene):
    data, mask = scene
    fractions = np.zeros((3, *data.shape), dtype=np.float32)
    fractions[1][mask] = 1
    pixels = np.asarray(
        figures.overlay(0 * data, AFFINE, fractions, caption="Grey matter", opacity=1.0)
    )
    assert is_like(pixels, figures.TISSUE_COLOURS[1]).mean() > 0.1
    assert not is_like(pixels, figures.TISSUE_COLOURS[2]).any()


def test_saved_picture_of_pure_noise_is_below_400_kilobytes(scene, tmp_path):
    data, mask = scene
    figures.save(
        figures.outlines(data, AFFINE, [(mask, figures.RED)], caption="Noise"), tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").stat().st_size < 400_000
    assert Image.open(tmp_path / "a.png").size == (
        figures.COLUMNS * figures.TILE,
        3 * figures.TILE + figures.CAPTION,
    )
