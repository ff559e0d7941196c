"""Everything of a head that is not brain: CSF rim, skull, scalp, face, neck and air.

The layers are functions of two distances: `d`, how far a point lies outside the hull of the
brain, and `h`, how far it lies outside the head (negative inside). Each tissue is laid over
the former ones with an edge of one voxel, so that partial volume looks alike at any resolution.
Intensities are those of a T1w gradient echo, on the scale where white matter is 0.87: cortical
bone and air are dark, marrow and fat bright, muscle lies below grey matter.
Coordinates are template world, RAS+, mm; landmark positions were placed by eye.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bids_app.demo.template import CSF, WM, Array

Overlay = Callable[[Array, Array | float, Array], Array]

BONE, MARROW, FAT, MUSCLE, SKIN, VITREOUS = 0.08, 0.72, 1.0, 0.44, 0.52, 0.22
CAPSULE = 1.2
# A capsule taped to the right side of the forehead, as laboratories do to tell left from right.
CAPSULE_MM = (33.0, 89.0, 25.0)
CAPSULE_RADIUS_MM = 5.0
SKIN_MM = 1.8


def paint_head(
    points: Array,
    hull_mm: Array,
    texture: Array,
    thickness: Array,
    *,
    rim_mm: float,
    skull_mm: float,
    scalp_mm: float,
    edge_mm: float,
) -> tuple[Array, Array]:
    """Give the T1w intensity of the head as if the brain were replaced by CSF.

    Parameters
    ----------
    points : array, (3, n), float32
        Template world coordinates, mm.
    hull_mm : array, (n,)
        Distance outside the hull of the brain, mm.
    texture, thickness : array, (n,)
        Smooth noise of unit variance; mottles soft tissue and varies the thickness of layers.
    rim_mm, skull_mm, scalp_mm : float
        Thickness of the CSF rim, of the skull and of the scalp.
    edge_mm : float
        Width of the transition between two tissues.

    Returns
    -------
    intensity, head : array, (n,), float32
        `head` is the fraction of a point that lies inside the skin.
    """
    x, y, z = points
    x_abs = np.abs(x)

    def over(below: Array, value: Array | float, inside_mm: Array) -> Array:
        """Lay `value` over `below` where `inside_mm` (a signed depth) is positive."""
        weight = np.clip(0.5 + inside_mm / edge_mm, 0, 1).astype(np.float32)
        return below + (value - below) * weight

    def ball(centre: tuple[float, float, float], axes: tuple[float, float, float]) -> Array:
        """Signed depth (approximate mm) in an ellipsoid that is mirrored left to right."""
        radius = np.sqrt(
            ((x_abs - centre[0]) / axes[0]) ** 2
            + ((y - centre[1]) / axes[1]) ** 2
            + ((z - centre[2]) / axes[2]) ** 2
        )
        return (1 - radius) * min(axes)

    # The CSF rim is thicker over the vertex than at the base; bone varies smoothly.
    rim = rim_mm * (1 + 0.2 * thickness) * np.clip(1 + z / 150, 0.6, 1.5)
    outer = rim + skull_mm * (1 + 0.12 * thickness)
    calvaria = outer + scalp_mm - hull_mm
    neck = _tube(x, y + 22 + 0.15 * (z + 60), (58, 62)) + np.clip(-(z + 20) / 2, -60, 0)
    face = np.maximum(ball((0, 32, -48), (66, 62, 78)), ball((0, 88, -52), (13, 17, 30)))
    inside_head = _smooth_max(_smooth_max(calvaria, neck), face)

    soft = MUSCLE * (1 + 0.10 * texture)
    soft = over(soft, FAT * (1 + 0.08 * texture), SKIN_MM + scalp_mm * 0.75 - inside_head)
    for centre, axes in (((36, 46, -38), (18, 26, 17)), ((42, 40, -72), (14, 16, 14))):
        soft = over(soft, FAT * 0.9, ball(centre, axes))  # orbital and buccal fat
    soft = over(soft, MUSCLE * (1 + 0.1 * texture), ball((0, 30, -98), (24, 34, 18)))  # tongue
    soft = over(soft, MARROW * 0.9, ball((0, 44, -84), (26, 26, 6)))  # hard palate
    soft = over(soft, BONE, np.minimum(ball((0, 40, -116), (46, 36, 14)), x_abs - 24))  # jaw
    soft = over(soft, 0.0, np.minimum(ball((9, 52, -62), (7, 30, 20)), x_abs - 2))  # nasal cavity
    soft = over(soft, 0.0, ball((30, 46, -66), (12, 14, 14)))  # maxillary sinuses
    soft = over(soft, 0.0, np.minimum(_tube(x, y - 2, (10, 7)), -58 - z))  # airway
    soft = over(soft, BONE, ball((34, 60, -36), (14.5, 14.5, 14.5)))  # orbit wall and sclera
    soft = over(soft, VITREOUS, ball((34, 60, -36), (12.5, 12.5, 12.5)))
    soft = over(soft, SKIN, SKIN_MM - inside_head)

    head = over(np.full_like(x, CSF), BONE, hull_mm - rim)
    diploe = np.minimum(hull_mm - rim - 0.28 * skull_mm, outer - 0.28 * skull_mm - hull_mm)
    head = over(head, MARROW * (1 + 0.1 * texture), diploe)
    head = over(head, soft, hull_mm - outer)
    head = _paint_spine(head, x, y, z, hull_mm - rim, over)
    intensity = over(np.zeros_like(x), head, inside_head)

    distance = np.sqrt(sum((p - c) ** 2 for p, c in zip(points, CAPSULE_MM, strict=True)))
    intensity = over(intensity, CAPSULE, CAPSULE_RADIUS_MM - distance)
    return intensity, np.clip(0.5 + inside_head / edge_mm, 0, 1).astype(np.float32)


def _paint_spine(head: Array, x: Array, y: Array, z: Array, outside: Array, over: Overlay) -> Array:
    """Draw vertebrae in front of the spinal canal, and the cord where the brainstem ends."""
    below = np.minimum(-66 - z, outside)
    disc = np.where(np.mod(z + 74, 19) < 4, 0.3, MARROW * 0.8).astype(np.float32)
    head = over(head, BONE, np.minimum(_tube(x, y + 24, (15, 11)), below))
    head = over(head, disc, np.minimum(_tube(x, y + 24, (13, 9)), below))
    head = over(head, BONE, np.minimum(_tube(x, y + 46, (14, 14)), below))
    canal = -60 - z
    head = over(head, CSF * 0.9, np.minimum(_tube(x, y + 46, (10, 9)), canal))
    return over(head, WM * 0.85, np.minimum(_tube(x, y + 46, (5.5, 4.5)), canal))


def _tube(x: Array, y: Array, axes: tuple[float, float]) -> Array:
    """Signed depth (approximate mm) in a vertical elliptic cylinder."""
    radius: Array = np.sqrt((x / axes[0]) ** 2 + (y / axes[1]) ** 2)
    return (1 - radius) * min(axes)


def _smooth_max(a: Array, b: Array, blend_mm: float = 6.0) -> Array:
    """Join two shapes with a fillet (polynomial smooth maximum)."""
    near = np.maximum(blend_mm - np.abs(a - b), 0)
    return np.maximum(a, b) + near * near / (4 * blend_mm)
