"""Claim: real landmarks are told apart by heads that were not trained on, and found in them.

Centroids of the DLMUSE labels on 92 heads of one scanner: a third of the heads is held out; top-1
at 20, 40 and 60 landmarks and the background (the study: 0.944 on trunk CT at 60), the same guessed
from the place in the scanner alone, and the error of detection in whole images, with its seconds
(the whole step: reading, finding, drawing). With --search-epochs patch sizes, depths and widths are
compared on a quarter of the training heads.

    python -m tests.benchmarks.transfer_real ../shared/data/bids_ixi_hh --folder FOLDER

Everything made is kept in FOLDER; a training stopped by --minutes goes on when called again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from stages.transfer.models import read_card
from stages.transfer.tables import read_rows
from tests.benchmarks import record
from tests.stages.transfer.steps import call


def prepare(data: Path, folder: Path) -> list[Path]:
    """Run step patches for everybody."""
    made = []
    for labels in sorted((data / "derivatives" / "dlmuse").glob("sub-*/anat/*_dseg.nii.gz")):
        sub = labels.name.split("_")[0].removeprefix("sub-")
        image = data / f"sub-{sub}" / "anat" / f"sub-{sub}_T1w.nii.gz"
        path = folder / "plans" / "patches" / f"sub-{sub}_patches.safetensors"
        if not path.exists():
            call("patches", folder, sub=sub, annotations=[labels], images=[image])
        made.append(path)
    return made


def search(material: list[Path], folder: Path, source: str, epochs: int) -> list[dict]:
    """Run the search over architectures; the network trained after it is thrown away."""
    made = call(
        "pretrain",
        folder / "searched",
        sub="group",
        material=material,
        source=source,
        epochs=1,
        search_epochs=epochs,
    )
    return [
        {
            "what": "{}, {} pixels, depth {}, width {}".format(
                source, row["patch_size"], row["depth"], row["width"]
            ),
            "measure": "top1 on training heads held back",
            "value": row["validation_top1"],
            "n_patches": row["n_patches"],
            "epochs": row["epochs"],
            "parameters": row["parameters"],
        }
        for row in read_rows(made["search"])
    ]


def pretrain(material: list[Path], folder: Path, source: str, epochs: int, minutes: float) -> bool:
    """Run step pretrain, or go on with it; tell whether it is finished."""
    card = folder / "models" / source / "model.json"
    if card.exists() and read_card(card).get("Finished", True):
        return True
    state = card.with_name("state.safetensors")
    given = state.rename(state.with_name("checkpoint.safetensors")) if state.exists() else None
    call(
        "pretrain",
        folder,
        sub="group",
        material=material,
        source=source,
        epochs=epochs,
        minutes=minutes,
        checkpoint=given,
    )
    return bool(read_card(card).get("Finished", True))


def detect(data: Path, folder: Path, source: str) -> list[dict]:
    """Run step detect on every held-out head."""
    card = folder / "models" / source / "model.json"
    taught = {p.removeprefix("bids::sub-") for p in read_card(card)["TrainingParticipants"]}
    errors, seconds = [], []
    for labels in sorted((data / "derivatives" / "dlmuse").glob("sub-*/anat/*_dseg.nii.gz")):
        sub = labels.name.split("_")[0].removeprefix("sub-")
        if sub in taught:
            continue
        started = time.perf_counter()
        made = call(
            "detect",
            folder / "detected",
            sub=sub,
            image=data / f"sub-{sub}" / "anat" / f"sub-{sub}_T1w.nii.gz",
            models=[card.with_name("model.safetensors")],
            cards=[card],
            annotations=[labels],
        )
        seconds.append(time.perf_counter() - started)
        errors.append([float(row["error_mm"]) for row in read_rows(made["points"])])
    means = np.array([np.mean(own) for own in errors])
    every = np.concatenate(errors)
    return [
        {
            "what": f"{source}, whole image",
            "measure": "mean radial error, mm",
            "value": round(float(every.mean()), 2),
            "n_heads": len(means),
            "worst_head": round(float(means.max()), 2),
            "median": round(float(np.median(every)), 2),
            "share_within_10_mm": round(float((every <= 10).mean()), 4),
            "median_step_seconds": round(float(np.median(seconds)), 2),
            "slowest_step_seconds": round(max(seconds), 2),
            "threads": torch.get_num_threads(),
        }
    ]


def main() -> None:
    """Run what was asked for, print the table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", default=["landmark20", "landmark40", "landmark60"])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--detect", default="landmark60")
    parser.add_argument("--search-epochs", type=int, default=0, help="0: no search")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    material = prepare(args.data, args.folder)
    rows = []
    for source in args.sources:
        done = pretrain(material, args.folder, source, args.epochs, args.minutes)
        card = read_card(args.folder / "models" / source / "model.json")
        for row in card["Accuracy"]:
            what = f"{source}, {row['part']}"
            rows.append(
                {
                    "what": what if done else f"{what}, unfinished",
                    "measure": row["measure"],
                    "value": round(row["value"], 4),
                    "ci_low": round(row["ci_low"], 4),
                    "ci_high": round(row["ci_high"], 4),
                    "n_heads": row["n_participants"],
                    "n_patches": row["n_patches"],
                    "epochs": row["epochs"],
                }
            )
    if args.search_epochs:
        rows += search(material, args.folder, args.sources[0], args.search_epochs)
    if args.detect in args.sources:
        rows += detect(args.data, args.folder, args.detect)
    record.save(
        "transfer_real", json.loads(json.dumps(rows)), ["torch", "scipy", "numpy"], args.out
    )


if __name__ == "__main__":
    main()
