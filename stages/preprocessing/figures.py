"""Pictures by which a person judges mask, registration and tissues: arrays in, a picture out.

Three rows of slices, evenly spaced through the brain: axial, coronal, sagittal. Axial and coronal
slices show the person's left on the left of the picture, which is written on each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from stages.preprocessing import geometry

#: Pixels per tile side and slices per row.
TILE = 168
COLUMNS = 7
CAPTION = 26
MARGIN_MM = 12.0

Colour = tuple[int, int, int]
RED: Colour = (255, 72, 72)
CYAN: Colour = (64, 220, 255)
YELLOW: Colour = (255, 214, 64)
#: CSF, GM, WM.
TISSUE_COLOURS: tuple[Colour, Colour, Colour] = ((70, 130, 255), (255, 90, 90), (250, 220, 90))


def outlines(
    data: NDArray[Any],
    affine: NDArray[Any],
    masks: Sequence[tuple[NDArray[np.bool_], Colour]],
    *,
    caption: str,
    is_drawn: bool = True,
) -> Image.Image:
    """Draw the borders of masks over slices of a volume.

    Parameters
    ----------
    data : array, (x, y, z)
        Background, RAS+.
    affine : array, (4, 4)
        Voxel to world, mm.
    masks : sequence of (bool array, (x, y, z); colour)
        Drawn in this order; the first one sets the field of view.
    caption : str
        One line below the slices.
    is_drawn : bool
        False leaves the borders out: the picture to compare with.

    Returns
    -------
    PIL.Image.Image, RGB
    """
    shades = _to_grey(data, masks[0][0])

    def paint(plane: tuple[Any, ...], size: tuple[int, int]) -> NDArray[np.uint8]:
        tile = _stretch(shades[plane], size)
        pixels = np.repeat(tile[..., None], 3, axis=2)
        for mask, colour in masks if is_drawn else ():
            inside = _stretch(mask[plane].astype(np.float32) * 255, size) > 127
            pixels[inside & ~ndimage.binary_erosion(inside)] = colour
        return pixels

    return _mosaic(paint, masks[0][0], affine, caption)


def overlay(
    data: NDArray[Any],
    affine: NDArray[Any],
    fractions: NDArray[Any],
    *,
    caption: str,
    opacity: float = 0.45,
) -> Image.Image:
    """Tint slices of a brain by its tissues: CSF blue, grey matter red, white matter yellow.

    Parameters
    ----------
    data : array, (x, y, z)
        Background, RAS+.
    affine : array, (4, 4)
        Voxel to world, mm.
    fractions : array, (3, x, y, z)
        Tissue fractions, 0 to 1.
    caption : str
        One line below the slices.
    opacity : float
        Of a voxel of pure tissue, 0 to 1.

    Returns
    -------
    PIL.Image.Image, RGB
    """
    inside = fractions.sum(axis=0) > 0.5
    shades = _to_grey(data, inside)

    def paint(plane: tuple[Any, ...], size: tuple[int, int]) -> NDArray[np.uint8]:
        pixels = np.repeat(_stretch(shades[plane], size)[..., None], 3, axis=2).astype(np.float32)
        total = np.zeros((*pixels.shape[:2], 1), dtype=np.float32)
        tint = np.zeros_like(pixels)
        for fraction, colour in zip(fractions, TISSUE_COLOURS, strict=True):
            share = _stretch(np.asarray(fraction[plane]) * 255, size)[..., None] / np.float32(255)
            total += share
            tint += share * np.array(colour, dtype=np.float32)
        mixed = pixels * (1 - opacity * total) + opacity * tint
        return np.clip(mixed, 0, 255).astype(np.uint8)

    return _mosaic(paint, inside, affine, caption)


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG of 96 colours, which halves its size and is hardly seen."""
    few = picture.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, compress_level=9)


def _mosaic(
    paint: Any, inside: NDArray[np.bool_], affine: NDArray[Any], caption: str
) -> Image.Image:
    """Lay painted tiles out in three rows with coordinates, sides and a caption."""
    sizes = geometry.zooms(affine)
    found = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    margins = [round(MARGIN_MM / size) for size in sizes]
    box = [
        slice(max(0, int(f[0]) - m), min(n, int(f[-1]) + m + 1))
        for f, m, n in zip(found, margins, inside.shape, strict=True)
    ]
    extents = [(b.stop - b.start) * size for b, size in zip(box, sizes, strict=True)]
    scale = TILE / max(extents)
    canvas = Image.new("RGB", (COLUMNS * TILE, 3 * TILE + CAPTION))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=13)

    def write(x: float, y: float, text: str) -> None:
        draw.text((x, y), text, "white", font, stroke_width=2, stroke_fill="black")

    for row, (axis, name) in enumerate(((2, "z"), (1, "y"), (0, "x"))):
        flat = [a for a in range(3) if a != axis]
        size = (round(extents[flat[0]] * scale), round(extents[flat[1]] * scale))
        ends = found[axis][0], found[axis][-1]
        for column, index in enumerate(np.linspace(*ends, COLUMNS + 2)[1:-1].round().astype(int)):
            plane: list[Any] = list(box)
            plane[axis] = int(index)
            tile = Image.fromarray(paint(tuple(plane), size))
            corner = column * TILE, row * TILE
            offset = (TILE - size[0]) // 2, (TILE - size[1]) // 2
            canvas.paste(tile, (corner[0] + offset[0], corner[1] + offset[1]))
            centre = [(b.start + b.stop) / 2 for b in box]
            centre[axis] = float(index)
            world = (affine @ [*centre, 1.0])[axis]
            write(corner[0] + 4, corner[1] + 2, f"{name} {world:.0f} mm")
        left, right = ("L", "R") if axis != 0 else ("P", "A")
        middle = row * TILE + TILE // 2
        write(3, middle, left)
        write(COLUMNS * TILE - 13, middle, right)
    write(6, 3 * TILE + 5, caption)
    return canvas


def _to_grey(data: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Scale to 0..255 by the brain's own range, so that fat does not darken the brain."""
    white = float(np.percentile(data[inside], 99)) * 1.15 if inside.any() else float(data.max())
    return np.clip(np.asarray(data, np.float32) * np.float32(255 / (white or 1)), 0, 255)


def _stretch(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Enlarge a plane to pixels, first axis to the right and second axis up."""
    shown = Image.fromarray(np.ascontiguousarray(plane.T[::-1], dtype=np.float32))
    pixels = np.asarray(shown.resize(size, Image.Resampling.BILINEAR))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
