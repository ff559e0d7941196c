"""Files between steps: volumes with landmarks, candidates with patches, features. No pickle.

All are safetensors: arrays by name, and texts as JSON in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from stages.transfer.volumes import Floats, Volume

Arrays = dict[str, NDArray[Any]]
ABOUT = "about"


@dataclass(frozen=True)
class Prepared:
    """One image with its landmarks: volume 0..255, names, points (n, 3) in voxels."""

    participant: str
    image: str
    origin: str
    volume: Volume
    names: list[str]
    points: Floats

    @property
    def places(self) -> dict[str, Floats]:
        """Landmarks by name, RAS mm."""
        return dict(zip(self.names, self.volume.to_world(self.points), strict=True))


@dataclass(frozen=True)
class Cases:
    """Candidates of several participants, one row each."""

    patches: NDArray[np.uint8]  # (n, 3, s, s)
    cases: NDArray[np.str_]  # participant
    lesions: NDArray[np.int64]  # 0 for none, else the number of the lesion within the case
    matched: NDArray[np.bool_]  # chosen negatives
    places_mm: Floats  # (n, 3)
    about: list[dict[str, Any]]  # per participant: lesions, missed, spacing_mm, origin

    @property
    def used(self) -> NDArray[np.bool_]:
        """Rows that are learnt from and judged by: lesions and matched negatives."""
        return (self.lesions > 0) | self.matched

    @property
    def has_lesion(self) -> dict[str, bool]:
        """Participant → whether there is a lesion."""
        return {a["participant"]: bool(a["lesions"]) for a in self.about}


def read_cases(paths: Iterable[str]) -> Cases:
    """Read the candidates of all participants.

    Raises
    ------
    ValueError
        There is none, or patches are of different sizes in pixels or mm.
    """
    parts, abouts = [], []
    for path in paths:
        arrays, about = read(path)
        parts.append(arrays | {"cases": np.full(len(arrays["lesions"]), about["participant"])})
        abouts.append(about)
    if not parts:
        raise ValueError("no candidates of any participant; run step vessels at level participant")
    sizes = {part["patches"].shape[-1] for part in parts}
    if len(sizes) > 1:
        raise ValueError(f"patches of {sorted(sizes)} pixels; run step vessels again for everybody")
    spacings = sorted({about["spacing_mm"] for about in abouts})
    if len(spacings) > 1:
        raise ValueError(
            f"patches on voxels of {spacings} mm; run step vessels again for everybody with one"
            " --transfer-vessel-spacing-mm"
        )
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Cases(
        patches=joined["patches"],
        cases=joined["cases"],
        lesions=joined["lesions"],
        matched=joined["matched"],
        places_mm=joined["places_mm"],
        about=abouts,
    )


def write(path: str | Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write arrays and what is said about them."""
    tight = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(tight, path, metadata={ABOUT: json.dumps(about)})


def read(path: str | Path) -> tuple[Arrays, dict[str, Any]]:
    """Read arrays and what is said about them.

    Raises
    ------
    ValueError
        Not a file of this stage.
    """
    with _open(path) as file:
        return {
            name: file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 (not iterable itself)
        }, _about(file, path)


def read_about(path: str | Path) -> dict[str, Any]:
    """Read only what is said about the arrays."""
    with _open(path) as file:
        return _about(file, path)


def write_prepared(path: str | Path, items: Sequence[Prepared]) -> None:
    """Write a participant's images."""
    arrays: Arrays = {}
    for index, item in enumerate(items):
        arrays[f"volume{index}"] = item.volume.data
        arrays[f"affine{index}"] = item.volume.affine
        arrays[f"points{index}"] = item.points
    about = {
        "participant": items[0].participant,
        "images": [item.image for item in items],
        "names": [item.names for item in items],
        "origin": items[0].origin,
    }
    write(path, arrays, about)


def read_prepared(paths: Iterable[str]) -> list[Prepared]:
    """Read the images of several participants."""
    items = []
    for path in paths:
        arrays, about = read(path)
        for index, image in enumerate(about["images"]):
            volume = Volume(arrays[f"volume{index}"], arrays[f"affine{index}"])
            names, points = about["names"][index], arrays[f"points{index}"]
            items.append(
                Prepared(about["participant"], image, about["origin"], volume, names, points)
            )
    return items


def _open(path: str | Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors has an exception of its own for damaged files
        raise ValueError(f"{path}: not a safetensors file ({error}); make it again") from error


def _about(file: Any, path: str | Path) -> dict[str, Any]:
    metadata = file.metadata() or {}
    if ABOUT not in metadata:
        raise ValueError(f"{path}: not written by this stage; run the step that makes it again")
    return dict(json.loads(metadata[ABOUT]))
