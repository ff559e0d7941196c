"""Ready-made scripts for SLURM: an array over participants, then the group.

For clusters where nothing may keep running on the login node; else ``--plugin SLURM`` does the same
with one job per step.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import specs
from bids_app import hpc
from bids_app.config import Config
from specs.job import Job

TASK_MINUTES = 30.0  # participants share a task of the array until it takes about this long
MAX_ARRAY = 1000  # SLURM's default MaxArraySize is 1001


def make_scripts(
    config: Config, jobs: Sequence[Job], participants: Sequence[str], folder: Path
) -> Mapping[str, str]:
    """Write the scripts that do a run's jobs on a cluster: file name → text.

    Parameters
    ----------
    jobs
        The plan of the whole run; it tells how long a participant takes and what its steps need.
    folder
        Where the scripts, their settings and the scheduler's output are to lie; absolute.
    """
    single = [job for job in jobs if job.level == "participant"]
    group = [job for job in jobs if job.level == "group"]
    minutes = _minutes(single) / max(1, len(participants))
    by_time = max(1, int(TASK_MINUTES / max(minutes, 1e-3)))
    size = max(min(by_time, len(participants)), math.ceil(len(participants) / MAX_ARRAY))
    tasks = [participants[i : i + size] for i in range(0, len(participants), size)]
    settings = replace(config, plugin="MultiProc", plugin_args={})
    scripts = {
        "config.toml": settings.to_toml(),
        "participants.txt": "".join(" ".join(task) + "\n" for task in tasks),
    }
    submit = ["#!/bin/bash", "# What is given to this script is given to sbatch, such as",
              "# --partition=NAME --account=NAME", "set -euo pipefail"]  # fmt: skip
    after = ""
    if single:
        scripts["participant.sbatch"] = _script(
            "participant",
            config,
            single,
            minutes * size,
            folder,
            header=f"#SBATCH --array=1-{len(tasks)}\n",
            before=f'labels=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" "{folder}/participants.txt")\n',
            options="--participant-label $labels ",
            log="%A_%a",
        )
        submit.append(f'participants=$(sbatch --parsable "$@" "{folder}/participant.sbatch")')
        submit.append('echo "participants: job $participants"')
        after = "--dependency=afterok:$participants --kill-on-invalid-dep=yes "
    if group:
        scripts["group.sbatch"] = _script("group", config, group, _minutes(group), folder, log="%j")
        submit.append(f'group=$(sbatch --parsable "$@" {after}"{folder}/group.sbatch")')
        submit.append('echo "group: job $group"')
    scripts["submit.sh"] = "\n".join(submit) + "\n"
    return scripts


def _script(
    level: str,
    config: Config,
    jobs: Sequence[Job],
    minutes: float,
    folder: Path,
    *,
    header: str = "",
    before: str = "",
    options: str = "",
    log: str,
) -> str:
    steps = [specs.load(job.stage).steps[job.step].resources for job in jobs]
    need = hpc.need_of(
        cpus=max(step.cpus for step in steps),
        memory_gb=max(step.memory_gb for step in steps),
        minutes=minutes,
        gpus=min(config.n_gpus, max(step.gpus for step in steps)),
        jobs=1,
        log=folder / f"{level}-{log}.txt",
    )
    asked = map(shlex.quote, hpc.slurm_options(need))
    directives = "".join(f"#SBATCH {option}\n" for option in asked)
    return (
        f"#!/bin/bash\n#SBATCH --job-name=brainstages-{level}\n{header}{directives}"
        "set -euo pipefail\n"
        f"{before}"
        "# The command may be another: BRAINSTAGES='apptainer run --cleanenv … brainstages.sif'\n"
        f'exec ${{BRAINSTAGES:-brainstages}} "{config.bids_dir}" "{config.out_dir}" {level} \\\n'
        f'    {options}--config-file "{folder}/config.toml" \\\n'
        f"    --nprocs {need.cpus} --mem-gb {need.memory_gb:g} \\\n"
        f'    -w "{config.work_dir}/slurm-$SLURM_JOB_ID"\n'
    )


def _minutes(jobs: Sequence[Job]) -> float:
    return sum(specs.load(job.stage).steps[job.step].resources.minutes for job in jobs)
