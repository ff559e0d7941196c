"""Natural images as a task to learn: CIFAR-10 from a file, or a proxy from two photographs.

CIFAR-10's binary version (Krizhevsky 2009): files of records of 1 byte class and 3,072 bytes of
red, green and blue planes of 32 × 32 pixels, row by row; no pickle.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages.transfer.training import Batch

SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
MOST_BYTES = 20_000 * RECORD  # of a file; CIFAR-10's hold 10,000 images
CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TEST_FILE = "test_batch.bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR_SHIFT = 4

# Regions of scikit-learn's two photographs: picture, top, bottom, left, right (shares).
REGIONS = (
    ("sky", "china.jpg", 0.0, 0.33, 0.0, 1.0),
    ("temple", "china.jpg", 0.30, 0.75, 0.25, 0.85),
    ("trees", "china.jpg", 0.60, 1.0, 0.0, 1.0),
    ("petals", "flower.jpg", 0.1, 0.7, 0.25, 0.75),
    ("leaves", "flower.jpg", 0.55, 1.0, 0.0, 1.0),
)
PROXY_PATCHES = 3000  # per epoch
PROXY_TEST = 1000
TEST_STRIPE = 0.25  # the right-most share of every region is for testing
ZOOMS = (1.0, 2.5)


class ImageTask:
    """Ready images with classes; training ones are shifted and mirrored at random."""

    def __init__(self, train: Batch, test: Batch, classes: list[str], per_epoch: int = 0) -> None:
        self.train, self.test, self.classes, self.per_epoch = train, test, classes, per_epoch

    def draw(self, rng: np.random.Generator) -> Batch:
        """Take all training images, or ``per_epoch`` of them, in random places."""
        images, classes = self.train
        if self.per_epoch and self.per_epoch < len(images):
            some = rng.choice(len(images), self.per_epoch, replace=False)
            images, classes = images[some], classes[some]
        pad = CIFAR_SHIFT
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        tops, lefts = rng.integers(0, 2 * pad + 1, (2, len(images)))
        span = np.arange(images.shape[-1])
        rows = np.arange(len(images))[:, None, None, None]
        channels = np.arange(images.shape[1])[None, :, None, None]
        moved = padded[
            rows,
            channels,
            (tops[:, None] + span)[:, None, :, None],
            (lefts[:, None] + span)[:, None, None, :],
        ]
        is_mirrored = rng.random(len(images)) < 0.5
        moved[is_mirrored] = moved[is_mirrored, :, :, ::-1]
        return np.ascontiguousarray(moved), classes


class ProxyTask:
    """Ten classes from two photographs: five regions, each upright or turned by 90°.

    A proxy of a task on natural images for machines without CIFAR-10, never to be called CIFAR.
    """

    def __init__(self) -> None:
        from sklearn.datasets import load_sample_image

        self._pictures = {n: load_sample_image(n) for n in ("china.jpg", "flower.jpg")}
        self.classes = [f"{r[0]}{turn}" for r in REGIONS for turn in ("", "+turned")]
        self.test = self._cut(np.random.default_rng(0), PROXY_TEST, is_test=True)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Cut patches at random places and scales of the training part of each region."""
        return self._cut(rng, PROXY_PATCHES, is_test=False)

    def _cut(self, rng: np.random.Generator, count: int, *, is_test: bool) -> Batch:
        patches = np.empty((count, 3, SIDE, SIDE), dtype=np.uint8)
        classes = rng.integers(0, len(self.classes), count)
        for index, kind in enumerate(classes):
            _, picture, *box = REGIONS[kind // 2]
            image = self._pictures[picture]
            side = int(rng.uniform(*ZOOMS) * SIDE)
            top, bottom = (int(v * image.shape[0]) for v in box[:2])
            left, right = (int(v * image.shape[1]) for v in box[2:])
            edge = right - int((right - left) * TEST_STRIPE)
            low, high = (edge, right) if is_test else (left, edge)
            side = min(side, bottom - top, high - low)
            y = rng.integers(top, bottom - side + 1)
            x = rng.integers(low, high - side + 1)
            part = image[y : y + side, x : x + side].astype(np.float32)
            part = ndimage.zoom(
                part, (SIDE / side, SIDE / side, 1), order=1, grid_mode=True, mode="nearest"
            )
            part = np.rot90(part, kind % 2)
            patches[index] = np.clip(part.transpose(2, 0, 1), 0, 255).astype(np.uint8)
        return patches, classes.astype(np.int64)


def read_cifar10(path: str | Path, per_epoch: int = 0) -> ImageTask:
    """Read CIFAR-10's binary version: the folder of .bin files, or cifar-10-binary.tar.gz.

    Raises
    ------
    FileNotFoundError
        A batch is missing; names those expected.
    ValueError
        A file that is no whole number of records, or a class above 9: another format.
    """
    files = dict(_bin_files(Path(path)))
    train = [name for name in TRAIN_FILES if name in files]
    if not train or TEST_FILE not in files:
        raise FileNotFoundError(
            f"{path}: found {', '.join(files) or 'no .bin file'}; expected {TRAIN_FILES[0]} … and"
            f" {TEST_FILE} of CIFAR-10's binary version (not the Python one, which is pickled)"
        )
    parts = [_records(name, files[name]) for name in train]
    images = np.concatenate([part[0] for part in parts])
    classes = np.concatenate([part[1] for part in parts])
    test = _records(TEST_FILE, files[TEST_FILE])
    return ImageTask((images, classes), test, list(CIFAR_CLASSES), per_epoch)


def _records(name: str, content: bytes) -> Batch:
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"{name}: more than {MOST_BYTES} bytes; CIFAR-10's files hold 10,000 images of {RECORD}"
        )
    if not content or len(content) % RECORD:
        raise ValueError(
            f"{name}: {len(content)} bytes are no whole number of records of {RECORD} bytes; is it"
            " CIFAR-10's binary version, wholly copied?"
        )
    rows: NDArray[Any] = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)
    classes = rows[:, 0].astype(np.int64)
    if classes.max() >= len(CIFAR_CLASSES):
        raise ValueError(f"{name}: class {classes.max()}, expected 0–9; CIFAR-100 has two bytes")
    return rows[:, 1:].reshape(-1, 3, SIDE, SIDE).copy(), classes


def _bin_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every .bin file of a folder or an archive, in memory only."""
    if path.is_dir():
        for file in sorted(path.rglob("*.bin")):
            yield file.name, file.read_bytes()
    elif path.is_file():
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.isfile() else None
                    if stream is not None and member.name.endswith(".bin"):
                        name = Path(member.name).name
                        # A few bytes can unpack to terabytes; one more than allowed tells.
                        most = MOST_BYTES + 1 if name in (*TRAIN_FILES, TEST_FILE) else 0
                        yield name, stream.read(most)
        except tarfile.TarError as error:
            raise ValueError(
                f"{path}: no archive ({error}); give cifar-10-binary.tar.gz or its folder"
            ) from error
    else:
        raise FileNotFoundError(f"{path}: no such file or folder of CIFAR-10")
