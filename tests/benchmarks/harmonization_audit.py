"""Claim: the audit tells slices that are tied to sex from slices that are not, on real heads.

The IXI heads of one scanner (91 people, 2 mm) with 12 of 90 slices cut from some: from most women
and few men (tied, P = .85), or from as many of both (not tied). Per arm the verdict, balanced
accuracies of metadata, field of view, images, and images of one geometry, flips, and the p of a
permutation within geometries. Nothing is planted in the brains.

    python -m tests.benchmarks.harmonization_audit [--seeds 3] [--out FOLDER]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import record
from tests.stages.harmonization.test_real import HEADS, audit_heads

ARMS = ["zerobackground", "resize", "stratified", "croppad", "isotropic"]


def tell(found: Any) -> str:
    """Write an estimate, a share or nothing."""
    if found is None:
        return "-"
    if isinstance(found, dict):
        return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found:.3f}"


def main() -> None:
    """Audit, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="draws of whose slices are cut")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder for JSON")
    options = parser.parse_args()
    if not HEADS.is_dir():
        parser.exit(1, f"{HEADS} is not there\n")
    rows = []
    for seed in range(options.seeds):
        for name, share in (("tied", 0.85), ("not tied", 0.5)):
            with tempfile.TemporaryDirectory() as folder:
                report = audit_heads(Path(folder), share, ARMS, seed=seed)
            for arm, found in report["Arms"].items():
                row = {"slices": name, "seed": seed, "arm": arm, "verdict": found["Verdict"]}
                row["n"] = found["image"]["n"]
                names = ("metadata", "size", "support", "image", "constant", "flips")
                row |= {item: tell(found[item]) for item in (*names, "permutation_p")}
                rows.append(row)
    packages = ("numpy", "torch", "scikit-learn")
    record.save("harmonization_audit", rows, packages, options.out)


if __name__ == "__main__":
    main()
