"""VGG16 (Simonyan & Zisserman 2015, configuration D), with torchvision's names of weights."""

from torch import Tensor, nn

PARAMETERS = 138_357_544
# Channels of 3×3 convolutions, M for a 2×2 maximum pooling.
LAYOUT = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class VGG16(nn.Module):
    """Classify images, (B, 3, 224, 224) → (B, 1000) logits.

    ``classifier.0`` is fc6, ``classifier.3`` fc7, before rectification; ``.1`` and ``.4`` after it.
    Random weights are drawn as torchvision draws them: without normalisation in between, PyTorch's
    own are so small that all images come out alike.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for item in LAYOUT:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU()]
                channels = item
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 1000),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))
