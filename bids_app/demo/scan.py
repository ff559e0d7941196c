"""A scan: pose of the head, field of view, bias field and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bids_app.demo.template import Array, Matrix

CENTRE_MM = np.array([0.0, -20.0, 0.0])  # template point about which heads turn and grow
FOV_MM = np.array([208.0, 248.0, 240.0])
FOV_CENTRE_MM = np.array([0.0, -14.0, -16.0])


@dataclass(frozen=True)
class Acquisition:
    """Describe a scan.

    Attributes
    ----------
    seed : int
        Of bias field and noise.
    rotation_deg : tuple of 3 floats
        Rotation vector of the head; its direction is the axis (R, A, S), its length the angle.
    shift_mm : tuple of 3 floats
        Shift of the head along R, A and S.
    slice_axis : int
        World axis along which slices are counted: 0 (left to right) or 2 (neck to vertex).
    crop_mm : tuple of 2 floats
        What is missing from the full field of view at the low and at the high end of that axis.
    bias : float
        Largest deviation from 1 of the multiplicative bias field inside the head.
    noise : float
        Standard deviation of the complex noise, where white matter is 0.87.
    """

    seed: int
    rotation_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    slice_axis: int = 0
    crop_mm: tuple[float, float] = (0.0, 0.0)
    bias: float = 0.3
    noise: float = 0.03


def draw_acquisition(
    rng: np.random.Generator,
    *,
    max_rotation_deg: float = 12.0,
    max_shift_mm: float = 8.0,
    slice_axis: int = 0,
    crop_mm: tuple[float, float] = (0.0, 0.0),
) -> Acquisition:
    """Draw a scan: a rotation of up to `max_rotation_deg` and a shift of up to `max_shift_mm`."""
    axis, direction = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
    rotation = axis * rng.uniform(0, max_rotation_deg)
    shift = direction * rng.uniform(0, max_shift_mm)
    return Acquisition(
        seed=int(rng.integers(2**31)),
        rotation_deg=(float(rotation[0]), float(rotation[1]), float(rotation[2])),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        slice_axis=slice_axis,
        crop_mm=crop_mm,
    )


def place_grid(
    acquisition: Acquisition, resolution_mm: float
) -> tuple[tuple[int, int, int], Matrix]:
    """Return shape and affine (voxel -> world, mm, RAS+) of the cropped field of view."""
    low, high = FOV_CENTRE_MM - FOV_MM / 2, FOV_CENTRE_MM + FOV_MM / 2
    low[acquisition.slice_axis] += acquisition.crop_mm[0]
    high[acquisition.slice_axis] -= acquisition.crop_mm[1]
    x, y, z = np.round((high - low) / resolution_mm).astype(int)
    affine = np.diag([resolution_mm, resolution_mm, resolution_mm, 1.0])
    affine[:3, 3] = low + resolution_mm / 2
    return (int(x), int(y), int(z)), affine


def find_pose(acquisition: Acquisition, scale: float) -> Matrix:
    """Return world -> template world, (4, 4) mm: the inverse of turning, shifting and growing.

    A template point p lies at R (p - c) scale + c + shift, c being the centre of the head.
    """
    rotation = Rotation.from_rotvec(acquisition.rotation_deg, degrees=True).as_matrix()
    template_to_world = np.eye(4)
    template_to_world[:3, :3] = scale * rotation
    template_to_world[:3, 3] = (
        CENTRE_MM + np.array(acquisition.shift_mm) - template_to_world[:3, :3] @ CENTRE_MM
    )
    return np.asarray(np.linalg.inv(template_to_world), dtype=np.float64)


def draw_bias(rng: np.random.Generator, head: NDArray[np.bool_], strength: float) -> Array:
    """Draw a smooth multiplicative field, a cubic polynomial of the position in the grid.

    Parameters
    ----------
    rng : Generator
        Source of the coefficients.
    head : array, (x, y, z), bool
        Where the field averages 1.
    strength : float
        Largest deviation from 1.
    """
    shape = head.shape
    powers = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    field = np.zeros(shape, np.float32)
    for i, j, k in powers[1:]:
        weight = np.float32(rng.normal())
        field += weight * ((x**i)[:, None, None] * (y**j)[:, None] * z**k)
    field -= field[head].mean()
    field *= strength / np.abs(field[head]).max()
    # The corners of the grid hold air only; there the polynomial may leave the range.
    return np.clip(1 + field, 1 - strength, 1 + strength)


def add_noise(rng: np.random.Generator, image: Array, sigma: float) -> Array:
    """Add Rician noise: the magnitude of a complex signal with noise in both parts."""
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    return np.hypot(image + real, imaginary)
