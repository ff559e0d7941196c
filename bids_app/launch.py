"""What every runner is told, and what they share: environment, waiting, errors, locating images."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bids_app import __version__

POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1
# Ends the stage's process when its standard input ends (stages/__main__.py), which it does when
# whoever started it is gone, in whatever way: nothing that runs in a container is ever orphaned.
STOP_AT_EOF = {"BRAINSTAGES_STOP_AT_EOF": "1"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_ET": "1"}
# Large arrays are had in pages of 2 MB where the system offers them (glibc 2.35 or newer): else it
# clears and maps thousands of small ones in each step of a training. Nothing is computed otherwise.
MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# By these people fix which kernels compute. A container must use the same, or sums differ in their
# last bits.
KERNELS = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
CACHES = {
    "HF_HOME": "huggingface",
    "MPLCONFIGDIR": "matplotlib",
    "TEMPLATEFLOW_HOME": "templateflow",
    "TORCH_HOME": "torch",
    "XDG_CACHE_HOME": "cache",
}
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # what systems say → what images say

Poll = Callable[[], None]


class LaunchError(RuntimeError):
    """A stage's process could not be started; the message says what to do about it."""


@dataclass(frozen=True)
class Launch:
    """One stage process to start.

    ``folder`` is where it writes and holds ``batch_file``; ``log`` takes its output; ``cache`` is
    for what libraries of all processes of the run may keep. ``read_only`` lists the folders and
    files it reads, by their own absolute paths. ``image`` is empty where no container is used.
    ``memory_gb`` and ``gpus`` come from the step's spec.
    """

    batch_file: Path
    log: Path
    folder: Path
    cache: Path
    read_only: tuple[str, ...]
    image: str
    threads: int
    memory_gb: float
    gpus: int


def image_name(runner: str, name: str, where: str) -> str:
    """Locate a stage's image.

    For docker ``where`` is a registry's prefix, or empty for images of this machine; for apptainer
    it is the folder with the ``.sif`` files, or empty for the current one.

    >>> image_name("docker", "brainstages-encoding", "registry.example.org/lab").split(":")[0]
    'registry.example.org/lab/brainstages-encoding'
    >>> image_name("apptainer", "brainstages-encoding", "/images")
    '/images/brainstages-encoding.sif'
    """
    if runner == "docker":
        version = __version__.replace("+", "-")  # a tag has no plus
        return f"{where.rstrip('/')}/{name}:{version}".lstrip("/")
    if runner == "apptainer":
        return str(Path(where).resolve() / f"{name}.sif")
    return ""


def build_command(image: str, *, stage: str) -> str:
    """Tell how a stage's docker image is made."""
    return f"docker build --target stage --build-arg STAGE={stage} -t {image} ."


def container_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Keep all that libraries write inside the batch's folder; let nothing reach the network."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        **MEMORY,
        **{variable: environ[variable] for variable in (*KERNELS, *MEMORY) if variable in environ},
        **{variable: str(temporary / name) for variable, name in CACHES.items()},
        **OFFLINE,
        **STOP_AT_EOF,
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
    }


def process_environment(cache: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Point caches that are unset or cannot be written into ``cache``; keep the rest."""
    usable = {v for v in CACHES if environ.get(v) and os.access(environ[v], os.W_OK)}
    caches = {v: str(cache / name) for v, name in CACHES.items() if v not in usable}
    return {**MEMORY, **environ, **caches, **OFFLINE}


def follow(process: "subprocess.Popen[bytes]", poll: Poll) -> int:
    """Wait for a process and poll meanwhile; kill it if the wait is interrupted."""
    try:
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            poll()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode


def signal_of(status: int) -> int:
    """Turn a shell's 128 + n for "killed by signal n" into -n, as Python has it."""
    return 128 - status if 128 < status <= 128 + signal.SIGRTMAX else status


def dies_with(parent: int) -> Callable[[], None]:
    """Make what a fork of ``parent`` does first: have the kernel kill it when its parent ends."""

    def prepare() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it ended before the kernel was asked
                os._exit(1)

    return prepare


def let_forks_die_with_us() -> None:
    """Have every process that is forked from here on end with the one that forks it, and at once.

    A request to end is answered with words by the first process alone.
    """
    forking: list[int] = []

    def note() -> None:
        forking[:] = [os.getpid()]

    def prepare() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Ctrl-C reaches all; the first ends the others.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        dies_with(forking[0])()

    os.register_at_fork(before=note, after_in_child=prepare)


def kill_workers() -> None:
    """End worker processes that are still there, and with them the stage processes they started."""
    for worker in multiprocessing.active_children():
        worker.kill()
