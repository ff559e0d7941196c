"""The published step, one thing at a time, and torch's own layers: what ours must equal."""

from torch import nn

from stages.translation.cyclegan import adversarial_loss
from stages.translation.networks import InstanceNorm, RowwiseConv2d


def make_plain(network: nn.Module) -> nn.Module:
    """Give a network of images torch's own layers, with the same weights; changes it in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, InstanceNorm):
                setattr(module, name, PlainInstanceNorm())
            elif isinstance(child, RowwiseConv2d):
                plain = nn.Conv2d(child.in_channels, 1, child.kernel_size)
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain.to(child.weight.dtype))
    return network


class PlainInstanceNorm(nn.Module):
    """torch's instance normalisation, whatever the channels."""

    def forward(self, x):
        return nn.functional.instance_norm(x)


def step(nets, optimisers, pools, x, y, settings, rng) -> None:
    """Improve all networks in six generator passes and six discriminator passes."""
    for network in nets.discriminators:
        network.requires_grad_(False)
    made_y = nets.G(x)
    back_x = nets.F(made_y)
    made_x = nets.F(y)
    back_y = nets.G(made_x)
    same_y, same_x = nets.G(y), nets.F(x)
    loss = adversarial_loss(nets.D_Y(made_y), is_real=True)
    loss = loss + adversarial_loss(nets.D_X(made_x), is_real=True)
    loss = loss + 10 * (back_x - x).abs().mean() + 10 * (back_y - y).abs().mean()
    loss = loss + 5 * (same_y - y).abs().mean() + 5 * (same_x - x).abs().mean()
    optimisers[0].zero_grad()
    loss.backward()
    optimisers[0].step()
    for network in nets.discriminators:
        network.requires_grad_(True)
    optimisers[1].zero_grad()
    for D, real, made, pool in ((nets.D_Y, y, made_y, pools[0]), (nets.D_X, x, made_x, pools[1])):
        old = pool.exchange(made.detach(), rng)
        loss = adversarial_loss(D(real), is_real=True) + adversarial_loss(D(old), is_real=False)
        (0.5 * loss).backward()
    optimisers[1].step()
