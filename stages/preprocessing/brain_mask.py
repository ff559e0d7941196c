"""Finds the brain in a whole head: the intracranial mask, and how far it can be trusted.

Two small U-Nets work one after the other, on grids along the world's axes:

1. *locate* sees the whole field of view at 4 mm and says where the brain is, so that long necks,
   empty borders and the position of the head do not matter;
2. around that place it looks again, and *refine* corrects it at 2 mm, once as the head is and once
   in a left-right mirror; the mean gives each voxel's probability of being intracranial, which is
   brought to the image's own grid by linear interpolation and cut at one half.

The agreement of the two looks, the sharpness of the probabilities, the volume and the shape make
the quality flag. When the networks' answer is not plausible, thresholding and morphology are tried;
when that fails too, the flag is ``fail`` and the mask is empty.

The mask holds what DLMUSE labels: brain, ventricles and the fluid around the brain, down to the
foramen magnum. How the weights were made and where they fail is in ``weights/brain_mask.json``.

References
----------
Hoopes A, et al. SynthStrip. NeuroImage 260:119474, 2022.
Billot B, et al. SynthSeg. Medical Image Analysis 86:102789, 2023.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.preprocessing import brain_classical
from stages.preprocessing.brain_grid import bounds_mm, extend, sample, shrink, to_native, world_grid
from stages.preprocessing.brain_quality import clean, dice, judge, measure

#: Model card of the networks that are shipped; their programs lie beside it.
CARD = Path(__file__).parent / "weights" / "brain_mask.json"

Array = NDArray[Any]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
#: logits (x, y, z) of a normalised volume (x, y, z)
Network = Callable[[Floats], Floats]

LOCATE_MM, REFINE_MM = 4.0, 2.0
#: Smallest grids, as in training; larger ones are a multiple of `STRIDE`.
LOCATE_SHAPE, REFINE_SHAPE, STRIDE = (64, 64, 64), (96, 112, 96), 16
#: 448 mm; of a longer field of view only the surroundings of the bright voxels are searched.
LOCATE_LARGEST = 112
REFINE_LARGEST = 160
#: Overlap of the brain with all that is not background above which the image is called stripped. A
#: child's head gives 0.7, a template's brain 0.8 or more.
STRIPPED_DICE = 0.78
#: Around the brain, mm.
MARGIN_MM = 12.0


@dataclass(frozen=True, eq=False)
class BrainMask:
    """The brain of one image and how far to trust it.

    Attributes
    ----------
    mask : bool array, (x, y, z)
        On the image's own grid; empty when ``flag`` is ``fail``.
    probability : float32 array, (x, y, z)
        Before the cut at one half, also of a mask that was rejected.
    flag : {"pass", "warn", "fail"}
    reasons : tuple of str
        Why the flag is not ``pass``.
    method : {"unet", "classical"}
    volume_ml : float
        Volume of the mask that was found, also when it was rejected.
    plausibility : float
        0 to 1: the worst of the checks, 1 inside its usual range and 0 where it fails.
    checks : dict
        The numbers that were checked, see `brain_quality.LIMITS`.
    """

    mask: Mask
    probability: Floats
    flag: str
    reasons: tuple[str, ...] = ()
    method: str = "unet"
    volume_ml: float = 0.0
    plausibility: float = 0.0
    checks: dict[str, float] = field(default_factory=dict)


def extract_brain(image: Array, affine: Array, *, card: Path = CARD) -> BrainMask:
    """Find the brain.

    Parameters
    ----------
    image : array, (x, y, z)
        A whole head: any orientation, voxel size, contrast and sign.
    affine : array, (4, 4)
        Voxel to world, mm, RAS+.
    card : path
        Model card of the networks; default: those that are shipped.

    Returns
    -------
    BrainMask

    Raises
    ------
    ValueError
        If the image is not 3D or has no voxels, if the affine cannot be inverted, or if the
        programs and the model card do not belong together.
    """
    volume, affine = _check_input(image, affine)
    finite = np.isfinite(volume)
    n_broken = int(volume.size - np.count_nonzero(finite))
    if n_broken == volume.size:
        return _reject(volume.shape, "no voxel is finite; export the image again")
    low, high = float(volume[finite].min()), float(volume[finite].max())
    if not high > low:
        return _reject(volume.shape, f"constant image, every voxel is {low:g}; export it again")
    # Around 0 to 1: float32 loses little there, whatever the units were.
    volume = (volume - np.float32(low)) / np.float32(high - low)
    fill = _background(volume, finite)
    if n_broken:
        volume = np.where(finite, volume, np.float32(fill))
    dark, bright = np.percentile(volume.ravel()[:: max(1, volume.size // 200_000)], (1, 99))
    if fill > dark + 0.8 * (bright - dark):
        # Air gives no signal: where it is the brightest of all, the image is upside down.
        volume, fill = 1 - volume, 1 - fill

    locate, cascade = load_networks(card)
    probability, agreement = _run_networks(volume, affine, fill, locate, cascade)
    found = _assess(probability, affine, {"agreement": agreement}, method="unet")
    if found.flag == "fail":
        other = _assess(_run_classical(volume, affine), affine, {}, method="classical")
        if other.flag != "fail":
            rejected = "the networks' mask was rejected: " + ", ".join(found.reasons)
            found = replace(other, flag="warn", reasons=(rejected, *other.reasons),
                            plausibility=0.5 * other.plausibility)  # fmt: skip
    elif (brain := _find_stripped(volume, fill, found.mask)) is not None:
        reason = "the image is skull-stripped already: the mask is all of it that is not background"
        found = _assess(brain.astype(np.float32), affine, {}, method="unet")
        found = replace(found, flag="warn", reasons=(reason, *found.reasons))
    if not n_broken:
        return found
    inside = int(np.count_nonzero(found.mask & ~finite))
    if inside:
        reason = f"{inside} voxels in the brain are not finite; export the image again"
        return _reject(volume.shape, reason, *found.reasons)
    reason = f"{n_broken} voxels outside the brain are not finite, taken as background"
    flag = "warn" if found.flag == "pass" else found.flag
    return replace(found, flag=flag, reasons=(reason, *found.reasons))


def normalise(volume: Floats) -> Floats:
    """Scale to 0 ... 1 between the 1st percentile and the 99th of the voxels brighter than the
    mean.

    The percentile of the bright part hardly moves with the amount of air in the field of view.
    """
    some = volume.ravel()[:: max(1, volume.size // 200_000)]
    low = np.percentile(some, 1)
    bright = some[some > some.mean()]
    high = np.percentile(bright, 99) if bright.size else low
    if not high > low:
        return np.zeros(volume.shape, np.float32)
    return np.asarray(((volume - low) / (high - low)).clip(0, 1), np.float32)


def load_networks(card: Path) -> tuple[Network, Network]:
    """Load *locate* and the cascade of both; each file must have the SHA-256 that the card gives.

    They run as ONNX programs: the stage needs no torch, whose import alone takes longer than
    finding a brain.

    Raises
    ------
    ValueError
        If programs and card do not belong together.
    """
    locate, refine = (_load_program(card, name) for name in ("locate", "refine"))

    def cascade(volume: Floats) -> Floats:
        x, y, z = (n // 2 for n in volume.shape)
        halved = volume.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5), dtype=np.float32)
        return refine(volume, locate(halved))

    return locate, cascade


def _load_program(card: Path, name: str) -> Callable[..., Floats]:
    import onnxruntime

    path = card.with_name(f"{card.stem}_{name}.onnx")
    content = path.read_bytes()
    expected = json.loads(card.read_text())["sha256"][path.name]
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path}: SHA-256 {digest[:12]}..., but the model card says {expected[:12]}...; "
            "fetch both files again"
        )
    options = onnxruntime.SessionOptions()
    # It would take every core of the machine, whatever the job was given.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 1))
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(*volumes: Floats) -> Floats:
        given = {n: v[None, None] for n, v in zip(names, volumes, strict=True)}
        return np.asarray(session.run(None, given)[0][0, 0])

    return run


def _check_input(image: Array, affine: Array) -> tuple[Floats, NDArray[np.float64]]:
    image, affine = np.asarray(image), np.asarray(affine, float)
    if image.ndim != 3:
        raise ValueError(
            f"{image.ndim}D image of shape {image.shape}, expected 3D; give one volume"
        )
    if image.size == 0:
        raise ValueError(f"empty image of shape {image.shape}; give a volume with voxels")
    if affine.shape != (4, 4) or not abs(np.linalg.det(np.nan_to_num(affine))) > 1e-9:
        raise ValueError(f"affine {affine.tolist()} cannot be inverted; repair the image's header")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported
        return np.ascontiguousarray(image, np.float32), affine


def _reject(shape: tuple[int, ...], *reasons: str) -> BrainMask:
    """Make the answer for an image in which no brain can be found."""
    return BrainMask(np.zeros(shape, bool), np.zeros(shape, np.float32), "fail", reasons)


def _find_stripped(volume: Floats, fill: float, mask: Mask) -> Mask | None:
    """Return what is not background if that is a brain without a head.

    Then background is constant, and the brain that was found nearly fills the rest; of a head it
    fills less than half.
    """
    rest = np.abs(volume - np.float32(fill)) > 1e-3
    if np.count_nonzero(rest) > 0.7 * volume.size:
        return None
    brain = clean(rest)
    return brain if dice(brain, mask) > STRIPPED_DICE else None


def _background(volume: Floats, finite: Mask) -> float:
    """Return the median of the six faces: mostly air, whatever the contrast."""
    faces = [
        np.take(volume, i, axis)[np.take(finite, i, axis)] for axis in range(3) for i in (0, -1)
    ]
    values = np.concatenate(faces)
    return float(np.median(values)) if values.size else 0.0


def _run_networks(
    volume: Floats, affine: Array, fill: float, locate: Network, cascade: Network
) -> tuple[Floats, float]:
    """Return the probability on the image's grid and the Dice overlap of the two looks."""
    fine, fine_affine = shrink(volume, affine, REFINE_MM)
    coarse, coarse_affine = extend(*shrink(fine, fine_affine, LOCATE_MM))
    fine, fine_affine = extend(fine, fine_affine)
    low, high = bounds_mm(np.ones(coarse.shape, bool), coarse_affine)
    if ((high - low) > LOCATE_MM * LOCATE_LARGEST).any():
        bright = np.argwhere(coarse > coarse.mean())
        middle = coarse_affine[:3, :3] @ np.median(bright, axis=0) + coarse_affine[:3, 3]
        half = LOCATE_MM * LOCATE_LARGEST / 2
        low, high = np.maximum(low, middle - half), np.minimum(high, middle + half)
    shape, grid = world_grid(
        low, high, LOCATE_MM, smallest=LOCATE_SHAPE, largest=LOCATE_LARGEST, multiple=STRIDE
    )
    found = locate(normalise(sample(coarse, coarse_affine, shape, grid, fill=fill))) > 0
    # A grid reaches beyond the image, where nothing can be found.
    first = clean(found & _seen(coarse, coarse_affine, shape, grid))
    if not first.any():
        return np.zeros(volume.shape, np.float32), 0.0

    low, high = bounds_mm(first, grid)
    fine_shape, fine_grid = world_grid(
        low - MARGIN_MM, high + MARGIN_MM, REFINE_MM,
        smallest=REFINE_SHAPE, largest=REFINE_LARGEST, multiple=STRIDE,
    )  # fmt: skip
    seen = normalise(sample(fine, fine_affine, fine_shape, fine_grid, fill=fill))
    # Two looks, the second in a mirror: heads are nearly symmetric, errors of a network are not.
    mirrored = cascade(np.ascontiguousarray(seen[::-1]))[::-1]
    logits = 0.5 * (cascade(seen) + mirrored)
    second = (logits > 0) & _seen(fine, fine_affine, fine_shape, fine_grid)
    before = sample(first.astype(np.float32), grid, fine_shape, fine_grid, fill=0.0) > 0.5
    probability = np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)
    return to_native(probability, fine_grid, volume.shape, affine), dice(second, before)


