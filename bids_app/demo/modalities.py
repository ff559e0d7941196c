"""Write what the demo dataset holds besides T1w heads: angiograms, movies and their viewers' BOLD.

Angiograms belong to every participant, every second with an aneurysm, whose mask (or an empty one)
is in derivatives/truth. The second and third participant watched the movies of `movies`; their
BOLD, as acquired and as if preprocessed (derivatives/preprocessed), is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_app.demo import movies, texts
from bids_app.demo.files import save_image, write_gzip, write_json, write_tsv
from bids_app.demo.template import TEMPLATE
from bids_app.demo.vessels import VOXEL_MM, make_angiogram

if TYPE_CHECKING:
    from bids_app.demo.dataset import Scan


def write_angiograms(folder: Path, truth: Path, scans: Sequence[Scan], seed: int) -> None:
    """Write one angiogram per participant, and where its aneurysm is."""
    for number, scan in enumerate(_people(scans)):
        made = make_angiogram(
            np.random.default_rng([seed, 1, number]), has_aneurysm=number % 2 == 0
        )
        path = folder / scan.folder / f"{scan.stem}_angio.nii.gz"
        save_image(path, made.image, made.affine)
        write_json(path.with_name(f"{scan.stem}_angio.json"), texts.describe_angio(VOXEL_MM))
        name = f"{scan.stem}_label-aneurysm_mask"
        source = f"bids:raw:{scan.folder}/{scan.stem}_angio.nii.gz"
        sidecar = {"Type": "Lesion", "Sources": [source], "SpatialReference": source}
        save_image(truth / scan.folder / f"{name}.nii.gz", made.aneurysm, made.affine)
        write_json(truth / scan.folder / f"{name}.json", sidecar | {"Synthetic": True})


def write_movies(folder: Path, scans: Sequence[Scan], seed: int) -> None:
    """Write the movies, and the BOLD of those who watched them."""
    shown = {}
    for number, (name, seconds) in enumerate(movies.MOVIES.items()):
        shown[name] = movies.make_frames(np.random.default_rng([seed, 2, number]), seconds)
        path = folder / "stimuli" / f"{name}.gif"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(movies.to_gif(shown[name]))
    derived = folder / "derivatives" / "preprocessed"
    write_json(derived / "dataset_description.json", texts.PREPROCESSED_DESCRIPTION)
    (derived / "README.md").write_text(texts.PREPROCESSED_README)
    brain = movies.load_brain()
    for number, scan in enumerate(_people(scans)[1:3] or _people(scans)[:1]):
        rng = np.random.default_rng([seed, 3, number])
        func = Path(scan.folder).parent / "func"
        for task, run, movie in movies.RUNS:
            stem = f"{scan.stem}_task-{task}_run-{run}"
            data = movies.make_bold(rng, shown[movie], brain)
            events = [{"onset": 0, "duration": movies.MOVIES[movie], "stim_file": f"{movie}.gif"}]
            (folder / func).mkdir(parents=True, exist_ok=True)
            write_tsv(folder / func / f"{stem}_events.tsv", events)
            _save_bold(folder / func / f"{stem}_bold.nii.gz", data, brain.affine)
            about = {"RepetitionTime": movies.TR_S, "Synthetic": True}
            write_json(folder / func / f"{stem}_bold.json", about | {"TaskName": task})
            place = derived / func / f"{stem}_space-{TEMPLATE}"
            _save_bold(Path(f"{place}_desc-preproc_bold.nii.gz"), data, brain.affine)
            write_json(Path(f"{place}_desc-preproc_bold.json"), about | {"SkullStripped": True})
            save_image(
                Path(f"{place}_desc-brain_mask.nii.gz"), brain.mask.astype(np.uint8), brain.affine
            )
            write_json(Path(f"{place}_desc-brain_mask.json"), {"Type": "Brain", "Synthetic": True})


def _people(scans: Sequence[Scan]) -> list[Scan]:
    """Take the first scan of each participant."""
    first: dict[str, Scan] = {}
    for scan in scans:
        first.setdefault(scan.participant, scan)
    return list(first.values())


def _save_bold(path: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(data, affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], movies.TR_S))
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_gzip(path, image.to_bytes())
