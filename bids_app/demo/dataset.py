"""Write phantoms as a BIDS dataset, with what is known about them as a derivative dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_app.demo import modalities, texts
from bids_app.demo.files import save_image, write_json, write_tsv
from bids_app.demo.landmarks import find_landmarks
from bids_app.demo.person import (
    AGE_RANGE_Y,
    AGEING_GM_LOSS,
    AGEING_VENTRICLE_MM,
    SEX_SCALE,
    Anatomy,
    Sex,
    ageing,
    draw_anatomy,
    head_scale,
)
from bids_app.demo.phantom import Phantom, make_phantom
from bids_app.demo.scan import Acquisition, draw_acquisition
from bids_app.demo.template import SEX_GM_GAIN, TEMPLATE, load_template

# Three fields of view and four storage orders against two sexes: none of them tells the sex.
CROPS_MM = ((0.0, 0.0), (8.0, 8.0), (4.0, 4.0))
ORIENTATIONS = ("RAS", "LPS", "PIR", "LAS")
INT16_PER_UNIT = 1000  # white matter is stored near 870


@dataclass(frozen=True)
class Scan:
    """Describe one image of the dataset: who, when, how, and in which order voxels are stored."""

    participant: str
    session: str | None
    age_y: int
    sex: Sex
    anatomy: Anatomy
    acquisition: Acquisition
    orientation: str

    @property
    def folder(self) -> str:
        """Folder of the image, relative to the dataset."""
        session = f"/ses-{self.session}" if self.session else ""
        return f"sub-{self.participant}{session}/anat"

    @property
    def stem(self) -> str:
        """Name of the image up to its suffix."""
        session = f"_ses-{self.session}" if self.session else ""
        return f"sub-{self.participant}{session}"


def plan_scans(participants: int, seed: int) -> list[Scan]:
    """Draw persons and scans: sexes alternate within pairs of near age; sub-01 comes twice.

    Parameters
    ----------
    participants : int
        Number of persons, at least 1.
    seed : int
        Of everything.

    Raises
    ------
    ValueError
        If there is no participant.
    """
    if participants < 1:
        raise ValueError(f"participants is {participants}: give at least 1")
    rng = np.random.default_rng(seed)
    pairs = (participants + 1) // 2
    edges = np.linspace(*AGE_RANGE_Y, pairs + 1)
    strata = rng.permutation(pairs)
    scans = []
    for index in range(participants):
        stratum = strata[index // 2]
        scan = Scan(
            participant=f"{index + 1:02d}",
            session=None,
            age_y=int(rng.uniform(edges[stratum], edges[stratum + 1])),
            sex="F" if index % 2 == 0 else "M",
            anatomy=draw_anatomy(rng),
            acquisition=draw_acquisition(rng, crop_mm=CROPS_MM[index % len(CROPS_MM)]),
            orientation=ORIENTATIONS[index % len(ORIENTATIONS)],
        )
        if index > 0:
            scans.append(scan)
            continue
        again = draw_acquisition(rng, crop_mm=CROPS_MM[1])
        scans.append(replace(scan, session="01"))
        scans.append(replace(scan, session="02", acquisition=again, orientation="PIR"))
    return scans


def write_dataset(
    folder: Path, *, participants: int = 6, resolution_mm: float = 2.0, seed: int = 0
) -> list[Path]:
    """Write the dataset and, under derivatives/truth, its truth; return the T1w images.

    Parameters
    ----------
    folder : Path
        Made if needed; must be empty.
    participants : int
        Number of persons.
    resolution_mm : float
        Isotropic voxel size.
    seed : int
        The same seed gives the same bytes.

    Raises
    ------
    FileExistsError
        If the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: not empty; give a new folder for the demo dataset")
    scans = plan_scans(participants, seed)
    truth = folder / "derivatives" / "truth"
    truth.mkdir(parents=True)
    write_json(folder / "dataset_description.json", texts.RAW_DESCRIPTION)
    write_json(truth / "dataset_description.json", texts.TRUTH_DESCRIPTION)
    command = f"--participants {participants} --resolution-mm {resolution_mm:g} --seed {seed}"
    (folder / "README.md").write_text(texts.RAW_README.format(command=command))
    (truth / "README.md").write_text(texts.TRUTH_README)
    (truth / ".bidsignore").write_text("*_xfm.*\n*_T1wmap.*\n*_points.*\nscans.tsv\neffects\n")
    _write_participants(folder, truth, scans)
    _write_effect_masks(truth / "effects", 1 if resolution_mm < 1.5 else 2)

    images, rows = [], []
    for scan in scans:
        phantom = make_phantom(
            0,  # of no effect: person and scan are given
            age_y=scan.age_y,
            sex=scan.sex,
            resolution_mm=resolution_mm,
            anatomy=scan.anatomy,
            acquisition=scan.acquisition,
        )
        images.append(_write_scan(folder, scan, phantom))
        _write_truth(truth, scan, phantom)
        rows.append(_describe_scan(scan, phantom))
    write_tsv(truth / "scans.tsv", rows)
    modalities.write_angiograms(folder, truth, scans, seed)
    modalities.write_movies(folder, scans, seed)
    return images


