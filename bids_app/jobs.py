"""Carry the jobs of a plan out: images, datasets around the outputs, Nipype's workflow."""

import errno
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import specs
from bids_app import dataset, files, hpc, log, show, status
from bids_app.config import Config
from bids_app.errors import CLEANED, AppError, Exit, exit_of_os_error, remedy_for, tell_os_error
from bids_app.launch import LaunchError, image_name, kill_workers
from bids_app.plan import Plan
from bids_app.record import Run
from bids_app.runners import INSPECTORS, own_container
from specs import Spec
from specs.job import Job

logger = log.logger
STATES = "states"  # in a run's scratch folder: how each job stands
NO_ROOM = 2**16  # bytes left on a disk that is called full
# A scheduler that kills a node for one job takes along those that share the node and those that
# wait for it. They are submitted again, so often: each time the job that was at fault is settled.
ROUNDS = 5


def run_jobs(
    config: Config,
    stages: Sequence[Spec],
    plan: Plan,
    pending: Sequence[Job],
    participants: Sequence[str],
    roots: Mapping[str, Path],
    description: Mapping[str, Any],
    this: Run,
) -> status.Outcome:
    """Run the jobs that are not done and complete the datasets around them."""
    for problem in plan.problems:
        logger.error("%s", problem.message)
    skipped = len(plan.jobs) - len(pending)
    logger.log(log.IMPORTANT, "%d jobs to run, %d done before", len(pending), skipped)
    states: dict[str, dict[str, Any]] = {}
    stopped = ""
    if pending:
        images, containers = find_images(config, stages, pending)
        for spec in stages:
            dataset.write_dataset_files(spec, roots, description, containers.get(spec.name, {}))
        states, stopped = _run_workflow(config, pending, roots, images, this)
    outcome = status.sum_up(participants, plan.jobs, pending, plan.problems, states, stopped)
    for spec in stages:  # though nothing was to run: the last run may have been cut off just here
        try:
            dataset.copy_participants(participants, config.bids_dir, roots[spec.name])
            files.remove_stale_parts(roots[spec.name])
        except OSError as error:  # what the jobs came to is told all the same
            what, code = tell_os_error(error), exit_of_os_error(error, Exit.IO)
            outcome.failures.append(status.failure("", spec.name, "participants.tsv", what, code))
    if config.resource_monitor:
        files.write_text(
            show.resource_table(states), this.dir / "resources.tsv", root=config.out_dir
        )
    return outcome


def find_images(
    config: Config, stages: Sequence[Spec], pending: Sequence[Job]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Name the container image of each stage that will run, and describe it as BIDS wants it.

    Raises
    ------
    AppError
        An image or its engine is missing or cannot be used; nothing was started.
    """
    if config.runner not in INSPECTORS:
        own = own_container(os.environ)
        return {}, {spec.name: own for spec in stages if own}
    busy = {job.stage for job in pending}
    images = {
        spec.name: image_name(config.runner, spec.image, config.images)
        for spec in stages
        if spec.name in busy
    }
    steps = [specs.load(job.stage).steps[job.step] for job in pending]
    needs_gpu = config.n_gpus > 0 and any(step.resources.gpus for step in steps)
    try:
        # A cluster's nodes may have the GPU that the machine we submit from lacks.
        return images, INSPECTORS[config.runner](
            images, needs_gpu and not hpc.is_cluster(config.plugin)
        )
    except LaunchError as error:
        raise AppError(Exit.MISSING_FILE, str(error)) from error


def _reason(error: RuntimeError, scratch: Path) -> str:
    """Find what went wrong in the texts that Nipype makes of it, and say what to do about it."""
    if not (scratch / STATES).is_dir():
        return f"{scratch}: {CLEANED}"
    lines = f"{error.__cause__ or ''}\n{error}".strip().splitlines()
    told = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    # What the system refused comes before what followed from it.
    reason = next(filter(remedy_for, told), [*lines[:1], *told][-1])
    if not remedy_for(reason) and shutil.disk_usage(scratch).free < NO_ROOM:
        reason = f"[Errno {errno.ENOSPC}] no room left in {scratch}"  # Nipype keeps it to itself
    return f"{reason}{remedy_for(reason)}"


def _run_workflow(
    config: Config,
    pending: Sequence[Job],
    roots: Mapping[str, Path],
    images: Mapping[str, str],
    this: Run,
) -> tuple[dict[str, dict[str, Any]], str]:
    """Hand the jobs to Nipype and follow them; return how each ended, and what stopped the rest."""
    # Imported here: nothing of Nipype is needed to print help, plan, or find everything done.
    from bids_app import workflow
    from bids_app.execute import Context
    from bids_app.monitor import Monitor

    workflow.configure_nipype(config, this.dir)
    folder = this.scratch / STATES
    folder.mkdir()
    context = Context(
        roots={source: str(root) for source, root in roots.items()},
        states=str(folder),
        runner=config.runner,
        images=images,
        gpus=config.n_gpus,
        stop_on_first_crash=config.stop_on_first_crash,
    )
    needs = workflow.find_needs(pending)
    if config.write_graph:
        files.write_text(show.graph(pending, needs), this.dir / "graph.dot", root=config.out_dir)
    stopped = ""
    left, submitted = list(pending), 0
    with Monitor(pending, folder) as monitor:
        for _ in range(ROUNDS if hpc.is_cluster(config.plugin) else 1):
            batches = workflow.cut_batches(
                left,
                nprocs=config.nprocs,
                omp_nthreads=config.omp_nthreads,
                is_cluster=hpc.is_cluster(config.plugin),
                first=submitted,
            )
            submitted += len(batches)
            graph = workflow.build_workflow(batches, needs, context, config, this.scratch)
            stopped = ""
            try:
                workflow.run_workflow(graph, config, this.dir)
            except RuntimeError as error:
                # Jobs that failed have said so themselves; this is about what could not go on.
                stopped = _reason(error, this.scratch)
                logger.warning("stopped early: %s", stopped)
            finally:
                kill_workers()
            killed = workflow.settle_killed(batches, context, stopped)
            left = workflow.not_ended(left, context)
            if not (killed and left) or config.stop_on_first_crash:
                break
            logger.warning(
                "%d jobs are submitted again: what was before them was killed", len(left)
            )
    return monitor.states, stopped
