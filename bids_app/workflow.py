"""Jobs → a Nipype workflow, and running it; the only hand-written graph code."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import specs
from bids_app.config import Config
from bids_app.execute import Context
from bids_app.runners import die_with_parent
from specs.job import Job
from specs.schema import Step

if TYPE_CHECKING:  # importing Nipype takes longer than all that happens before it
    from nipype.pipeline.engine import Workflow

BATCH_MINUTES = 1.0  # long enough to pay a process's imports, short enough to lose little
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Batch:
    """Jobs of one step that share a node."""

    name: str
    step: Step
    jobs: tuple[Job, ...]
    threads: int


def cut_batches(jobs: Sequence[Job], *, nprocs: int, omp_nthreads: int) -> list[Batch]:
    """Gather jobs of one step into batches of about a minute, enough to keep all cores busy.

    Parameters
    ----------
    nprocs
        Cores in all.
    omp_nthreads
        Threads per job; 0 spreads the cores over the jobs that can run side by side.
    """
    steps: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        steps.setdefault((job.stage, job.step), []).append(job)
    batches = []
    for (stage, name), group in steps.items():
        step = specs.load(stage).steps[name]
        threads = omp_nthreads or max(1, min(step.resources.cpus, nprocs // len(group)))
        side_by_side = max(1, nprocs // threads)
        by_time = max(1, int(BATCH_MINUTES / max(step.resources.minutes, 1e-3)))
        size = min(by_time, -(-len(group) // side_by_side))
        for number, start in enumerate(range(0, len(group), size)):
            chosen = tuple(group[start : start + size])
            batches.append(Batch(f"{stage}_{name}_{number:05d}", step, chosen, threads))
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
        before = sorted({holder[id] for ids in own.values() for id in ids} - {batch.name})
        node = nodes[batch.name] = Node(
            stage_interface(batch.jobs, own, context, threads=batch.threads, waits_for=len(before)),
            name=batch.name,
            n_procs=min(batch.threads, config.nprocs),
            mem_gb=min(batch.step.resources.memory_gb, config.memory_gb),
        )
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

    nipype_config.update_config(
        {
            "execution": {
                "crashdump_dir": str(run_dir),
                "crashfile_format": "txt",
                "create_report": "false",
                "poll_sleep_duration": str(POLL_SECONDS),
                "stop_on_first_crash": str(config.stop_on_first_crash).lower(),
                "check_version": "false",
            },
            "logging": {f"{name}_level": "CRITICAL" for name in ("workflow", "interface", "utils")},
        }
    )
    nipype_logging.update_logging(nipype_config)


def run_workflow(workflow: "Workflow", config: Config) -> None:
    """Run with the chosen plugin; jobs that fail are told by their states, not by exceptions.

    Raises
    ------
    RuntimeError
        Nipype itself failed, or a job did and the run is to stop at the first crash.
    """
    os.register_at_fork(after_in_child=die_with_parent)
    if config.plugin != "MultiProc":
        workflow.run(plugin=config.plugin, plugin_args=dict(config.plugin_args))
        return
    from nipype.pipeline.plugins.multiproc import MultiProcPlugin

    class MultiProc(MultiProcPlugin):
        """Nipype's plugin, which waits for ever for a worker that was killed, made to notice."""

        def _get_result(self, taskid: int) -> Any:
            future = self._task_obj[taskid]
            if future.done() and future.exception():
                raise RuntimeError("a worker process was killed") from future.exception()
            return super()._get_result(taskid)

    arguments = {"n_procs": config.nprocs, "memory_gb": config.memory_gb}
    workflow.run(plugin=MultiProc(plugin_args=arguments | dict(config.plugin_args)))


def kill_workers() -> None:
    """End worker processes that are still there, and with them the stage processes they started."""
    for worker in multiprocessing.active_children():
        worker.kill()
