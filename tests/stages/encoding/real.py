"""Real recordings as the stage takes them: the Sherlock movie (17 people), a slice of Haxby's."""

import gzip
import io
import itertools
import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import loadmat

TR_S = 1.5
SHIFT_VOLUMES = 3  # the recordings were moved back by this much, see their README
REGIONS = {"earlyvisual": "early_visual", "hippocampus": "bilateral_hipp", "pmc": "pmc_nn"}
MISSING_TAIL = {5: 50}  # person → volumes at the end that were not recorded
PEOPLE = 17
WHOLE = [p for p in range(PEOPLE) if p + 1 not in MISSING_TAIL]  # by index
WHO = ("Sherlock", "John", "Lestrade", "The Man", "Donovan")
ANGLES = ("Long", "Medium", "Close Up", "Over", "Tracking")
LISTS = ("Name - All", "Name - Focus", "Name - Speaking", "Camera Angle", "Space-In/Outdoor")
COMMON = 20  # segments that have a label, so that it becomes a feature
HAXBY_TR_S = 2.5

Bounds = list[tuple[int, int]]  # first volume and the one after the last, for each run
RUNS: Bounds = [(0, 946), (946, 1976)]


def read_courses(source: Path) -> dict[str, np.ndarray]:
    """Read the regions' mean courses, (1976 volumes, 17 people) each."""
    return {
        name: loadmat(source / f"{stem}_sherlock_movie_roicorr.mat")["roitc"]
        for name, stem in REGIONS.items()
    }


def write_people(source: Path, root: Path, features: np.ndarray) -> None:
    """Write each person's region courses as a participant, with the features of each run."""
    courses = read_courses(source)
    for person in range(1, PEOPLE + 1):
        table = {name: course[:, person - 1] for name, course in courses.items()}
        tail = MISSING_TAIL.get(person, 0)
        write_participant(root / f"sub-{person:02d}", table, features, missing=tail)


def write_group_mean(source: Path, root: Path, features: np.ndarray, *, draws: int) -> None:
    """Write means over people as columns of one participant.

    The mean of all, those without one person, and those of people redrawn ``draws`` times. The
    person whose recording is cut off is left out, so that every mean is of whole courses.
    """
    rng = np.random.default_rng(0)
    table = {}
    for name, course in read_courses(source).items():
        table[f"{name}+mean"] = course[:, WHOLE].mean(1)
        for person in WHOLE:
            others = [p for p in WHOLE if p != person]
            table[f"{name}+without{person + 1}"] = course[:, others].mean(1)
        for draw in range(draws):
            table[f"{name}+draw{draw}"] = course[:, rng.choice(WHOLE, len(WHOLE))].mean(1)
    write_participant(root / "sub-mean", table, features)


def write_first_run(source: Path, root: Path, features: np.ndarray, *, pieces: int) -> None:
    """Write the mean courses of run 1 alone, cut into pieces that are runs of their own."""
    table = {name: course[:, WHOLE].mean(1) for name, course in read_courses(source).items()}
    edges = np.linspace(*RUNS[0], pieces + 1).astype(int).tolist()
    write_participant(root / "sub-mean", table, features, list(itertools.pairwise(edges)))


