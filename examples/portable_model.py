"""A model as three files: used without the code that made it, refused when a byte has changed."""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from stages.classifier.portable import Judge, write_model
from stages.classifier.program import build_program

SHAPE = [12, 12, 12]


def main() -> tuple[float, str]:
    """Return the largest difference of both ways to use the model, and the refusal's words."""
    torch.manual_seed(0)
    architecture = {
        "network": "linear", "shape": SHAPE, "classes": 2, "bins": 1, "options": {},
        "members": 1, "scaling": "standardise",
    }  # fmt: skip
    card = {
        "Name": "example", "Task": "classification", "Target": "sex", "Classes": ["F", "M"],
        "Input": {"Shape": SHAPE}, "Grid": {}, "TrainingParticipants": [],
        "Provenance": "random-weights", "Licence": "CC0",
    }  # fmt: skip
    images = np.random.default_rng(0).random((2, 1, *SHAPE), dtype=np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder, build_program(architecture), card)

        # Anywhere else: check the file against the card, then run it.
        told = json.loads((folder / "model.json").read_text())
        graph = (folder / "model.onnx").read_bytes()
        if hashlib.sha256(graph).hexdigest() != told["SHA256"]["model.onnx"]:
            raise ValueError("not the file that the card was written for")
        logits = onnxruntime.InferenceSession(graph).run(None, {"image": images})[0]

        difference = float(np.abs(logits - Judge(folder)(images)).max())
        (folder / "model.onnx").write_bytes(graph[:-1] + b"x")
        try:
            Judge(folder)
            refusal = ""
        except ValueError as error:
            refusal = str(error).replace(name, "…")
    print(f"classes {told['Classes']}, logits {logits.round(2).tolist()}")
    print(f"a changed file: {refusal}")
    return difference, refusal


if __name__ == "__main__":
    main()
