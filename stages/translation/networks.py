"""The networks of CycleGAN (Zhu et al. 2017), in two or three dimensions.

Layers as published: generator c7s1-64, d128, d256, R256 × n, u128, u64, c7s1-1 with reflection
padding; discriminator C64-C128-C256-C512 on overlapping patches. Instance normalisation has
neither weights nor running statistics. With one channel, 64 features and nine blocks that makes
11,365,633 and 2,762,689 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
PADDINGS = {2: nn.ReflectionPad2d, 3: nn.ReflectionPad3d}
BLOCKS_LARGE, BLOCKS_SMALL, LARGE = 9, 6, 256  # blocks by image size, as published
INITIAL_DEVIATION = 0.02
RESIDUAL_START = (
    0.1  # of the last layer's deviation, so that a residual generator starts as identity
)
SMALL = 128  # images narrower than this get discriminators that see 34 pixels instead of 70


class Block(nn.Module):
    """Add to an image of features what two convolutions make of it."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        conv, norm, pad = CONVOLUTIONS[dims], NORMS[dims], PADDINGS[dims]
        self.change = nn.Sequential(
            *(pad(1), conv(channels, channels, 3), norm(channels), nn.ReLU(inplace=True)),
            *(pad(1), conv(channels, channels, 3), norm(channels)),
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
        conv, up, norm, pad = CONVOLUTIONS[dims], TRANSPOSED[dims], NORMS[dims], PADDINGS[dims]
        layers: list[nn.Module] = [pad(3), conv(1, features, 7), norm(features)]
        layers += [nn.ReLU(inplace=True)]
        for n in (features, 2 * features):
            layers += [conv(n, 2 * n, 3, 2, 1), norm(2 * n), nn.ReLU(inplace=True)]
        layers += [Block(4 * features, dims) for _ in range(blocks)]
        for n in (4 * features, 2 * features):
            layers += [up(n, n // 2, 3, 2, 1, output_padding=1), norm(n // 2)]
            layers += [nn.ReLU(inplace=True)]
        layers += [pad(3), conv(features, 1, 7)]
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
        conv, norm = CONVOLUTIONS[dims], NORMS[dims]
        layers: list[nn.Module] = [conv(1, features, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        width = features
        for number in range(1, strides + 1):
            wider = features * min(2**number, 8)
            layers += [conv(width, wider, 4, 2 if number < strides else 1, 1), norm(wider)]
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
