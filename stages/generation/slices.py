"""Slices as arrays: 8 bits, top row first, person's left on the left; read, scaled, kept."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor
from torch.nn import functional

Pixels = NDArray[np.uint8]

SIZE = 160
#: Intensities above this percentile of a brain are white.
WHITE_PERCENTILE = 99.5
#: Voxel of a written slice → the upright frame, mm; the grid of preprocessing's coronal slice.
FIRST_MM = (-79.5, -18.0, -69.5)


def read_slice(path: str) -> Pixels:
    """Read one coronal slice, (160, 160), uint8.

    Raises
    ------
    ValueError
        Not 160 × 1 × 160, values that are not finite, or an empty slice.
    """
    image: Any = nib.load(path)
    data = np.asarray(image.dataobj, dtype=np.float32)
    if data.shape != (SIZE, 1, SIZE):
        raise ValueError(
            f"{path}: shape {'x'.join(map(str, data.shape))}, expected {SIZE}x1x{SIZE}; run"
            " preprocessing with profile coronal"
        )
    if not np.isfinite(data).all():
        raise ValueError(f"{path}: values that are not finite; look at the scan")
    inside = data[data > 0]
    if not inside.size:
        raise ValueError(f"{path}: empty slice; look at the scan")
    white = float(np.percentile(inside, WHITE_PERCENTILE))
    grey = np.rint(np.clip(data[:, 0] / white, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(grey.T[::-1])


def write_slice(path: str, pixels: Pixels) -> None:
    """Write one slice as NIfTI, (160, 1, 160), uint8, 1 mm, in the upright frame."""
    affine = np.eye(4)
    affine[:3, 3] = FIRST_MM
    image = nib.Nifti1Image(np.ascontiguousarray(pixels[::-1].T)[:, None], affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=2)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def save_stack(path: str, pixels: Pixels) -> None:
    """Write slices, (n, 160, 160), as safetensors; a full disk is told as such."""
    Path(path).write_bytes(save({"slices": np.ascontiguousarray(pixels)}))


def load_stack(path: str) -> Pixels:
    """Read slices, (n, 160, 160), uint8."""
    return load(Path(path).read_bytes())["slices"]


def to_tensor(pixels: Pixels, size: int) -> Tensor:
    """Turn slices into images, (n, 1, size, size), float32, -1 to 1."""
    images = torch.from_numpy(pixels).float()[:, None] / 127.5 - 1
    return resize(images, size)


def to_pixels(images: Tensor) -> Pixels:
    """Turn images, (n, 1, s, s), -1 to 1, into slices, (n, 160, 160), uint8."""
    grey = (resize(images.float(), SIZE).clamp(-1, 1) + 1) * 127.5
    return grey[:, 0].round().to(torch.uint8).cpu().numpy()


def blur(pixels: Pixels, size: int) -> Pixels:
    """Bring slices down to a model's resolution and back."""
    return to_pixels(to_tensor(pixels, size))


def resize(images: Tensor, size: int) -> Tensor:
    """Scale square images, (n, c, s, s), with smoothing where they shrink."""
    if images.shape[-1] == size:
        return images
    return functional.interpolate(
        images, (size, size), mode="bilinear", antialias=True, align_corners=False
    )
