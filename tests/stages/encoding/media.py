"""Tiny movies, a raw dataset that shows them, and BOLD that answers to their brightness."""

import json
from pathlib import Path

import av
import nibabel as nib
import numpy as np

TR_S = 1.0
SHAPE = (4, 4, 3)
MOVIE_S = 40
DESCRIPTION = {"Name": "toy movies", "BIDSVersion": "1.10.0", "License": "CC0"}


def write_movie(path: Path, levels: np.ndarray, *, fps: int = 20, size: int = 64) -> Path:
    """Write a movie of vertical stripes of the given grey levels, (frames, stripes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for row in levels:
            stripes = np.repeat(row, size // len(row))[None, :, None]
            pixels = np.broadcast_to(stripes, (size, size, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shots(seed: int, frames: int) -> np.ndarray:
    """Grey levels of four stripes, constant within shots of 1–3 s at 20 frames/s."""
    rng = np.random.default_rng(seed)
    rows = []
    while sum(map(len, rows)) < frames:
        rows.append(np.repeat(rng.integers(20, 235, (1, 4)), rng.integers(20, 60), axis=0))
    return np.vstack(rows)[:frames]


def write_raw(root: Path, *, people: int = 1) -> Path:
    """Write movies train1, train2 and test, and events that show test twice."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    (root / "README.md").write_text("# Toy movies\n\nStripes of grey, for tests alone.\n" * 4)
    rows = ["participant_id", *(f"sub-{p + 1:02d}" for p in range(people))]
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    for seed, name in enumerate(("train1", "train2", "test")):
        write_movie(root / "stimuli" / f"{name}.mp4", shots(seed, MOVIE_S * 20))
    for person in range(people):
        folder = root / f"sub-{person + 1:02d}" / "func"
        folder.mkdir(parents=True)
        for task, run, movie in runs():
            stem = f"sub-{person + 1:02d}_task-{task}_run-{run}"
            row = f"0\t{MOVIE_S}\t{movie}.mp4"
            (folder / f"{stem}_events.tsv").write_text(f"onset\tduration\tstim_file\n{row}\n")
            image = nib.Nifti1Image(np.zeros((*SHAPE, MOVIE_S), np.int16), np.eye(4))
            image.header.set_zooms((1, 1, 1, TR_S))
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, folder / f"{stem}_bold.nii.gz")
            sidecar = {"RepetitionTime": TR_S, "TaskName": task}
            (folder / f"{stem}_bold.json").write_text(json.dumps(sidecar))
    return root


def runs() -> list[tuple[str, int, str]]:
    """Task, run and movie of each run."""
    return [
        ("train", 1, "train1"),
        ("train", 2, "train2"),
        ("test", 1, "test"),
        ("test", 2, "test"),
    ]


def write_preprocessed(root: Path, *, people: int = 1, lag_s: float = 4.0) -> Path:
    """Write BOLD as fMRIPrep does; the last voxels along x follow a stripe's level, lag_s later."""
    root.mkdir(parents=True, exist_ok=True)
    about = {**DESCRIPTION, "DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    (root / "dataset_description.json").write_text(json.dumps(about))
    for person in range(people):
        rng = np.random.default_rng(person)
        folder = root / f"sub-{person + 1:02d}" / "func"
        folder.mkdir(parents=True)
        for task, run, movie in runs():
            seed = ("train1", "train2", "test").index(movie)
            at = ((np.arange(MOVIE_S) * TR_S - lag_s) * 20).astype(int)
            level = np.where(at[:, None] >= 0, shots(seed, MOVIE_S * 20)[np.maximum(at, 0)], 0)
            data = 1000 + 3 * rng.standard_normal((*SHAPE, MOVIE_S))
            data[2:] += level.T[[0, 1, 2, 3]][None, :, None] * 0.2
            data[0, 0, 0] = 500.0
            stem = f"sub-{person + 1:02d}_task-{task}_run-{run}"
            write_bold(folder, stem, data.astype(np.float32))
            lines = ["trans_x\trot_x", "n/a\t0.1"]
            lines += [f"{a:.4f}\t{b:.4f}" for a, b in rng.standard_normal((MOVIE_S - 1, 2))]
            (folder / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(lines) + "\n")
    return root


def write_bold(folder: Path, stem: str, data: np.ndarray, *, synthetic: bool = True) -> None:
    """Write a run in T1w space, its mask and its sidecar."""
    image = nib.Nifti1Image(data, np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_zooms((3, 3, 3, TR_S))
    nib.save(image, folder / f"{stem}_space-T1w_desc-preproc_bold.nii.gz")
    sidecar = {"RepetitionTime": TR_S, "SkullStripped": False, "Synthetic": synthetic}
    (folder / f"{stem}_space-T1w_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    mask = nib.Nifti1Image(np.ones(data.shape[:3], np.uint8), image.affine)
    nib.save(mask, folder / f"{stem}_space-T1w_desc-brain_mask.nii.gz")
