"""The datasets that the documentation speaks of, small and in their own layouts, made by a test.

What a page says to run with Python before, is run as it stands there.
"""

import contextlib
import csv
import re
import shutil
from pathlib import Path

import numpy as np

from tests.conftest import write_dataset, write_image

RECIPES = Path(__file__).parents[1] / "docs" / "recipes.md"
COLUMNS = ("age", "sex", "site", "diagnosis")
PEOPLE = [
    ("24", "M", "A", "CN"),
    ("71", "F", "B", "AD"),
    ("33", "F", "A", "CN"),
    ("64", "M", "B", "AD"),
]


def place(text: str, root: Path) -> str:
    """Put the paths of the documentation below a folder."""
    text = re.sub(r"(?<![\w/])/(data|models|shared)/", rf"{root}/\1/", text)
    text = re.sub(r"(?<![\w/])demo/(bids|derivatives)", rf"{root}/demo/\1", text)
    text = re.sub(r"(?<=brainstages demo )demo\b", f"{root}/demo", text)
    return re.sub(r"\b(DATA|OUT|WORK)\b", lambda word: f"{root}/data/{NAMES[word[0]]}", text)


NAMES = {"DATA": "study", "OUT": "out", "WORK": "work"}


def run_script(name: str, folder: Path, root: Path) -> None:
    """Run a script of the recipes' page in a folder."""
    code = re.search(rf"```python\n(# {name}\.py: .*?)```", RECIPES.read_text("utf-8"), re.DOTALL)[
        1
    ]
    with contextlib.chdir(folder):
        exec(compile(place(code, root), name, "exec"), {})


def write_all(root: Path) -> None:
    """Write every dataset and file that a documented command names."""
    for name in ("data/study", "data/angio", "data/new", "data/clinic", "demo/bids"):
        _write_people(root / name)
    _write_angiograms(root / "data" / "angio")
    _write_movies(root / "data" / "movies")
    _write_ixi(root)
    _write_adni(root)
    _write_ds003949(root)
    _write_preprocessed(root / "data" / "study")
    shutil.copytree(root / "data/movies/derivatives/fmriprep", root / "data" / "fmriprep")
    for name in ("fmriprep", "truth", "landmarks", "preprocessed", "lesions"):
        (root / "data" / name).mkdir(exist_ok=True)
        (root / "demo" / "bids" / "derivatives" / name).mkdir(parents=True, exist_ok=True)
    shutil.copytree(root / "demo", root / "data" / "demo")
    for name in ("resnet50-0676ba61.pth", "vgg16-397923af.pth", "resnet50.pth", "vgg16.pth"):
        _touch(root / "models" / name)
    _touch(root / "data" / "cifar-10-binary.tar.gz")
    _touch(root / "models" / "stable-diffusion-v1-5" / "model_index.json")
    _touch(root / "models" / "sex" / "model.json")


def _write_people(root: Path, suffix: str = "T1w") -> Path:
    labels = [f"{i:02d}" for i in range(1, len(PEOPLE) + 1)]
    write_dataset(root, tuple(labels))
    rows = ["\t".join(["participant_id", *COLUMNS])]
    rows += ["\t".join([f"sub-{x}", *person]) for x, person in zip(labels, PEOPLE, strict=True)]
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def _write_angiograms(root: Path) -> None:
    for folder in root.glob("sub-*"):
        write_image(folder / "anat" / f"{folder.name}_angio.nii.gz", 2.0)


def _write_preprocessed(root: Path) -> None:
    """Write what stages read that are asked for after preprocessing."""
    for folder in list(root.glob("sub-*")):
        made = root / "derivatives" / "brainstages-preprocessing" / folder.name / "anat"
        for name in ("desc-preproc_T1w", "desc-brain_mask", "desc-brain_T1w", "label-GM_probseg"):
            write_image(made / f"{folder.name}_{name}.nii.gz")
        for name in ("desc-brain_T1w", "desc-GM_T1w", "label-GM_probseg", "label-WM_probseg"):
            write_image(made / f"{folder.name}_space-MNI152NLin2009aSym_res-1_{name}.nii.gz")


