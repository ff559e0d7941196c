"""Jobs → a Nipype workflow, and running it; the only hand-written graph code."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import specs
from bids_app import hpc, log
from bids_app.config import Config
from bids_app.errors import Exit
from bids_app.execute import FAILED, Context, read_state, was_started, write_state
from bids_app.launch import let_forks_die_with_us
from specs.job import Job
from specs.schema import Step

if TYPE_CHECKING:  # importing Nipype takes longer than all that happens before it
    from nipype.pipeline.engine import Workflow

BATCH_MINUTES = 1.0  # long enough to pay a process's imports, short enough to lose little
CLUSTER_BATCH_MINUTES = 30.0  # schedulers take seconds per job, and people wait in the queue
POLL_SECONDS = 0.05
CLUSTER_POLL_SECONDS = 2.0
JOB_FINISHED_TIMEOUT = 30  # seconds for a node's results to appear on a shared file system


@dataclass(frozen=True)
class Batch:
    """Jobs of one step that share a node."""

    name: str
    step: Step
    jobs: tuple[Job, ...]
    threads: int


def cut_batches(
    jobs: Sequence[Job],
    *,
    nprocs: int,
    omp_nthreads: int,
    is_cluster: bool = False,
    first: int = 0,
) -> list[Batch]:
    """Gather jobs of one step into batches of about a minute, enough to keep all cores busy.

    On a cluster, batches take about half an hour, however many cores this machine has.

    Parameters
    ----------
    nprocs
        Cores in all.
    omp_nthreads
        Threads per job; 0 spreads the cores over the jobs that can run side by side.
    first
        Number of the first batch; batches of one run must not share a name.
    """
    batch_minutes = CLUSTER_BATCH_MINUTES if is_cluster else BATCH_MINUTES
    steps: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        steps.setdefault((job.stage, job.step), []).append(job)
    batches: list[Batch] = []
    for (stage, name), group in steps.items():
        step = specs.load(stage).steps[name]
        fair = step.resources.cpus if is_cluster else nprocs // len(group)
        threads = omp_nthreads or max(1, min(step.resources.cpus, fair))
        side_by_side = 1 if is_cluster else max(1, nprocs // threads)
        by_time = max(1, int(batch_minutes / max(step.resources.minutes, 1e-3)))
        size = min(by_time, -(-len(group) // side_by_side))
        for start in range(0, len(group), size):
            chosen = tuple(group[start : start + size])
            label = f"{stage}_{name}_{first + len(batches):05d}"
            batches.append(Batch(label, step, chosen, threads))
    return batches


def find_needs(jobs: Sequence[Job]) -> dict[str, dict[str, str]]:
    """Tell for each job which jobs write the files it reads, and by which input it reads them."""
    maker = {path: job.id for job in jobs for path in job.outputs.values()}
    needs: dict[str, dict[str, str]] = {}
    for job in jobs:
        needs[job.id] = {}
        for name, value in job.inputs.items():
            for path in [value] if isinstance(value, str) else value or []:
                if maker.get(path, job.id) != job.id:
                    needs[job.id][maker[path]] = name
    return needs


def build_workflow(
    batches: Sequence[Batch],
    needs: Mapping[str, Mapping[str, str]],
    context: Context,
    config: Config,
    folder: Path,
) -> "Workflow":
    """Make one node per batch, and an edge wherever a batch reads what another writes.

    ``folder`` is where Nipype keeps the nodes' scratch folders.
    """
    from nipype.pipeline.engine import Node, Workflow

    from bids_app.interface import stage_interface

    workflow = Workflow("brainstages", base_dir=str(folder))
    holder = {job.id: batch.name for batch in batches for job in batch.jobs}
    nodes = {}
    for batch in batches:
        own = {job.id: needs[job.id] for job in batch.jobs}
        makers = {id for ids in own.values() for id in ids}
        before = sorted({holder[id] for id in makers if id in holder} - {batch.name})
        node = nodes[batch.name] = Node(
            stage_interface(batch.jobs, own, context, threads=batch.threads, waits_for=len(before)),
            name=batch.name,
            n_procs=min(batch.threads, config.nprocs),
            mem_gb=min(batch.step.resources.memory_gb, config.memory_gb),
        )
        if hpc.is_cluster(config.plugin):
            need = hpc.need_of(
                cpus=batch.threads,
                memory_gb=batch.step.resources.memory_gb,
                minutes=batch.step.resources.minutes,
                gpus=min(batch.step.resources.gpus, context.gpus),
                jobs=len(batch.jobs),
                log=_scheduler_log(context, batch),
            )
            node.plugin_args = hpc.node_arguments(config.plugin, need, config.plugin_args)
        workflow.add_nodes([node])
        for number, name in enumerate(before):
            workflow.connect(nodes[name], "states", node, f"after{number}")
    return workflow


def configure_nipype(config: Config, run_dir: Path) -> None:
    """Set Nipype up; to be called before a workflow is built, which takes a copy of the settings.

    Jobs are reported by ``bids_app.monitor``, so Nipype's own lines about nodes are kept back.
    """
    # Nipype asks the network for its newest version unless told not to.
    os.environ["NO_ET"] = "1"
    from nipype import config as nipype_config
    from nipype import logging as nipype_logging

    poll = CLUSTER_POLL_SECONDS if hpc.is_cluster(config.plugin) else POLL_SECONDS
    nipype_config.update_config(
        {
            "execution": {
                "crashdump_dir": str(run_dir).replace("%", "%%"),  # else read as a reference
                "crashfile_format": "txt",
                "create_report": "false",
                "job_finished_timeout": str(JOB_FINISHED_TIMEOUT),
                "poll_sleep_duration": str(poll),
                "stop_on_first_crash": str(config.stop_on_first_crash).lower(),
                "check_version": "false",
            },
            "logging": {f"{name}_level": "CRITICAL" for name in ("workflow", "interface", "utils")},
        }
    )
    nipype_logging.update_logging(nipype_config)


def run_workflow(workflow: "Workflow", config: Config, run_dir: Path) -> None:
    """Run with the chosen plugin; jobs that fail are told by their states, not by exceptions.

    What is submitted to a scheduler is recorded in ``run_dir`` and cancelled if the run is stopped.

    Raises
    ------
    RuntimeError
        Nipype itself failed, or a job did and the run is to stop at the first crash.
    """
    from nipype.pipeline.plugins import base

    if hpc.is_cluster(config.plugin):
        _run_on_cluster(workflow, config, run_dir / "scheduler-jobs.tsv")
        return
    let_forks_die_with_us()
    # Nipype sleeps until a time of day, which is for days if the clock is set back meanwhile.
    base.time = time.monotonic
    threading.excepthook = _note_end_of_thread
    if config.plugin != "MultiProc":
        workflow.run(plugin=config.plugin, plugin_args=dict(config.plugin_args))
        return
    from bids_app.workers import MultiProc

    arguments = {"n_procs": config.nprocs, "memory_gb": config.memory_gb}
    workflow.run(plugin=MultiProc(plugin_args=arguments | dict(config.plugin_args)))


def _note_end_of_thread(end: threading.ExceptHookArgs) -> None:
    """Keep a traceback for the log's file; what follows from the end is told in its place."""
    error = end.exc_value or end.exc_type()
    log.logger.debug("a thread ended: %s", error, exc_info=error)


