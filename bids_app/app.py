"""The whole way from a command line to an exit code.

argv → Config → files → jobs → Nipype nodes → stage processes → derivatives → report. Data only
moves in this direction.
"""

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import specs
from bids_app import (
    cli,
    demo_run,
    files,
    jobs,
    layout,
    log,
    methods,
    record,
    resume,
    sbatch,
    show,
    status,
    validation,
)
from bids_app.config import Config
from bids_app.errors import AppError, Exit, exit_of_os_error, remedy_for, tell_os_error
from bids_app.plan import Plan, has_inputs, make_plan
from specs import Spec

logger = log.logger
INTERRUPTED = "interrupted; what is finished is kept, run again to go on"
NO_MEMORY = "memory ran out in brainstages itself; give more, then run again to go on"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    log.open_closed_streams()
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
        if argv[:1] == ["demo"]:
            argv = demo_run.make_arguments(argv[1:])
        config = cli.parse(argv)
        log.set_up(config.verbose, debug=config.debug)
        signal.signal(signal.SIGTERM, _interrupt)
        return int(run(config))
    except AppError as error:
        return int(_say_exit(error.code, str(error)))
    except KeyboardInterrupt:
        return int(_say_exit(Exit.INTERRUPTED, INTERRUPTED))
    except OSError as error:
        return int(_say_exit(exit_of_os_error(error, Exit.IO), tell_os_error(error)))
    except MemoryError:
        return int(_say_exit(Exit.TEMPORARY, NO_MEMORY))
    except Exception as error:  # the boundary to people: a mistake of ours is told as one
        logger.debug("", exc_info=True)
        what = f"{type(error).__name__}: {error}"
        return int(_say_exit(Exit.SOFTWARE, f"{what}; a mistake in brainstages, see it by --debug"))


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
    this = record.start_run(config)
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
            validation.check_used(config, plan, this.scratch / "view")
            outcome = jobs.run_jobs(
                config, stages, plan, pending, participants, roots, description, this
            )
            hashes.save(config.out_dir)
            code, reason = status.exit_code(outcome)
            if config.validate_outputs and outcome.done:
                invalid = validation.check_written(stages, roots)
            if code is Exit.OK and any(invalid.values()):
                code, reason = Exit.SOFTWARE, "a written dataset is not valid BIDS; see the log"
    except AppError as error:
        code, reason = error.code, str(error)
    except KeyboardInterrupt:
        code, reason = Exit.INTERRUPTED, INTERRUPTED
    except OSError as error:
        code, reason = exit_of_os_error(error, Exit.IO), tell_os_error(error)
    except MemoryError:
        code, reason = Exit.TEMPORARY, NO_MEMORY
    except RuntimeError as error:
        remedy = remedy_for(str(error))
        if not remedy:
            raise
        code, reason = Exit.TEMPORARY, f"{error}{remedy}"
    finally:
        record.finish_run(config, this, stages, participants, roots, outcome, code, reason, invalid)
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


def _say_exit(code: Exit, reason: str) -> Exit:
    """Write the last line of the log: the exit code and the reason for it."""
    level = log.IMPORTANT if code is Exit.OK else logging.ERROR
    logger.log(level, "exit %d (%s): %s", code, code.name.replace("_", " ").lower(), reason)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as on Ctrl-C when a scheduler or an engine asks the process to stop."""
    raise KeyboardInterrupt
