"""Runner `apptainer` (or singularity, whichever is installed): for clusters, without a daemon."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bids_app.launch import (
    MACHINES,
    Launch,
    LaunchError,
    Poll,
    container_environment,
    dies_with,
    follow,
    signal_of,
)

NVIDIA = Path("/proc/driver/nvidia")


def run_apptainer(launch: Launch, poll: Poll) -> int:
    """Run the batch in a container that sees only what is bound, all at its own paths.

    Raises
    ------
    LaunchError
        Apptainer is not installed, or could not start the container: its own words.
    """
    command = [_find(), "exec", "--cleanenv", "--containall", "--no-home", "--no-privs"]
    command += ["--net", "--network", "none"]  # allowed to everybody, unlike other networks
    command += ["--pwd", str(launch.folder)]
    command += ["--nv"] if launch.gpus else []
    for path in launch.read_only:
        command += ["--mount", _bind(path) + ",ro"]
    command += ["--mount", _bind(str(launch.folder))]
    command += [launch.image, "python", "-m", "stages", str(launch.batch_file)]
    variables = container_environment(launch.folder, os.environ)
    handed_in = {f"APPTAINERENV_{name}": value for name, value in variables.items()}
    handed_in |= {f"SINGULARITYENV_{name}": value for name, value in variables.items()}
    with open(launch.log, "ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # never written to: it ends when this process does
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **handed_in},
            preexec_fn=dies_with(os.getpid()),
        )
    with process:
        status = follow(process, poll)
    said = launch.log.read_text(encoding="utf-8", errors="replace")
    fatal = [line for line in said.splitlines() if line.startswith("FATAL:")]
    if status == 255 and fatal:
        words = fatal[-1].removeprefix("FATAL:").strip()
        raise LaunchError(f"Apptainer could not start {launch.image}: {words}")
    return signal_of(status)


def inspect_apptainer(images: Mapping[str, str], needs_gpu: bool) -> dict[str, dict[str, str]]:
    """Check the images before any work; describe them as BIDS wants it.

    Raises
    ------
    LaunchError
        Apptainer or an image is missing, the image is for another processor, or there is no GPU.
    """
    program = _find()
    if needs_gpu and not NVIDIA.exists():
        raise LaunchError(
            "a step asks for a GPU and this machine has none (no NVIDIA driver); choose a node"
            " with one, or pass --n-gpus 0 to compute without"
        )
    machine = MACHINES.get(platform.machine(), platform.machine())
    found = {}
    for stage, image in images.items():
        tag = Path(image).stem
        if not Path(image).is_file():
            raise LaunchError(
                f"{image}: no such image; give its folder with --images, or build it from the"
                f" stage's docker image: apptainer build {image} docker-daemon:{tag}:VERSION"
            )
        labels = _labels(program, image)
        built_for = labels.get("org.label-schema.build-arch", machine)
        if built_for != machine:
            raise LaunchError(
                f"{image} is for {built_for}, this machine is {machine}; build it on a machine of"
                f" its own kind: apptainer build {image} docker-daemon:{tag}:VERSION"
            )
        name = labels.get("org.opencontainers.image.ref.name") or tag
        found[stage] = {"Type": "singularity", "Tag": name}
    return found


def _find() -> str:
    for name in ("apptainer", "singularity"):
        if path := shutil.which(name):
            return path
    raise LaunchError(
        "neither apptainer nor singularity is on PATH; on a cluster: module load apptainer"
    )


def _bind(path: str) -> str:
    """Bind a path at its own name, as a line of CSV: commas and quotes in names are no trouble."""
    quoted = ('"' + f"{key}={path}".replace('"', '""') + '"' for key in ("source", "destination"))
    return f"type=bind,{','.join(quoted)}"


def _labels(program: str, image: str) -> dict[str, str]:
    """Read an image's labels; LaunchError if it is none."""
    done = subprocess.run(
        [program, "inspect", "--json", image], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LaunchError(f"{image} is no image that {program} can read: {done.stderr.strip()}")
    return dict(json.loads(done.stdout)["data"]["attributes"].get("labels") or {})