def _seen(volume: Floats, affine: Array, shape: tuple[int, ...], grid: Array) -> Mask:
    """Tell which voxels of a grid lie within the image."""
    return sample(np.ones(volume.shape, np.float32), affine, shape, grid, fill=0.0) > 0.5


def _run_classical(volume: Floats, affine: Array) -> Floats:
    """Return the mask of `brain_classical.strip`, made at 4 mm, on the image's grid."""
    small, small_affine = shrink(volume, affine, LOCATE_MM)
    low, high = bounds_mm(np.ones(volume.shape, bool), affine)
    shape, grid = world_grid(
        low, high, LOCATE_MM, smallest=(8, 8, 8), largest=LOCATE_LARGEST, multiple=1
    )
    head = normalise(sample(small, small_affine, shape, grid, fill=0.0))
    return to_native(brain_classical.strip(head).astype(np.float32), grid, volume.shape, affine)


def _assess(
    probability: Floats, affine: Array, checks: dict[str, float], *, method: str
) -> BrainMask:
    """Cut the probability at one half and judge what is left."""
    mask = clean(probability > 0.5)
    checks = measure(mask, affine) | checks
    if method == "unet" and mask.any():
        # The Dice overlap to expect with the truth, if the probabilities are right.
        expected = 2 * float(probability[mask].sum(dtype=float))
        checks["sharpness"] = expected / (float(probability.sum(dtype=float)) + int(mask.sum()))
    flag, reasons, plausibility = judge(checks)
    kept = mask if flag != "fail" else np.zeros_like(mask)
    return BrainMask(
        kept, probability, flag, reasons, method, checks["volume_ml"], plausibility, checks
    )
