"""Claims: training ≥ 1.3 × a plain MONAI loop and Lightning on a CPU; predict ≤ 1 s a volume.

Trainings run in one process, in turns, one thread: same network (BN variant), same start, same
batch, same number of epochs, the same kinds of augmentation, no compilation. The plain loop is what
MONAI's tutorials write: DataLoader over a CacheDataset whose random transforms move one image at a
time, forward, loss, backward, Adam, and the network in torch's own layers in the order convolution,
norm, ReLU, pooling; Lightning's Trainer gets the same. Ours is the loop of
stages.classifier.training without validation; settling the norms' statistics and saving the state
each epoch are in its time. Rows "step" are forward, backward and Adam alone on one batch. Ratios
are medians over rounds of the plain side's time over ours in the same round; bf16 is mixed
precision on our side only. Predict goes from a file of 1 mm to a probability by onnxruntime, file
and graph read each time.

    python -m tests.benchmarks.classifier_speed [--grid-mm 4] [--images 16] [--rounds 5] [--out DIR]
"""

import argparse
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import nibabel as nib
import numpy as np
import torch
from accelerate.state import AcceleratorState
from monai.data import CacheDataset
from monai.transforms import Compose, RandAffined, RandFlipd, RandGaussianNoised
from torch import nn
from torch.utils.data import DataLoader

from stages.classifier import portable
from stages.classifier.data import Data
from stages.classifier.images import check_fits, conform, load, make_grid
from stages.classifier.program import Program, build_member, build_program, standardise
from stages.classifier.training import Recipe, fit
from tests.benchmarks import record

SHAPE = (197, 233, 189)
BATCH = 8
RATE = 1e-4


def make_images(number: int, grid_mm: float) -> np.ndarray:
    """Make images of the template's size on the networks' grid."""
    shape = make_grid(SHAPE, (1.0, 1.0, 1.0), grid_mm=grid_mm).input_shape
    return np.random.default_rng(0).gamma(2, 1, size=(number, *shape)).astype(np.float32)


def build(shape: tuple[int, ...]) -> nn.Module:
    """Build the network as the stage does, always from the same random weights."""
    torch.manual_seed(0)
    return build_member("bn", shape, classes=2)


def build_plain(shape: tuple[int, ...]) -> nn.Sequential:
    """Build the same network with the same weights, ReLU before pooling as tutorials have it."""
    network = build(shape).network
    layers = list(network.features)
    for index, layer in enumerate(network.features):
        if isinstance(layer, nn.MaxPool3d):
            layers[index : index + 2] = [layers[index + 1], layer]
    return nn.Sequential(*layers, network.head)


def make_loader(images: np.ndarray) -> DataLoader:
    """Make the plain loop's loader, images scaled and in memory."""
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
    return DataLoader(CacheDataset(items, moves, progress=False), BATCH, shuffle=True)


def plain(loader: DataLoader, shape: tuple[int, ...], epochs: int) -> None:
    """Train as MONAI's tutorials do."""
    network = build_plain(shape).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(epochs):
        for batch in loader:
            optimiser.zero_grad()
            scores = network(batch["image"].as_tensor())
            loss = nn.functional.cross_entropy(scores, batch["label"])
            loss.backward()
            optimiser.step()


class Plain(lightning.LightningModule):
    """The same in Lightning, as its documentation has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
        """Return the loss of one batch."""
        scores = self.network(batch["image"].as_tensor())
        return nn.functional.cross_entropy(scores, batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=RATE)


def with_lightning(loader: DataLoader, shape: tuple[int, ...], epochs: int) -> None:
    """Train by Lightning's Trainer, without what writes or draws."""
    lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Plain(build_plain(shape)), loader)


def ours(images: np.ndarray, epochs: int, precision: str) -> None:
    """Train with the stage's loop."""
    AcceleratorState._reset_state(reset_partial_state=True)
    data = Data(images[:, None], torch.arange(len(images)) % 2, standardise)
    rows = np.arange(len(images))
    recipe = Recipe(epochs, BATCH, RATE, augment="light", may_flip=True, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        member = build(images.shape[1:])
        fit(member, data, rows, rows[:0], recipe, seed=0, state=Path(folder) / "state")


def make_step(network: nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Make a step on one batch; it returns the scores before it."""
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    labels = torch.arange(len(images)) % 2

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        scores = network(images)
        nn.functional.cross_entropy(scores, labels).backward()
        optimiser.step()
        return scores.detach()

    return step


def time_steps(images: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """Time steps alone; the scores before the first show that the networks are one."""
    batch = standardise(torch.from_numpy(images[:BATCH])[:, None])
    shape, last = images.shape[1:], torch.channels_last_3d
    actions = {
        "step, ours": make_step(
            build(shape).network.to(memory_format=last), batch.to(memory_format=last)
        ),
        "step, plain": make_step(build_plain(shape), batch),
    }
    first, peers = (step() for step in actions.values())
    rows = record.time_in_turns(actions, rounds)
    rows[1]["largest_difference_of_scores"] = float((first - peers).abs().max())
    return rows


def make_prediction(folder: Path, grid_mm: float) -> Callable[[], object]:
    """Write a model of five members and an image; make the action that judges it from files."""
    grid = make_grid(SHAPE, (1.0, 1.0, 1.0), grid_mm=grid_mm)
    architecture = {"network": "bn", "shape": list(grid.input_shape), "classes": 2, "bins": 1}
    architecture |= {"options": {}, "members": 5, "scaling": "standardise"}
    program: Program = build_program(architecture)
    card = {"Name": "x", "Task": "classification", "Target": "sex", "Input": {}}
    portable.write_model(folder, program, {**card, "Grid": grid.to_json()})
    path = folder / "image.nii.gz"
    data = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    nib.Nifti1Image(data, np.eye(4)).to_filename(path)

    def predict() -> object:
        volume = load(path)
        check_fits(volume, grid, path)
        return portable.Judge(folder)(conform(volume.data, grid)[None, None])

    return predict


def main() -> None:
    """Time, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid-mm", type=float, default=4.0)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    images = make_images(given.images, given.grid_mm)
    loader = make_loader(images)
    actions = {
        "train, ours": lambda: ours(images, given.epochs, "no"),
        "train, plain MONAI": lambda: plain(loader, images.shape[1:], given.epochs),
        "train, Lightning": lambda: with_lightning(loader, images.shape[1:], given.epochs),
    }
    mixed = {
        "train, ours in bf16": lambda: ours(images, given.epochs, "bf16"),
        "train, plain MONAI (beside bf16)": actions["train, plain MONAI"],
    }
    for warm_up in (*actions.values(), *mixed.values()):
        warm_up()
    rows = record.time_in_turns(actions, given.rounds, aim="ratio >= 1.3")
    rows += record.time_in_turns(mixed, given.rounds)
    for row in rows:
        row["volumes_per_s"] = round(given.images * given.epochs / row["seconds"], 2)
    rows += time_steps(images, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        name = "predict, file of 1 mm, 5 members"
        predict = make_prediction(Path(folder), given.grid_mm)
        predict()
        rows += record.time_in_turns({name: predict}, given.rounds)
        rows[-1]["aim"] = "seconds <= 1"
        size = (Path(folder) / portable.WEIGHTS).stat().st_size / 1e6
    rows.append({"what": "weights of 5 members", "megabytes": round(size, 2)})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    rows.append({"what": "peak memory of all of the above", "megabytes": round(peak)})
    record.save("classifier_speed", rows, ("torch", "monai", "lightning", "onnxruntime"), given.out)


if __name__ == "__main__":
    main()
