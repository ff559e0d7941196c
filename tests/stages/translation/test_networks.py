"""The networks are the published ones."""

import pytest
import torch
from monai.networks.nets import PatchDiscriminator as MonaiDiscriminator

from stages.translation.networks import (
    Generator,
    InstanceNorm,
    PatchDiscriminator,
    RowwiseConv2d,
    RowwiseConv3d,
    choose_blocks,
    choose_strides,
    initialise,
)


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_parameters_are_as_many_as_published():
    assert count(Generator()) == 11_365_633
    assert count(Generator(blocks=6)) == 7_825_153
    assert count(PatchDiscriminator()) == 2_762_689
    assert count(Generator(is_residual=True)) == 11_365_633


def test_discriminator_agrees_with_monai():
    ours = PatchDiscriminator(features=8)
    theirs = MonaiDiscriminator(
        2,
        8,
        1,
        num_layers_d=3,
        norm="INSTANCE",
        activation=("LEAKYRELU", {"negative_slope": 0.2}),
        bias=True,
    )
    mine = [p for p in ours.parameters()]
    for own, other in zip(mine, theirs.parameters(), strict=True):
        assert own.shape == other.shape
        other.data.copy_(own.data)
    image = torch.randn(2, 1, 96, 80)
    torch.testing.assert_close(ours(image), theirs.eval()(image)[-1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalisation_is_torchs(layout):
    image = torch.randn(2, 5, 9, 7).contiguous(memory_format=layout)
    torch.testing.assert_close(InstanceNorm()(image), torch.nn.InstanceNorm2d(5)(image))


@pytest.mark.parametrize(
    ("ours", "plain", "shape"),
    [
        (RowwiseConv2d, torch.nn.Conv2d, (9, 8)),
        (RowwiseConv3d, torch.nn.Conv3d, (9, 8, 7)),
    ],
)
def test_convolution_by_rows_is_torchs(ours, plain, shape):
    image = torch.randn(2, 4, *shape)
    mine, theirs = ours(4, 1, 5), plain(4, 1, 5)
    theirs.load_state_dict(mine.state_dict())
    torch.testing.assert_close(mine(image), theirs(image))


@pytest.mark.parametrize(("strides", "field"), [(3, 70), (2, 34)])
def test_a_score_sees_a_patch_of_the_published_size(strides, field):
    # Without normalisation, which sees the whole image.
    network = PatchDiscriminator(features=4, strides=strides)
    for i, layer in enumerate(network.layers):
        if isinstance(layer, InstanceNorm):
            network.layers[i] = torch.nn.Identity()
    image = torch.randn(1, 1, 160, 160, requires_grad=True)
    scores = network(image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("is_residual", [False, True])
def test_generators_keep_the_shape(dims, is_residual):
    network = Generator(features=2, blocks=1, dims=dims, is_residual=is_residual)
    image = torch.randn(2, 1, *(16, 20, 12)[:dims])
    assert network(image).shape == image.shape


def test_generators_treat_every_image_alone():
    network = Generator(features=4, blocks=1)
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


def test_a_residual_generator_starts_near_identity():
    network = Generator(features=8, blocks=1, is_residual=True)
    initialise(network, torch.Generator().manual_seed(0))
    image = torch.rand(1, 1, 32, 32) * 2 - 1
    assert (network(image) - image).abs().mean() < 0.1
    plain = Generator(features=8, blocks=1)
    initialise(plain, torch.Generator().manual_seed(0))
    assert (plain(image) - image).abs().mean() > 0.2


def test_initialisation_draws_what_is_published():
    network = Generator(features=32, blocks=1)
    initialise(network, torch.Generator().manual_seed(0))
    weights = torch.cat(
        [p.flatten() for n, p in network.named_parameters() if n.endswith("weight")]
    )
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(not p.any() for n, p in network.named_parameters() if n.endswith("bias"))


def test_sizes_choose_blocks_and_strides():
    assert (choose_blocks(0, 256), choose_blocks(0, 128), choose_blocks(3, 256)) == (9, 6, 3)
    assert (choose_strides(128), choose_strides(100)) == (3, 2)
