"""Runs other people's tools on PATH: FSL in fsl_anat's order, and FreeSurfer's SynthStrip.

Each is called through a Nipype interface; Nipype is imported only here and only when such a tool is
asked for. Files in, arrays out. fsl_anat is: reorient, crop, bias field (BET, then FAST), FLIRT and
FNIRT to MNI152, brain mask brought back from MNI152, tissues by FAST. Two of its inner steps are
done with arrays instead of fslmaths and fslsmoothfill: the bias field is carried beyond the brain
by a normalised Gaussian, and holes in the mask are filled by scipy.

References
----------
Jenkinson et al. (2012), FSL, NeuroImage 62. Hoopes et al. (2022), SynthStrip: skull-stripping for
any brain image, NeuroImage 260.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.preprocessing import geometry, nifti

#: What each use of an engine calls.
EXTRACT_TOOLS = (
    *("fslreorient2std", "robustfov", "bet", "fast"),
    *("flirt", "fnirt", "invwarp", "applywarp"),
)
REGISTER_TOOLS = ("flirt",)
SEGMENT_TOOLS = ("fast",)
SYNTHSTRIP_TOOLS = ("mri_synthstrip",)
#: Blur that carries FAST's field beyond the brain.
FIELD_FWHM_MM = 40.0


def require(tools: tuple[str, ...], *, engine: str) -> None:
    """Check that programs are on PATH.

    Raises
    ------
    FileNotFoundError
        Names the missing ones and what to do.
    """
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        raise FileNotFoundError(
            f"engine '{engine}' needs {', '.join(missing)}, not found on PATH; install it and load "
            "its setup script, or choose the engine 'builtin'"
        )


def fsl_head(
    image: Path, folder: Path, *, crop: bool
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Reorient, crop, correct and strip a head in fsl_anat's order.

    Parameters
    ----------
    image : Path
        T1-weighted head.
    folder : Path
        Scratch space for intermediate files.
    crop : bool
        Whether robustfov cuts the neck off.

    Returns
    -------
    head : array, (x, y, z)
        Bias-corrected, RAS+.
    affine : array, (4, 4)
        Voxel to world, mm.
    mask : bool array, (x, y, z)

    Raises
    ------
    FileNotFoundError
        When one of the tools, or FSLDIR's templates, are missing.
    """
    require(EXTRACT_TOOLS, engine="fsl")
    from nipype.interfaces import fsl

    standard = fsl.Info.standard_image
    head = _call(fsl.Reorient2Std(in_file=_file(image), out_file=f"{folder}/T1.nii.gz"), folder)
    if crop:
        head = _call(
            fsl.RobustFOV(
                in_file=head,
                out_roi=f"{folder}/T1_roi.nii.gz",
                out_transform=f"{folder}/T1_roi2nonroi.mat",
            ),
            folder,
            "out_roi",
        )
    brain = f"{folder}/T1_initfast_brain.nii.gz"
    _call(fsl.BET(in_file=head, out_file=brain, mask=True, frac=0.1), folder)
    restored = _call(
        fsl.FAST(
            in_files=[brain],
            out_basename=f"{folder}/T1_fast",
            img_type=1,
            number_classes=3,
            bias_lowpass=10,
            bias_iters=10,
            hyper=0.0,
            no_pve=True,
            output_biasfield=True,
            output_biascorrected=True,
        ),
        folder,
        "restored_image",
    )
    corrected = f"{folder}/T1_biascorr.nii.gz"
    stored, stripped, flat = (nifti.load_volume(Path(p)) for p in (head, brain, restored))
    field = extend_field(stripped.data, flat.data, stored.affine)
    nifti.save_image(Path(corrected), stored.data / field, stored.affine, dtype="float32")

    linear = f"{folder}/T1_to_MNI_lin.mat"
    _call(
        fsl.FLIRT(
            in_file=corrected,
            reference=standard("MNI152_T1_2mm.nii.gz"),
            dof=12,
            interp="spline",
            out_file=f"{folder}/T1_to_MNI_lin.nii.gz",
            out_matrix_file=linear,
        ),
        folder,
    )
    warp = _call(
        fsl.FNIRT(
            in_file=corrected,
            ref_file=standard("MNI152_T1_2mm.nii.gz"),
            affine_file=linear,
            config_file="T1_2_MNI152_2mm",
            fieldcoeff_file=f"{folder}/T1_to_MNI_nonlin_coeff.nii.gz",
            warped_file=f"{folder}/T1_to_MNI_nonlin.nii.gz",
            log_file=f"{folder}/T1_to_MNI_nonlin.txt",
        ),
        folder,
        "fieldcoeff_file",
    )
    inverse = _call(
        fsl.InvWarp(
            warp=warp,
            reference=corrected,
            inverse_warp=f"{folder}/MNI_to_T1_nonlin_field.nii.gz",
        ),
        folder,
        "inverse_warp",
    )
    mask = _call(
        fsl.ApplyWarp(
            in_file=standard("MNI152_T1_2mm_brain_mask.nii.gz"),
            ref_file=corrected,
            field_file=inverse,
            interp="nn",
            out_file=f"{folder}/T1_biascorr_brain_mask.nii.gz",
        ),
        folder,
    )
    inside = ndimage.binary_fill_holes(nifti.load_volume(Path(mask)).data > 0.5)
    data, affine = geometry.to_canonical(stored.data / field, stored.affine)
    return data, affine, geometry.to_canonical(inside, stored.affine)[0]


