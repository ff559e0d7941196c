"""Claim: the audit tells slices that are tied to sex from slices that are not, on real heads; and
its verdict on phantoms is right for other seeds than the tests'.

The IXI heads of one scanner (91 people, 2 mm) with 12 of 90 slices cut from some: from most women
and few men (tied, P = .85), or from as many of both (not tied). Per arm the verdict, balanced
accuracies of metadata, field of view, images, images of one geometry and as many of any, flips, and
the p of a permutation within geometries. Nothing is planted in the brains. Phantoms (360, of which
120 are audited): slices tied to the label or not, with or without an effect of the label on the
brain; an arm should FAIL where the network can read the slices and there is nothing else to read.

    python -m tests.benchmarks.harmonization_audit [--seeds 3] [--phantoms] [--out FOLDER]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import record
from tests.stages.harmonization.test_audit import audited
from tests.stages.harmonization.test_real import HEADS, audit_heads

ARMS = ["zerobackground", "resize", "stratified", "croppad", "isotropic"]


def tell(found: Any) -> str:
    """Write an estimate, a share or nothing."""
    if found is None:
        return "-"
    if isinstance(found, dict):
        return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found:.3f}"


def list_arms(report: dict[str, Any], **known: Any) -> list[dict[str, Any]]:
    """Give a row per arm: what was known, the verdict and the evidence."""
    names = ("metadata", "support", "image", "matched", "constant", "gap", "flips", "permutation_p")
    return [
        {
            **known,
            "arm": arm,
            "verdict": found["Verdict"],
            "n": found["image"]["n"],
            **{name: tell(found[name]) for name in names},
        }
        for arm, found in report["Arms"].items()
    ]


def audit_phantoms(seed: int) -> list[dict[str, Any]]:
    """Audit three cohorts of phantoms whose truth is known."""
    rows = []
    for slices, effect in (("tied", 0.0), ("not tied", 0.7), ("tied", 0.7)):
        with tempfile.TemporaryDirectory() as folder:
            report, _ = audited(
                Path(folder),
                number=360,
                tied=slices == "tied",
                effect=effect,
                arms=["zerobackground", "stratified", "resize", "isotropic"],
                seed=seed,
                audit_images=120,
            )
        rows += list_arms(report, slices=slices, effect=effect, seed=seed)
        print(rows[-4:], flush=True)
    return rows


def main() -> None:
    """Audit, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="draws of whose slices are cut")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder for JSON")
    parser.add_argument("--phantoms", action="store_true", help="phantoms instead of real heads")
    options = parser.parse_args()
    packages = ("numpy", "torch", "scikit-learn")
    if options.phantoms:
        rows = [row for seed in range(options.seeds) for row in audit_phantoms(seed + 100)]
        record.save("harmonization_audit_phantoms", rows, packages, options.out)
        return
    if not HEADS.is_dir():
        parser.exit(1, f"{HEADS} is not there\n")
    rows = []
    for seed in range(options.seeds):
        for name, share in (("tied", 0.85), ("not tied", 0.5)):
            with tempfile.TemporaryDirectory() as folder:
                report = audit_heads(Path(folder), share, ARMS, seed=seed)
            rows += list_arms(report, slices=name, seed=seed)
    record.save("harmonization_audit", rows, packages, options.out)


if __name__ == "__main__":
    main()
