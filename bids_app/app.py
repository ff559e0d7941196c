"""The whole way from a command line to an exit code.

argv → Config → files → jobs → Nipype nodes → stage processes → derivatives → report. Data only
moves in this direction.
"""

import logging
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import specs
from bids_app import (
    cli,
    dataset,
    files,
    hpc,
    layout,
    log,
    methods,
    report,
    resume,
    sbatch,
    show,
    status,
    validation,
)
from bids_app.config import Config
from bids_app.errors import AppError, Exit, exit_of_os_error
from bids_app.launch import LaunchError, image_name
from bids_app.plan import Plan, has_inputs, make_plan
from bids_app.runners import INSPECTORS, own_container
from specs import Spec
from specs.job import Job

logger = log.logger
INTERRUPTED = "interrupted; what is finished is kept, run again to go on"


@dataclass(frozen=True)
class Run:
    """One run: its name and where its log, settings and status go."""

    id: str
    dir: Path
    scratch: Path
    started: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    log.set_up(0, debug=False)
    try:
        if argv[:1] == ["describe"]:
            return show.describe_stages(argv[1:])
        if argv[:1] == ["export"]:
            return show.export_files(argv[1:])
        if argv[:2] == ["hpc", "slurm"]:
            return write_slurm_scripts(argv[2:])
        if "--bids-exec-spec" in argv:
            return show.print_boutiques()
        config = cli.parse(argv)
        log.set_up(config.verbose, debug=config.debug)
        signal.signal(signal.SIGTERM, _interrupt)
        return int(run(config))
    except AppError as error:
        return int(_say_exit(error.code, str(error)))
    except KeyboardInterrupt:
        return int(_say_exit(Exit.INTERRUPTED, INTERRUPTED))
    except OSError as error:
        return int(_say_exit(exit_of_os_error(error, Exit.IO), str(error)))


def write_slurm_scripts(argv: Sequence[str]) -> int:
    """Write scripts that do on a cluster what the rest of the command line asks for.

    ``--dir DIR`` says where; without it they are printed.
    """
    given = list(argv)
    folder = None
    if "--dir" in given[:-1]:
        at = given.index("--dir")
        folder = Path(given[at + 1]).resolve()
        del given[at : at + 2]
    config = cli.parse(given)
    participants = layout.select_participants(config.bids_dir, config.participant_label)
    _, plan, _ = plan_run(config, participants)
    scripts = sbatch.make_scripts(config, plan.jobs, participants, folder or Path.cwd())
    return show.print_files(scripts, folder)


def run(config: Config) -> Exit:
    """Do what was asked for; say and return the exit code.

    Raises
    ------
    AppError
        Nothing could be started.
    """
    description = layout.check_dataset(config.bids_dir)
    participants = layout.select_participants(config.bids_dir, config.participant_label)
    stages, plan, roots = plan_run(config, participants)
    hashes = resume.ContentHashes(config.out_dir / "logs" / "hashes.json")
    pending = resume.pending(plan.jobs, roots, hashes)
    if config.dry_run:
        show.print_plan(plan, pending)
        return Exit.OK if plan.jobs else _say_exit(Exit.DATA, plan.problems[0].message)
    this = start_run(config)
    code, reason = Exit.SOFTWARE, "stopped unexpectedly"
    outcome = status.Outcome()
    invalid: dict[str, list[str]] = {}
    try:
        files.write_text(
            methods.write_methods(stages, config), this.dir / "CITATION.md", root=config.out_dir
        )
        if config.boilerplate_only:
            code, reason = Exit.OK, f"methods text written: {this.dir / 'CITATION.md'}"
        elif config.reports_only:
            code, reason = Exit.OK, "reports rebuilt"
        else:
            validate_used(config, plan, this)
            outcome = run_jobs(
                config, stages, plan, pending, participants, roots, description, this
            )
            hashes.save(config.out_dir)
            code, reason = status.exit_code(outcome)
            if config.validate_outputs and outcome.done:
                invalid = validate_written(stages, roots)
            if code is Exit.OK and any(invalid.values()):
                code, reason = Exit.SOFTWARE, "a written dataset is not valid BIDS; see the log"
    except AppError as error:
        code, reason = error.code, str(error)
    except KeyboardInterrupt:
        code, reason = Exit.INTERRUPTED, INTERRUPTED
    finally:
        finish_run(config, this, stages, participants, roots, outcome, code, reason, invalid)
    return _say_exit(code, reason)


