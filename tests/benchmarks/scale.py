"""Ten thousand participants, by simulation: planning, executing, tables.

Claims: 10,000 participants × all stages indexed, planned and shown by ``--dry-run`` in ≤ 60 s and
≤ 2 GB; 2,000 jobs that do nothing through MultiProc at ≤ 0.2 s per job; a group table of 10,000
rows merged in ≤ 2 s, and 100 single rows merged into it in ≤ 60 s.

``python -m tests.benchmarks.scale [--participants 10000]``
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import specs
from bids_app import files
from tests.benchmarks.index import toy_checkout
from tests.benchmarks.record import save
from tests.conftest import REPOSITORY, write_image

NOTHING = '"""Do nothing."""\n\n\ndef run(*, image, note, seed):\n    open(note, "w").close()\n'
SPEC = """\
name: alpha
version: "1"
summary: Does nothing.
image: none
steps:
  add:
    summary: Nothing.
    level: participant
    over: [sub]
    inputs:
      image: {from: raw, query: {suffix: T1w, extension: .nii.gz}, help: An image.}
    outputs:
      note: {path: "plans/{sub}.txt"}
    resources: {cpus: 1, memory_gb: 0.1, minutes: 0.01, disk_mb: 1}
"""


def main() -> None:
    """Measure everything and write ``scale.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    parser.add_argument("--participants", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2_000)
    given = parser.parse_args()
    out = given.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [
            *_plan(_dataset(root / "many", given.participants), root, given.participants),
            *_execute(_dataset(root / "jobs", given.jobs), root, given.jobs),
            *_tables(root),
        ]
    save("scale", rows, ["nipype", "brainstages"], out)


def _dataset(root: Path, count: int) -> Path:
    """Write participants with an image, a sidecar and a functional run each; images are links."""
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "big", "BIDSVersion": "1.10.0"}')
    image = write_image(root.parent / f"{root.name}.nii.gz")
    rows = ["participant_id\tage\tsex"]
    for number in range(count):
        label = f"sub-{number:05d}"
        rows.append(f"{label}\t{20 + number % 60}\t{'MF'[number % 2]}")
        anat, func = root / label / "anat", root / label / "func"
        anat.mkdir(parents=True)
        func.mkdir()
        os.link(image, anat / f"{label}_T1w.nii.gz")
        (anat / f"{label}_T1w.json").touch()
        os.link(image, func / f"{label}_task-movie_bold.nii.gz")
        (func / f"{label}_task-movie_events.tsv").touch()
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def _plan(data: Path, root: Path, count: int) -> list[dict]:
    code = (
        "import sys, resource, time; from bids_app.app import main; code = main(sys.argv[1:]);"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20;"
        "print('PEAK', peak, time.process_time()); sys.exit(code)"
    )
    arguments = [str(data), str(root / "none"), "participant", "group", "--dry-run"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    lines = done.stdout.splitlines()
    jobs = sum(int(line.split()[1]) for line in lines if line.split()[1:2] and line[0] != "s"
               and line.split()[0].partition(".")[0] in specs.names())  # fmt: skip
    peak, processor = map(float, lines[-1].split()[1:])
    return [
        {"what": f"plan and dry-run {count} participants", "value": round(seconds, 1), "unit": "s",
         "aim": "value <= 60"},
        {"what": "its time on the processor", "value": round(processor, 1), "unit": "s"},
        {"what": "its memory", "value": round(peak, 2), "unit": "GB", "aim": "value <= 2"},
        {"what": "its jobs", "value": jobs},
    ]  # fmt: skip


def _execute(data: Path, root: Path, count: int) -> list[dict]:
    checkout = toy_checkout(root / "checkout")
    (checkout / "specs" / "alpha.yaml").write_text(SPEC)
    (checkout / "stages" / "alpha" / "add.py").write_text(NOTHING)
    (checkout / "specs" / "beta.yaml").unlink()
    command = [sys.executable, "-m", "bids_app", str(data), str(root / "out"), "participant"]
    options = ["-w", str(root / "work"), "--skip-bids-validation", "--no-validate-outputs"]
    started = time.perf_counter()
    done = subprocess.run([*command, *options], cwd=checkout, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr[-2000:]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return [
        {
            "what": f"{count} jobs that do nothing, MultiProc",
            "value": round(seconds, 1),
            "unit": "s",
        },
        {"what": "per job", "value": round(seconds / count, 4), "unit": "s", "aim": "value <= 0.2"},
        {"what": "memory of the largest process", "value": round(peak, 2), "unit": "GB"},
    ]


def _tables(root: Path) -> list[dict]:
    folder = root / "table"
    rows = [{"participant_id": f"sub-{n:05d}", "age": str(n)} for n in range(10_000)]
    started = time.perf_counter()
    files.merge_table(folder / "participants.tsv", rows, key="participant_id", root=folder)
    whole = time.perf_counter() - started
    started = time.perf_counter()
    for row in rows[:100]:
        one = [{**row, "volume_ml": "1"}]
        files.merge_table(folder / "participants.tsv", one, key="participant_id", root=folder)
    single = time.perf_counter() - started
    assert len(files.read_table(folder / "participants.tsv")) == 10_000
    return [
        {"what": "merge 10,000 rows at once", "value": round(whole, 2), "unit": "s",
         "aim": "value <= 2"},
        {"what": "merge 100 single rows into 10,000", "value": round(single, 2), "unit": "s",
         "aim": "value <= 60"},
    ]  # fmt: skip


if __name__ == "__main__":
    main()
