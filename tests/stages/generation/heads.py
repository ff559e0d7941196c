"""Phantoms of whole heads as preprocessing leaves them: brain, alignment, mid-coronal slice."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import io, linalg, ndimage

from bids_app.demo.phantom import make_phantom
from stages.generation.slices import FIRST_MM, SIZE

RESOLUTION_MM = 5.0
AGES = {"AD": 78.0, "CN": 25.0}  # ventricles are what these groups differ by


@dataclass(frozen=True)
class Head:
    """A brain (x, y, z) in its own frame, voxel → world and upright → world, mm."""

    brain: np.ndarray
    affine: np.ndarray
    upright: np.ndarray


@cache
def draw_head(seed: int, age_y: float) -> Head:
    """Make a brain whose true posture is known: the rigid part of where the phantom lies."""
    phantom = make_phantom(seed, age_y=age_y, resolution_mm=RESOLUTION_MM)
    to_world = np.linalg.inv(phantom.world_to_template)
    upright = np.eye(4)
    upright[:3, :3], _ = linalg.polar(to_world[:3, :3])
    upright[:3, 3] = to_world[:3, 3]
    return Head((phantom.clean * phantom.brain).astype(np.float32), phantom.affine, upright)


def write_alignment(path: Path, upright: np.ndarray) -> None:
    """Write upright → world as ITK does: MATLAB 4, LPS, turning about ``fixed``."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    lps, centre = flip @ upright @ flip, np.array([3.0, -5.0, 7.0])
    moved = lps[:3, 3] + lps[:3, :3] @ centre - centre
    values = np.concatenate([lps[:3, :3].ravel(), moved])
    entries = {"AffineTransform_double_3_3": values[:, None], "fixed": centre[:, None]}
    io.savemat(path, entries, format="4")


def cut_slice(head: Head) -> np.ndarray:
    """Cut the mid-coronal slice, (160, 1, 160), point by point."""
    i, j, k = np.indices((SIZE, 1, SIZE))
    points = np.stack([FIRST_MM[0] + i, FIRST_MM[1] + j, FIRST_MM[2] + k, np.ones_like(i)])
    voxels = np.linalg.inv(head.affine) @ head.upright @ points.reshape(4, -1)
    return ndimage.map_coordinates(head.brain, voxels[:3], order=1).reshape(SIZE, 1, SIZE)


def write_heads(root: Path, counts: dict[str, int]) -> dict[str, Any]:
    """Write phantoms of the groups; return prepare's inputs."""
    root.mkdir(parents=True, exist_ok=True)
    lines: list[str] = ["participant_id\tdiagnosis\tage"]
    made: dict[str, Any] = {"images": [], "brains": [], "alignments": []}
    for number, group in enumerate(np.repeat(list(counts), list(counts.values()))):
        head, name = draw_head(number, AGES[group]), f"sub-{number:03d}"
        slice_affine = np.eye(4)
        slice_affine[:3, 3] = FIRST_MM
        for kind, end, data, affine in (
            ("images", "space-upright_desc-coronalMid_T1w", cut_slice(head), slice_affine),
            ("brains", "desc-brain_T1w", head.brain, head.affine),
        ):
            path = root / f"{name}_{end}.nii.gz"
            nib.Nifti1Image(data, affine).to_filename(path)
            made[kind].append(path)
        made["alignments"].append(root / f"{name}_from-T1w_to-upright_mode-image_xfm.mat")
        write_alignment(made["alignments"][-1], head.upright)
        lines.append(f"{name}\t{group}\t{AGES[group]:.0f}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    about = {"Name": "heads", "GeneratedBy": [{"Name": "phantom"}]}
    (root / "dataset_description.json").write_text(json.dumps(about))
    return made | {"participants": root / "participants.tsv"}
