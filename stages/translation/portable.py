"""Classifiers as folders of plain files: ``model.json`` says what ``model.onnx`` is and was fed.

Nothing is unpickled; the graph is read only after its SHA-256 was found to be the card's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from stages.translation.grids import PLANES, Axis, box_weights, resample
from stages.translation.volumes import TOLERANCE, Volume

Array = NDArray[np.float32]
CARD, GRAPH = "model.json", "model.onnx"
NEEDED = ("Name", "Task", "Input", "TrainingParticipants", "SHA256")
CLASSIFICATION, REGRESSION = "classification", "regression"
SPACE = "MNI152NLin2009aSym"
BATCH = 16
ARMS = {"gm": "mnigm", "gmfraction": "mnigmfraction", "brain": "mnibrain"}  # classifier's words


@dataclass(frozen=True)
class Judge:
    """One model, ready to run, and whom it has seen."""

    name: str
    task: str
    classes: tuple[str, ...]
    seen: frozenset[str]
    axes: tuple[Axis, Axis, Axis]
    shape: tuple[int, ...]
    session: Any
    target: str

    def prepare(self, volume: Volume) -> Array:
        """Bring a volume onto the model's own grid: (1, x, y, z), or (1, x, y) of its plane.

        A voxel of the model is the mean over its box.
        """
        source = [
            Axis(n, volume.affine[i, 3], volume.affine[i, i])
            for i, n in enumerate(volume.data.shape)
        ]
        weights = [
            box_weights(axis, own, own.step) for axis, own in zip(source, self.axes, strict=True)
        ]
        return resample(volume.data, weights).reshape(1, *self.shape)

    def ask(self, images: Array) -> Array:
        """Judge images, (n, 1, …): probabilities (n, classes), or quantities (n, 1)."""
        found = [
            self.session.run(None, {"image": images[i : i + BATCH].astype(np.float32)})[0]
            for i in range(0, len(images), BATCH)
        ]
        outputs = np.concatenate(found).astype(np.float64)
        if self.task == REGRESSION:
            return outputs
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def find_cards(paths: Sequence[str], folder: str | None) -> list[Path]:
    """List cards: those of the classifier's models and those in a folder that the user gave."""
    found = [Path(path) for path in paths if Path(path).name == CARD]
    if folder:
        root = Path(folder)
        if not root.exists():
            raise FileNotFoundError(f"{root}: no such file or folder; give a model's folder")
        found += [root] if root.is_file() else sorted(root.rglob(CARD))
        if not found:
            raise FileNotFoundError(f"{root}: no {CARD} in it; give a model's folder")
    return found


def is_about(card_path: Path, content: str, domains: Sequence[str]) -> bool:
    """Tell whether a model takes images like ours and says anything about the domains."""
    card = _read_card(card_path)
    known = {str(name).lower() for name in card.get("Classes") or ()}
    fits = card["Task"] == REGRESSION or {d.lower() for d in domains} <= known
    return fits and not _mismatch(card["Input"], content)


def load_judge(card_path: Path, content: str) -> Judge:
    """Load a model from its card, to judge images of a content.

    Raises
    ------
    FileNotFoundError
        The graph is not beside its card.
    ValueError
        No card, another graph than the card's, a model of another space, or no readable ONNX.
    """
    card = _read_card(card_path)
    graph = card_path.with_name(GRAPH)
    if not graph.exists():
        raise FileNotFoundError(f"{graph}: no such file; copy the whole folder of the model")
    program = graph.read_bytes()
    found, wanted = hashlib.sha256(program).hexdigest(), card["SHA256"].get(GRAPH, "nothing")
    if found != wanted:
        raise ValueError(
            f"{graph}: SHA-256 {found[:12]}…, the card says {wanted[:12]}…; the file is damaged or"
            " another one, copy the model's folder again from where you trust it"
        )
    about = card["Input"]
    if wrong := _mismatch(about, content):
        raise ValueError(f"{card_path}: {wrong}")
    shape = tuple(int(n) for n in about["Shape"])
    return Judge(
        name=str(card["Name"]),
        task=str(card["Task"]),
        classes=tuple(str(name) for name in card.get("Classes") or ()),
        seen=frozenset(_participant(uri) for uri in card["TrainingParticipants"]),
        axes=_axes(shape, about, card_path),
        shape=shape,
        session=_session(program, graph),
        target=str(card.get("Target", "")),
    )


def _mismatch(about: dict[str, Any], content: str) -> str:
    """Say why a model cannot be given our images; nothing if it can."""
    if about.get("Space") != SPACE:
        return (
            f"the model takes images of space {about.get('Space')}, translations are in {SPACE};"
            f" train the classifier on arm {ARMS[content]}"
        )
    if about.get("Arm", ARMS[content]) != ARMS[content]:
        return (
            f"the model takes images of arm {about['Arm']}, these are of {ARMS[content]}; train the"
            " classifier on that arm, or translate its content"
        )
    return ""


def _axes(shape: tuple[int, ...], about: dict[str, Any], path: Path) -> tuple[Axis, Axis, Axis]:
    """Read the model's grid; a 2D model's plane lies where its affine says."""
    affine = np.asarray(about["Affine"], dtype=float)
    scale = affine[:3, :3]
    steps = np.abs(scale).max(axis=0)
    if np.abs(scale - np.diag(np.diag(scale))).max() > TOLERANCE or (np.diag(scale) <= 0).any():
        raise ValueError(f"{path}: the model's axes are not those of RAS+; train it again")
    starts, sizes = affine[:3, 3].copy(), list(shape)
    if len(shape) == 2:
        across = _across(about, path)
        sizes.insert(across, 1)
        starts[across] += steps[across] * int(about.get("PlaneIndex", 0))
    x, y, z = (Axis(n, float(starts[i]), float(steps[i])) for i, n in enumerate(sizes))
    return x, y, z


def _across(about: dict[str, Any], path: Path) -> int:
    """Find the axis across a 2D model's plane."""
    plane = str(about.get("Plane", "")).lower()
    if plane not in PLANES:
        raise ValueError(
            f"{path}: a model of slices whose Input names no Plane ({', '.join(PLANES)}); add it to"
            " the card"
        )
    return PLANES[plane]


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON ({error}); copy the model's folder again") from error
    lacking = [key for key in NEEDED if not isinstance(card, dict) or key not in card]
    if lacking:
        raise ValueError(f"{path}: no model card, {', '.join(lacking)} missing")
    return dict(card)


def _participant(uri: str) -> str:
    """Name the participant of ``bids::sub-01`` or ``bids::sub-01/anat/…``."""
    parts = [p for p in uri.replace(":", "/").split("/") if p.startswith("sub-")]
    return parts[0].split("_")[0] if parts else uri


def _session(program: bytes, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ValueError(f"{path}: no readable ONNX graph ({error})") from error
