"""From decoded pixels to what networks take, and a fingerprint by which equal frames are found."""

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIZE = 224
# Means and deviations of ImageNet's red, green and blue, as torchvision's weights expect them.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
UNIFORM_DEVIATION = 2.0  # grey levels; below it a frame shows nothing
FINGERPRINT_SIZE = 14


def resize(pixels: NDArray[np.uint8], *, fit: str) -> NDArray[np.uint8]:
    """Bring a frame to 224 × 224.

    Parameters
    ----------
    pixels : array, (height, width, 3), uint8
    fit : str
        ``stretch``: both sides to 224, as the study did. ``crop``: the shorter side to 256, then
        the middle, as torchvision's weights were tested.
    """
    height, width = pixels.shape[:2]
    if fit == "crop":
        scale = 256 / min(height, width)
        pixels = _scale(pixels, round(height * scale), round(width * scale))
        top, left = (pixels.shape[0] - SIZE) // 2, (pixels.shape[1] - SIZE) // 2
        return pixels[top : top + SIZE, left : left + SIZE]
    return _scale(pixels, SIZE, SIZE)


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Normalise frames, (B, 224, 224, 3), 0–255, to (B, 3, 224, 224)."""
    images = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(IMAGE_MEAN)[:, None, None]
    return (images - mean) / torch.tensor(IMAGE_STD)[:, None, None]


def fingerprint(frame: NDArray[np.uint8]) -> int:
    """Hash a frame's coarse content, so that re-encoded copies of it agree; 0 for a uniform frame.

    The frame is averaged to 14 × 14 grey patches in 16 levels.
    """
    grey = frame.mean(2)
    if grey.std() < UNIFORM_DEVIATION:
        return 0
    step = SIZE // FINGERPRINT_SIZE
    patches = grey.reshape(FINGERPRINT_SIZE, step, FINGERPRINT_SIZE, step).mean((1, 3))
    digest = hashlib.blake2b((patches // 16).astype(np.uint8).tobytes(), digest_size=7)
    return int.from_bytes(digest.digest(), "big")


def _scale(pixels: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(
        image, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return scaled[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
