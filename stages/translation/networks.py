"""The networks of CycleGAN (Zhu et al. 2017), in two or three dimensions.

Layers as published: generator c7s1-64, d128, d256, R256 × n, u128, u64, c7s1-1 with reflection
padding; discriminator C64-C128-C256-C512 on overlapping patches. Instance normalisation has
neither weights nor running statistics. With one channel, 64 features and nine blocks that makes
11,365,633 and 2,762,689 parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
PADDINGS = {2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d}
BLOCKS_LARGE, BLOCKS_SMALL, LARGE = 9, 6, 256  # blocks by image size, as published
INITIAL_DEVIATION = 0.02
RESIDUAL_START = (
    0.1  # of the last layer's deviation, so that a residual generator starts as identity
)
SMALL = 128  # images narrower than this get discriminators that see 34 pixels instead of 70


class InstanceNorm(nn.Module):
    """Give every channel of every image mean 0 and variance 1, (B, C, …) → same shape.

    Groups of one channel are the same; torch computes them in half the time where memory is
    contiguous, and in twice the time where channels come last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if x.is_contiguous():
            return nn.functional.group_norm(x, x.shape[1])
        return nn.functional.instance_norm(x)


def to_one_channel(channels: int, width: int, dims: int) -> nn.Module:
    """Make a convolution of kernels ``width`` wide to one channel, (B, C, …) → (B, 1, …)."""
    return {2: RowwiseConv2d, 3: RowwiseConv3d}[dims](channels, 1, width)


class RowwiseConv2d(nn.Conv2d):
    """Convolve to one channel: every row of the kernel makes one, and these are shifted and added.

    The sum is that of ``nn.Conv2d``, with its weights, in a fifth of the time: processors compute
    many output channels at a time, and would leave all but one idle.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, C, a + width − 1, …) → (B, 1, a, …)."""
        return _add_rows(nn.functional.conv2d, x, self.weight, self.bias)


class RowwiseConv3d(nn.Conv3d):
    """Convolve volumes to one channel, as ``RowwiseConv2d`` does images."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, C, a + width − 1, …) → (B, 1, a, …)."""
        return _add_rows(nn.functional.conv3d, x, self.weight, self.bias)


def _add_rows(
    convolve: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    rows = convolve(x, weight[0].transpose(0, 1).unsqueeze(2))  # kernel (width, C, 1, width, …)
    width, size = len(weight[0, 0]), x.shape[2] - len(weight[0, 0]) + 1
    total = rows[:, :1, :size]
    for i in range(1, width):
        total = total + rows[:, i : i + 1, i : i + size]
    return total if bias is None else total + bias


class Block(nn.Module):
    """Add to an image of features what two convolutions make of it."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv, pad = CONVOLUTIONS[dims], PADDINGS[dims]
        self.change = nn.Sequential(
            *(pad(1), conv(channels, channels, 3), InstanceNorm(), nn.ReLU(inplace=True)),
            *(pad(1), conv(channels, channels, 3), InstanceNorm()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x + change(x), same shape."""
        return x + self.change(x)


class Generator(nn.Module):
    """Translate images, (B, 1, …) in −1 … 1; every side is a multiple of 4.

    Parameters
    ----------
    features
        Channels of the first layer.
    blocks
        Residual blocks at a quarter of the resolution.
    dims
        2 or 3.
    is_residual
        Learn the change alone: x + M(x) (as in VA-GAN, Baumgartner et al. 2018) instead of a whole
        new image through tanh. Its last layer starts near zero, so that it starts as identity.
    """

    def __init__(
        self, *, features: int = 64, blocks: int = 9, dims: int = 2, is_residual: bool = False
    ) -> None:
        super().__init__()
        conv, up, pad = CONVOLUTIONS[dims], TRANSPOSED[dims], PADDINGS[dims]
        layers: list[nn.Module] = [pad(3), conv(1, features, 7), InstanceNorm()]
        layers += [nn.ReLU(inplace=True)]
        for n in (features, 2 * features):
            layers += [conv(n, 2 * n, 3, 2, 1), InstanceNorm(), nn.ReLU(inplace=True)]
        layers += [Block(4 * features, dims) for _ in range(blocks)]
        for n in (4 * features, 2 * features):
            layers += [up(n, n // 2, 3, 2, 1, output_padding=1), InstanceNorm()]
            layers += [nn.ReLU(inplace=True)]
        layers += [pad(3), to_one_channel(features, 7, dims)]
        self.layers = nn.Sequential(*layers)
        self.is_residual = is_residual

    def forward(self, x: Tensor) -> Tensor:
        """Translate images, (B, 1, …) → same shape."""
        y = self.layers(x)
        return x + y if self.is_residual else torch.tanh(y)


class PatchDiscriminator(nn.Module):
    """Score overlapping patches of images, (B, 1, …) → (B, 1, …), 1 for real and 0 for made.

    ``strides`` is the number of layers after the first that widen; with 3 a score sees 70 × 70
    pixels, with 2 it sees 34 × 34.
    """

    def __init__(self, *, features: int = 64, strides: int = 3, dims: int = 2) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dims]
        layers: list[nn.Module] = [conv(1, features, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        width = features
        for number in range(1, strides + 1):
            wider = features * min(2**number, 8)
            layers += [conv(width, wider, 4, 2 if number < strides else 1, 1), InstanceNorm()]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
            width = wider
        layers += [conv(width, 1, 4, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Score patches."""
        return self.layers(x)


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights from N(0, 0.02²) and set biases to 0, as published."""
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    for module in network.modules():
        if isinstance(module, kinds):
            nn.init.normal_(module.weight, 0.0, INITIAL_DEVIATION, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if isinstance(network, Generator) and network.is_residual:
        last = [module for module in network.modules() if isinstance(module, kinds)][-1]
        with torch.no_grad():
            last.weight.mul_(RESIDUAL_START)


def choose_blocks(blocks: int, smallest_side: int) -> int:
    """Take the number of blocks given, or, if 0, the published one for the image's size."""
    return blocks or (BLOCKS_LARGE if smallest_side >= LARGE else BLOCKS_SMALL)


def choose_strides(smallest_side: int) -> int:
    """Let discriminators see no more than the image."""
    return 3 if smallest_side >= SMALL else 2
