"""Networks, (B, C, x, y, z) or (B, C, x, y) → (B, outputs); a dict of them beside.

The study's 3D CNN is not described in its text; ``CNN`` is a documented stand-in of the same
family (Cole et al. 2017; Ueda et al. 2019): blocks of two 3³ convolutions with ReLU and max
pooling, widths 8, 16, 32, 64, then one linear layer. Ori has nothing more, BN normalises batches
between convolution and ReLU; Reg and RegBN are the same two with a penalty in the loss
(``penalties``).
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MEAN = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
LEAST_MONAI = 32  # DenseNet and ResNet halve five times
SFCN_WIDTHS = (32, 64, 128, 256, 256, 64)


class CNN(nn.Module):
    """Blocks of convolutions, each followed by pooling, and a linear layer.

    Parameters
    ----------
    shape
        Of the input, without channels; pooling stops where a side would vanish.
    norm
        ``none``, ``batch`` or ``group``.
    read
        ``flatten``: the linear layer sees where things are; ``mean``: it sees means over the map.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        *,
        channels: int = 1,
        widths: Sequence[int] = (8, 16, 32, 64),
        convolutions: int = 2,
        norm: str = "none",
        read: str = "flatten",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        dims, before, sides = len(shape), channels, list(shape)
        layers: list[nn.Module] = []
        for width in widths:
            for number in range(convolutions):
                layers.append(CONV[dims](before, width, 3, padding=1, bias=norm == "none"))
                layers += _norm(norm, dims, width)
                if number == convolutions - 1 and min(sides) >= 2:
                    # max(relu(x)) = relu(max(x)), gradients too, and there are 8 times fewer
                    layers.append(POOL[dims](2))
                    sides = [side // 2 for side in sides]
                layers.append(nn.ReLU(inplace=True))
                before = width
        self.features = nn.Sequential(*layers)
        size = before * math.prod(sides) if read == "flatten" else before
        gather = [] if read == "flatten" else [MEAN[dims](1)]
        self.head = nn.Sequential(
            *gather, nn.Flatten(), nn.Dropout(dropout), nn.Linear(size, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score images."""
        return self.head(self.features(x))


class SFCN(nn.Module):
    """Simple fully convolutional network (Peng et al. 2021, Med Image Anal 68:101871).

    Five blocks convolution-norm-pool-ReLU, one 1³ convolution, the mean over the map, dropout, and
    a 1³ convolution; 2,952,936 parameters for 40 outputs in 3D.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        *,
        channels: int = 1,
        widths: Sequence[int] = SFCN_WIDTHS,
    ) -> None:
        super().__init__()
        dims, before, sides = len(shape), channels, list(shape)
        layers: list[nn.Module] = []
        for width in widths[:-1]:
            layers += [CONV[dims](before, width, 3, padding=1), BATCH_NORM[dims](width)]
            if min(sides) >= 2:
                layers.append(POOL[dims](2))
                sides = [side // 2 for side in sides]
            layers.append(nn.ReLU(inplace=True))
            before = width
        layers += [
            CONV[dims](before, widths[-1], 1),
            BATCH_NORM[dims](widths[-1]),
            nn.ReLU(inplace=True),
        ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            MEAN[dims](1), nn.Dropout(0.5), CONV[dims](widths[-1], outputs, 1), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Score images."""
        return self.head(self.features(x))


class Linear(nn.Module):
    """Means over blocks of voxels, and one linear layer: the reference every network must beat."""

    def __init__(
        self, shape: Sequence[int], outputs: int, *, channels: int = 1, blocks: int = 1
    ) -> None:
        super().__init__()
        pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[len(shape)]
        self.pool = pool(blocks)
        self.head = nn.Linear(channels * math.prod(side // blocks for side in shape), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Score images."""
        return self.head(self.pool(x).flatten(1))


def _monai(name: str) -> Callable[..., nn.Module]:
    """Make a builder of one of MONAI's networks."""

    def build(shape: Sequence[int], outputs: int, *, channels: int = 1) -> nn.Module:
        from monai.networks import nets

        if min(shape) < LEAST_MONAI:
            raise ValueError(
                f"{name}: images of {'x'.join(map(str, shape))} voxels, needs at least"
                f" {LEAST_MONAI} per side; give a finer grid_mm or another network"
            )
        if name == "densenet121":
            return nets.DenseNet121(
                spatial_dims=len(shape), in_channels=channels, out_channels=outputs
            )
        make = {"resnet10": nets.resnet10, "resnet18": nets.resnet18}[name]
        return make(spatial_dims=len(shape), n_input_channels=channels, num_classes=outputs)

    return build


Builder = Callable[..., nn.Module]
NETWORKS: dict[str, tuple[Builder, dict[str, object]]] = {
    "ori": (CNN, {"norm": "none"}),
    "reg": (CNN, {"norm": "none"}),
    "bn": (CNN, {"norm": "batch"}),
    "regbn": (CNN, {"norm": "batch"}),
    "gn": (CNN, {"norm": "group", "dropout": 0.3}),
    "sfcn": (SFCN, {}),
    "densenet121": (_monai("densenet121"), {}),
    "resnet10": (_monai("resnet10"), {}),
    "resnet18": (_monai("resnet18"), {}),
    "cnn2d": (CNN, {"norm": "batch", "widths": (16, 32, 64, 64)}),
    "linear": (Linear, {}),
}
PENALISED = ("reg", "regbn")
PLANAR = ("cnn2d",)
SIZED = ("ori", "reg", "bn", "regbn", "gn")  # whose widths and depth the user may give


def build(name: str, shape: Sequence[int], outputs: int, **options: object) -> nn.Module:
    """Build a network by name for inputs of a shape; ``options`` go over its own sizes.

    Raises
    ------
    ValueError
        Images too small for it.
    """
    make, own = NETWORKS[name]
    return make(tuple(shape), outputs, **{**own, **options})


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether any layer normalises over the batch."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def _norm(kind: str, dims: int, width: int) -> list[nn.Module]:
    if kind == "batch":
        return [BATCH_NORM[dims](width)]
    return [nn.GroupNorm(math.gcd(8, width), width)] if kind == "group" else []
