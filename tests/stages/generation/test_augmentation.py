"""Moves of training slices: what they do to pixels, and that they stay small."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from stages.generation.augmentation import Moves, MovingMaterial, draw_moves, move, place_pixels
from stages.generation.scratch import build_scratch

ZERO, ONE = torch.zeros(1), torch.ones(1)


def picture() -> torch.Tensor:
    """Two blobs on black, (1, 1, 40, 40), -1 to 1."""
    image = np.zeros((40, 40), np.float32)
    image[12:20, 8:16], image[22:30, 26:34] = 1.0, 0.5
    return torch.from_numpy(ndimage.gaussian_filter(image, 1.5))[None, None] * 2 - 1


def apply(x=0.0, y=0.0, turn=0.0, grow=0.0, side=1.0, exponent=1.0) -> np.ndarray:
    """Move the picture by one set of amounts; (40, 40), 0 to 1."""
    theta = place_pixels(*(torch.tensor([v]) for v in (x, y, turn, grow, side)))
    moved = move(picture(), Moves(theta, torch.tensor([exponent])))
    return (moved[0, 0].numpy() + 1) / 2


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ({}, lambda p: p),
        ({"x": 1.0}, lambda p: ndimage.shift(p, (0, -1), order=1)),  # 2.5 % of 40
        ({"y": -1.0}, lambda p: ndimage.shift(p, (1, 0), order=1)),
        ({"turn": 1.0}, lambda p: ndimage.rotate(p, 4, reshape=False, order=1)),
        ({"side": -1.0}, lambda p: p[:, ::-1]),
        ({"exponent": 1.1}, lambda p: p**1.1),
        (
            {"grow": 1.0},
            lambda p: ndimage.affine_transform(
                p, np.eye(2) * np.exp(0.04), 19.5 * (1 - np.exp(0.04)), order=1
            ),
        ),
    ],
    ids=["nothing", "across", "down", "turn", "mirror", "greys", "size"],
)
def test_moves_are_scipys(amounts, expected):
    plain = (picture()[0, 0].numpy() + 1) / 2
    assert np.allclose(apply(**amounts), expected(plain), atol=2e-3)


def test_moves_grow_with_strength_and_stay_small():
    def draw(strength, flip=False):
        draws = torch.Generator().manual_seed(0)
        return draw_moves(500, strength=strength, flip=flip, draws=draws)

    none, weak, strong = draw(0.0), draw(1.0), draw(2.0)
    still = place_pixels(ZERO, ZERO, ZERO, ZERO, ONE)
    assert torch.allclose(none.theta, still.expand(500, 2, 3))
    assert (none.exponent == 1).all()
    assert weak.theta[:, :, 2].abs().max() == pytest.approx(0.05, rel=0.02)  # of half an edge
    assert strong.theta[:, :, 2].abs().max() == pytest.approx(0.1, rel=0.02)
    assert weak.exponent.log().abs().max() == pytest.approx(0.1, rel=0.02)
    assert (weak.theta[:, 0, 0] > 0).all()  # nothing is mirrored unless asked for
    mirrored = (draw(1.0, flip=True).theta[:, 0, 0] < 0).double().mean()
    assert mirrored == pytest.approx(0.5, abs=0.07)


def test_every_process_draws_the_same_and_makes_its_share():
    generator = build_scratch(size=40, width=8, seed=0)
    material = MovingMaterial(picture().repeat(3, 1, 1, 1), torch.arange(3), generator, 1.0, False)
    picks, everything = torch.tensor([0, 1, 2, 0]), torch.arange(4)

    def draw(mine):
        draws = torch.Generator().manual_seed(5)
        return material.draw(picks, draws, mine), torch.rand(1, generator=draws)

    whole, after = draw(everything)
    share, after_share = draw(torch.tensor([1, 3]))
    assert torch.equal(share, whole[[1, 3]])
    assert torch.equal(after, after_share)
    assert not torch.allclose(whole[0], whole[3], atol=0.1)  # one slice, moved in two ways


def test_volumes_are_refused():
    generator = build_scratch(size=40, width=8, seed=0)
    with pytest.raises(ValueError, match="for slices only; set them to 0 and false"):
        MovingMaterial(torch.zeros(2, 1, 8, 8, 8), torch.zeros(2), generator, 1.0, False)