def write_participant(
    folder: Path,
    table: dict[str, np.ndarray],
    features: np.ndarray,
    runs: Bounds = RUNS,
    *,
    missing: int = 0,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for run, (first, stop) in enumerate(runs, start=1):
        rows = slice(first, stop)
        kept = stop - first - (missing if run == len(runs) else 0)
        stem = f"{folder.name}_task-sherlock_run-{run}"
        path = folder / f"{stem}_seg-rois_timeseries.tsv"
        values = np.column_stack([course[rows] for course in table.values()])[:kept]
        np.savetxt(path, values, delimiter="\t", header="\t".join(table), comments="")
        path.with_suffix(".json").write_text(json.dumps({"RepetitionTime": TR_S}))
        write_stim(folder / f"{stem}_stim.tsv.gz", features[rows], -SHIFT_VOLUMES * TR_S, TR_S)


def write_pmc_voxels(source: Path, root: Path) -> Path:
    """Write the 481 voxels of person 1 as volumes of 481 × 1 × 1."""
    data = loadmat(source / "pmc_nn_sherlock_movie_s1.mat")["rdata"]
    features = annotate(source)
    root.mkdir(parents=True, exist_ok=True)
    for run, bounds in enumerate(RUNS, start=1):
        rows = slice(*bounds)
        stem = f"sub-01_task-sherlock_run-{run}"
        image = nib.Nifti1Image(data[:, None, None, rows].astype(np.float32), np.eye(4))
        nib.save(image, root / f"{stem}_desc-preproc_bold.nii.gz")
        about = json.dumps({"RepetitionTime": TR_S})
        (root / f"{stem}_desc-preproc_bold.json").write_text(about)
        write_stim(root / f"{stem}_stim.tsv.gz", features[rows], -SHIFT_VOLUMES * TR_S, TR_S)
    return root


def annotate(source: Path) -> np.ndarray:
    """Turn the 1,000 segments into one row of features per volume, (1976, features)."""
    table = _read_segments(source)
    raters = range(1, 5)
    arousal = np.mean([table[f"Arousal - Rater {r}"] for r in raters], axis=0)
    valence = np.mean([table[f"Valence - Rater {r}"] == "+" for r in raters], axis=0)
    names, angle = (table[c].fillna("") for c in ("Name - All", "Camera Angle"))
    columns = [
        arousal,
        valence,
        table["Space-In/Outdoor"] == "Indoor",
        table["Music Presence"] == "Yes",
        table["Words on Screen"].notna(),
        table["Name - Speaking"].notna(),
        np.where(names == "Nobody", 0, names.str.count(",") + 1),
        *(
            names.str.contains(who)
            for who in ("Sherlock", "John", "Lestrade", "The Man", "Donovan")
        ),
        *(angle.str.contains(kind) for kind in ANGLES),
    ]
    return _lay_out(table, columns)


def annotate_fully(source: Path) -> np.ndarray:
    """The same of everything that the segments are labelled with, raters one by one."""
    table = _read_segments(source)
    columns: list = []
    for name in LISTS:
        parts = table[name].fillna("").map(lambda text: {part.strip() for part in text.split(",")})
        counts = pd.Series([part for found in parts for part in found if part]).value_counts()
        for label in sorted(counts.index[counts >= COMMON]):
            columns.append(parts.map(lambda found, label=label: label in found))
    columns += [table[c].fillna(table[c].median()) for c in table if c.startswith("Arousal")]
    columns += [table[c] == "+" for c in table if c.startswith("Valence")]
    columns += [table["Music Presence"] == "Yes", table["Words on Screen"].notna()]
    return _lay_out(table, [*columns, table["Name - Speaking"].notna()])


def _read_segments(source: Path) -> pd.DataFrame:
    table = pd.read_excel(source / "Sherlock_Segments_1000_NN_2017.xlsx")
    table.columns = [str(column).strip() for column in table.columns]
    return table.dropna(subset=["Start Time (TRs, 1.5s)", "End Time (TRs, 1.5s)"])


def _lay_out(table: pd.DataFrame, columns: list) -> np.ndarray:
    """Hold each segment's values while it lasts; mark where segments and scenes begin."""
    values = np.column_stack([np.asarray(column, dtype=float) for column in columns])
    is_scene = table["Scene Segments"].notna().to_numpy()
    features = np.zeros((RUNS[-1][1], values.shape[1] + 2))
    first = table["Start Time (TRs, 1.5s)"].to_numpy(int) - 1
    last = table["End Time (TRs, 1.5s)"].to_numpy(int)
    for start, stop, row in zip(first, last, values, strict=True):
        features[start:stop, :-2] = row
        features[start, -2] = 1.0  # a segment begins
    features[first[is_scene], -1] = 1.0  # a scene begins
    return features


def read_topics(source: Path) -> np.ndarray:
    """Read 100 topics over the movie; of the pickle, only arrays are loaded."""
    content = (source / "contextlab_models_t100_v50_r10.npy").read_bytes()
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    return np.asarray(_ArraysOnly(stream).load().ravel()[0], dtype=float)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        from numpy._core import multiarray

        known = {"_reconstruct": multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if not module.startswith("numpy") or name not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return known[name]


def write_haxby(source: Path, root: Path) -> list[str]:
    """Write the twelve runs with one column per category; return the categories."""
    image = nib.load(source / "bold.nii.gz")
    rows = [line.split() for line in (source / "attributes_literal.txt").read_text().splitlines()]
    labels = np.array([row[0] for row in rows if row])
    runs = np.array([int(row[1]) for row in rows if row])
    categories = sorted(set(labels) - {"rest"})
    mask = np.asarray(nib.load(source / "mask.nii.gz").dataobj).reshape(image.shape[:3]) > 0
    volumes = np.asarray(image.dataobj, dtype=np.float32)
    root.mkdir(parents=True, exist_ok=True)
    for run in np.unique(runs):
        stem = f"sub-01_task-objects_run-{run + 1:02d}"
        data = volumes[..., runs == run]
        nib.save(nib.Nifti1Image(data, image.affine), root / f"{stem}_desc-preproc_bold.nii.gz")
        nib.save(
            nib.Nifti1Image(mask.astype(np.uint8), image.affine),
            root / f"{stem}_desc-brain_mask.nii.gz",
        )
        about = json.dumps({"RepetitionTime": HAXBY_TR_S})
        (root / f"{stem}_desc-preproc_bold.json").write_text(about)
        shown = np.column_stack([labels[runs == run] == category for category in categories])
        write_stim(root / f"{stem}_stim.tsv.gz", shown.astype(float), 0.0, HAXBY_TR_S)
    return categories


def write_stim(path: Path, features: np.ndarray, start_s: float, step_s: float) -> None:
    with gzip.open(path, "wt") as stream:
        np.savetxt(stream, features, delimiter="\t", fmt="%.6g")
    columns = [f"f{i}" for i in range(features.shape[1])]
    about = {"SamplingFrequency": 1 / step_s, "StartTime": start_s, "Columns": columns}
    path.with_name(path.name.replace(".tsv.gz", ".json")).write_text(json.dumps(about))
