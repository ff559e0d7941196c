"""Images and labels of a training, and batches of them read ahead."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Data:
    """Images and labels; ``scale`` maps raw batches, (B, C, …), to what networks see."""

    images: NDArray[np.float32]  # (n, C, …), in memory or mapped
    labels: Tensor  # (n,), int64 classes or float32 quantities
    scale: Callable[[Tensor], Tensor]

    @property
    def is_quantity(self) -> bool:
        """Whether labels are numbers and not classes."""
        return self.labels.is_floating_point()


def batches(
    images: NDArray[np.float32], rows: Indices, size: int, *, smallest: int = 1
) -> Iterator[tuple[Indices, Tensor]]:
    """Yield rows and their images, (B, C, …); the next batch is read while one is worked on.

    A last batch smaller than ``smallest`` is left out.
    """
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    parts = [part for part in parts if len(part) >= smallest]

    def read(part: Indices) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(images[part]))
        return batch.pin_memory() if torch.cuda.is_available() else batch

    with ThreadPoolExecutor(1) as reader:
        waiting = [reader.submit(read, part) for part in parts[:1]]
        for index, part in enumerate(parts):
            ready = waiting.pop().result()
            if index + 1 < len(parts):
                waiting.append(reader.submit(read, parts[index + 1]))
            yield part, ready
