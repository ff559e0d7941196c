"""What a scheduler is asked for on behalf of one batch of jobs, and what its verdicts mean.

Nipype's own plugins submit, watch and collect; here are only the words that each scheduler uses.
"""

import math
import shlex
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What our own process on the node takes beside the stage's: Nipype, its imports, the results.
OWN_MEMORY_GB = 0.5
# Expected minutes come from one machine; others are slower, and a job that is cut off has cost all.
TIME_FACTOR = 3.0
TIME_MARGIN_MINUTES = 10.0


@dataclass(frozen=True)
class Need:
    """What a batch needs on a node; ``log`` is where the scheduler puts what it says."""

    cpus: int
    memory_gb: float
    minutes: float
    gpus: int
    log: Path


def need_of(
    *, cpus: int, memory_gb: float, minutes: float, gpus: int, jobs: int, log: Path
) -> Need:
    """Add head room to what a step's spec expects of one job, times the number of jobs."""
    return Need(
        cpus=cpus,
        memory_gb=memory_gb + OWN_MEMORY_GB,
        minutes=minutes * jobs * TIME_FACTOR + TIME_MARGIN_MINUTES,
        gpus=gpus,
        log=log,
    )


def slurm_options(need: Need) -> list[str]:
    """List what is asked of sbatch, one option each."""
    return [
        "--ntasks=1",
        f"--cpus-per-task={need.cpus}",
        f"--mem={_mb(need)}M",
        *([f"--gres=gpu:{need.gpus}"] if need.gpus else []),
        f"--time={math.ceil(need.minutes)}",
        f"--output={need.log}",
        f"--error={need.log}",
    ]


def _slurm(need: Need) -> str:
    # Nipype adds its own -o and -e unless it sees these letters, which it does in --output, --error
    return " ".join(slurm_options(need))


def _pbs(need: Need) -> str:
    gpus = f":ngpus={need.gpus}" if need.gpus else ""
    return (
        f"-V -l select=1:ncpus={need.cpus}:mem={_mb(need)}mb{gpus} -l walltime={_clock(need)}"
        f" -j oe -o {need.log} -e {need.log}"
    )


def _sge(need: Need) -> str:
    gpus = f" -l gpu={need.gpus}" if need.gpus else ""
    # SGE counts memory per slot.
    return (
        f"-V -cwd -pe smp {need.cpus} -l h_vmem={math.ceil(_mb(need) / need.cpus)}M{gpus}"
        f" -l h_rt={_clock(need)} -j y -o {need.log} -e {need.log}"
    )


def _lsf(need: Need) -> str:
    gpus = f" -gpu num={need.gpus}" if need.gpus else ""
    return (
        f"-n {need.cpus} -R span[hosts=1] -M {_mb(need)}MB{gpus} -W {math.ceil(need.minutes)}"
        f" -o {need.log} -e {need.log}"
    )


@dataclass(frozen=True)
class Scheduler:
    """One of Nipype's plugins: its option for arguments, our arguments, its commands."""

    option: str
    arguments: Callable[[Need], str]
    submit: str
    cancel: str


SCHEDULERS = {
    "SLURM": Scheduler("sbatch_args", _slurm, "sbatch", "scancel"),
    "PBS": Scheduler("qsub_args", _pbs, "qsub", "qdel"),
    "SGE": Scheduler("qsub_args", _sge, "qsub", "qdel"),
    "LSF": Scheduler("bsub_args", _lsf, "bsub", "bkill"),
}


def is_cluster(plugin: str) -> bool:
    """Tell whether a plugin of Nipype runs nodes on other machines through a scheduler."""
    return plugin in SCHEDULERS


def node_arguments(plugin: str, need: Need, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make one node's ``plugin_args``: what it needs, then what the user says, which wins."""
    scheduler = SCHEDULERS[plugin]
    own = scheduler.arguments(need)
    asked = str(given.get(scheduler.option, ""))
    return {scheduler.option: f"{own} {asked}".strip(), "overwrite": True}


def is_speakable(path: Path) -> bool:
    """Tell whether a path passes through Nipype's command lines, which do not quote."""
    return shlex.quote(str(path)) == str(path)


def refusal(plugin: str, arguments: Mapping[str, Any], script: str) -> str:
    """Say in the scheduler's words why it took no job; Nipype keeps them to itself."""
    scheduler = SCHEDULERS[plugin]
    command = [scheduler.submit, *shlex.split(arguments[scheduler.option]), script]
    if plugin != "SLURM":  # the others cannot be asked without submitting
        return f"the scheduler took no job; try it by hand: {shlex.join(command)}"
    command.insert(1, "--test-only")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stderr.strip() or "no reason given").splitlines()[0]
    return f"SLURM took no job: {said}; asked for: {arguments[scheduler.option]}"


def cancel(plugin: str, ids: Iterable[str]) -> None:
    """Take jobs out of the queue; those that have ended are no trouble."""
    for job_id in ids:
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [SCHEDULERS[plugin].cancel, job_id], capture_output=True, check=False, timeout=60
            )


def verdict(said: str) -> str:
    """Say why a scheduler ended a job, from what it wrote into the job's output.

    >>> verdict("slurmstepd: error: Exceeded job memory limit")
    'ran out of the memory that the scheduler gave it'
    """
    lower = said.lower()
    if "memory limit" in lower or "oom" in lower or "out of memory" in lower:
        return "ran out of the memory that the scheduler gave it"
    if "time limit" in lower or "walltime" in lower or "runlimit" in lower:
        return "ran out of the time that the scheduler gave it"
    return "was ended from outside, most likely by the scheduler for memory or time"


def _mb(need: Need) -> int:
    return math.ceil(need.memory_gb * 1024)


def _clock(need: Need) -> str:
    minutes = math.ceil(need.minutes)
    return f"{minutes // 60}:{minutes % 60:02d}:00"
