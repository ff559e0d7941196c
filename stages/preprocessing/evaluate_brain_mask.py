"""Scores brain masks on heads that the weights have not seen, as they are and made difficult.

    python -m stages.preprocessing.evaluate_brain_mask DATA_DIR OUT --folds 3

OUT holds ``fold-K/brain_mask.json`` from `stages.preprocessing.train_brain_mask`; each head
is scored with the fold that held it out. Writes ``scores.tsv`` (head by condition) and
``summary.json`` there.

The conditions are made with scipy on the stored grid, apart from the code that made the training
heads.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from stages.preprocessing.brain_mask import extract_brain
from stages.preprocessing.brain_quality import dice
from stages.preprocessing.train_brain_mask import Head, load_head, split

Array = NDArray[Any]
Changed = tuple[Array, Array, Array]
#: image, mask and affine in; the same of the changed head out
Condition = Callable[[Array, Array, Array, np.random.Generator], Changed]


def resample(image: Array, mask: Array, affine: Array, zooms: Sequence[float]) -> Changed:
    """Resample to other voxel sizes in mm: the image by cubic splines, the mask linearly."""
    factors = np.asarray(zooms) / np.linalg.norm(affine[:3, :3], axis=0)
    shape = tuple(int(n / f) for n, f in zip(image.shape, factors, strict=True))
    # Thicker voxels average what they cover; sigma gives a slice profile of about that width.
    image = ndimage.gaussian_filter(image, [0.4 * f if f > 1 else 0 for f in factors])
    matrix = np.diag([*factors, 1.0])
    matrix[:3, 3] = (factors - 1) / 2
    warnings.filterwarnings("ignore", "The behavior of affine_transform", UserWarning)
    image = ndimage.affine_transform(image, factors, matrix[:3, 3], shape, order=3, mode="nearest")
    soft = ndimage.affine_transform(
        mask.astype(np.float32), factors, matrix[:3, 3], shape, order=1, mode="nearest"
    )
    return image, soft > 0.5, affine @ matrix


def rotate(
    image: Array, mask: Array, affine: Array, rng: np.random.Generator, degrees: float
) -> Changed:
    """Turn the head (not the header) about a random axis through the middle of the brain."""
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    middle = np.array(ndimage.center_of_mass(mask))
    offset = middle - turn @ middle
    image = ndimage.affine_transform(image, turn, offset, order=1)
    soft = ndimage.affine_transform(mask.astype(np.float32), turn, offset, order=1)
    return image, soft > 0.5, affine


def cut(image: Array, mask: Array, affine: Array, *, top_mm: float, bottom_mm: float) -> Changed:
    """End the field of view so many mm above the brain's top and below its bottom (RAS+ arrays)."""
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    zoom = np.linalg.norm(affine[:3, 2])
    first = max(0, int(slices[0] - bottom_mm / zoom))
    last = int(slices[-1] + top_mm / zoom) + 1
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 2] * first
    return image[:, :, first:last], mask[:, :, first:last], moved


def strong_bias(image: Array, mask: Array, affine: Array, rng: np.random.Generator) -> Changed:
    """Multiply by exp of a random quadratic that spans -0.8 to 0.8, fivefold in brightness."""
    x = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in image.shape], indexing="ij"))
    field = np.tensordot(rng.normal(size=3), x, 1) + np.tensordot(rng.normal(size=3), x**2, 1)
    field = 1.6 * (field - field.min()) / (field.max() - field.min()) - 0.8
    return image * np.exp(field), mask, affine


def rician(image: Array, mask: Array, affine: Array, rng: np.random.Generator) -> Changed:
    """Add Rician noise of a tenth of the brain's 95th percentile to each channel."""
    sigma = 0.1 * np.percentile(image[mask], 95)
    noise = sigma * rng.normal(size=(2, *image.shape))
    return np.hypot(image + noise[0], noise[1]), mask, affine


def deface(image: Array, mask: Array, affine: Array) -> Changed:
    """Blank what lies in front and below: the face up to 6 mm from the brain (RAS+ arrays)."""
    y, z = np.meshgrid(*[np.arange(n) for n in image.shape[1:]], indexing="ij")
    inside = np.argwhere(mask)
    front, bottom = inside[:, 1].max(), inside[:, 2].min()
    zoom = np.linalg.norm(affine[:3, 2])
    face = (y - front) + 0.5 * (bottom + 50 / zoom - z) > 0
    keep = ndimage.binary_dilation(mask, iterations=round(6 / zoom))
    return np.where(face[None] & ~keep, 0, image), mask, affine


