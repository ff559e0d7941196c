"""ResNet-50 as an encoder with a mirrored decoder, trained to reproduce the training stimuli.

The study says that the pre-trained ResNet-50 is the decoder too, which cannot be meant literally,
since a classifier's weights do not run backwards: the decoder mirrors the encoder's resolutions and
starts from random weights.
"""

import itertools
import logging
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.encoding.images import IMAGE_MEAN, IMAGE_STD, to_tensor
from stages.encoding.resnet50 import CODE_SIZE, ResNet50

logger = logging.getLogger(__name__)

DECODER_CHANNELS = (256, 128, 64, 32, 16, 3)  # at 7, 14, 28, 56, 112 and 224 pixels


class FrameStack(Protocol):
    """Frames by number, (224, 224, 3) each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


class Autoencoder(nn.Module):
    """Encode images, (B, 3, 224, 224), into 2048 numbers and decode them again."""

    def __init__(self, encoder: ResNet50) -> None:
        super().__init__()
        self.encoder = encoder
        first = DECODER_CHANNELS[0]
        self.expand = nn.Linear(CODE_SIZE, first * 7 * 7)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(DECODER_CHANNELS):
            layers += [
                nn.ReLU(),
                nn.BatchNorm2d(before),
                nn.ConvTranspose2d(before, after, 4, 2, 1),
            ]
        self.decoder = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images, on the encoder's scale of intensities."""
        code = self.encoder.encode(images)
        return self.decoder(self.expand(code).reshape(len(code), DECODER_CHANNELS[0], 7, 7))


def train_autoencoder(
    model: Autoencoder,
    frames: FrameStack,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Train on frames, (count, 224, 224, 3), and return each epoch's mean squared error.

    Adam minimises the error, which is in units of ImageNet's standard deviation.
    """
    device = next(model.parameters()).device
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    losses = []
    model.train()
    for epoch in range(epochs):
        total = 0.0
        order = rng.permutation(len(frames))
        for start in range(0, len(order), batch_size):
            members = np.sort(order[start : start + batch_size])
            if len(members) < 2:  # batch normalisation needs two
                continue
            images = to_tensor(np.stack([frames[i] for i in members])).to(device)
            loss = nn.functional.mse_loss(model(images), images)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(members)
        losses.append(total / len(frames))
        logger.info("autoencoder: epoch %d of %d, error %.4f", epoch + 1, epochs, losses[-1])
    model.eval()
    return losses


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Bring normalised images, (B, 3, h, w), back to 0–255, (B, h, w, 3)."""
    mean = torch.tensor(IMAGE_MEAN)[:, None, None]
    std = torch.tensor(IMAGE_STD)[:, None, None]
    pixels = (images.detach().cpu() * std + mean) * 255
    return pixels.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
