"""One file of features per feature space: a series for every stimulus, and where they are from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENTRY = "series"


@dataclass(frozen=True)
class Series:
    """Features of one stimulus, (frames, features), at ``rate_hz`` from ``start_s``.

    An image is one frame at rate 0. ``fingerprints`` are (frames,), 0 where a frame is uniform or
    was never seen.
    """

    features: NDArray[np.float32]
    rate_hz: float
    start_s: float = 0.0
    fingerprints: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def duration_s(self) -> float:
        """How long it lasts; an image as long as it is shown."""
        return self.start_s + len(self.features) / self.rate_hz if self.rate_hz else float("inf")


def save_features(path: Path, series: Mapping[str, Series], about: Mapping[str, Any]) -> None:
    """Write series by stimulus, with ``about`` (model, layer, weights, ...) as metadata."""
    from safetensors.numpy import save_file

    tensors = {}
    for name, item in series.items():
        tensors[f"features/{name}"] = np.ascontiguousarray(item.features, dtype=np.float32)
        tensors[f"fingerprints/{name}"] = np.ascontiguousarray(item.fingerprints, dtype=np.int64)
    times = {name: [item.rate_hz, item.start_s] for name, item in series.items()}
    # One entry alone: safetensors writes several in an order that changes from run to run.
    save_file(tensors, path, metadata={ENTRY: json.dumps({"about": dict(about), "times": times})})


def read_about(path: str | Path) -> dict[str, Any]:
    """Read what a file of features says about itself, not the features."""
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        return dict(json.loads((file.metadata() or {})[ENTRY])["about"])


def load_features(path: Path) -> tuple[dict[str, Series], dict[str, Any]]:
    """Read what ``save_features`` wrote.

    Raises
    ------
    ValueError
        Not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            entry = json.loads((file.metadata() or {})[ENTRY])
            series = {
                name: Series(
                    file.get_tensor(f"features/{name}"),
                    rate_hz,
                    start_s,
                    file.get_tensor(f"fingerprints/{name}"),
                )
                for name, (rate_hz, start_s) in entry["times"].items()
            }
            return series, entry["about"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path}: not a file of features that step features wrote") from error
