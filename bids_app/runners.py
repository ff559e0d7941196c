"""How a stage process starts: a dict of functions with one signature.

Each takes a ``Launch`` and a function to call while waiting, and returns the process's exit status
(negative: killed by that signal). Where a runner runs (this machine, a cluster's node) is Nipype's
matter.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bids_app.launch import Launch, Poll, dies_with, follow, process_environment
from bids_app.runner_apptainer import inspect_apptainer, run_apptainer
from bids_app.runner_docker import inspect_docker, run_docker

Runner = Callable[[Launch, Poll], int]


def run_inprocess(launch: Launch, poll: Poll) -> int:
    """Run the batch in this process, for tests and debuggers."""
    from stages.__main__ import main  # the one import of a stage's world, by its one way in

    with open(launch.log, "a") as stream, contextlib.redirect_stdout(stream):
        status = main([str(launch.batch_file)])
    poll()
    return status


def run_subprocess(launch: Launch, poll: Poll) -> int:
    """Run the batch in a Python process of its own, which dies with this one."""
    source = str(Path(__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = process_environment(launch.cache, os.environ)
    with open(launch.log, "ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages", str(launch.batch_file)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
            preexec_fn=dies_with(os.getpid()),
        )
    return follow(process, poll)


RUNNERS: dict[str, Runner] = {
    "inprocess": run_inprocess,
    "subprocess": run_subprocess,
    "docker": run_docker,
    "apptainer": run_apptainer,
}

Inspector = Callable[[Mapping[str, str], bool], dict[str, dict[str, str]]]
# Before any work: stage → image, and whether a GPU is needed → what BIDS wants to know of each
# stage's container; raises LaunchError when one could not be started.
INSPECTORS: dict[str, Inspector] = {"docker": inspect_docker, "apptainer": inspect_apptainer}


def own_container(environ: Mapping[str, str]) -> dict[str, str]:
    """Describe the container that the app itself runs in, as BIDS wants it; empty outside of one.

    The image's name is in its environment; its digest is known only from outside and may be handed
    in as ``BRAINSTAGES_DIGEST``.
    """
    tag = environ.get("BRAINSTAGES_IMAGE", "")
    if not tag:
        return {}
    is_apptainer = "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ
    container = {"Type": "singularity" if is_apptainer else "docker", "Tag": tag}
    if environ.get("BRAINSTAGES_DIGEST"):
        container["URI"] = f"docker://{tag.rpartition(':')[0]}@{environ['BRAINSTAGES_DIGEST']}"
    return container
