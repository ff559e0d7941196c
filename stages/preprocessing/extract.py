"""First step: reorient, find the brain, cut the neck off, remove the bias field."""

from __future__ import annotations

import logging
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.preprocessing import (
    bias,
    brain_mask,
    engines,
    figures,
    geometry,
    nifti,
    provenance,
)

logger = logging.getLogger(__name__)


def run(
    *, image: Path, t1w: Path, mask: Path, brain: Path, scans: Path, figure: Path, before: Path,
    engine: str, crop: bool, seed: int,
) -> None:  # fmt: skip
    """Turn one raw T1-weighted head into a corrected one with a brain mask.

    Parameters
    ----------
    image : Path
        Raw head, any orientation.
    t1w, mask, brain, scans, figure, before : Path
        Written: corrected whole head; brain mask on its grid; the brain alone; one row of geometry
        and quality; outline of the mask; the same slices without it.
    engine : {"builtin", "fsl", "synthstrip"}
        Who finds the brain; ``fsl`` does the whole step in fsl_anat's order.
    crop : bool
        Whether to cut the neck off.
    seed : int
        Not used: nothing here is random.

    Raises
    ------
    ValueError
        When the file cannot be processed or holds no brain.
    FileNotFoundError
        When a tool or the network's weights are missing.
    """
    stored = nifti.load_t1w(Path(image))
    if not stored.record["sform_code"] and not stored.record["qform_code"]:
        logger.warning(
            "%s: the header states no orientation (sform and qform code 0), the first axis is "
            "taken to run left; convert it from DICOM again if left and right matter",
            image,
        )
    with tempfile.TemporaryDirectory(dir=Path(t1w).parent) as scratch:
        if engine == "fsl":
            head, affine, inside = engines.fsl_head(Path(image), Path(scratch), crop=crop)
            found = {"method": "fsl_anat order", "flag": "n/a", "reasons": "n/a"}
            field_range = float("nan")
        else:
            head, affine, inside, found = _find_brain(Path(image), stored, engine, Path(scratch))
            if crop:
                first = geometry.neck_cut(head, affine, inside)
                inside, _ = geometry.crop_below(inside, affine, first)
                head, affine = geometry.crop_below(head, affine, first)
            field = bias.estimate_field(head, affine, inside)
            head = head / field
            low, high = np.percentile(field[inside], (1, 99))
            field_range = float(high / low)
    volume_ml = float(np.count_nonzero(inside) * abs(np.linalg.det(affine[:3, :3])) / 1000)
    after = geometry.describe(head.shape, affine, 2, 2)
    row = {
        "filename": f"anat/{Path(t1w).name}",
        **{f"raw_{key}": value for key, value in stored.record.items()},
        **{key: after[key] for key in ("shape", "zooms", "orientation", "n_slices")},
        "brain_volume_ml": round(volume_ml, 1),
        "bias_range": round(field_range, 3),
        "mask_method": found["method"],
        "mask_flag": found["flag"],
        "mask_reasons": found["reasons"],
    }
    logger.info(
        "brain %.0f ml by %s, mask %s, bias field ratio %.2f",
        volume_ml, found["method"], found["flag"], field_range,
    )  # fmt: skip
    nifti.save_image(Path(t1w), head, affine, dtype="int16")
    nifti.save_image(Path(mask), inside, affine, dtype="uint8")
    nifti.save_image(Path(brain), np.where(inside, head, 0), affine, dtype="int16")
    is_synthetic = provenance.is_synthetic(Path(image))
    fields = {"Engine": engine} | ({provenance.FIELD: True} if is_synthetic else {})
    nifti.save_fields(Path(t1w), BiasCorrection="FAST" if engine == "fsl" else _n4(), **fields)
    nifti.save_fields(Path(brain), BrainExtraction=found["method"], **fields)
    nifti.save_fields(Path(mask), Method=found["method"], QualityFlag=found["flag"], **fields)
    nifti.save_row(Path(scans), row)
    origin = provenance.CAPTION if is_synthetic else ""
    caption = f"Brain mask ({found['method']}, {volume_ml:.0f} ml, {found['flag']})"
    for path, is_drawn in ((figure, True), (before, False)):
        picture = figures.outlines(
            head,
            affine,
            [(inside, figures.RED)],
            caption=origin
            + (f"{caption} over the bias-corrected T1w" if is_drawn else "Bias-corrected T1w"),
            is_drawn=is_drawn,
        )
        figures.save(picture, Path(path))


def _find_brain(
    path: Path, stored: nifti.Volume, engine: str, scratch: Path
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
    """Return head, affine and mask, all RAS+, and how the mask was found."""
    if engine == "synthstrip":
        mask = engines.synthstrip_mask(path, scratch)
        found = {"method": "SynthStrip", "flag": "n/a", "reasons": "n/a"}
    else:
        brain = brain_mask.extract_brain(stored.data, stored.affine)
        mask = brain.mask
        found = {
            "method": brain.method,
            "flag": brain.flag,
            "reasons": "; ".join(brain.reasons) or "n/a",
        }
    if not mask.any():
        raise ValueError(
            f"{path}: no brain was found ({found['reasons']}); check that this is a T1-weighted "
            "head with its whole brain in view, or try another engine (fsl, synthstrip)"
        )
    head, affine = geometry.to_canonical(stored.data, stored.affine)
    return head, affine, geometry.to_canonical(mask, stored.affine)[0], found


def _n4() -> str:
    return f"N4, SimpleITK {version('SimpleITK')}, {bias.WORKING_MM:g} mm"
