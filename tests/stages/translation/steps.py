"""Calling a step as a job does, and small cohorts as preprocessing writes them."""

import importlib
import json
from hashlib import sha256
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import nn

import specs
from specs.schema import Output
from tests.stages.calls import make_arguments

SPEC = specs.load("translation")
SHAPE = (20, 24, 20)
AFFINE = np.array([[8.0, 0, 0, -76], [0, 8.0, 0, -100], [0, 0, 8.0, -70], [0, 0, 0, 1]])
SPACE = "space-MNI152NLin2009aSym_res-1"


def call(
    step: str, folder: Path, *, stem: str = "sub-01", seed: int = 0, **given
) -> dict[str, Path]:
    """Run a step into ``folder``; return the outputs by name.

    Inputs that are not given are absent, parameters have their default.
    """
    described = SPEC.steps[step]
    inputs, params = make_arguments(described, given)
    for name in described.over:  # a job gets one of the values
        if name in params and isinstance(params[name], list):
            params[name] = params[name][0]
    outputs = {}
    for name, output in described.outputs.items():
        outputs[name] = folder / name / _file_name(output, stem, params)
        outputs[name].parent.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"stages.translation.{step}")
    paths = {name: str(path) for name, path in outputs.items()}
    module.run(**inputs, **paths, **params, seed=seed)
    return outputs


def make_brain(rng: np.random.Generator, *, is_old: bool, shape=SHAPE) -> np.ndarray:
    """Draw an ellipsoid of tissue with texture; age darkens its upper front."""
    grid = np.indices(shape, dtype=float)
    middle = (np.array(shape) - 1) / 2
    radius = np.sqrt(
        sum(((g - m) / (0.42 * n)) ** 2 for g, m, n in zip(grid, middle, shape, strict=True))
    )
    data = np.where(radius < 1, 700 + 60 * rng.normal(size=shape), 0)
    front = (grid[1] > middle[1] + 2) & (grid[2] > middle[2])
    data[front] *= 0.6 if is_old else 1.0
    return (data * rng.normal(1, 0.05)).astype(np.float32)


def write_cohort(root: Path, people: int = 12) -> tuple[list[str], str]:
    """Write grey-matter images and participants.tsv; odd numbers are old."""
    paths, rows = [], ["participant_id\tage\tsex\tsite"]
    for i in range(people):
        name = f"sub-{i:02d}"
        path = root / name / "anat" / f"{name}_{SPACE}_desc-GM_T1w.nii.gz"
        write_image(path, make_brain(np.random.default_rng(i), is_old=i % 2 == 1))
        paths.append(str(path))
        rows.append(f"{name}\t{25 + i if i % 2 == 0 else 60 + i}\t{'FM'[i // 2 % 2]}\tA")
    table = root / "participants.tsv"
    table.write_text("\n".join(rows) + "\n")
    return paths, str(table)


def write_twins(root: Path, people: int = 12) -> dict[str, list[Path]]:
    """Write everybody as if translated perfectly both ways: domain → images, and their changes."""
    found: dict[str, list[Path]] = {"images": [], "changes": []}
    for i in range(people):
        before = make_brain(np.random.default_rng(i), is_old=i % 2 == 1)
        for domain in ("Young", "Old"):
            after = make_brain(np.random.default_rng(i), is_old=domain == "Old")
            stem = root / f"sub-{i:02d}_{SPACE}"
            image = write_image(Path(f"{stem}_desc-to{domain}_T1w.nii.gz"), after)
            change = Path(f"{stem}_stat-diff_desc-to{domain}_T1wmap.nii.gz")
            found["images"].append(image)
            found["changes"].append(write_image(change, after - before))
    return found


def write_image(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    return path


class FrontJudge(nn.Module):
    """Tell old from young by whether the upper front is darker than the rest."""

    def __init__(self, front: torch.Tensor, *, is_quantity: bool = False) -> None:
        super().__init__()
        self.register_buffer("front", front)
        self.is_quantity = is_quantity

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dims = tuple(range(1, image.ndim))
        inside = (image > 0).to(image.dtype)
        front = (image * self.front).sum(dims) / (inside * self.front).sum(dims).clamp(min=1)
        rest = (image * (1 - self.front)).sum(dims)
        rest = rest / (inside * (1 - self.front)).sum(dims).clamp(min=1)
        score = 20 * (0.8 - front / rest.clamp(min=1e-3))
        if self.is_quantity:
            return 50 + 5 * score[:, None]
        return torch.stack([-score, score], dim=1)


def write_judge(
    folder: Path, *, seen: list[str], plane: str = "", is_quantity: bool = False, **changes
) -> Path:
    """Write a judge in the classifier's format for images of ``write_cohort``; return its card."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = np.indices(SHAPE, dtype=float)
    middle = (np.array(SHAPE) - 1) / 2
    front = ((grid[1] > middle[1] + 2) & (grid[2] > middle[2])).astype(np.float32)
    index = 13
    shape = SHAPE
    if plane:
        front, shape = front[:, :, index], SHAPE[:2]
    model = FrontJudge(torch.from_numpy(front), is_quantity=is_quantity).eval()
    program = torch.onnx.export(
        model,
        (torch.rand(2, 1, *shape),),
        dynamo=True,
        input_names=["image"],
        output_names=["output"],
        opset_version=18,
        dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
        verbose=False,
    )
    program.save(folder / "model.onnx", include_initializers=True, external_data=False)
    about = {
        "Space": "MNI152NLin2009aSym",
        "Shape": list(shape),
        "SpacingMm": [8.0] * 3,
        "Affine": AFFINE.tolist(),
        "Content": "grey matter",
        "Intensity": "any scale",
    }
    if plane:
        about |= {"Plane": plane, "PlaneIndex": index}
    card = {
        "Name": folder.name,
        "Task": "regression" if is_quantity else "classification",
        "Target": "age" if is_quantity else "agegroup",
        "Classes": [] if is_quantity else ["young", "old"],
        "Input": about | changes.pop("Input", {}),
        "TrainingParticipants": [f"bids::{name}" for name in seen],
        "SHA256": {"model.onnx": sha256((folder / "model.onnx").read_bytes()).hexdigest()},
        "Version": "1",
    }
    path = folder / "model.json"
    path.write_text(json.dumps(card | changes))
    return path


def _file_name(output: Output, stem: str, params: dict) -> str:
    if output.path:
        return Path(output.path.format(**params)).name
    own = {k: v.format(**params) for k, v in output.bids.items()}
    pairs = [f"{k}-{own[k]}" for k in ("space", "res", "stat", "desc") if k in own]
    return "_".join([stem, *pairs, own["suffix"]]) + own["extension"]
