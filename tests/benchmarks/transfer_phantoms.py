"""Question, not claim: which source's features tell planted sacs with few weak learners?

150 vessel phantoms (100 for training, 50 for testing), sacs as bright as the vessels and matched in
calibre; sources: landmarks of real heads (from tests.benchmarks.transfer_real), photographs, random
weights. What comes out is about phantoms and says nothing about aneurysms. With --real, the booster
of each source scores bulbs planted on the vessels of real angiograms too.

    python -m tests.benchmarks.transfer_phantoms --folder FOLDER --models REAL_FOLDER/models

Everything made is kept in FOLDER; called again after --minutes are over, it goes on.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch

from stages.transfer.booster import Stumps
from stages.transfer.files import read, read_about, read_cases
from stages.transfer.judging import add_missed, measure_auc, read_froc, trace_froc
from stages.transfer.models import load_model
from stages.transfer.network import apply
from stages.transfer.tables import read_rows
from tests.benchmarks import record
from tests.stages.transfer.bulbs import write_bulbs
from tests.stages.transfer.phantoms import write_dataset
from tests.stages.transfer.steps import call

SHOWN = ("1", "2", "3", "5", "10", "50", "200")


def find_candidates(root: Path, folder: Path, deadline: float) -> list[Path]:
    """Run step vessels for every phantom that was not done before."""
    made = []
    for image in sorted((root / "raw").glob("sub-*/anat/*_angio.nii.gz")):
        sub = image.name.split("_")[0].removeprefix("sub-")
        path = folder / "plans" / "candidates" / f"sub-{sub}_candidates.safetensors"
        if not path.exists():
            if time.monotonic() > deadline:
                sys.exit(f"{len(made)} phantoms are done; call again to go on")
            mask = (
                root / "lesions" / f"sub-{sub}" / "anat" / f"sub-{sub}_label-aneurysm_mask.nii.gz"
            )
            call("vessels", folder, sub=sub, images=[image], lesions=[mask])
        made.append(path)
    return made


def learn(folder: Path, source: str, candidates: list[Path], models: Path, epochs: int) -> None:
    """Run steps pretrain (or take the model), features and boost for one source."""
    model = folder / "models" / source / "model.safetensors"
    if not model.exists():
        if (models / source).is_dir():
            shutil.copytree(models / source, model.parent)
        else:
            call("pretrain", folder, material=candidates, source=source, epochs=epochs)
    given = {"candidates": candidates, "model": model, "card": model.with_name("model.json")}
    features = folder / "plans" / source / "features.safetensors"
    if not features.exists():
        call("features", folder, source=source, **given)
    if not features.with_name("scores.safetensors").exists():
        call("boost", folder, source=source, features=features, **given)


def score_bulbs(folder: Path, source: str, real: Path, *, is_shown: bool) -> list[dict]:
    """Score bulbs on real vessels with the booster that learnt from phantoms.

    Where it is to be shown, step score draws its map of the images with phantom intensities.
    """
    rows = []
    names = ("model.safetensors", "model.json", "booster.safetensors")
    model, card, booster = (folder / "models" / source / name for name in names)
    net, _ = load_model(model, card)
    arrays, about = read(booster)
    arrays.pop("platt")
    stumps = Stumps(**arrays)
    root = folder / "bulbs"
    for scan in ("chris_MRA", "CT_AVM"):
        for rendered in (False, True):
            sub = scan.replace("_", "") + ("rendered" if rendered else "asis")
            path = root / "plans" / "candidates" / f"sub-{sub}_candidates.safetensors"
            image = root / f"sub-{sub}" / "anat" / f"sub-{sub}_angio.nii.gz"
            if not path.exists():
                _, mask = write_bulbs(
                    real / f"{scan}.nii.gz", root, sub, 0, count=8, rendered=rendered
                )
                call("vessels", root, sub=sub, images=[image], lesions=[mask])
            if is_shown and rendered:
                given = {"models": [model], "cards": [card], "boosters": [booster]}
                call("score", root / "scored" / source, sub=sub, image=image, **given)
            cases = read_cases([str(path)])
            scores = stumps.stage(apply(net, cases.patches, about["layer"]))[:, -1]
            missed = {a["participant"]: a["missed"] for a in cases.about}
            placed = add_missed(scores, cases.lesions, cases.places_mm, cases.cases, missed)
            _, alarms, found = trace_froc(*placed, 4.0)
            rates = read_froc(alarms, found)
            rows.append(
                {
                    "what": f"bulbs on {scan}, {'phantom intensities' if rendered else 'as it is'}",
                    "source": source,
                    "auc_candidates": round(float(measure_auc(scores, cases.lesions > 0)), 3),
                    "bulbs": read_about(path)["lesions"],
                    "not_on_vessels": read_about(path)["missed"],
                    "sensitivity_at_1": rates[1.0],
                    "sensitivity_at_8": rates[8.0],
                    "candidates": len(scores),
                }
            )
    return rows


def main() -> None:
    """Run what was asked for, print the table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--sources", nargs="+", default=["landmark60", "naturalproxy", "random"])
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--real", type=Path, help="folder of chris_MRA.nii.gz and CT_AVM.nii.gz")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    deadline = time.monotonic() + 60 * args.minutes
    root = args.folder / "bids"
    if not (root / "raw" / "participants.tsv").exists():
        shutil.rmtree(root, ignore_errors=True)
        write_dataset(root, args.cases, seed=args.seed)
    candidates = find_candidates(root, args.folder, deadline)
    for source in args.sources:
        if time.monotonic() > deadline:
            sys.exit(f"stopped before {source}; call again to go on")
        learn(args.folder, source, candidates, args.models, args.epochs)
    made = call(
        "evaluate",
        args.folder / "group",
        cards=[args.folder / "models" / s / "model.json" for s in args.sources],
        scores=[args.folder / "plans" / s / "scores.safetensors" for s in args.sources],
    )
    rows: list[dict] = [
        {
            "what": f"AUC of {row['level']}s, {row['rule']} {row['weak_learners']}",
            **{k: row[k] for k in ("source", "auc", "ci_low", "ci_high", "n_lesion", "n_normal")},
        }
        for row in read_rows(made["curves"])
        if row["weak_learners"] in (*SHOWN, "n/a")
    ]
    rows += [
        {
            "what": f"ΔAUC of {row['level']}s, {row['weak_learners']} weak",
            "source": f"{row['first']} − {row['second']}",
            **{k: row[k] for k in ("difference", "ci_low", "ci_high", "relative_percent")},
        }
        for row in read_rows(made["comparison"])
    ]
    rows += [{"what": "FROC", **row} for row in read_rows(made["froc"])]
    if args.real:
        for source in args.sources:
            is_shown = source == args.sources[0]
            rows += score_bulbs(args.folder, source, args.real, is_shown=is_shown)
    rows.append({"what": "cases", "n_normal": int(np.sum([1 for _ in candidates]))})
    record.save(
        "transfer_phantoms", rows, ["torch", "scipy", "scikit-learn", "scikit-image"], args.out
    )


if __name__ == "__main__":
    main()
