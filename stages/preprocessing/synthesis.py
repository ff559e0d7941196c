"""Domain randomisation: one labelled head becomes endlessly many different ones.

A network that has seen one scanner learns that scanner. Following SynthSeg (Billot et al. 2023) and
SynthStrip (Hoopes et al. 2022), what may differ between scanners is drawn afresh for each sample,
far beyond what is realistic: contrast, bias field, resolution, noise, ghosts, pose, shape, field of
view, defacing. What stays is anatomy, and that is what the network has to use.

Each function draws its parameters from a ``torch.Generator`` and applies them; volumes are float32
tensors (x, y, z) in RAS+ order with intensities of about 0 to 1. `random_head` chains them.

References
----------
Billot B, et al. SynthSeg. Medical Image Analysis 86:102789, 2023.
Hoopes A, et al. SynthStrip. NeuroImage 260:119474, 2022.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator, Tensor

# DLMUSE label numbers (MUSE atlas, Doshi et al. 2016) by the tissue they share a contrast with.
TISSUES: dict[str, tuple[int, ...]] = {
    "ventricle": (4, 11, 49, 50, 51, 52),
    "white": (*range(81, 96), 61, 62, 69),
    "deep_grey": (23, 30, 31, 32, 36, 37, 47, 48, 55, 56, 57, 58, 59, 60, 75, 76),
    "cerebellum_grey": (38, 39, 71, 72, 73),
    "cerebellum_white": (40, 41),
    "brainstem": (35,),
    "cortex": tuple(range(100, 208)),
}
N_BRAIN = len(TISSUES) + 1  # and one for what is intracranial but none of them (sulcal fluid)
N_OUTSIDE = 5


def sort_tissues(
    image: NDArray[np.float32], labels: NDArray[np.integer], mask: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Sort voxels into classes that each get one intensity.

    Parameters
    ----------
    image : array, (x, y, z), float
    labels : array, (x, y, z), int
        DLMUSE label map.
    mask : array, (x, y, z), bool
        Intracranial mask.

    Returns
    -------
    array, (x, y, z), uint8
        1 to ``N_BRAIN`` inside the mask; outside, 0 for air and ``N_BRAIN + 1`` to
        ``N_BRAIN + N_OUTSIDE`` by intensity quantile (Billot et al. cluster non-brain the same
        way).
    """
    lookup = np.full(max(256, int(labels.max()) + 1), N_BRAIN, np.uint8)
    for number, members in enumerate(TISSUES.values(), start=1):
        lookup[list(members)] = number
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 0.7)
    head = ~mask & (smooth > 0.08 * np.percentile(image[mask], 95))
    edges = np.quantile(smooth[head], np.linspace(0, 1, N_OUTSIDE + 1)[1:-1]) if head.any() else []
    outside = np.where(head, N_BRAIN + 1 + np.digitize(smooth, edges), 0)
    return np.where(mask, lookup[labels], outside).astype(np.uint8)