def _write_movies(root: Path) -> None:
    _write_people(root)
    for name in ("train01.mp4", "test01.mp4"):
        _touch(root / "stimuli" / name)
    for folder in list(root.glob("sub-*")):
        made = root / "derivatives" / "fmriprep" / folder.name / "func"
        for run, stimulus in (("01", "train01.mp4"), ("02", "test01.mp4")):
            stem = f"{folder.name}_task-movie_run-{run}"
            write_image(folder / "func" / f"{stem}_bold.nii.gz", 1.0, (3, 3, 3, 8))
            events = folder / "func" / f"{stem}_events.tsv"
            events.write_text(f"onset\tduration\tstim_file\n0\t600\t{stimulus}\n")
            write_image(made / f"{stem}_space-T1w_desc-preproc_bold.nii.gz", 1.0, (3, 3, 3, 8))
            write_image(made / f"{stem}_space-T1w_desc-brain_mask.nii.gz", 1.0, (3, 3, 3))
    _touch(root / "derivatives" / "fmriprep" / "dataset_description.json", "{}")


def _write_ixi(root: Path) -> None:
    """Write IXI as it is downloaded, and let the page's script make BIDS of it."""
    came = root / "downloads" / "ixi"
    for name, site in (("IXI002", "Guys-0828"), ("IXI012", "HH-1211"), ("IXI035", "IOP-0873")):
        write_image(came / "IXI-T1" / f"{name}-{site}-T1.nii.gz")
    with open(came / "IXI.csv", "w", newline="", encoding="utf-8-sig") as table:
        sheet = csv.writer(table)
        sheet.writerow(["IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "AGE"])
        sheet.writerows(
            [[2, 2, 164, 35.8], [12, 1, 175, 38.78], [12, 1, 175, 38.78], [99, 1, 0, 1]]
        )
    run_script("ixi_to_bids", came, root)


def _write_adni(root: Path) -> None:
    came = root / "downloads" / "adni"
    came.mkdir(parents=True)
    bids = write_dataset(root / "data" / "adni", ())
    for label in ("002S0295", "Young001"):
        stem = f"sub-ADNI{label}_ses-M000"
        write_image(bids / f"sub-ADNI{label}" / "ses-M000" / "anat" / f"{stem}_T1w.nii.gz")
    (came / "ADNIMERGE.csv").write_text(
        "RID,PTID,VISCODE,SITE,DX_bl,AGE,PTGENDER\n"
        "295,002_S_0295,m12,2,CN,85.8,Male\n295,002_S_0295,bl,2,CN,84.8,Male\n"
        "4,022_S_0004,bl,22,LMCI,67.5,Male\n"
    )
    run_script("adni_participants", came, root)


def _write_ds003949(root: Path) -> None:
    bids = write_dataset(root / "data" / "ds003949", ())
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-000\t40\nsub-001\t50\n")
    masks = bids / "derivatives" / "manual_masks"
    for label, lesions in (("000", 2), ("001", 0)):
        place_in = Path(f"sub-{label}") / "ses-20101219" / "anat"
        stem = f"sub-{label}_ses-20101219"
        write_image(bids / place_in / f"{stem}_angio.nii.gz")
        for number in range(1, lesions + 1):
            path = masks / place_in / f"{stem}_desc-Lesion_{number}_mask.nii.gz"
            write_image(path, 0.0)
            _mark(path, number)
    run_script("join_lesions", root, root)


def _mark(path: Path, voxel: int) -> None:
    """Draw a lesion of one voxel."""
    import nibabel as nib

    image = nib.load(path)
    data = np.zeros(image.shape, np.uint8)
    data[voxel, 0, 0] = 1
    nib.Nifti1Image(data, image.affine).to_filename(path)


def _touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """Read a participants.tsv by label."""
    with open(path, newline="", encoding="utf-8") as table:
        return {row["participant_id"]: row for row in csv.DictReader(table, delimiter="\t")}