def _write_scan(folder: Path, scan: Scan, phantom: Phantom) -> Path:
    path = folder / scan.folder / f"{scan.stem}_T1w.nii.gz"
    stored = np.clip(np.round(phantom.t1w * INT16_PER_UNIT), 0, 32767).astype(np.int16)
    save_image(path, stored, phantom.affine, orientation=scan.orientation)
    voxel_mm = float(phantom.affine[0, 0])
    write_json(path.with_name(f"{scan.stem}_T1w.json"), texts.describe_t1w(voxel_mm))
    return path


def _write_truth(truth: Path, scan: Scan, phantom: Phantom) -> None:
    base = truth / scan.folder
    source = f"bids:raw:{scan.folder}/{scan.stem}_T1w.nii.gz"

    def save(name: str, data: NDArray[Any], scale: float, text: str, **more: Any) -> None:
        path = base / f"{scan.stem}_{name}.nii.gz"
        save_image(path, data, phantom.affine, orientation=scan.orientation, scale=scale)
        sidecar = {"Description": text, "Sources": [source], "SpatialReference": source, **more}
        write_json(base / f"{scan.stem}_{name}.json", sidecar | {"Synthetic": True})

    save("desc-brain_mask", phantom.brain.astype(np.uint8), 1, "Brain mask.", Type="Brain")
    for label, fraction in (("GM", phantom.gm), ("WM", phantom.wm), ("CSF", phantom.csf)):
        stored = np.round(fraction * 255).astype(np.uint8)
        text = f"Fraction of {label} in each voxel."
        save(f"label-{label}_probseg", stored, 1 / 255, text, Manual=False)
    bias = np.round(phantom.bias * 1e4).astype(np.int16)
    save("desc-bias_T1wmap", bias, 1e-4, "Bias field that multiplies the image.")

    forth = phantom.world_to_template
    for ends, matrix in (
        (f"from-T1w_to-{TEMPLATE}", forth),
        (f"from-{TEMPLATE}_to-T1w", np.linalg.inv(forth)),
    ):
        np.savetxt(base / f"{scan.stem}_{ends}_mode-points_xfm.txt", matrix, fmt="%.9f")
    places = find_landmarks(phantom).items()
    write_tsv(
        base / f"{scan.stem}_points.tsv",
        [{"name": name} | dict(zip("xyz", map(float, at), strict=True)) for name, at in places],
    )


def _describe_scan(scan: Scan, phantom: Phantom) -> dict[str, Any]:
    acquisition, axis = scan.acquisition, scan.acquisition.slice_axis
    voxel_ml = float(phantom.affine[0, 0]) ** 3 / 1000
    return {
        "filename": f"{scan.folder}/{scan.stem}_T1w.nii.gz",
        "orientation": scan.orientation,
        "slice_axis": "RAS"[axis],
        "n_slices": phantom.t1w.shape[axis],
        "crop_low_mm": acquisition.crop_mm[0],
        "crop_high_mm": acquisition.crop_mm[1],
        **{f"rotation_{n}_deg": v for n, v in zip("ras", acquisition.rotation_deg, strict=True)},
        **{f"shift_{n}_mm": v for n, v in zip("ras", acquisition.shift_mm, strict=True)},
        "bias": acquisition.bias,
        "noise": acquisition.noise * INT16_PER_UNIT,
        "brain_ml": float(phantom.brain.sum()) * voxel_ml,
        "gm_ml": float(phantom.gm.sum()) * voxel_ml,
        "wm_ml": float(phantom.wm.sum()) * voxel_ml,
        "csf_ml": float(phantom.csf.sum()) * voxel_ml,
    }


def _write_participants(folder: Path, truth: Path, scans: Sequence[Scan]) -> None:
    people = {scan.participant: scan for scan in scans}.values()
    basic = [
        {"participant_id": f"sub-{p.participant}", "age": p.age_y, "sex": p.sex} for p in people
    ]
    planted = [
        {
            "ageing": ageing(p.age_y),
            "head_scale": head_scale(p.anatomy, p.sex),
            "sex_scale": SEX_SCALE if p.sex == "M" else 1.0,
            "sex_gm_gain": SEX_GM_GAIN if p.sex == "M" else 0.0,
            "ageing_gm_loss": AGEING_GM_LOSS * ageing(p.age_y),
            "ventricle_mm": AGEING_VENTRICLE_MM * ageing(p.age_y),
            "rim_mm": p.anatomy.rim_mm,
            "skull_mm": p.anatomy.skull_mm,
            "scalp_mm": p.anatomy.scalp_mm,
        }
        for p in people
    ]
    write_tsv(folder / "participants.tsv", basic)
    write_tsv(truth / "participants.tsv", [b | p for b, p in zip(basic, planted, strict=True)])
    write_json(folder / "participants.json", texts.PARTICIPANTS)
    write_json(truth / "participants.json", texts.PARTICIPANTS | texts.PLANTED)


def _write_effect_masks(folder: Path, fine_mm: int) -> None:
    template = load_template(fine_mm=fine_mm)
    for name, mask in (("ageing", template.ageing_mask), ("sex", template.sex_mask)):
        stored = np.round(mask * 255).astype(np.uint8)
        path = folder / f"space-{TEMPLATE}_desc-{name}_mask.nii.gz"
        save_image(path, stored, template.coarse_affine, scale=1 / 255)
