"""A small 3D U-Net that labels each voxel of a head as intracranial or not.

The network follows Ronneberger et al. 2015 (U-Net) and Çiçek et al. 2016 (its 3D form), slimmed for
two CPU cores: skips are added rather than concatenated (Chaurasia & Culurciello 2017, LinkNet), so
the full-resolution level, where nearly all time goes, works on ``widths[0]`` channels only.

It is fully convolutional: any grid works whose sides are multiples of ``UNet.stride``.

References
----------
Ronneberger O, Fischer P, Brox T. U-Net. MICCAI 2015.
Çiçek Ö, et al. 3D U-Net. MICCAI 2016.
He K, et al. Delving deep into rectifiers. ICCV 2015.
Jarrett K, et al. What is the best multi-stage architecture for object recognition? ICCV 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def local_contrast(x: Tensor) -> Tensor:
    """Subtract the local mean and divide by the local standard deviation, over about 8 voxels.

    Fluid and bone differ little beside fat and white matter, and bias fields move both; here they
    differ as much as anything. Local contrast normalisation, after Jarrett et al. 2009.

    Parameters
    ----------
    x : tensor, (B, C, D, H, W)
        Intensities of 0 to 1; D, H and W multiples of 4, at least 12.
    """

    def smooth(values: Tensor) -> Tensor:
        # Averaged on a coarse grid: a box of 8 voxels on the fine one costs 500 additions each.
        coarse = F.avg_pool3d(F.avg_pool3d(values, 4), 3, 1, 1, count_include_pad=False)
        return F.interpolate(coarse, scale_factor=4, mode="trilinear")

    deviation = x - smooth(x)
    # 0.03 of the range counts as no contrast: noise in air stays small.
    return deviation / torch.sqrt(smooth(deviation**2) + 0.03**2)


class ConvBlock(nn.Sequential):
    """Convolve twice, each time 3x3x3 then leaky ReLU: (B, C, D, H, W) -> (B, C', D, H, W).

    Nothing is normalised over space: instance statistics move with the amount of air in the grid,
    and a network that uses them does not carry over to another field of view. The initial scale (He
    et al. 2015) keeps activations in range instead.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            convolution = nn.Conv3d(n, n_out, kernel_size=3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, a=0.1)
            layers += [convolution, nn.LeakyReLU(0.1, inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """Map a one-channel volume to the logit of the brain at each voxel.

    Parameters
    ----------
    widths : sequence of int
        Channels per level, finest first; each level halves the grid.
    n_in : int
        Channels of the input; the local contrast of the first is added as one more.

    Examples
    --------
    >>> net = UNet(widths=(4, 8))
    >>> net.stride
    4
    >>> net(torch.zeros(1, 1, 16, 16, 16)).shape
    torch.Size([1, 1, 16, 16, 16])
    """

    def __init__(self, *, widths: Sequence[int], n_in: int = 1) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths={tuple(widths)}: a U-Net needs at least two levels")
        self.stride = max(4, 2 ** (len(widths) - 1))  # 4: for the local contrast
        self.down = nn.ModuleList(
            ConvBlock(a, b) for a, b in zip((n_in + 1, *widths), widths, strict=False)
        )
        # Thinned before it is upsampled: the 1x1x1 convolution runs on an eighth of the voxels.
        self.thin = nn.ModuleList(nn.Conv3d(b, a, kernel_size=1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(ConvBlock(a, a) for a in widths[:-1])
        self.head = nn.Conv3d(widths[0], 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        x : tensor, (B, n_in, D, H, W)
            D, H and W multiples of ``stride``, at least 12.

        Returns
        -------
        tensor, (B, 1, D, H, W)
        """
        # A traced program has no shapes to compare; its callers give grids made by the same rule.
        if not torch.jit.is_tracing() and any(n % self.stride for n in x.shape[2:]):
            raise ValueError(
                f"grid {tuple(x.shape[2:])} is not a multiple of {self.stride}; pad the volume"
            )
        x = torch.cat([x, local_contrast(x[:, :1])], dim=1)
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool3d(x, 2))
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.interpolate(self.thin[level](x), scale_factor=2, mode="nearest")
            x = self.up[level](x + skips[level])
        return self.head(x)


class Cascade(nn.Module):
    """Locate the brain on a grid of half the resolution, then correct the logits on the full one.

    logits(x) = U + refine(x, sigmoid(U)), where U is ``locate`` of the averaged volume, upsampled.
    The coarse network needs context and few voxels, the fine one voxels and little context, so both
    stay small. The correction starts at zero: an untrained ``refine`` changes nothing.

    Parameters
    ----------
    locate, refine : sequence of int
        Channels per level of either network, finest first.
    """

    def __init__(self, *, locate: Sequence[int], refine: Sequence[int]) -> None:
        super().__init__()
        self.locate = UNet(widths=locate)
        self.refine = UNet(widths=refine, n_in=2)
        for parameter in self.refine.head.parameters():
            # Not zero: features whose head pulls on none of them can die before it does.
            nn.init.normal_(parameter, std=0.05)
        self.stride = max(2 * self.locate.stride, self.refine.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits: (B, 1, D, H, W) -> (B, 1, D, H, W), sides multiples of ``stride``."""
        return self.correct(x, self.locate(F.avg_pool3d(x, 2)).float())

    def correct(self, x: Tensor, coarse: Tensor) -> Tensor:
        """Return logits from the volume and the logits of ``locate`` on half its resolution."""
        coarse = F.interpolate(coarse, scale_factor=2, mode="trilinear")
        return coarse + self.refine(torch.cat([x, torch.sigmoid(coarse)], dim=1))
