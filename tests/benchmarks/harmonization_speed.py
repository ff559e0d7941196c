"""Claims: `apply` takes at most 3 s for a 1 mm head; `fingerprint` at most 5 s for 1,000 scans.

On one core, files on a local disk. `apply` reads image and mask, places, scales, writes image and
figure; beside it stands the same placement by scipy.ndimage.affine_transform with the same input
and output. `fingerprint` reads headers of 1,000 preprocessed and 1,000 raw images; beside it stands
reading the voxels of four of them, scaled to 1,000.

    python -m tests.benchmarks.harmonization_speed [--scans 1000] [--out FOLDER]
"""

import argparse
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from stages.harmonization import nifti
from tests.benchmarks import record
from tests.stages.harmonization.phantoms import Cohort
from tests.stages.harmonization.steps import run_apply, run_fingerprint

SHAPE = (170, 256, 181)
ARMS = ["zerobackground", "resize", "croppad", "isotropic"]

AIMS = {"apply": {"aim": "seconds <= 3"}, "fingerprint": {"aim": "seconds <= 5"}}


def write_head(folder: Path, name: str, data: np.ndarray, mask: np.ndarray, cohort: Cohort) -> None:
    """Write one scan: raw, preprocessed and mask."""
    affine = np.eye(4)
    folder.mkdir(parents=True, exist_ok=True)
    for values, path, listed in (
        (data, folder / f"{name}_T1w.nii.gz", cohort.raw_images),
        (data, folder / f"{name}_desc-preproc_T1w.nii.gz", cohort.images),
        (mask, folder / f"{name}_desc-brain_mask.nii.gz", cohort.masks),
    ):
        nib.Nifti1Image(values, affine).to_filename(path)
        listed.append(str(path))


def make_scans(root: Path, number: int) -> Cohort:
    """Write 4 whole heads of 1 mm; of the others only the beginning and an end of their own.

    Reading a header touches nothing else of a file, and 1,000 whole heads would fill the disk.
    """
    rng = np.random.default_rng(0)
    cohort = Cohort(root)
    lines = ["participant_id\tage\tsex"]
    templates = []
    for index in range(4):
        shape = (SHAPE[0] - 5 * (index % 2), *SHAPE[1:])
        grid = np.indices(shape, dtype=np.float32)
        centre = [(n - 1) / 2 for n in shape]
        radius = sum(((g - c) / s) ** 2 for g, c, s in zip(grid, centre, (68, 85, 68), strict=True))
        mask = (radius < 1).astype(np.uint8)
        noise = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), 1)
        data = np.where(radius < 1.3, 600 + 900 * noise, 20 * np.abs(noise)).astype(np.int16)
        templates.append((data, mask))
    for index in range(number):
        name, folder = f"sub-{index:04d}", root / f"sub-{index:04d}"
        if index < 4:
            write_head(folder, name, *templates[index], cohort)
        else:
            folder.mkdir()
            for listed in (cohort.raw_images, cohort.images, cohort.masks):
                first = Path(listed[index % 4])
                path = folder / first.name.replace(first.name[:8], name)
                path.write_bytes(first.read_bytes()[:65536] + index.to_bytes(8, "little"))
                listed.append(str(path))
        lines.append(f"{name}\t{20 + index % 60}\t{'MF'[index // 2 % 2]}")
    cohort.participants = str(root / "participants.tsv")
    Path(cohort.participants).write_text("\n".join(lines) + "\n")
    return cohort


def time_apply(cohort: Cohort, root: Path) -> dict[str, float]:
    """Time apply per arm, and scipy's resampling with the same reading and writing."""
    few = Cohort(root, cohort.images[:4], cohort.masks[:4], cohort.raw_images[:4])
    people = Path(cohort.participants).read_text().splitlines()[:5]
    few.participants = str(root / "few.tsv")
    Path(few.participants).write_text("\n".join(people) + "\n")
    drawn = run_fingerprint(few, root / "few", arm=ARMS, folds=2, test_fraction=0.0)
    seconds = {}
    for arm in ARMS:
        took = []
        for _ in range(3):
            start = time.perf_counter()
            run_apply(few.images[1], few.masks[1], drawn, root / "few", arm)
            took.append(time.perf_counter() - start)
        seconds[f"apply {arm}"] = min(took)
    start = time.perf_counter()
    volume, mask = nifti.load(few.images[1]), nifti.load(few.masks[1]).data > 0
    inside = volume.data[mask]
    scaled = np.where(mask, (volume.data - inside.mean()) / inside.std(), 0)
    factor = np.array(volume.data.shape) / np.array(SHAPE)
    matrix, offset = np.diag(factor), 0.5 * factor - 0.5
    placed = ndimage.affine_transform(scaled, matrix, offset, SHAPE, order=1)
    nifti.save(root / "few" / "scipy.nii.gz", placed.astype(np.float32), volume.affine)
    seconds["the same resize by scipy, no figure"] = time.perf_counter() - start
    return seconds


def time_fingerprint(cohort: Cohort, root: Path) -> dict[str, float]:
    """Time fingerprint, and reading the voxels of 20 images."""
    start = time.perf_counter()
    run_fingerprint(cohort, root / "all", arm=["isotropic"])
    seconds = {f"fingerprint of {len(cohort.images)} scans": time.perf_counter() - start}
    start = time.perf_counter()
    for path in cohort.images[:4]:
        np.asarray(nib.load(path).dataobj)
    each = (time.perf_counter() - start) / 4
    seconds[f"reading voxels of {len(cohort.images)} scans (from 4)"] = each * len(cohort.images)
    return seconds


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder for JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cohort = make_scans(Path(folder), options.scans)
        seconds = time_apply(cohort, Path(folder)) | time_fingerprint(cohort, Path(folder))
    rows = [
        {"what": name, "seconds": round(value, 2)} | AIMS.get(name.split()[0], {})
        for name, value in seconds.items()
    ]
    packages = ("numpy", "scipy", "nibabel", "matplotlib")
    record.save("harmonization_speed", rows, packages, options.out)


if __name__ == "__main__":
    main()
