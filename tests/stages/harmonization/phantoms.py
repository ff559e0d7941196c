"""Cheap heads with a field of view: brain, skull, planted effects, slices cut or not.

A head costs a few milliseconds: an ellipsoid of textured tissue in a shell, 4 mm voxels, random
place, size and pose in the scanner. What is planted is known: a brighter region in one class, or
a field of view with fewer slices, or nothing.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

VOXEL_MM = 4.0
FULL = (48, 56, 46)


@dataclass
class Cohort:
    """Paths of a cohort as the steps get them, and what was planted."""

    root: Path
    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    raw_images: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    scans: list[str] = field(default_factory=list)
    participants: str = ""
    labels: list[str] = field(default_factory=list)
    slices: list[int] = field(default_factory=list)


def make_head(rng, *, effect, shape=FULL, cut=0):
    """Draw a head; return image and brain mask, (x, y, z).

    Parameters
    ----------
    effect : float
        Added contrast of a region of the brain, 0 for none.
    cut : int
        Slices missing along x, half of them (rounded down) at the low end.
    """
    grid = np.indices(shape, dtype=np.float32)
    middle = (np.array(shape) - 1) / 2 + rng.normal(0, 0.5, 3)
    size = np.array([17.0, 21.0, 17.0]) * rng.normal(1, 0.02)
    radius = np.sqrt(sum(((g - c) / s) ** 2 for g, c, s in zip(grid, middle, size, strict=True)))
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    brain = radius < 1
    data = np.where(brain, 700 + 900 * texture / texture.std() * 0.1, 0)
    data[(radius >= 1.05) & (radius < 1.12)] = 60
    data[(radius >= 1.12) & (radius < 1.25)] = 1000
    region = (grid - middle[:, None, None, None] - np.array([6, -7, 4])[:, None, None, None]) ** 2
    data += effect * 700 * np.exp(-region.sum(axis=0) / 18) * brain
    data = np.abs(data + rng.normal(0, 20, shape))
    low = cut // 2
    keep = slice(low, shape[0] - (cut - low))
    return data[keep].astype(np.float32), brain[keep]


def make_cohort(
    root, *, labels, cuts, effect=0.0, seed=0, brains_differ=True, synthetic=True, shapes=None
):
    """Write a cohort: raw headers, preprocessed images, masks, tables.

    Parameters
    ----------
    labels : list of str
        F or M, or n/a.
    cuts : list of int
        Slices missing, per participant.
    effect : float
        Contrast of the region in class M.
    """
    rng = np.random.default_rng(seed)
    cohort = Cohort(Path(root))
    rows = ["participant_id\tage\tsex\tsite"]
    for number, (label, cut) in enumerate(zip(labels, cuts, strict=True)):
        name = f"sub-{number:03d}"
        anat = cohort.root / "derivatives" / name / "anat"
        raw = cohort.root / "raw" / name / "anat"
        anat.mkdir(parents=True)
        raw.mkdir(parents=True)
        shape = FULL if shapes is None else shapes[number]
        data, brain = make_head(rng, effect=effect * (label == "M"), cut=cut, shape=shape)
        affine = np.diag([VOXEL_MM] * 3 + [1.0])
        paths = [
            (data.astype(np.int16), raw / f"{name}_T1w.nii.gz", cohort.raw_images),
            (data.astype(np.int16), anat / f"{name}_desc-preproc_T1w.nii.gz", cohort.images),
            (brain.astype(np.uint8), anat / f"{name}_desc-brain_mask.nii.gz", cohort.masks),
        ]
        for values, path, listed in paths:
            image = nib.Nifti1Image(values, affine)
            image.header.set_xyzt_units("mm", "sec")
            image.to_filename(path)
            listed.append(str(path))
        volume = brain.sum() * VOXEL_MM**3 / 1000
        table = cohort.root / "derivatives" / name / f"{name}_scans.tsv"
        table.write_text(
            "filename\tbrain_volume_ml\tgm_ml\twm_ml\n"
            f"anat/{name}_desc-preproc_T1w.nii.gz\t{volume:.1f}\t{0.6 * volume:.1f}\t"
            f"{0.4 * volume + rng.normal(0, 9):.1f}\n"
        )
        cohort.scans.append(str(table))
        rows.append(f"{name}\t{rng.uniform(20, 80):.1f}\t{label}\t{'AB'[number // 2 % 2]}")
        cohort.labels.append(label)
        cohort.slices.append(data.shape[0])
    sidecar = cohort.root / "raw" / "T1w.json"
    sidecar.write_text(json.dumps({"Manufacturer": "None", "Synthetic": synthetic}))
    cohort.sidecars.append(str(sidecar))
    cohort.participants = str(cohort.root / "raw" / "participants.tsv")
    Path(cohort.participants).write_text("\n".join(rows) + "\n")
    return cohort


def tie(labels, *, share, cut, seed):
    """Cut slices of most of one class: P(full | M) = P(cut | F) = ``share``; .5 ties nothing."""
    rng = np.random.default_rng(seed)
    return [0 if (rng.random() < share) == (label == "M") else cut for label in labels]