def _run_on_cluster(workflow: "Workflow", config: Config, record: Path) -> None:
    from nipype.pipeline import plugins

    plugin = getattr(plugins, f"{config.plugin}Plugin")

    class Recorded(plugin):  # type: ignore[misc, valid-type]
        """Nipype's plugin, made to write down the jobs' numbers and to survive their deaths."""

        def _submit_batchtask(self, scriptfile: str, node: Any) -> Any:
            try:
                job_id = super()._submit_batchtask(scriptfile, node)
            except (AttributeError, IndexError):  # it looked for a number in no answer
                refusal = hpc.refusal(config.plugin, node.plugin_args, scriptfile)
                raise RuntimeError(refusal) from None  # the reason is looked for in the cause
            with open(record, "a", encoding="utf-8") as stream:
                stream.write(f"{job_id}\t{node.name}\n")
            return job_id

        def _get_result(self, taskid: Any) -> Any:
            result = super()._get_result(taskid)
            if result and isinstance(result["traceback"], str):  # reports of crashes want lines
                result["traceback"] = result["traceback"].splitlines(keepends=True)
            return result

    os.environ.setdefault("LOGNAME", "brainstages")  # Nipype makes jobs' names of it
    try:
        workflow.run(plugin=Recorded(plugin_args=dict(config.plugin_args)))
    except BaseException:
        if record.exists():
            lines = record.read_text(encoding="utf-8").splitlines()
            hpc.cancel(config.plugin, [line.split("\t")[0] for line in lines])
        raise


def settle_killed(batches: Sequence[Batch], context: Context, stopped: str) -> int:
    """Say of jobs that started and never ended, with their node, why that may be; count them.

    ``stopped`` is what stopped the workflow, if that is known.
    """
    killed = 0
    for batch in batches:
        for job in batch.jobs:
            if (
                not was_started(job.id, context.states)
                or read_state(job.id, context.states)["state"]
            ):
                continue
            log = _scheduler_log(context, batch)
            said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            what = hpc.verdict(said) if said or not stopped else f"was cut off: {stopped}"
            error = {
                "type": "StageError",
                "message": f"the job {what}; run again, it goes on where it stopped",
                "traceback": "",
                "exit_code": int(Exit.TEMPORARY),
                "log": said[-4000:],
            }
            write_state(job.id, context.states, state=FAILED, error=error)
            killed += 1
    return killed


def not_ended(jobs: Sequence[Job], context: Context) -> list[Job]:
    """List the jobs that nothing is known of, since no process got to them."""
    return [job for job in jobs if not read_state(job.id, context.states)["state"]]


def _scheduler_log(context: Context, batch: Batch) -> Path:
    """Name the file for what the scheduler says about a batch."""
    return Path(context.states).parent / f"{batch.name}.txt"
