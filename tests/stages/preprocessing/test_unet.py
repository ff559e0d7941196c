"""The networks: shapes, what a correction of zero means, and that each part takes part."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stages.preprocessing.unet import Cascade, ConvBlock, UNet, local_contrast


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("widths", [(2, 4), (2, 3, 5)])
def test_logits_have_the_grid_of_the_input(widths: tuple[int, ...]) -> None:
    net = UNet(widths=widths)
    assert net.stride == 4
    assert net(torch.randn(2, 1, 12, 16, 20)).shape == (2, 1, 12, 16, 20)


def test_a_grid_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(8, 8, 12\) is not a multiple of 8"):
        UNet(widths=(2, 2, 2, 2))(torch.zeros(1, 1, 8, 8, 12))


def test_one_level_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two levels"):
        UNet(widths=(4,))


def test_air_added_around_a_volume_changes_nothing_inside() -> None:
    block = ConvBlock(1, 3)
    x = torch.randn(1, 1, 10, 10, 10)
    inner = (..., *[slice(2, -2)] * 3)
    wide = block(F.pad(x, [4] * 6))[..., 4:-4, 4:-4, 4:-4]
    torch.testing.assert_close(wide[inner], block(x)[inner], rtol=1e-4, atol=1e-5)


def test_activations_neither_vanish_nor_explode_with_depth() -> None:
    x = torch.randn(1, 8, 12, 12, 12)
    for _ in range(4):
        x = ConvBlock(8, 8)(x)
    assert 0.05 < float(x.detach().std()) < 20


def test_unet_computes_what_its_layers_compute_by_hand() -> None:
    net = UNet(widths=(2, 3))
    x = torch.randn(1, 1, 12, 12, 12)
    fine = net.down[0](torch.cat([x, local_contrast(x)], dim=1))
    coarse = net.down[1](F.max_pool3d(fine, 2))
    thin = torch.einsum("oi,bidhw->bodhw", net.thin[0].weight[:, :, 0, 0, 0], coarse)
    thin = thin + net.thin[0].bias.reshape(1, -1, 1, 1, 1)
    grown = thin.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    torch.testing.assert_close(net(x), net.head(net.up[0](fine + grown)), rtol=1e-4, atol=1e-5)


def test_every_parameter_takes_part() -> None:
    net = UNet(widths=(2, 3, 4))
    net(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_local_contrast_takes_away_brightness_and_slow_fields() -> None:
    axis = torch.linspace(0, 1, 48)
    pattern = 0.2 * torch.sin(30 * axis)[:, None, None].expand(48, 48, 48)[None, None] + 0.5
    field = (0.4 + 0.6 * axis)[None, :, None].expand(48, 48, 48)[None, None]
    plain, biased = local_contrast(pattern), local_contrast(pattern * field)
    middle = (..., *[slice(12, -12)] * 3)
    torch.testing.assert_close(biased[middle], plain[middle], rtol=0, atol=0.25)
    assert float(plain[middle].std()) == pytest.approx(1, abs=0.3)
    # Upside down is the same with the other sign; nothing is made of nothing.
    torch.testing.assert_close(local_contrast(1 - pattern), -plain, rtol=1e-3, atol=1e-3)
    assert float(local_contrast(torch.full((1, 1, 16, 16, 16), 0.7)).abs().max()) < 1e-3


def test_cascade_adds_a_correction_to_the_upsampled_coarse_logits() -> None:
    net = Cascade(locate=(2, 4), refine=(2, 4))
    x = torch.rand(1, 1, 24, 24, 24)
    coarse = F.interpolate(net.locate(F.avg_pool3d(x, 2)), scale_factor=2, mode="trilinear")
    changed = net(x) - coarse
    torch.testing.assert_close(changed, net.refine(torch.cat([x, coarse.sigmoid()], dim=1)))
    for parameter in net.refine.head.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(net(x), coarse)