def pad(image: Array, mask: Array, affine: Array) -> Changed:
    """Repeat the lowest slice for 80 mm (a long neck), then add 40 mm of zeros on all sides."""
    zoom = np.linalg.norm(affine[:3, 0])
    neck, rim = round(80 / zoom), round(40 / zoom)
    image = np.pad(np.pad(image, ((0, 0), (0, 0), (neck, 0)), "edge"), rim)
    mask = np.pad(np.pad(mask, ((0, 0), (0, 0), (neck, 0))), rim)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ [rim, rim, rim + neck]
    return image, mask, moved


CONDITIONS: dict[str, Condition] = {
    "native": lambda i, m, a, rng: (i, m, a),
    "1mm": lambda i, m, a, rng: resample(i, m, a, (1, 1, 1)),
    "1x1x3mm": lambda i, m, a, rng: resample(i, m, a, (1, 1, 3)),
    "rotated15": lambda i, m, a, rng: rotate(i, m, a, rng, 15),
    "inverted": lambda i, m, a, rng: (i.max() - i, m, a),
    "negated": lambda i, m, a, rng: (-i, m, a),
    "bias": strong_bias,
    "noise": rician,
    "neck_cut": lambda i, m, a, rng: cut(i, m, a, top_mm=1000, bottom_mm=0),
    "vertex_cut": lambda i, m, a, rng: cut(i, m, a, top_mm=-10, bottom_mm=1000),
    "defaced": lambda i, m, a, rng: deface(i, m, a),
    "padded": lambda i, m, a, rng: pad(i, m, a),
}


def score(
    head: Head, card: Path, *, conditions: Sequence[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Score one head under each condition."""
    rows = []
    for condition in conditions:
        image, mask, affine = CONDITIONS[condition](head.image, head.mask, head.affine, rng)
        started = time.perf_counter()
        found = extract_brain(image, affine, card=card)
        row = {
            "head": head.name,
            "condition": condition,
            "seconds": round(time.perf_counter() - started, 3),
            "dice": round(dice(found.mask, mask), 5),
            "volume_ratio": round(float(found.mask.sum() / mask.sum()), 5),
            "flag": found.flag,
            "method": found.method,
        }
        rows.append(row | {name: round(value, 4) for name, value in found.checks.items()})
    return rows


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows as a table; what one row lacks is n/a."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, delimiter="\t", restval="n/a", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Reduce rows to mean and worst Dice, seconds and flags per condition."""
    summary = {}
    for name in dict.fromkeys(str(row["condition"]) for row in rows):
        group = [row for row in rows if row["condition"] == name]
        scores = [float(row["dice"]) for row in group]
        summary[name] = {
            "n": len(group),
            "dice_mean": round(float(np.mean(scores)), 4),
            "dice_sd": round(float(np.std(scores)), 4),
            "dice_worst": round(min(scores), 4),
            "volume_ratio_mean": round(float(np.mean([r["volume_ratio"] for r in group])), 4),
            "seconds_median": round(float(np.median([r["seconds"] for r in group])), 2),
            "not_pass": sum(row["flag"] != "pass" for row in group),
        }
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Score all folds that have weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data_dir", type=Path, help="BIDS dataset with derivatives/dlmuse")
    parser.add_argument("out", type=Path, help="folder with fold-K/brain_mask.json")
    parser.add_argument("--folds", type=int, default=3, help="number of folds (3)")
    parser.add_argument("--only", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument(
        "--every", type=int, default=1, help="score every n-th head also when changed (1: all)"
    )
    parser.add_argument("--fold", type=int, help="score one fold alone")
    args = parser.parse_args(argv)

    names = sorted(folder.name for folder in args.data_dir.glob("sub-*"))
    rows: list[dict[str, Any]] = []
    for fold in range(args.folds):
        card = args.out / f"fold-{fold}" / "brain_mask.json"
        if card.exists() and args.fold in (None, fold):
            for number, name in enumerate(split(names, fold=fold, folds=args.folds)[1]):
                rng = np.random.default_rng([fold, number])
                head = load_head(args.data_dir, name)
                conditions = args.only if number % args.every == 0 else ["native"]
                rows += score(head, card, conditions=conditions, rng=rng)
                write_rows(rows, args.out / "scores.tsv")
    summary = summarise(rows)
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    for name, line in summary.items():
        print(name, *(f"{key}={value}" for key, value in line.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
