"""Claim: the app image takes at most 2.5 GB, a stage image without torch at most 700 MB, and a
container costs less than a second and a half more than a process to start.

Measures each image of this machine: its size, and the median time of an empty batch's start and end
(`python -m stages` on no jobs) as a plain process, a Docker container and an Apptainer one.

    python -m tests.benchmarks.containers [--sif FOLDER] [--out benchmarks]
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import specs
from bids_app.launch import Launch, image_name
from bids_app.runner_apptainer import run_apptainer
from bids_app.runner_docker import run_docker
from bids_app.runners import run_subprocess
from specs.job import Batch
from tests.benchmarks.record import save

REPEATS = 5
#: The app's image, and those of stages without torch.
MOST_GB = {"brainstages": 2.5, "brainstages-preprocessing": 0.7}
GB = 1e9


def time_start(run, folder: Path, image: str) -> float:
    """Time the run of a batch without jobs; median in seconds."""
    batch_file = folder / "batch.json"
    Batch((), (), 1).write(batch_file)
    launch = Launch(
        batch_file=batch_file, log=folder / "output.txt", folder=folder, cache=folder,
        read_only=(), image=image, threads=1, memory_gb=1, gpus=0,
    )  # fmt: skip
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        status = run(launch, lambda: None)
        seconds.append(time.perf_counter() - start)
        assert status == 0, launch.log.read_text()
    return statistics.median(seconds)


def docker_size(image: str) -> float | None:
    """Tell an image's unpacked size in GB; None if the engine has no such image."""
    done = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Size}}", image],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(done.stdout) / GB if done.returncode == 0 else None


def main() -> int:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sif", type=Path, default=Path(), help="folder with .sif files")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder for JSON")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = time_start(run_subprocess, folder, "")
        rows.append({"what": "none (subprocess)", "start_s": round(plain, 2)})
        for stage in ("", *specs.names()):
            title = f"brainstages-{stage}" if stage else "brainstages"
            image = image_name("docker", title, "")
            size = docker_size(image) if shutil.which("docker") else None
            if size is not None:
                seconds = time_start(run_docker, folder, image)
                most = MOST_GB.get(title)
                rows.append(
                    {"what": image, "gb": round(size, 2), "start_s": round(seconds, 2)}
                    | ({"aim": f"gb <= {most}"} if most else {})
                )
            sif = args.sif / f"{title}.sif"
            if sif.is_file() and shutil.which("apptainer"):
                seconds = time_start(run_apptainer, folder, str(sif.resolve()))
                size = sif.stat().st_size / GB
                rows.append({"what": sif.name, "gb": round(size, 2), "start_s": round(seconds, 2)})
    save("containers", rows, ["brainstages", "docker"], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