def synthstrip_mask(image: Path, folder: Path) -> NDArray[np.bool_]:
    """Find the brain with FreeSurfer's SynthStrip; returns the mask on the image's stored grid.

    Raises
    ------
    FileNotFoundError
        When mri_synthstrip is not on PATH.
    """
    require(SYNTHSTRIP_TOOLS, engine="synthstrip")
    from nipype.interfaces.base import CommandLine, CommandLineInputSpec, File, traits

    class Inputs(CommandLineInputSpec):
        in_file = File(exists=True, mandatory=True, argstr="-i %s", position=0)
        out_mask = traits.Str(mandatory=True, argstr="-m %s", position=1)

    class SynthStrip(CommandLine):
        _cmd = "mri_synthstrip"
        input_spec = Inputs

    mask = f"{folder}/brain_mask.nii.gz"
    SynthStrip(in_file=_file(image), out_mask=mask).run(cwd=str(folder))
    return nifti.load_volume(Path(mask)).data > 0.5


def fsl_align(brain: Path, template: Path, folder: Path, *, dof: int) -> NDArray[np.float64]:
    """Align a brain with a template by FLIRT.

    Returns
    -------
    array, (4, 4)
        Template world to subject world, RAS+ mm.

    Raises
    ------
    FileNotFoundError
        When flirt is not on PATH.
    """
    require(REGISTER_TOOLS, engine="fsl")
    from nipype.interfaces import fsl

    matrix = _call(
        fsl.FLIRT(
            in_file=_file(brain),
            reference=_file(template),
            dof=dof,
            out_file=f"{folder}/brain_to_template_{dof}.nii.gz",
            out_matrix_file=f"{folder}/brain_to_template_{dof}.mat",
        ),
        folder,
        "out_matrix_file",
    )
    moving, fixed = nifti.load_volume(brain), nifti.load_volume(template)
    return flirt_to_world(
        np.loadtxt(matrix), moving.data.shape, moving.affine, fixed.data.shape, fixed.affine
    )


def fsl_tissues(brain: Path, folder: Path) -> NDArray[np.float32]:
    """Segment a bias-corrected brain by FAST.

    Returns
    -------
    array, (3, x, y, z)
        Partial volumes of CSF, grey and white matter on the brain's grid.

    Raises
    ------
    FileNotFoundError
        When fast is not on PATH.
    """
    require(SEGMENT_TOOLS, engine="fsl")
    from nipype.interfaces import fsl

    maps = _call(
        fsl.FAST(
            in_files=[_file(brain)],
            out_basename=f"{folder}/T1_fast",
            img_type=1,
            number_classes=3,
            bias_iters=10,
        ),
        folder,
        "partial_volume_files",
    )
    return np.stack([nifti.load_volume(Path(path)).data for path in sorted(maps)])


def flirt_to_world(
    matrix: NDArray[Any],
    moving_shape: tuple[int, ...],
    moving_affine: NDArray[Any],
    fixed_shape: tuple[int, ...],
    fixed_affine: NDArray[Any],
) -> NDArray[np.float64]:
    """Turn FLIRT's matrix into one between world coordinates.

    FLIRT counts mm from the corner voxel and runs x to the left: on a grid with a positive
    determinant it flips x first. Its matrix takes the moving image to the fixed one.

    Parameters
    ----------
    matrix : array, (4, 4)
        As FLIRT writes it.
    moving_shape, moving_affine, fixed_shape, fixed_affine
        Grids of the two images.

    Returns
    -------
    array, (4, 4)
        Fixed world to moving world, RAS+ mm.
    """
    to_moving = moving_affine @ np.linalg.inv(_flirt_frame(moving_shape, moving_affine))
    to_fixed = _flirt_frame(fixed_shape, fixed_affine) @ np.linalg.inv(fixed_affine)
    return np.asarray(to_moving @ np.linalg.inv(matrix) @ to_fixed)


def extend_field(
    before: NDArray[Any], after: NDArray[Any], affine: NDArray[Any]
) -> NDArray[np.float32]:
    """Carry a bias field known within the brain to the whole head.

    Parameters
    ----------
    before, after : array, (x, y, z)
        The brain without and with correction, 0 outside.
    affine : array, (4, 4)
        Voxel to world, mm.

    Returns
    -------
    array, (x, y, z)
        ``before / after`` in the brain, its Gaussian average elsewhere, 1 far away.
    """
    inside = (before > 0) & (after > 0)
    logs = np.zeros(before.shape, dtype=np.float32)
    logs[inside] = np.log(before[inside] / after[inside])
    sigma = FIELD_FWHM_MM / 2.3548 / geometry.zooms(affine)
    share = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    spread = ndimage.gaussian_filter(logs, sigma) / np.maximum(share, 1e-3)
    return np.exp(np.where(inside, logs, spread)).astype(np.float32)


def _flirt_frame(shape: tuple[int, ...], affine: NDArray[Any]) -> NDArray[np.float64]:
    """Return the matrix from voxels to FLIRT's millimetres."""
    frame = np.diag([*geometry.zooms(affine), 1.0])
    if np.linalg.det(affine[:3, :3]) > 0:
        frame[0, 0] *= -1
        frame[0, 3] = -frame[0, 0] * (shape[0] - 1)
    return frame


def _call(interface: Any, folder: Path, output: str = "out_file") -> Any:
    """Run an interface in the scratch folder and return one of its outputs."""
    interface.inputs.output_type = "NIFTI_GZ"
    return getattr(interface.run(cwd=str(folder)).outputs, output)


def _file(path: Path) -> str:
    return str(Path(path).resolve())
