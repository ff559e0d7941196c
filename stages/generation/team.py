"""Processes of one node that share every batch of a training, one GPU or some cores each.

One process needs nothing of this and uses none of it: accelerate keeps its state for the whole
process and reads it from the environment, where a scheduler's variables would decide how a training
runs. Several processes are started anew, so that they inherit no threads and no GPU; they meet over
a file and talk over the loopback interface, which is all that a container without network has. They
die with the process that started them, and with each other.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, distributed, nn

PR_SET_PDEATHSIG = 1
PATIENCE = timedelta(minutes=30)  # how long one waits for another, as while it draws examples
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


@dataclass(frozen=True)
class Team:
    """Which of how many processes this is; with no accelerator it is alone."""

    rank: int = 0
    size: int = 1
    accelerator: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes for all."""
        return self.rank == 0

    def share_gradients(self, module: nn.Module, *, may_leave_out: bool) -> nn.Module:
        """Make gradients the mean over processes, and weights those of the first.

        ``may_leave_out``: some weights may have no part in the loss.
        """
        if self.accelerator is None:
            return module
        self.accelerator.ddp_handler.find_unused_parameters = may_leave_out
        wrapped: nn.Module = self.accelerator.prepare_model(module)
        return wrapped

    def mean(self, values: Tensor) -> Tensor:
        """Average over processes."""
        if self.accelerator is None:
            return values
        averaged: Tensor = self.accelerator.reduce(values, reduction="mean")
        return averaged


ALONE = Team()


def current_team() -> Team:
    """Tell which of the processes that ``launch`` started this is; alone if it started none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="no",  # which part is rounded is the loop's matter
        kwargs_handlers=[DistributedDataParallelKwargs()],
    )
    return Team(accelerator.process_index, accelerator.num_processes, accelerator)


def launch(function: Callable[..., None], given: Mapping[str, Any], size: int) -> None:
    """Call a function in ``size`` new processes, each of which finds its ``current_team``.

    Parameters
    ----------
    function
        Of a module, by whose name the processes find it.
    given
        Its keywords.

    Raises
    ------
    ValueError
        More processes than GPUs, where there are GPUs.
    RuntimeError
        A process died; the others were ended.
    Exception
        What a process raised first; the others were ended.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < size:
        raise ValueError(f"processes: {size} asked for, one GPU each, but {gpus} there; lower it")
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // size)
    with TemporaryDirectory() as folder:
        workers, lines = [], []
        try:
            for rank in range(size):
                line, end = context.Pipe(duplex=False)
                place = (rank, size, str(Path(folder) / "meeting"), threads, os.getpid())
                worker = context.Process(target=_work, args=(end, place, function, dict(given)))
                worker.start()
                end.close()  # so that the line ends with the process
                workers.append(worker)
                lines.append(line)
            _await_all(lines)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def _await_all(lines: list[Connection]) -> None:
    """Wait for all, and raise what went wrong first."""
    left = list(lines)
    while left:
        failures: list[tuple[float, BaseException]] = []
        ready = wait(left)
        for line in [one for one in left if one in ready]:
            left.remove(line)
            try:
                moment, failure = line.recv()
            except EOFError:
                rank = lines.index(line)
                told = f"process {rank} of {len(lines)} died, most likely because memory ran out"
                moment, failure = 0.0, RuntimeError(told)  # before those that it upset
            if failure is not None:
                failures.append((moment, failure))
        if failures:
            raise min(failures, key=lambda pair: pair[0])[1]


def _work(
    end: Connection,
    place: tuple[int, int, str, int, int],
    function: Callable[..., None],
    given: Mapping[str, Any],
) -> None:
    """Join the others, call the function, and tell how it went."""
    rank, size, meeting, threads, parent = place
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    status, failure = 0, None
    try:
        for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
            del os.environ[name]  # the spec alone says how a training runs
        os.environ |= LOOPBACK | {"OMP_NUM_THREADS": str(threads)}  # else accelerate chooses
        os.environ |= {f"{of}RANK": str(rank) for of in ("", "LOCAL_")}
        os.environ |= {f"{of}WORLD_SIZE": str(size) for of in ("", "LOCAL_")}
        torch.set_num_threads(threads)
        has_gpu = torch.cuda.is_available()
        if has_gpu:
            torch.cuda.set_device(rank)
        distributed.init_process_group(
            "nccl" if has_gpu else "gloo",
            init_method=f"file://{meeting}",
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
        )
        function(**given)
    except Exception as error:  # the process boundary: it is raised again on the other side
        error.add_note(f"in process {rank} of {size}:\n{traceback.format_exc()}")
        status, failure = 1, error
    _tell(end, failure)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without taking leave of the others: they are ended from outside


def _tell(end: Connection, failure: Exception | None) -> None:
    try:
        end.send((time.monotonic(), failure))
    except Exception:  # not every exception can be sent
        end.send((time.monotonic(), RuntimeError(repr(failure))))
