"""Third step: grey matter, white matter and fluid, in the head's own frame and the template's."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np

from stages.preprocessing import (
    engines,
    figures,
    itk,
    nifti,
    provenance,
    quality,
    registration,
    template,
    tissue,
)

logger = logging.getLogger(__name__)


def run(
    *, t1w: Path, mask: Path, to_template: Path, gm: Path, wm: Path, csf: Path, template_gm: Path,
    template_wm: Path, template_csf: Path, template_gm_t1w: Path, scans: Path, figure: Path,
    engine: str, profile: list[str], gm_threshold: float, seed: int,
) -> None:  # fmt: skip
    """Segment a corrected brain and carry its tissues to the template.

    Parameters
    ----------
    t1w, mask, to_template : Path
        Corrected head, its brain mask, and the ITK affine that resamples it on the template.
    gm, wm, csf : Path
        Written: fraction of each tissue, on the head's grid.
    template_gm, template_wm, template_csf, template_gm_t1w : Path
        Written for the profile ``mni-gm``: the same on the template's grid, not modulated, and the
        T1w image where grey matter prevails.
    scans, figure : Path
        Written: one row of volumes and quality, with the overall flag; tissues in colour.
    engine : {"builtin", "fsl", "synthstrip"}
        ``fsl`` segments with FAST.
    profile : list of {"fsl-anat", "mni-gm", "coronal"}
        Products wanted.
    gm_threshold : float
        Fraction of grey matter above which a voxel of ``template_gm_t1w`` is kept.
    seed : int
        Not used: nothing here is random.

    Raises
    ------
    ValueError
        When the tissues cannot be told apart.
    FileNotFoundError
        When the template or a tool is missing.
    """
    head, brain = nifti.load_volume(Path(t1w)), nifti.load_volume(Path(mask)).data > 0.5
    matrix = itk.read_transform(Path(to_template))
    target = template.load()
    if engine == "fsl":
        with tempfile.TemporaryDirectory(dir=Path(gm).parent) as scratch:
            stripped = Path(scratch) / "brain.nii.gz"
            nifti.save_image(stripped, np.where(brain, head.data, 0), head.affine, dtype="float32")
            fractions = engines.fsl_tissues(stripped, Path(scratch))
    else:
        priors = tissue.bring_priors(
            target.priors, target.affine, matrix, head.data.shape, head.affine
        )
        try:
            fractions = tissue.segment(head.data, head.affine, brain, priors).fractions
        except ValueError as error:
            raise ValueError(f"{t1w}: {error}") from error
    method = "FAST" if engine == "fsl" else "Gaussian mixture with partial volume and priors"

    voxel_ml = abs(float(np.linalg.det(head.affine[:3, :3]))) / 1000
    volumes = {
        f"{name.lower()}_volume_ml": float(fraction.sum(dtype=np.float64)) * voxel_ml
        for name, fraction in zip(tissue.TISSUES, fractions, strict=True)
    }
    brain_ml = float(np.count_nonzero(brain)) * voxel_ml
    measures = volumes | {
        "brain_volume_ml": brain_ml,
        "gm_fraction": volumes["gm_volume_ml"] / brain_ml,
        "wm_fraction": volumes["wm_volume_ml"] / brain_ml,
        **quality.tissue_contrast(head.data, fractions),
    }
    shape = target.t1w.shape
    carried = [
        itk.resample(fraction, head.affine, matrix, shape, target.affine) for fraction in fractions
    ]
    aligned, reached = registration.carry_brain(
        head.data, head.affine, brain, matrix, shape, target.affine
    )
    measures["ncc_template"] = quality.template_correlation(aligned, target.t1w)
    measures["dice_template"] = quality.dice(reached, target.t1w > 0)
    flag, reasons = quality.judge(measures)
    logger.info("grey matter %.0f ml, quality %s", volumes["gm_volume_ml"], flag)

    is_synthetic = provenance.is_synthetic(Path(t1w))
    fields = {"Method": method} | ({provenance.FIELD: True} if is_synthetic else {})
    for path, fraction in zip((csf, gm, wm), fractions, strict=True):
        nifti.save_image(Path(path), fraction, head.affine, dtype="uint8", slope=1 / 255)
        nifti.save_fields(Path(path), **fields)
    if "mni-gm" in profile:
        for path, fraction in zip((template_csf, template_gm, template_wm), carried, strict=True):
            nifti.save_image(Path(path), fraction, target.affine, dtype="uint8", slope=1 / 255)
            nifti.save_fields(Path(path), Template=template.DESCRIPTION, **fields)
        grey = np.where(carried[1] > gm_threshold, aligned, 0)
        nifti.save_image(Path(template_gm_t1w), grey, target.affine, dtype="int16")
        nifti.save_fields(Path(template_gm_t1w), Template=template.DESCRIPTION, **fields)
    del measures["brain_volume_ml"], measures["ncc_template"], measures["dice_template"]
    row: dict[str, str | float] = {"filename": f"anat/{Path(t1w).name}"}
    row |= {name: round(value, 4) for name, value in measures.items()}
    nifti.save_row(Path(scans), row | {"qc": flag, "qc_reasons": reasons})
    origin = provenance.CAPTION if is_synthetic else ""
    caption = (
        f"{origin}CSF (blue) {volumes['csf_volume_ml']:.0f} ml, grey matter (red) "
        f"{volumes['gm_volume_ml']:.0f} ml, white matter (yellow) {volumes['wm_volume_ml']:.0f} "
        f"ml; quality {flag}"
    )
    figures.save(figures.overlay(head.data, head.affine, fractions, caption=caption), Path(figure))
