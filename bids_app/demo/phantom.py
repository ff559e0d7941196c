"""Make one T1w phantom of a head: arrays and their exact truth.

What is random is drawn first and kept (`Anatomy` for a person, `Acquisition` for a scan), then
applied; so one person can be scanned twice, or be given another age, with nothing else changed.
For a point w of the scanner (world, mm) the template point is

    p = q + displacement(q),    q = world_to_template w

and every volume is the template sampled at p. Linear registration should find world_to_template.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bids_app.demo.head import paint_head
from bids_app.demo.person import (
    AGE_RANGE_Y,
    AGEING_VENTRICLE_MM,
    Anatomy,
    Sex,
    ageing,
    draw_anatomy,
    draw_warp,
    head_scale,
    paint_brain,
    push_from_ventricles,
)
from bids_app.demo.scan import (
    Acquisition,
    add_noise,
    draw_acquisition,
    draw_bias,
    find_pose,
    place_grid,
)
from bids_app.demo.template import Array, HeadTemplate, Matrix, load_template, sample

FAR_MM = 200.0
CHUNK = 500_000  # points rendered at a time; bounds memory at fine resolutions


@dataclass(frozen=True)
class Phantom:
    """Hold an image and its truth on one RAS+ grid.

    Attributes
    ----------
    t1w, clean : array, (x, y, z), float32
        Intensities with and without bias field and noise; white matter is near 0.87.
    brain, head : array, (x, y, z), bool
        The template's brain mask, carried to the subject; everything within the skin.
    gm, wm, csf : array, (x, y, z), float32
        Tissue fractions; they sum to 1 inside the skull and to 0 outside.
    bias : array, (x, y, z), float32
        Multiplicative field.
    affine : array, (4, 4)
        Voxel -> world, mm.
    world_to_template : array, (4, 4)
        World -> template world, mm: pose and size, without the smooth warp.
    displacement : array, (3, i, j, k), float32
        The warp (R, A, S components, mm) on the grid of `displacement_affine`.
    displacement_affine : array, (4, 4)
        Voxel of the displacement -> template world, mm.
    anatomy, acquisition, age_y, sex
        What the phantom was made from.
    """

    t1w: Array
    clean: Array
    brain: NDArray[np.bool_]
    head: NDArray[np.bool_]
    gm: Array
    wm: Array
    csf: Array
    bias: Array
    affine: Matrix
    world_to_template: Matrix
    displacement: Array = field(repr=False)
    displacement_affine: Matrix = field(repr=False)
    anatomy: Anatomy
    acquisition: Acquisition
    age_y: float
    sex: Sex

    def to_template(self, points: NDArray[np.floating]) -> Array:
        """Map world points, (3, n) mm, to template points, warp included."""
        q = _apply(self.world_to_template, np.asarray(points, np.float32))
        return q + np.stack([sample(u, self.displacement_affine, q) for u in self.displacement])


def make_phantom(
    seed: np.random.Generator | int,
    *,
    age_y: float = 50.0,
    sex: Sex = "F",
    resolution_mm: float = 2.0,
    anatomy: Anatomy | None = None,
    acquisition: Acquisition | None = None,
) -> Phantom:
    """Make a phantom; person and scan are drawn unless given.

    Parameters
    ----------
    seed : int or Generator
        Source of the person, then of the scan. Both are drawn even when given, so that fixing
        one leaves the other as it was.
    age_y : float
        Age, 20 to 80 years.
    sex : {"F", "M"}
        Sex.
    resolution_mm : float
        Isotropic voxel size.
    anatomy, acquisition : optional
        A known person; a scan with known pose, field of view, bias strength and noise.

    Raises
    ------
    ValueError
        If the planted effects are not defined for the age or sex.
    """
    rng = np.random.default_rng(seed)
    drawn = draw_anatomy(rng), draw_acquisition(rng)
    anatomy, acquisition = anatomy or drawn[0], acquisition or drawn[1]
    share, scale = ageing(age_y), head_scale(anatomy, sex)
    template = load_template(fine_mm=1 if resolution_mm < 1.5 else 2)

    shape, affine = place_grid(acquisition, resolution_mm)
    world_to_template = find_pose(acquisition, scale)
    warp, texture, thickness = draw_warp(anatomy, template)
    displacement = push_from_ventricles(warp, template, share)

    volumes = np.empty((6, *shape), np.float32)
    planes = max(1, CHUNK // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        grid = np.indices((min(planes, shape[0] - start), *shape[1:]), np.float32)
        grid[0] += start
        volumes[:, start : start + planes] = _render(
            _apply(world_to_template @ affine, grid.reshape(3, -1)),
            template,
            anatomy,
            fields=(warp, displacement, texture, thickness),
            share=share,
            is_male=sex == "M",
            edge_mm=resolution_mm,
        ).reshape(6, *grid.shape[1:])
    clean, head, gm, wm, csf, brain = volumes
    is_head = head > 0.5

    scan_rng = np.random.default_rng(acquisition.seed)
    bias = draw_bias(scan_rng, is_head, acquisition.bias)
    return Phantom(
        t1w=add_noise(scan_rng, clean * bias, acquisition.noise),
        clean=clean,
        brain=brain > 0.5,
        head=is_head,
        gm=gm,
        wm=wm,
        csf=csf,
        bias=bias,
        affine=affine,
        world_to_template=world_to_template,
        displacement=displacement,
        displacement_affine=template.coarse_affine,
        anatomy=anatomy,
        acquisition=acquisition,
        age_y=age_y,
        sex=sex,
    )


def make_twins(
    seed: int,
    effect: Literal["age", "sex"],
    *,
    resolution_mm: float = 2.0,
    anatomy: Anatomy | None = None,
    acquisition: Acquisition | None = None,
) -> tuple[Phantom, Phantom]:
    """Make the same person twice, with only one planted effect changed.

    Returns
    -------
    tuple of 2 Phantom
        (20 years, 80 years) for "age"; ("F", "M") for "sex". Person, pose, bias field and noise
        are the same, so that the difference of the images is the effect.
    """
    youngest, oldest = AGE_RANGE_Y
    states: dict[str, tuple[tuple[float, Sex], tuple[float, Sex]]] = {
        "age": ((youngest, "F"), (oldest, "F")),
        "sex": ((youngest, "F"), (youngest, "M")),
    }
    if effect not in states:
        raise ValueError(f"effect {effect!r}: twins differ in one of {sorted(states)}")
    first, second = (
        make_phantom(
            seed,
            age_y=age_y,
            sex=sex,
            resolution_mm=resolution_mm,
            anatomy=anatomy,
            acquisition=acquisition,
        )
        for age_y, sex in states[effect]
    )
    return first, second


def _render(
    q: Array,
    template: HeadTemplate,
    anatomy: Anatomy,
    *,
    fields: tuple[Array, Array, Array, Array],
    share: float,
    is_male: bool,
    edge_mm: float,
) -> Array:
    """Give (clean, head, gm, wm, csf, brain), (6, n), at points q, (3, n) mm, before the warp."""
    warp, displacement, texture, thickness = fields
    coarse = template.coarse_affine
    p = q + np.stack([sample(u, coarse, q) for u in displacement])
    hull_mm = sample(template.hull_mm, coarse, p, outside=FAR_MM)
    clean, head = paint_head(
        p,
        hull_mm,
        sample(texture, coarse, q),
        sample(thickness, coarse, q),
        rim_mm=anatomy.rim_mm,
        skull_mm=anatomy.skull_mm,
        scalp_mm=anatomy.scalp_mm,
        edge_mm=edge_mm,
    )

    # The brain is a sixth of the grid; its volumes are sampled nowhere else.
    near = np.flatnonzero(hull_mm < anatomy.rim_mm + edge_mm)
    p, q = p[:, near], q[:, near]
    # Ventricles widen about where the warp has put them, not about where the push leads to.
    r = q + np.stack([sample(u, coarse, q) for u in warp])
    depth_mm = AGEING_VENTRICLE_MM * share - sample(template.ventricle_mm, coarse, r)
    widened = np.clip(0.5 + depth_mm / edge_mm, 0, 1)
    t1, gm, wm, brain = paint_brain(p, template, widened=widened, share=share, is_male=is_male)
    clean[near] = t1 + (1 - brain) * clean[near]
    skull_inside = np.clip(0.5 + (anatomy.rim_mm - hull_mm[near]) / edge_mm, 0, 1)
    # What surrounds the brain is CSF, also where an edge voxel belongs half to the brain.
    csf = np.maximum(np.maximum(skull_inside, np.minimum(2 * brain, 1)) - gm - wm, 0)
    rendered = np.zeros((6, clean.size), np.float32)
    rendered[0], rendered[1] = clean, head
    rendered[2:, near] = gm, wm, csf, brain
    return rendered


def _apply(matrix: Matrix, points: Array) -> Array:
    single = matrix.astype(np.float32)
    return single[:3, :3] @ points + single[:3, 3:]