def plan_run(
    config: Config, participants: Sequence[str]
) -> tuple[list[Spec], Plan, dict[str, Path]]:
    """Find the files, choose the stages and plan their jobs."""
    names = specs.names()
    roots = layout.dataset_roots(config.bids_dir, config.out_dir, names, config.derivatives)
    records = layout.index(
        roots,
        participants,
        sessions=config.session_label,
        database_dir=config.bids_database_dir,
    )
    if config.stages:
        chosen = [specs.load(name) for name in names if name in config.stages]
    else:
        chosen = []
        for name in names:
            spec = specs.load(name)
            if has_inputs(spec, records, [done.name for done in chosen], config.levels):
                chosen.append(spec)
        logger.log(log.VERBOSE, "stages: %s", ", ".join(spec.name for spec in chosen))
    filters = layout.read_filter_file(config.bids_filter_file) if config.bids_filter_file else {}
    plan = make_plan(
        chosen, records, config, roots=roots, participants=participants, filters=filters
    )
    if not plan.jobs and not plan.problems and "participant" in config.levels:
        raise AppError(
            Exit.NOTHING_SELECTED,
            f"{config.bids_dir}: no stage finds its inputs; stages: {', '.join(names)}",
        )
    return chosen, plan, roots


def start_run(config: Config) -> Run:
    """Make the folders of a run, start its log and write its settings."""
    name = f"run-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
    this = Run(name, config.out_dir / "logs" / name, config.work_dir / name, time.time())
    if config.clean_workdir:
        for old in config.work_dir.glob("run-*"):
            shutil.rmtree(old, ignore_errors=True)
    for folder in (this.dir, this.scratch):
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            code = exit_of_os_error(error, Exit.CANNOT_CREATE)
            raise AppError(code, f"cannot create {folder}: {error.strerror}") from error
    log.add_file(this.dir / "app.log")
    logger.log(log.IMPORTANT, "%s → %s (%s)", config.bids_dir, config.out_dir, name)
    logger.info("%d cores, %.1f GB of memory", config.nprocs, config.memory_gb)
    files.write_text(config.to_toml(), this.dir / "config.toml", root=config.out_dir)
    return this


def validate_used(config: Config, plan: Plan, this: Run) -> None:
    """Validate the raw files that jobs will read; errors stop the run."""
    if config.skip_bids_validation:
        return
    raw = f"{config.bids_dir}/"
    used = {path for job in plan.jobs for path in job.input_paths if path.startswith(raw)}
    findings = validation.validate_inputs(config.bids_dir, used, this.scratch / "view")
    for warning in findings.warnings:
        logger.info("input: %s", warning)
    if findings.errors:
        listed = "\n".join(f"- {error}" for error in findings.errors[:20])
        raise AppError(
            Exit.INVALID_INPUT,
            f"{config.bids_dir} is not valid BIDS; mend it or pass --skip-bids-validation:\n"
            + listed,
        )


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
    if pending:
        images, containers = find_images(config, stages, pending)
        for spec in stages:
            dataset.write_dataset_files(spec, roots, description, containers.get(spec.name, {}))
        states = _run_workflow(config, pending, roots, images, this)
        for spec in stages:
            dataset.copy_participants(participants, config.bids_dir, roots[spec.name])
    if config.resource_monitor:
        files.write_text(
            show.resource_table(states), this.dir / "resources.tsv", root=config.out_dir
        )
    return status.sum_up(participants, plan.jobs, pending, plan.problems, states)


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


