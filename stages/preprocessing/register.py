"""Second step: align the brain with the template, and what is seen in its frame."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

from stages.preprocessing import (
    coronal,
    engines,
    figures,
    itk,
    nifti,
    provenance,
    quality,
    registration,
    template,
)

logger = logging.getLogger(__name__)


def run(
    *, t1w: Path, mask: Path, to_template: Path, from_template: Path, to_upright: Path,
    template_brain: Path, coronal_slice: Path, coronal_picture: Path, scans: Path, figure: Path,
    before: Path, engine: str, profile: list[str], dof: int, coronal_y: float, seed: int,
) -> None:  # fmt: skip
    """Align a corrected head with the template by ``dof`` and by 6 degrees of freedom.

    Parameters
    ----------
    t1w, mask : Path
        Corrected head and its brain mask.
    to_template, from_template, to_upright : Path
        Written: ITK affine that resamples the head on the template's grid, its inverse, and the
        rigid one that resamples it in the upright frame.
    template_brain, coronal_slice, coronal_picture : Path
        Written for the profiles ``mni-gm``, ``coronal`` and ``coronal``.
    scans, figure, before : Path
        Written: one row of quality numbers; the template's borders over the aligned head; the
        template in the same slices.
    engine : {"builtin", "fsl", "synthstrip"}
        ``fsl`` aligns with FLIRT.
    profile : list of {"fsl-anat", "mni-gm", "coronal"}
        Products wanted.
    dof : {6, 7, 9, 12}
        Degrees of freedom of the alignment with the template.
    coronal_y : float
        Where the coronal slice is cut, mm.
    seed : int
        Not used: every voxel takes part and nothing is random.

    Raises
    ------
    ValueError
        When the brain is empty or misses the coronal plane.
    FileNotFoundError
        When the template or a tool is missing.
    """
    head, brain = nifti.load_volume(Path(t1w)), nifti.load_volume(Path(mask)).data > 0.5
    stripped = np.where(brain, head.data, 0)
    target = template.load()
    if engine == "fsl":
        matrix, posture = _flirt(stripped, head.affine, target, dof, Path(t1w).parent)
    else:
        found = registration.align(
            stripped, head.affine, target.t1w, target.affine, dof=(6, dof) if dof != 6 else (6,)
        )
        matrix, posture = found[dof].matrix, found[6].matrix
    itk.write_transform(Path(to_template), matrix)
    itk.write_transform(Path(from_template), np.linalg.inv(matrix))
    itk.write_transform(Path(to_upright), posture)

    aligned, reached = registration.carry_brain(
        head.data, head.affine, brain, matrix, target.t1w.shape, target.affine
    )
    inside = target.t1w > 0
    measures = {
        "ncc_template": quality.template_correlation(aligned, target.t1w),
        "dice_template": quality.dice(reached, inside),
        "scale_template": float(np.cbrt(abs(np.linalg.det(matrix[:3, :3])))),
        "tilt_deg": _angle_deg(posture),
    }
    flag, reasons = quality.judge(measures)
    logger.info("correlation with the template %.3f, %s", measures["ncc_template"], flag)
    is_synthetic = provenance.is_synthetic(Path(t1w))
    made_up = {provenance.FIELD: True} if is_synthetic else {}
    fields = made_up | {
        "Template": template.DESCRIPTION,
        "DegreesOfFreedom": dof,
        "Engine": "flirt" if engine == "fsl" else "builtin",
        "CorrelationWithTemplate": round(measures["ncc_template"], 4),
    }
    for path in (to_template, from_template, to_upright):
        nifti.save_fields(Path(path), **fields | _direction(path, to_upright, from_template))
    if "mni-gm" in profile:
        nifti.save_image(Path(template_brain), aligned, target.affine, dtype="int16")
        nifti.save_fields(Path(template_brain), **fields)
    if "coronal" in profile:
        plane, grid = coronal.cut(stripped, head.affine, posture, coronal_y)
        picture, white = coronal.to_picture(plane)
        nifti.save_image(Path(coronal_slice), plane, grid, dtype="float32")
        nifti.save_fields(
            Path(coronal_slice),
            SliceAxis="y",
            SliceCoordinate={"Value": coronal_y, "Units": "mm"},
            SliceIndex=round(coronal_y - float(target.affine[1, 3])),
            SliceIndexGrid="1 mm grid of the template",
            PictureWhite=round(white, 4),
            **made_up,
        )
        note = PngInfo()
        note.add_text("Description", f"Coronal slice, y = {coronal_y:g} mm; person's left is left")
        picture.save(Path(coronal_picture), pnginfo=note)
    measured = {name: round(value, 4) for name, value in measures.items()}
    row = {"filename": f"anat/{Path(t1w).name}", **measured}
    nifti.save_row(Path(scans), row | {"registration_flag": flag, "registration_reasons": reasons})
    borders = [(inside, figures.CYAN), (target.priors[2] > 0.5, figures.YELLOW)]
    words = f"{dof} dof, correlation {measures['ncc_template']:.2f}, {flag}"
    origin = provenance.CAPTION if is_synthetic else ""
    told = f"Template's brain (blue) and white matter (yellow) over the aligned brain ({words})"
    picture = figures.outlines(aligned, target.affine, borders, caption=origin + told)
    figures.save(picture, Path(figure))
    bare = figures.outlines(
        target.t1w, target.affine, borders, caption="The template", is_drawn=False
    )
    figures.save(bare, Path(before))


def _flirt(
    stripped: NDArray[np.float32],
    affine: NDArray[np.float64],
    target: template.Template,
    dof: int,
    parent: Path,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Align with FLIRT: the wanted transform and the rigid one."""
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        moving, fixed = Path(scratch) / "brain.nii.gz", Path(scratch) / "template.nii.gz"
        nifti.save_image(moving, stripped, affine, dtype="float32")
        nifti.save_image(fixed, target.t1w, target.affine, dtype="float32")
        matrix, posture = (
            engines.fsl_align(moving, fixed, Path(scratch), dof=number) for number in (dof, 6)
        )
    return matrix, posture


def _angle_deg(matrix: NDArray[np.float64]) -> float:
    """Return the angle by which a rigid transform turns."""
    cosine = (np.trace(matrix[:3, :3]) - 1) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def _direction(path: Path, to_upright: Path, from_template: Path) -> dict[str, object]:
    """Say which way a transform goes, which is the classic question about them."""
    if path == from_template:
        return {"Resamples": "images of the template on the grid of the T1w"}
    if path == to_upright:
        return {"Resamples": "the T1w in the upright frame", "DegreesOfFreedom": 6}
    return {"Resamples": "the T1w on the grid of the template"}
