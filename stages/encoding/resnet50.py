"""ResNet-50 (He et al. 2016) with torchvision's names of weights, and stride in the 3×3 layer."""

from torch import Tensor, nn

PARAMETERS = 25_557_032
CODE_SIZE = 2048
BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """Add to the input what three convolutions make of it: H(x) = F(x) + x."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = width * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != wide:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute (B, channels, h, w) → (B, 4 width, h / stride, w / stride)."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.relu(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu(residual + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """Classify images, (B, 3, 224, 224) → (B, 1000) logits; ``avgpool`` gives the 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, count in enumerate(BLOCKS):
            blocks = []
            for number in range(count):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(Bottleneck(channels, 64 * 2**stage, stride))
                channels = 64 * 2**stage * EXPANSION
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(CODE_SIZE, 1000)

    def encode(self, images: Tensor) -> Tensor:
        """Compute the features before the classifier, (B, 2048)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.avgpool(x).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        return self.fc(self.encode(images))