def _run_workflow(
    config: Config,
    pending: Sequence[Job],
    roots: Mapping[str, Path],
    images: Mapping[str, str],
    this: Run,
) -> dict[str, dict[str, Any]]:
    """Hand the jobs to Nipype and follow them; return how each ended."""
    # Imported here: nothing of Nipype is needed to print help, plan, or find everything done.
    from bids_app import workflow
    from bids_app.execute import Context
    from bids_app.monitor import Monitor

    workflow.configure_nipype(config, this.dir)
    folder = this.scratch / "states"
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
    batches = workflow.cut_batches(
        pending,
        nprocs=config.nprocs,
        omp_nthreads=config.omp_nthreads,
        is_cluster=hpc.is_cluster(config.plugin),
    )
    if config.write_graph:
        files.write_text(show.graph(pending, needs), this.dir / "graph.dot", root=config.out_dir)
    graph = workflow.build_workflow(batches, needs, context, config, this.scratch)
    with Monitor(pending, folder) as monitor:
        try:
            workflow.run_workflow(graph, config, this.dir)
        except RuntimeError as error:
            # Jobs that failed have said so themselves; this is about what could not go on.
            logger.warning("stopped early: %s", str(error).strip().splitlines()[-1])
        finally:
            workflow.kill_workers()
        workflow.settle_killed(batches, context)
    return monitor.states


def validate_written(stages: Sequence[Spec], roots: Mapping[str, Path]) -> dict[str, list[str]]:
    """Validate the datasets of the stages that were run; log what is wrong."""
    invalid = {}
    for spec in stages:
        if not roots[spec.name].is_dir():
            continue
        findings = validation.validate_outputs(roots[spec.name])
        for warning in findings.warnings:
            logger.debug("%s: %s", spec.name, warning)
        for error in findings.errors:
            logger.error("%s is not valid BIDS: %s", spec.name, error)
        invalid[spec.name] = list(findings.errors)
    return invalid


def finish_run(
    config: Config,
    this: Run,
    stages: Sequence[Spec],
    participants: Sequence[str],
    roots: Mapping[str, Path],
    outcome: status.Outcome,
    code: Exit,
    reason: str,
    invalid: Mapping[str, list[str]],
) -> None:
    """Write the status and the reports, sum up, and tidy the scratch folder."""
    summary = {
        "run": this.id,
        "exit_code": int(code),
        "reason": reason,
        "seconds": round(time.time() - this.started, 1),
        "levels": list(config.levels),
        "stages": [spec.name for spec in stages],
        "recipe": config.recipe,
        "synthetic": layout.is_synthetic(config.bids_dir),
        "jobs": {
            "done": outcome.done,
            "skipped": outcome.skipped,
            "blocked": outcome.blocked,
            "failed": len(outcome.failures),
        },
        "participants": outcome.participants,
        "failures": outcome.failures,
        "invalid_outputs": dict(invalid),
    }
    for failure in outcome.failures:
        if "job" in failure:
            text = f"{failure['reason']}\n\n{failure['traceback']}\n{failure['log']}\n"
            path = this.dir / f"crash-{failure['job']}.txt"
            files.write_text(text, path, root=config.out_dir)
            if config.debug:
                logger.debug("%s", text)
    files.write_json(summary, this.dir / "status.json", root=config.out_dir)
    if not config.boilerplate_only:
        summary["report_problem"] = report.try_write(config.out_dir, stages, roots, participants)
        files.write_json(summary, this.dir / "status.json", root=config.out_dir)
    if config.rm_workdir_on_success and code is Exit.OK:
        shutil.rmtree(this.scratch, ignore_errors=True)
        with suppress(OSError):  # others may work beside us
            config.work_dir.rmdir()
    show.print_summary(summary, config.out_dir, this.dir)


def _say_exit(code: Exit, reason: str) -> Exit:
    """Write the last line of the log: the exit code and the reason for it."""
    level = log.IMPORTANT if code is Exit.OK else logging.ERROR
    logger.log(level, "exit %d (%s): %s", code, code.name.replace("_", " ").lower(), reason)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as on Ctrl-C when a scheduler or an engine asks the process to stop."""
    raise KeyboardInterrupt
