"""Claims: 1,000 participants with 12,000 files are indexed and planned at least 4 times as fast as
pybids indexes them with their metadata, and not slower than the fastest index there is.

Ours is the whole command, ``--dry-run`` over all participants: start, index, configuration, jobs.
The others load the dataset as their documentation shows and list its T1w images; each in a process
of its own, in turns. Then how ours grows with participants.

    python -m tests.benchmarks.index [--rounds 5] [--out DIR]

The peers (ancpbids, bids2table) are in the extra ``bench``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.benchmarks.record import exponent, save, time_in_turns
from tests.conftest import REPOSITORY

PARTICIPANTS = 1000
GROWTH = (10, 100, 1000, 10_000)
PEERS = {
    "pybids, with metadata": (
        "from bids import BIDSLayout;"
        "print(len(BIDSLayout({data!r}, validate=False).get(suffix='T1w', extension='nii.gz')))"
    ),
    "pybids, without metadata": (
        "from bids import BIDSLayout, BIDSLayoutIndexer as I;"
        "i = I(validate=False, index_metadata=False);"
        "print(len(BIDSLayout({data!r}, indexer=i).get(suffix='T1w', extension='nii.gz')))"
    ),
    "ancpbids": (
        "import ancpbids;"
        "print(len(ancpbids.load_dataset({data!r}).query(suffix='T1w', extension='.nii.gz')))"
    ),
    "bids2table": (
        "import bids2table, pyarrow.compute as c; t = bids2table.index_dataset({data!r});"
        "print(c.sum(c.and_(c.equal(t['suffix'], 'T1w'), c.equal(t['ext'], '.nii.gz'))))"
    ),
}


def main() -> None:
    """Measure both and write ``index.json`` and ``index_growth.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    given = parser.parse_args()
    out = given.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkout = toy_checkout(root / "checkout")
        data = write_dataset(root / f"data{PARTICIPANTS}", PARTICIPANTS)
        actions = {"brainstages, index and plan": lambda: dry_run(checkout, data)}
        packages = ["brainstages", "pybids"]
        for name, code in PEERS.items():
            package = name.split(",")[0]
            if find_spec("bids" if package == "pybids" else package):
                actions[name] = lambda code=code: count_images(code, data)
                packages.append(package)
            else:
                print(f"{package} is not installed: left out")
        rows = time_in_turns(actions, given.rounds, aim="ratio >= 1")
        for row in rows:
            if row["what"] == "pybids, with metadata":
                row["aim"] = "ratio >= 4"
        save("index", rows, sorted(set(packages)), out)
        save("index_growth", _growth(checkout, root), ["brainstages"], out)


def count_images(code: str, data: Path) -> None:
    """Run a peer; it must find every image."""
    command = [sys.executable, "-W", "ignore", "-c", code.format(data=str(data))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == str(PARTICIPANTS), done.stdout


def dry_run(checkout: Path, data: Path, *labels: str) -> None:
    """Index and plan a dataset with the app."""
    chosen = ["--participant-label", *labels] if labels else []
    run_app(checkout, str(data), str(data.parent / "none"), "participant", "--dry-run", *chosen)


def run_app(checkout: Path, *arguments: str) -> None:
    """Run a checkout's command line on one thread."""
    command = [sys.executable, "-m", "bids_app", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def toy_checkout(root: Path) -> Path:
    """Copy the app with the toy stages instead of its own."""
    stages = [p.name for p in (REPOSITORY / "stages").iterdir() if (p / "__init__.py").exists()]
    for name in ("bids_app", "specs", "stages"):
        ignore = shutil.ignore_patterns("*.yaml", "recipes", *stages)
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignore)
    shutil.copytree(REPOSITORY / "tests" / "toy", root, dirs_exist_ok=True)
    return root


def write_dataset(root: Path, participants: int) -> Path:
    """Write participants with 12 files each; one image each is real, sidecars say little."""
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "big", "BIDSVersion": "1.10.0"}')
    image = root.parent / "image.nii.gz"
    nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)).to_filename(image)
    sidecar = json.dumps({"RepetitionTime": 2.0, "EchoTime": 0.03, "Manufacturer": "Phantoms"})
    for number in range(participants):
        label = f"sub-{number:05d}"
        anat, func = root / label / "anat", root / label / "func"
        anat.mkdir(parents=True)
        func.mkdir()
        shutil.copy(image, anat / f"{label}_T1w.nii.gz")
        for name in ("T1w", "T2w", "FLAIR"):
            (anat / f"{label}_{name}.nii.gz").touch()
            (anat / f"{label}_{name}.json").write_text(sidecar)
        for run in (1, 2):
            stem = f"{label}_task-rest_run-{run}"
            (func / f"{stem}_bold.json").write_text(sidecar)
            (func / f"{stem}_bold.nii.gz").touch()
            (func / f"{stem}_events.tsv").touch()
    return root


def _growth(checkout: Path, root: Path) -> list[dict]:
    rows = []
    for count in GROWTH:
        data = root / f"data{count}"
        if not data.exists():
            write_dataset(data, count)
        timed = time_in_turns({"": lambda data=data: dry_run(checkout, data)}, rounds=3)
        rows.append({"participants": count, "seconds": timed[0]["seconds"]})
    # Starting takes as long for ten as for none: what grows is the rest.
    costs = [row["seconds"] - rows[0]["seconds"] for row in rows[1:]]
    fitted = exponent([row["participants"] for row in rows[1:]], costs)
    return [*rows, {"participants": "exponent, start-up taken off", "seconds": round(fitted, 2)}]


if __name__ == "__main__":
    main()
