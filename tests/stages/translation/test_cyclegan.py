"""Losses against hand-written ones; the pool; the schedule."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.translation.cyclegan import (
    Networks,
    Pool,
    adversarial_loss,
    discriminator_loss,
    generator_losses,
    rate_factor,
)
from stages.translation.networks import Generator, PatchDiscriminator


def small_networks():
    torch.manual_seed(0)
    return Networks(
        G=Generator(features=3, blocks=1),
        F=Generator(features=3, blocks=1),
        D_X=PatchDiscriminator(features=3, strides=1),
        D_Y=PatchDiscriminator(features=3, strides=1),
    )


def test_identity_generators_lose_nothing_but_to_the_discriminators():
    nets = small_networks()
    nets.G, nets.F = nn.Identity(), nn.Identity()
    x, y = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    losses, made_y, made_x = generator_losses(nets, x, y, cycle_weight=10, identity_weight=0.5)
    assert torch.equal(made_y, x) and torch.equal(made_x, y)
    for name in ("cycle_X", "cycle_Y", "identity_X", "identity_Y"):
        assert losses[name] == 0
    assert losses["adversarial_G"] > 0


def test_losses_are_the_published_sums_in_separate_passes():
    nets = small_networks()
    x, y = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    losses, _, _ = generator_losses(nets, x, y, cycle_weight=10, identity_weight=0.5)
    with torch.no_grad():
        expected = ((nets.D_Y(nets.G(x)) - 1) ** 2).mean() + ((nets.D_X(nets.F(y)) - 1) ** 2).mean()
        expected += 10 * (nets.F(nets.G(x)) - x).abs().mean()
        expected += 10 * (nets.G(nets.F(y)) - y).abs().mean()
        expected += 5 * (nets.G(y) - y).abs().mean() + 5 * (nets.F(x) - x).abs().mean()
    torch.testing.assert_close(sum(losses.values()), expected)


def test_without_identity_weight_there_is_no_such_term():
    x = torch.randn(1, 1, 16, 16)
    losses, _, _ = generator_losses(small_networks(), x, x, cycle_weight=10, identity_weight=0)
    assert "identity_X" not in losses


def test_least_squares_by_hand():
    scores = torch.tensor([0.0, 1.0, 3.0])
    assert adversarial_loss(scores, is_real=True) == pytest.approx((1 + 0 + 4) / 3)
    assert adversarial_loss(scores, is_real=False) == pytest.approx((0 + 1 + 9) / 3)
    real, made = torch.full((2, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.25)
    assert discriminator_loss(nn.Identity(), real, made) == pytest.approx(0.5 * (0.25 + 0.0625))


def test_the_pool_fills_then_returns_old_ones_half_of_the_time():
    pool, rng = Pool(50), np.random.default_rng(0)
    for value in range(50):
        assert pool.exchange(torch.full((1, 1), float(value)), rng).item() == value
    returned = [pool.exchange(torch.full((1, 1), 1000.0 + i), rng).item() for i in range(2000)]
    fresh = sum(value == 1000 + i for i, value in enumerate(returned))
    assert 900 < fresh < 1100
    assert len(pool.images) == 50
    empty = Pool(0)
    assert empty.exchange(torch.ones(2, 1), rng).shape == (2, 1) and not empty.images


def test_the_rate_is_constant_then_falls_linearly():
    rates = [rate_factor(e, epochs=100, decay_epochs=100) for e in range(200)]
    assert rates[:100] == [1.0] * 100
    assert np.allclose(np.diff(rates[99:]), -1 / 101)
    assert rates[-1] == pytest.approx(1 / 101)
