"""Make short movies, and BOLD that answers to their brightness and their motion.

A movie is a bright blob on a dark ground that wanders, speeds up and fades. Of the voxels of the
brain, those of the back follow the brightness of the picture and those of the left side its
motion, both 4 s later (a gamma-shaped response); all others are noise. Two movies are for training,
the third is shown twice.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from nilearn.datasets import load_mni152_brain_mask
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

MOVIES = {"train1": 90, "train2": 90, "test": 90}  # seconds
RUNS = (("train", 1, "train1"), ("train", 2, "train2"), ("test", 1, "test"), ("test", 2, "test"))
FRAMES_PER_S = 5
HEIGHT, WIDTH = 48, 64
TR_S = 1.5
VOXEL_MM = 10
SIGNAL, NOISE, BASELINE = 12.0, 10.0, 1000.0


@dataclass(frozen=True)
class Brain:
    """Where BOLD is made and what each place follows, on a grid of 10 mm in template space."""

    affine: NDArray[np.float64]
    mask: NDArray[np.bool_]
    brightness: NDArray[np.bool_]
    motion: NDArray[np.bool_]


def load_brain() -> Brain:
    """Load the template's brain mask; the back follows brightness, the left side motion."""
    image = load_mni152_brain_mask(resolution=VOXEL_MM)
    mask = np.asarray(image.dataobj) > 0
    world = np.einsum("ab,bxyz->axyz", image.affine[:3, :3], np.indices(mask.shape))
    x, y = world[0] + image.affine[0, 3], world[1] + image.affine[1, 3]
    back = mask & (y < -60)
    return Brain(image.affine, mask, back, mask & ~back & (x < -40))


def make_frames(rng: np.random.Generator, seconds: int) -> NDArray[np.uint8]:
    """Draw a movie, (frames, height, width), grey levels."""
    n = seconds * FRAMES_PER_S
    time = np.arange(n) / FRAMES_PER_S

    def wander(period_s: float) -> NDArray[np.float64]:
        knots = rng.uniform(0, 1, int(seconds / period_s) + 3)
        return np.interp(time, np.arange(len(knots)) * period_s, knots)

    size = 4 + 5 * wander(7)
    brightness = 60 + 190 * wander(6)
    phase = np.cumsum(0.05 + 1.2 * wander(8) ** 3) / FRAMES_PER_S * 2
    x, y = WIDTH * (0.5 + 0.35 * np.cos(phase)), HEIGHT * (0.5 + 0.35 * np.sin(2 * phase))
    rows, columns = np.indices((HEIGHT, WIDTH))
    distance = (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2
    blob = np.exp(-distance / (2 * size[:, None, None] ** 2))
    frames = 15 + (brightness[:, None, None] - 15) * blob
    return np.asarray(frames.round(), np.uint8)


def to_gif(frames: NDArray[np.uint8]) -> bytes:
    """Write a movie as an animated GIF."""
    pictures = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=1000 // FRAMES_PER_S,
        optimize=False,
    )
    return buffer.getvalue()


def make_bold(
    rng: np.random.Generator, frames: NDArray[np.uint8], brain: Brain
) -> NDArray[np.int16]:
    """Simulate a run, (x, y, z, volumes), int16."""
    level = frames.mean((1, 2), dtype=float)
    change = np.abs(np.diff(frames.astype(float), axis=0, prepend=frames[:1])).mean((1, 2))
    volumes = int(len(frames) / FRAMES_PER_S / TR_S)
    at = (np.arange(volumes) * TR_S * FRAMES_PER_S).astype(int)
    # A gamma density that peaks after 4 s.
    response = stats.gamma.pdf(np.arange(0, 16, 1 / FRAMES_PER_S), a=5)
    data = BASELINE + NOISE * rng.standard_normal((*brain.mask.shape, volumes))
    for where, course in ((brain.brightness, level), (brain.motion, change)):
        course = (course - course.mean()) / course.std()
        data[where] += SIGNAL * np.convolve(course, response / response.sum())[at]
    return np.where(brain.mask[..., None], data, 0).round().astype(np.int16)
