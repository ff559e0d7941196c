"""How a stage process starts: a dict of functions with one signature.

Each takes the file with the batch of jobs, the file for the process's output and a function to
call while waiting, and returns the process's exit status (negative: killed by that signal). Where
a runner runs (this machine, a cluster's node) is Nipype's matter.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1

Runner = Callable[[Path, Path, Callable[[], None]], int]


def run_inprocess(batch_file: Path, log: Path, poll: Callable[[], None]) -> int:
    """Run the batch in this process, for tests and debuggers."""
    from stages.__main__ import main  # the one import of a stage's world, by its one way in

    with open(log, "a") as stream, contextlib.redirect_stdout(stream):
        status = main([str(batch_file)])
    poll()
    return status


def run_subprocess(batch_file: Path, log: Path, poll: Callable[[], None]) -> int:
    """Run the batch in a Python process of its own, which dies with this one."""
    source = str(Path(__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages", str(batch_file)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            preexec_fn=die_with_parent,
        )
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            poll()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


RUNNERS: dict[str, Runner] = {"inprocess": run_inprocess, "subprocess": run_subprocess}
