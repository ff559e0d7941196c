"""Movements of a batch against MONAI's, one image at a time."""

import math

import torch
from monai.transforms import Affine

from stages.classifier.augment import Movement, _in_voxels, draw, move


def test_a_rotation_is_monais():
    torch.manual_seed(0)
    image = torch.nn.functional.avg_pool3d(torch.randn(1, 1, 14, 16, 18), 3, 1, 1)
    angle = math.radians(12)
    theirs = Affine(rotate_params=(0.0, 0.0, angle), padding_mode="zeros", image_only=True)(
        image[0]
    )
    # MONAI turns the first two voxel axes; these are the last two of grid_sample's coordinates.
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[[1, 0, 0, 0], [0, c, s, 0], [0, -s, c, 0]]])
    ours = move(image, Movement(matrix, 0.0), torch.Generator())
    assert torch.allclose(ours[0], theirs.as_tensor(), atol=1e-4)


def test_a_flip_mirrors_left_and_right():
    image = torch.rand(4, 1, 6, 7, 8)
    found = draw(4, 3, "none", may_flip=True, generator=torch.Generator().manual_seed(3))
    moved = move(image, found, torch.Generator())
    is_flipped = [
        bool(torch.allclose(m, i.flip(1), atol=1e-5)) for m, i in zip(moved, image, strict=True)
    ]
    is_same = [bool(torch.allclose(m, i, atol=1e-5)) for m, i in zip(moved, image, strict=True)]
    assert any(is_flipped) and any(is_same)
    assert all(a != b for a, b in zip(is_flipped, is_same, strict=True))


def test_strength_bounds_what_is_drawn():
    generator = torch.Generator().manual_seed(0)
    for strength, scale in (("rigid", 0.0), ("light", 0.03), ("strong", 0.08)):
        matrix = draw(200, 3, strength, may_flip=False, generator=generator).matrix[:, :, :3]
        sizes = torch.linalg.det(matrix) ** (1 / 3)
        assert float((sizes - 1).abs().max()) <= scale + 1e-5
        assert float((sizes - 1).abs().max()) >= scale / 2
        assert float((matrix - torch.eye(3)).abs().max()) > 0.05


def test_the_same_generator_draws_the_same():
    images = torch.rand(3, 1, 8, 8)
    found = [
        move(images, draw(3, 2, "strong", may_flip=True, generator=g), g)
        for g in (torch.Generator().manual_seed(5), torch.Generator().manual_seed(5))
    ]
    assert torch.equal(*found)


def test_rigid_in_voxels_though_sides_differ():
    angle = torch.tensor(0.3)
    turn = torch.tensor([[[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0]]])
    moved = _in_voxels(turn, torch.Size([10, 20]))[0, :, :2]
    half = torch.diag(torch.tensor([10.0, 5.0]))  # last axis first
    in_voxels = half @ moved @ torch.linalg.inv(half)
    assert torch.allclose(in_voxels, turn[0, :, :2], atol=1e-6)