def uniform(generator: Generator, low: float, high: float) -> float:
    """Draw a number between low and high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def chance(generator: Generator, probability: float) -> bool:
    """Draw yes with the given probability."""
    return float(torch.rand((), generator=generator)) < probability


def smooth_noise(shape: tuple[int, ...], *, knots: int, generator: Generator) -> Tensor:
    """Draw Gaussian noise on a grid of ``knots`` a side and interpolate it to (C, x, y, z)."""
    coarse = torch.randn((1, shape[0], knots, knots, knots), generator=generator)
    return F.interpolate(coarse, size=shape[1:], mode="trilinear", align_corners=True)[0]


def recolour_tissues(image: Tensor, classes: Tensor, generator: Generator) -> Tensor:
    """Give each class a random mean, and its own texture a random (also negative) gain.

    y = mu_c + g_c (x - mean_c(x)) for a voxel x of class c, with mu_c ~ U(0, 1). Air stays dark in
    four of five draws.
    """
    n = N_BRAIN + N_OUTSIDE + 1
    index = classes.long()
    count = torch.bincount(index.flatten(), minlength=n).clamp(min=1)
    mean = torch.bincount(index.flatten(), weights=image.flatten(), minlength=n) / count
    target = torch.rand(n, generator=generator)
    gain = 2 * torch.rand(n, generator=generator) - 1
    if chance(generator, 0.8):
        target[0], gain[0] = 0.0, 1.0
    offset = target - gain * mean.float()
    return (gain[index] * image + offset[index]).clamp(0, 1.2)


def recolour_curve(image: Tensor, generator: Generator) -> Tensor:
    """Send intensities through a random piecewise-linear curve, rising, falling or neither."""
    knots = torch.rand((1, 1, 6), generator=generator)
    curve = F.interpolate(knots, size=256, mode="linear", align_corners=True).flatten()
    if chance(generator, 0.7):  # air stays dark
        curve = curve * torch.linspace(0, 12, 256).clamp(max=1)
    return curve[(image * 255).clamp(0, 255).long()]


def recolour_gamma(image: Tensor, generator: Generator) -> Tensor:
    """Raise to a power of 0.5 to 2."""
    return image.clamp(0, 1) ** math.exp(uniform(generator, -0.7, 0.7))


def recolour_inverted(image: Tensor, generator: Generator) -> Tensor:
    """Turn upside down after a random power; half of the time air stays dark."""
    inverted = 1 - recolour_gamma(image, generator)
    return inverted if chance(generator, 0.5) else inverted * (image > 0.05)


def remove_tissue(image: Tensor, classes: Tensor, generator: Generator) -> Tensor:
    """Take something outside the brain away: the face, the rest of the head, or some brightness.

    Parameters
    ----------
    image, classes : tensor, (x, y, z)
        As `sort_tissues` returns; y points to the front, z to the top.
    """
    brain = (classes > 0) & (classes <= N_BRAIN)
    kind = uniform(generator, 0, 1)
    if (
        kind < 0.15
    ):  # deface: all that lies in front of an oblique plane, with a margin to the brain
        y, z = (torch.arange(n, dtype=torch.float32) / n for n in image.shape[1:])
        plane = (y[:, None] - uniform(generator, 0.55, 0.75)) - uniform(generator, 0.2, 1.0) * (
            z[None, :] - uniform(generator, 0.35, 0.6)
        )
        keep = (plane < 0)[None] | grow(brain, int(uniform(generator, 1, 5)))
        return image * keep
    if kind < 0.22:  # strip: only the brain, with more or less of a rim
        return image * grow(brain, int(uniform(generator, 0, 5)))
    if kind < 0.45:  # fat suppression, thick skulls, coils that see only the middle
        return torch.where(brain, image, image * uniform(generator, 0.1, 1.5))
    return image


def grow(mask: Tensor, radius: int) -> Tensor:
    """Dilate a (x, y, z) mask by a cube of the given radius in voxels."""
    if radius == 0:
        return mask
    return (
        F.max_pool3d(mask[None, None].float(), 2 * radius + 1, stride=1, padding=radius)[0, 0] > 0
    )


def draw_pose(generator: Generator, *, rotation_deg: float = 25, scale: float = 0.15) -> Tensor:
    """Draw a (3, 3) matrix: rotation about each axis, scaling, shear, left-right mirror."""
    matrix = torch.eye(3)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        angle = math.radians(uniform(generator, -rotation_deg, rotation_deg))
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    overall = uniform(generator, 1 - scale, 1 + scale)
    stretch = torch.diag(
        torch.tensor([overall * uniform(generator, 0.93, 1.07) for _ in range(3)])
    ) + 0.05 * (2 * torch.rand((3, 3), generator=generator) - 1)
    if chance(generator, 0.5):
        stretch[0] = -stretch[0]
    return matrix @ stretch


def warp(
    volumes: Tensor,
    matrix: Tensor,
    centre: Tensor,
    target: Tensor,
    shape: tuple[int, int, int],
    *,
    displacement: Tensor | None = None,
    extend_neck: bool = False,
) -> Tensor:
    """Resample volumes by an affine map and a displacement field, in one interpolation.

    A voxel u of the new grid takes its value at ``centre + matrix (u - target) + displacement(u)``.

    Parameters
    ----------
    volumes : tensor, (C, x, y, z)
    matrix : tensor, (3, 3)
    centre, target : tensor, (3,)
        The point, in voxels of the old grid, that comes to lie at ``target`` in the new one.
    shape : tuple
        New grid.
    displacement : tensor, (3, *shape), optional
        In voxels.
    extend_neck : bool
        Below the field of view, repeat the lowest slice rather than read zeros: a long neck.

    Returns
    -------
    tensor, (C, *shape)
    """
    axes = [
        torch.arange(n, dtype=torch.float32) - float(t) for n, t in zip(shape, target, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T + centre
    if displacement is not None:
        points = points + displacement.permute(1, 2, 3, 0)
    if extend_neck:
        points[..., 2].clamp_(min=0)
    size = torch.tensor(volumes.shape[1:], dtype=torch.float32)
    # grid_sample wants (z, y, x) in -1 ... 1.
    grid = (2 * points / (size - 1) - 1).flip(-1)
    return F.grid_sample(volumes[None], grid[None], align_corners=True)[0]


def crop_view(shape: tuple[int, ...], generator: Generator, *, inside: Tensor) -> Tensor:
    """Draw a field of view that ends early on some sides: mask (x, y, z).

    Cuts into ``inside`` (the brain) stay under 15 % of its extent; vertex and neck are cut most
    often.
    """
    view = torch.ones(shape, dtype=torch.bool)
    for axis in range(3):
        reach = inside.any(dim=[a for a in range(3) if a != axis]).nonzero().flatten()
        first, last = (int(reach[0]), int(reach[-1])) if len(reach) else (0, shape[axis] - 1)
        depth = 0.15 * (last - first)
        for side in (0, 1):
            if chance(generator, 0.25 if axis == 2 else 0.12):
                # From just inside the brain to the grid's own edge.
                room = first if side == 0 else shape[axis] - 1 - last
                gap = int(uniform(generator, -depth, max(room, 1)))
                line = torch.arange(shape[axis])
                keep = line >= first - gap if side == 0 else line <= last + gap
                view &= keep.reshape([-1 if a == axis else 1 for a in range(3)])
    return view


def add_bias(image: Tensor, generator: Generator) -> Tensor:
    """Multiply by a smooth field exp(b); b spans up to about +-0.7 over the head."""
    strength = uniform(generator, 0, 0.5)
    knots = 2 if chance(generator, 0.4) else 4
    field = smooth_noise((1, *image.shape), knots=knots, generator=generator)[0]
    return image * torch.exp(strength * field)


def lower_resolution(image: Tensor, generator: Generator, *, voxel_mm: float) -> Tensor:
    """Average over thick slices along one axis (4 mm more at most), or blur all three."""
    if chance(generator, 0.5):
        thick = uniform(generator, voxel_mm, voxel_mm + 4)
        factor = [1.0, 1.0, 1.0]
        factor[int(uniform(generator, 0, 3))] = voxel_mm / thick
    else:
        factor = [voxel_mm / uniform(generator, voxel_mm, 2.2 * voxel_mm)] * 3
    size = [max(4, round(n * f)) for n, f in zip(image.shape, factor, strict=True)]
    low = F.interpolate(image[None, None], size=size, mode="area")
    return F.interpolate(low, size=image.shape, mode="trilinear")[0, 0]


def add_noise(image: Tensor, generator: Generator) -> Tensor:
    """Add Gaussian noise, or Rician noise, whose magnitude never falls below zero (Gudbjartsson
    1995).
    """
    sigma = 0.15 * uniform(generator, 0, 1) ** 2
    real = image + sigma * torch.randn(image.shape, generator=generator)
    if chance(generator, 0.5):
        return real
    return torch.hypot(real, sigma * torch.randn(image.shape, generator=generator))


def add_ghost(image: Tensor, generator: Generator) -> Tensor:
    """Add a faint copy, shifted along one axis and wrapped round, as motion and aliasing do."""
    axis = int(uniform(generator, 0, 3))
    shift = int(uniform(generator, 0.1, 0.9) * image.shape[axis])
    return image + uniform(generator, 0.03, 0.25) * image.roll(shift, dims=axis)


def random_head(
    image: Tensor,
    classes: Tensor,
    centre: Tensor,
    *,
    shape: tuple[int, int, int],
    voxel_mm: float,
    shift_mm: float,
    hard: float,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Draw a new head from a labelled one.

    Parameters
    ----------
    image : tensor, (x, y, z), float32
        RAS+, intensities 0 to 1.
    classes : tensor, (x, y, z), uint8
        From `sort_tissues`, on the image's grid.
    centre : tensor, (3,)
        Middle of the brain, voxels.
    shape : tuple
        Grid of the new head, same voxel size as the image.
    voxel_mm : float
        Voxel size.
    shift_mm : float
        The middle of the brain comes to lie within this distance per axis of the grid's middle.
    hard : float
        Share of heads with a foreign contrast, and of heads that are damaged or oblique, 0 to 1.
        Hard heads alone train slowly, for easy heads too.
    generator : torch.Generator

    Returns
    -------
    image : tensor, shape, float32
    brain : tensor, shape, float32
        Fraction of brain in each voxel, 0 where the field of view ends.
    """
    brain = ((classes > 0) & (classes <= N_BRAIN)).float()
    kind = uniform(generator, 0, 1)
    if not chance(generator, hard):
        image = recolour_gamma(image, generator)
    elif kind < 0.35:
        image = recolour_inverted(image, generator)
    elif kind < 0.6:
        image = recolour_curve(image, generator)
    else:
        image = recolour_tissues(image, classes, generator)
    mild = not chance(generator, hard)
    if not mild:
        image = remove_tissue(image, classes, generator)

    middle = (torch.tensor(shape) - 1) / 2
    shift = shift_mm / voxel_mm * (2 * torch.rand(3, generator=generator) - 1)
    bend = uniform(generator, 0, 3.0) / voxel_mm
    image, brain = warp(
        torch.stack([image, brain]),
        draw_pose(generator, rotation_deg=15, scale=0.1) if mild else draw_pose(generator),
        centre,
        middle + shift,
        shape,
        displacement=bend * smooth_noise((3, *shape), knots=7, generator=generator),
        extend_neck=chance(generator, 0.5),
    )
    brain = brain.clamp(0, 1)  # interpolation weights add to one but for rounding
    if chance(generator, 0.7):
        image = add_bias(image, generator)
    if mild:
        return image, brain
    if chance(generator, 0.2):
        image = add_ghost(image, generator)
    if chance(generator, 0.6):
        image = lower_resolution(image, generator, voxel_mm=voxel_mm)
    if chance(generator, 0.8):
        image = add_noise(image, generator)
    view = crop_view(shape, generator, inside=brain > 0.5)
    fill = 0.0 if chance(generator, 0.85) else uniform(generator, 0, 1)
    return torch.where(view, image, fill), brain * view
