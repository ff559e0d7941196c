"""A trained program as a folder that needs none of this code: ONNX, safetensors, a JSON card.

Nothing is unpickled: safetensors and ONNX are plain data, and before either is read its SHA-256
must be the one in the card.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stages.classifier.program import Program, build_program

CARD, GRAPH, WEIGHTS = "model.json", "model.onnx", "model.safetensors"
VERSION = "1"
OPSET = 18
NEEDED = ("Name", "Task", "Target", "Input", "Grid", "Architecture", "SHA256", "Version")


def write_model(folder: Path, program: Program, card: Mapping[str, Any]) -> None:
    """Write weights, graph and card; the graph must say what the program says.

    Raises
    ------
    RuntimeError
        The exported graph disagrees with the program by more than rounding.
    """
    program = program.cpu().eval()
    weights = {k: v.detach().contiguous().clone() for k, v in program.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    example = torch.randn(2, *program.input_shape).clamp(min=0)
    export(program, example, folder / GRAPH)
    expected = program(example).detach().numpy()
    found = _session((folder / GRAPH).read_bytes()).run(None, {"image": example.numpy()})[0]
    worst = float(np.abs(found - expected).max())
    if worst > 1e-3 * max(1.0, float(np.abs(expected).max())):
        raise RuntimeError(f"{folder / GRAPH}: the exported graph is off by {worst:.2g}")
    full = {
        **card,
        "Architecture": program.architecture,
        "Parameters": sum(p.numel() for p in program.parameters()),
        "SHA256": {name: _sha256(folder / name) for name in (GRAPH, WEIGHTS)},
        "Version": VERSION,
    }
    (folder / CARD).write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")


def export(program: Program, example: torch.Tensor, path: Path) -> None:
    """Export to ONNX with a batch of any size; weights inside the one file."""
    # The exporter reports each operator of packages that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported: Any = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=["output"],
            opset_version=OPSET,
            dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
            verbose=False,
        )
    for node in exported.model.graph:  # each tells the source files of this machine it came from
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    exported.save(path, include_initializers=True, external_data=False)


def read_card(path: Path) -> dict[str, Any]:
    """Read a model's card and check that it can be one of ours.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        No JSON, entries missing, or written by another version.
    """
    path = path / CARD if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; give a model's folder with its {CARD}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON ({error}); copy the model's folder again") from error
    lacking = [key for key in NEEDED if not isinstance(card, dict) or key not in card]
    if lacking:
        raise ValueError(f"{path}: no model card, {', '.join(lacking)} missing")
    if card["Version"] != VERSION:
        raise ValueError(
            f"{path}: format version {card['Version']}, this release reads {VERSION}; use the"
            " release that wrote it, or train again"
        )
    return dict(card)


def read_program(path: Path) -> tuple[Program, dict[str, Any]]:
    """Build the program again around its stored weights, for gradients.

    Raises
    ------
    ValueError
        A weights file that is not the one the card was written for, or does not fit it.
    """
    card = read_card(path)
    file = (path if path.is_dir() else path.parent) / WEIGHTS
    _check(file, card)
    program = build_program(card["Architecture"])
    try:
        program.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ValueError(f"{file}: weights do not fit the card ({error})") from error
    return program.eval(), card


class Judge:
    """A model's graph, ready to run: ``judge(images) → outputs``, NumPy in and out."""

    def __init__(self, path: Path) -> None:
        self.card = read_card(path)
        file = (path if path.is_dir() else path.parent) / GRAPH
        _check(file, self.card)
        self._session = _session(file.read_bytes())

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Judge raw images, (B, C, …) → logits (B, classes) or years (B, 1)."""
        return np.asarray(self._session.run(None, {"image": images.astype(np.float32)})[0])


def _session(content: bytes) -> onnxruntime.InferenceSession:
    """Start a session from bytes already checked, so that no other file is read by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, torch.get_num_threads())
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ValueError(f"{GRAPH}: no readable ONNX graph ({error})") from error


def _check(file: Path, card: Mapping[str, Any]) -> None:
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file; copy the whole folder of the model")
    found, wanted = _sha256(file), card["SHA256"].get(file.name, "nothing")
    if found != wanted:
        raise ValueError(
            f"{file}: SHA-256 {found[:12]}…, the card says {wanted[:12]}…; the file is damaged or"
            " another one, copy the model's folder again from where you trust it"
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
