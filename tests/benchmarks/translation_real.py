"""Claim: between real young and old, mean translation correlates with the t-map, r ≥ 0.4 in tissue.

Takes the raw dataset (participants.tsv) and the derivatives that preprocessing wrote (profile
mni-gm), and runs cohort, train, translate and explain with a preset's parameters in this process.
Training goes on where it stopped, if the folder is the same.

    python -m tests.benchmarks.translation_real BIDS DERIVATIVES FOLDER [--out FOLDER]
"""

import argparse
import logging
import time
from pathlib import Path

import torch

import specs
from stages.translation.tables import participant_of, read_rows
from tests.benchmarks import record
from tests.stages.translation import steps

PATTERN = (
    "brainstages-preprocessing/sub-*/**/anat/*space-MNI152NLin2009aSym_res-1_desc-GM_T1w.nii.gz"
)


def main() -> None:
    """Run the steps and save how maps agree, and the eight regions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bids", type=Path)
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--pairs", nargs="+", default=["classes", "null", "shuffled"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    spec = specs.load("translation")
    preset = dict(spec.presets[arguments.preset])
    root, images = arguments.folder, sorted(map(str, arguments.derivatives.glob(PATTERN)))

    def own(step: str) -> dict:
        return {k: v for k, v in preset.items() if k in spec.steps[step].params and k != "pair"}

    started = time.perf_counter()
    participants = arguments.bids / "participants.tsv"
    cohort = steps.call(
        "cohort", root / "cohort", images=images, participants=participants, **own("cohort")
    )
    trained = {}
    for pair in arguments.pairs:
        folder = root / "models" / pair
        trained[pair] = steps.call(
            "train", folder, images=images, cohort=cohort["table"], pair=pair, **own("train")
        )
        target = root / "effects" / pair / "effects.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(trained[pair]["effects"].read_bytes())
    origin_of = {row["participant_id"]: row["classes"] for row in read_rows(cohort["table"])}
    given = {
        "cohort": cohort["table"],
        "weights": trained["classes"]["weights"],
        "card": trained["classes"]["card"],
    }
    changes = []
    for image in images:
        name = participant_of(image)
        if name in origin_of:
            domain = "Old" if origin_of[name] == "Young" else "Young"
            made = steps.call(
                "translate", root / "people", stem=name, image=image, domains=domain, **given
            )
            changes.append(made["difference"])
    rows = []
    for domain in ("Old", "Young"):
        found = steps.call(
            "explain",
            root / f"explain{domain}",
            images=images,
            differences=changes,
            cohort=cohort["table"],
            summary=cohort["summary"],
            card=trained["classes"]["card"],
            effects=sorted((root / "effects").rglob("*.safetensors")),
            domains=domain,
            **own("explain"),
        )
        rows += read_rows(found["agreement"])
        for row in read_rows(found["regions_table"]):
            rows.append(
                {"direction": f"to{domain}", "metric": row["region"], "value": row["mean_change"]}
                | {k: row[k] for k in ("t", "q", "real_t", "same_sign")}
            )
        for row in read_rows(found["controls"]):
            rows.append(
                {
                    "direction": f"to{domain}",
                    "metric": f"share of real change, {row['pair']} ({row['split']})",
                    "value": row["share_of_real"],
                }
            )
    rows.append({"metric": "seconds", "value": round(time.perf_counter() - started)})
    record.save("translation_real", rows, ["torch", "numpy", "nilearn"], arguments.out)


if __name__ == "__main__":
    main()
