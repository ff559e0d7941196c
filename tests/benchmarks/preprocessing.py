"""Preprocessing: what it takes and what it finds, beside recipes of antspyx and SimpleITK.

Claims: a 2 mm head takes at most 12 s of two cores and a 1 mm head at most 45 s, with everything
written, in at most 3 GB; N4 removes at least half of a planted +-30 % field (coefficient of
variation within white matter); a planted rotation of 12 degrees and shift of 6/4/4 mm is recovered
within 1 degree and 1 mm; grey matter correlates with planted grey matter by 0.85 or more; tissue
volumes of real heads correlate with third-party label maps by 0.8 or more.

    python -m tests.benchmarks.preprocessing [--peers] [--rounds 5] [--volumes] [--out DIR]

At least 3 times as fast as either. Each recipe runs in a process of its own, from file to files, on
two threads. Real heads (2 mm, IXI) are used where they lie at ``../shared/data/bids_ixi_hh``;
otherwise what needs them is left out, and said. antspyx gets the true brain mask, which it cannot
find itself: N4 on the whole image, ``antsRegistrationSyNQuick[a]`` to the template, Atropos with
k-means in the mask. SimpleITK has no tissues; it is given the mask too, corrects and aligns, and
stands beside our two functions that do this.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

import specs
from bids_app.demo.phantom import Phantom, make_phantom
from tests.benchmarks.record import save, time_in_turns

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY.parent / "shared" / "data" / "bids_ixi_hh"
PACKAGES = ("numpy", "scipy", "nibabel", "SimpleITK", "onnxruntime", "antspyx")
#: Ours and the peer that does as much.
PAIRS = (
    ("brainstages", "antspyx"),
    ("brainstages, bias and alignment", "SimpleITK, bias and alignment"),
)
STEPS = ("extract", "register", "segment")


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for, print the tables and write the records."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--peers", action="store_true", help="antspyx and SimpleITK too (minutes)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--volumes", action="store_true", help="all real heads (20 minutes)")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks"), help="folder of the records"
    )
    parser.add_argument("--recipe", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.recipe:
        name, image, mask, out = args.recipe
        RECIPES[name](Path(image), Path(mask), Path(out))
        # Not ru_maxrss: that starts from the size of the process which started this one.
        high_water = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        (Path(out) / "peak_kb").write_text(high_water[1] if high_water else "nan")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        rows = speed(Path(scratch), with_peers=args.peers, rounds=args.rounds)
        save("preprocessing_speed", rows, PACKAGES, args.out)
        save("preprocessing_truth", [*bias_rows(), *pose_rows()], PACKAGES, args.out)
        if args.volumes and REAL.exists():
            rows = volume_rows(Path(scratch))
            save("preprocessing_volumes", rows, PACKAGES, args.out)
            for tissue in ("gm", "wm"):
                pairs = np.array(
                    [(row[f"{tissue}_ml"], row[f"{tissue}_dlmuse_ml"]) for row in rows]
                )
                r = np.corrcoef(pairs.T)[0, 1]
                print(f"{tissue}: r = {r:.3f} with the label maps over {len(pairs)} heads")
    if not REAL.exists():
        print(f"no real heads at {REAL}: those rows are left out")
    return 0


def speed(scratch: Path, *, with_peers: bool, rounds: int) -> list[dict[str, Any]]:
    """Time the recipes in turns on one head of each size, with the accuracy they reach."""
    cases: list[tuple[str, Path, Path, Phantom | None]] = []
    for voxel_mm in (2.0, 1.0):
        phantom = make_phantom(3, age_y=50.0, sex="F", resolution_mm=voxel_mm)
        image, mask = (
            scratch / f"phantom{voxel_mm:.0f}.nii.gz",
            scratch / f"mask{voxel_mm:.0f}.nii.gz",
        )
        _write(image, (phantom.t1w * 1000).astype(np.int16), phantom.affine)
        _write(mask, phantom.brain.astype(np.uint8), phantom.affine)
        cases.append((f"phantom {voxel_mm:.0f} mm", image, mask, phantom))
    if REAL.exists():
        label = sorted(REAL.glob("sub-*"))[0].name
        mask = scratch / "real_mask.nii.gz"
        data, affine = reference_mask(label)
        _write(mask, data.astype(np.uint8), affine)
        cases.append((f"{label} 2 mm", REAL / label / "anat" / f"{label}_T1w.nii.gz", mask, None))
    rows = []
    for name, image, mask, truth in cases:
        for pair in PAIRS if with_peers else [PAIRS[0][:1]]:
            found: dict[str, dict[str, Any]] = {}
            folders = {recipe: scratch / f"{image.name}-{recipe}" for recipe in pair}
            for folder in folders.values():
                folder.mkdir()
            turns = {r: partial(_run, r, image, mask, folders[r], found) for r in pair}
            for row in time_in_turns(turns, rounds, aim="ratio >= 3"):
                recipe = row["what"]
                accuracy = _accuracy(folders[recipe], image, mask, truth)
                rows.append({"head": name, **row, **found[recipe], **accuracy})
    return rows


def bias_rows() -> list[dict[str, Any]]:
    """Plant a field of +-30 % on a clean phantom and on real heads; measure what is left."""
    from stages.preprocessing import bias

    phantom = make_phantom(5, resolution_mm=2.0)
    cases = [("phantom", phantom.clean, phantom.affine, phantom.brain, phantom.wm > 0.95)]
    for label in [path.name for path in sorted(REAL.glob("sub-*"))[:3]]:
        image = nib.as_closest_canonical(nib.load(REAL / label / "anat" / f"{label}_T1w.nii.gz"))
        mask, _ = reference_mask(label, canonical=True)
        labels = nib.as_closest_canonical(nib.load(_labels(label)))
        # DLMUSE 81-88: white matter of the lobes.
        white = ndimage.binary_erosion(np.isin(np.asarray(labels.dataobj), range(81, 89)))
        data = image.get_fdata(dtype=np.float32)
        clean = data / bias.estimate_field(data, image.affine, mask)
        cases.append((label, clean, image.affine, mask, white))
    rows = []
    for name, clean, affine, mask, white in cases:
        field = planted_field(clean.shape, mask)
        found = bias.estimate_field(clean * field, affine, mask)
        before, spoilt, after = (
            float(image[white].std() / image[white].mean())
            for image in (clean, clean * field, clean * field / found)
        )
        rows.append(
            {
                "check": "bias field",
                "head": name,
                "cv_clean": round(before, 4),
                "cv_planted": round(spoilt, 4),
                "cv_after": round(after, 4),
                "removed": round((spoilt - after) / (spoilt - before), 2),
            }
        )
    return rows


def pose_rows() -> list[dict[str, Any]]:
    """Turn real and phantom heads by 12 degrees and shift them; compare the two alignments."""
    from stages.preprocessing import geometry, registration, template

    target = template.load()
    phantom = make_phantom(5, resolution_mm=2.0)
    cases = [("phantom", phantom.t1w * phantom.brain, phantom.affine)]
    for label in [path.name for path in sorted(REAL.glob("sub-*"))[:2]]:
        image = nib.as_closest_canonical(nib.load(REAL / label / "anat" / f"{label}_T1w.nii.gz"))
        mask, _ = reference_mask(label, canonical=True)
        cases.append((label, image.get_fdata(dtype=np.float32) * mask, image.affine))
    rows = []
    for name, brain, affine in cases:
        still = registration.align(brain, affine, target.t1w, target.affine)
        for axis in range(3):
            planted = np.eye(4)
            planted[:3, :3] = Rotation.from_rotvec(np.deg2rad(12) * np.eye(3)[axis]).as_matrix()
            planted[:3, 3] = 6, 4, 4
            # Resampled on the old grid, so that interpolation and borders are part of the test.
            voxels = np.linalg.inv(affine) @ np.linalg.inv(planted) @ affine
            moved = ndimage.affine_transform(brain, voxels, order=1)
            _, grid = geometry.to_canonical(moved, affine)
            turned = registration.align(moved, grid, target.t1w, target.affine)
            for dof in (6, 12):
                error = np.linalg.inv(still[dof].matrix) @ np.linalg.inv(planted)
                error = error @ turned[dof].matrix
                left, _, right = np.linalg.svd(error[:3, :3])
                centre = np.array([0, -18, 10, 1.0])
                rows.append(
                    {
                        "check": "pose",
                        "head": name,
                        "axis": "xyz"[axis],
                        "dof": dof,
                        "error_deg": round(
                            float(np.rad2deg(Rotation.from_matrix(left @ right).magnitude())), 3
                        ),
                        "error_mm": round(float(np.linalg.norm((error @ centre - centre)[:3])), 3),
                    }
                )
    return rows


def volume_rows(scratch: Path) -> list[dict[str, Any]]:
    """Run the stage on all real heads and set its tissue volumes beside the label maps'."""
    with (REAL / "derivatives" / "dlmuse" / "dlmuse_volumes.tsv").open() as file:
        table = {row["participant_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    rows = []
    for label, volumes in sorted(table.items()):
        folder = scratch / label
        folder.mkdir()
        ours(REAL / label / "anat" / f"{label}_T1w.nii.gz", folder, folder)
        found = _row(folder / "segment-scans.tsv")
        mask = nib.load(folder / "extract-mask.nii.gz").get_fdata() > 0.5
        reference, _ = reference_mask(label, canonical=True)
        reference = reference[:, :, reference.shape[2] - mask.shape[2] :]
        rows.append(
            {
                "head": label,
                "gm_ml": round(float(found["gm_volume_ml"]), 1),
                "gm_dlmuse_ml": float(volumes["601"]) / 1000,
                "wm_ml": round(float(found["wm_volume_ml"]), 1),
                "wm_dlmuse_ml": float(volumes["604"]) / 1000,
                "mask_dice": round(
                    2 * (mask & reference).sum() / (mask.sum() + reference.sum()), 4
                ),
                "ncc_template": _row(folder / "register-scans.tsv")["ncc_template"],
                "qc": found["qc"],
            }
        )
    return rows


def ours(image: Path, mask: Path, folder: Path) -> None:
    """Run the three steps as the spec has them; the mask is not used."""
    import importlib

    files = {"image": image}
    for name in STEPS:
        step = specs.load("preprocessing").steps[name]
        for key, output in step.outputs.items():
            end = ".tsv" if output.table else output.bids["extension"]
            files[key] = folder / f"{name}-{key}{end}"
        params = {key: param.default for key, param in step.params.items()}
        module = importlib.import_module(f"stages.preprocessing.{name}")
        module.run(**{key: files[key] for key in (*step.inputs, *step.outputs)}, **params, seed=0)


def ants_recipe(image: Path, mask: Path, folder: Path) -> None:
    """Do the same with antspyx, given the brain mask."""
    import ants

    from stages.preprocessing import template

    fixed = ants.image_read(str(template.T1W))
    head, brain = ants.image_read(str(image)), ants.image_read(str(mask))
    corrected = ants.n4_bias_field_correction(head)
    stripped = corrected * brain
    found = ants.registration(
        fixed, stripped, type_of_transform="antsRegistrationSyNQuick[a]", random_seed=1
    )
    shutil.copy(found["fwdtransforms"][0], folder / "register-to_template.mat")
    classes = ants.atropos(a=stripped, x=brain, i="kmeans[3]", m="[0.2,1x1x1]", c="[5,0]")
    ants.image_write(classes["probabilityimages"][1], str(folder / "segment-gm.nii.gz"))


def align_only(image: Path, mask: Path, folder: Path) -> None:
    """Correct and align as the stage does, given the brain mask: what SimpleITK's recipe does."""
    from stages.preprocessing import bias, geometry, itk, registration, template

    target, head = template.load(), nib.load(image)
    data, affine = geometry.to_canonical(head.get_fdata(dtype=np.float32), head.affine)
    inside, _ = geometry.to_canonical(nib.load(mask).get_fdata(dtype=np.float32), head.affine)
    brain = data / bias.estimate_field(data, affine, inside > 0) * (inside > 0)
    found = registration.align(brain, affine, target.t1w, target.affine)
    itk.write_transform(folder / "register-to_template.mat", found[12].matrix)


def sitk_recipe(image: Path, mask: Path, folder: Path) -> None:
    """Correct and align with SimpleITK as its notebooks do, given the brain mask: no tissues.

    N4 on an image shrunk by 4; rigid, then affine, by Mattes' mutual information of 1 % of voxels
    at three resolutions.
    """
    import SimpleITK as sitk

    from stages.preprocessing import template

    head = sitk.ReadImage(str(image), sitk.sitkFloat32)
    brain = sitk.ReadImage(str(mask), sitk.sitkUInt8)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.Execute(sitk.Shrink(head, [4] * 3), sitk.Shrink(brain, [4] * 3))
    corrected = head / sitk.Exp(correction.GetLogBiasFieldAsImage(head))
    moving = sitk.Cast(sitk.Mask(corrected, brain), sitk.sitkFloat32)
    fixed = sitk.ReadImage(str(template.T1W), sitk.sitkFloat32)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.01, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    rigid = sitk.Euler3DTransform(
        sitk.CenteredTransformInitializer(
            fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    method.SetInitialTransform(rigid, inPlace=True)
    method.Execute(fixed, moving)
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(fixed, moving)
    sitk.WriteTransform(affine, str(folder / "register-to_template.mat"))


RECIPES = {
    "brainstages": ours,
    "antspyx": ants_recipe,
    "brainstages, bias and alignment": align_only,
    "SimpleITK, bias and alignment": sitk_recipe,
}


def reference_mask(label: str, *, canonical: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Close and fill a head's third-party label map."""
    image = nib.load(_labels(label))
    image = nib.as_closest_canonical(image) if canonical else image
    closed = ndimage.binary_closing(np.asarray(image.dataobj) > 0, iterations=3)
    return ndimage.binary_fill_holes(closed), image.affine


def planted_field(shape: tuple[int, ...], inside: np.ndarray) -> np.ndarray:
    """Return a tilted and bent field that spans 0.7 to 1.3 within the brain."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    field = 0.5 * x - y**2 + 0.7 * z * y
    low, high = field[inside].min(), field[inside].max()
    return (0.7 + 0.6 * np.clip((field - low) / (high - low), 0, 1)).astype(np.float32)


def _run(
    recipe: str, image: Path, mask: Path, folder: Path, found: dict[str, dict[str, Any]]
) -> None:
    """Run a recipe in a process of its own on at most two threads; note what it takes."""
    command = [sys.executable, "-m", "tests.benchmarks.preprocessing", "--recipe", recipe]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    process = subprocess.Popen(
        [*command, str(image), str(mask), str(folder)],
        cwd=REPOSITORY,
        env=os.environ | dict.fromkeys(names, "2"),
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{recipe} on {image.name} ended with status {status}")
    found[recipe] = {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(float((folder / "peak_kb").read_text()) / 2**20, 2),
    }


def _accuracy(folder: Path, image: Path, mask: Path, truth: Phantom | None) -> dict[str, Any]:
    """Measure a recipe's files: fit with the template and, on phantoms, grey matter and mask.

    The fit is that of the transform: the same brain is resampled in the same way for each recipe.
    """
    from stages.preprocessing import itk, quality, template

    target, head = template.load(), nib.load(image)
    brain = head.get_fdata(dtype=np.float32) * (nib.load(mask).get_fdata() > 0)
    matrix = itk.read_transform(folder / "register-to_template.mat")
    aligned = itk.resample(brain, head.affine, matrix, target.t1w.shape, target.affine)
    found: dict[str, Any] = {
        "ncc_template": round(quality.template_correlation(aligned, target.t1w), 3)
    }
    if truth is not None and (folder / "segment-gm.nii.gz").exists():
        grey = nib.load(folder / "segment-gm.nii.gz").get_fdata(dtype=np.float32)
        cut = truth.t1w.shape[2] - grey.shape[2]
        inside, planted = truth.brain[:, :, cut:], truth.gm[:, :, cut:]
        found["gm_r"] = round(float(np.corrcoef(grey[inside], planted[inside])[0, 1]), 3)
        if (folder / "extract-mask.nii.gz").exists():
            extracted = nib.load(folder / "extract-mask.nii.gz").get_fdata() > 0.5
            found["mask_dice"] = round(quality.dice(extracted, inside), 3)
    return found


def _labels(label: str) -> Path:
    return REAL / "derivatives" / "dlmuse" / label / "anat" / f"{label}_desc-dlmuse_dseg.nii.gz"


def _row(path: Path) -> dict[str, str]:
    names, values = path.read_text().splitlines()
    return dict(zip(names.split("\t"), values.split("\t"), strict=True))


def _write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, 1)
    image.to_filename(path)


if __name__ == "__main__":
    sys.exit(main())
