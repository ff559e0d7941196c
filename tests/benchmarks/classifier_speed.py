"""Claims: training ≥ 1.3 × a plain MONAI loop on a CPU; predict ≤ 1 s a volume.

Both loops run in one process, in turns, several times: same network (BN variant), same start,
same batch, the same kinds of augmentation, no compilation. The plain loop is what MONAI's tutorials
write: DataLoader over a CacheDataset whose random transforms move one image at a time, forward,
loss, backward, Adam. Ours is the loop of stages.classifier.training without validation; with bf16
only where the row says so. Timed are whole epochs after one to warm up, on images held in memory.
Predict is timed from a file of 1 mm to a probability by onnxruntime, file and graph read each time.

    python -m tests.benchmarks.classifier_speed [--grid-mm 4] [--images 16] [--rounds 3] [--out DIR]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from accelerate.state import AcceleratorState
from monai.data import CacheDataset
from monai.transforms import Compose, RandAffined, RandFlipd, RandGaussianNoised
from torch.utils.data import DataLoader

from stages.classifier import portable
from stages.classifier.data import Data
from stages.classifier.images import check_fits, conform, load, make_grid
from stages.classifier.program import Program, build_member, build_program, standardise
from stages.classifier.training import Recipe, fit
from tests.benchmarks import record

SHAPE = (197, 233, 189)
BATCH = 8


def make_images(number: int, grid_mm: float) -> np.ndarray:
    """Make images of the template's size on the networks' grid."""
    shape = make_grid(SHAPE, (1.0, 1.0, 1.0), grid_mm=grid_mm).input_shape
    return np.random.default_rng(0).gamma(2, 1, size=(number, *shape)).astype(np.float32)


def build(shape: tuple[int, ...]) -> torch.nn.Module:
    """Build the network, always from the same random weights."""
    torch.manual_seed(0)
    return build_member("bn", shape, classes=2)


def plain(images: np.ndarray, epochs: int) -> float:
    """Train as MONAI's tutorials do; return the seconds of the epochs after the first."""
    network = build(images.shape[1:]).network
    scaled = standardise(torch.from_numpy(images)[:, None])
    items = [{"image": image, "label": i % 2} for i, image in enumerate(scaled)]
    turn = float(np.radians(5.0))
    moves = Compose(
        [
            RandFlipd(["image"], prob=0.5, spatial_axis=0),
            RandAffined(
                ["image"],
                prob=1.0,
                rotate_range=(turn,) * 3,
                scale_range=(0.03,) * 3,
                translate_range=tuple(0.02 * n for n in images.shape[1:]),
                padding_mode="zeros",
            ),
            RandGaussianNoised(["image"], prob=1.0, std=0.05),
        ]
    )
    loader = DataLoader(CacheDataset(items, moves, progress=False), BATCH, shuffle=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    network.train()
    started = 0.0
    for epoch in range(epochs + 1):
        if epoch == 1:
            started = time.perf_counter()
        for batch in loader:
            optimiser.zero_grad()
            scores = network(batch["image"].as_tensor())
            loss = torch.nn.functional.cross_entropy(scores, batch["label"])
            loss.backward()
            optimiser.step()
    return time.perf_counter() - started


def ours(images: np.ndarray, epochs: int, precision: str) -> float:
    """Train with the stage's loop; return the seconds of the epochs after the first.

    The loop settles batch normalisation's statistics and saves its state each epoch; both are in.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    data = Data(images, torch.arange(len(images)) % 2, standardise)
    rows = np.arange(len(images))
    seconds = []
    for number in (1, epochs + 1):
        recipe = Recipe(number, BATCH, 1e-4, augment="light", may_flip=True, precision=precision)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            member = build(images.shape[1:])
            fit(member, data, rows, rows[:0], recipe, seed=0, state=Path(folder) / "state")
            seconds.append(time.perf_counter() - started)
    return seconds[1] - seconds[0]


def predict(rounds: int, grid_mm: float) -> tuple[float, float]:
    """Time one volume from file to probability; return the median seconds and the model's MB."""
    grid = make_grid(SHAPE, (1.0, 1.0, 1.0), grid_mm=grid_mm)
    architecture = {"network": "bn", "shape": list(grid.input_shape), "classes": 2, "bins": 1}
    architecture |= {"options": {}, "members": 5, "scaling": "standardise"}
    program: Program = build_program(architecture)
    card = {"Name": "x", "Task": "classification", "Target": "sex", "Input": {}}
    with tempfile.TemporaryDirectory() as folder:
        portable.write_model(Path(folder), program, {**card, "Grid": grid.to_json()})
        path = Path(folder) / "image.nii.gz"
        data = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
        nib.Nifti1Image(data, np.eye(4)).to_filename(path)
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            volume = load(path)
            check_fits(volume, grid, path)
            portable.Judge(Path(folder))(conform(volume.data, grid)[None, None])
            seconds.append(time.perf_counter() - started)
        size = (Path(folder) / portable.WEIGHTS).stat().st_size / 1e6
    return statistics.median(seconds), size


def main() -> None:
    """Run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid-mm", type=float, default=4.0)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = make_images(given.images, given.grid_mm)
    loops = {
        "plain MONAI": lambda: plain(images, given.epochs),
        "ours": lambda: ours(images, given.epochs, "no"),
        "ours, bf16": lambda: ours(images, given.epochs, "bf16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(given.rounds):
        for name, loop in loops.items():
            seconds[name].append(loop())
    volumes = given.images * given.epochs
    base = statistics.median(seconds["plain MONAI"])
    rows = [
        {
            "what": f"train, {name}",
            "volumes_per_s": round(volumes / statistics.median(values), 2),
            "ratio": round(base / statistics.median(values), 2),
            "ratio_range": f"{base / max(values):.2f}-{base / min(values):.2f}",
        }
        for name, values in seconds.items()
    ]
    median, size = predict(given.rounds, given.grid_mm)
    rows.append({"what": "predict, 1 mm file, 5 members", "seconds": round(median, 3)})
    rows.append({"what": "weights of 5 members", "megabytes": round(size, 2)})
    record.save("classifier_speed", rows, ("torch", "monai", "onnxruntime"), given.out)


if __name__ == "__main__":
    main()
