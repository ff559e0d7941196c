"""Run a batch of jobs in this process: ``python -m stages batch.json``, the one way in.

Each job's step is called with files and numbers only. What happened is left as ``result.json`` in
the job's folder as soon as the job ends, whole or not at all, so that whoever started this process
can collect finished jobs while others run, and knows which one a killed process was at.
"""

import errno
import getpass
import importlib
import json
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import specs
from specs.job import Batch, Job

RESULT = "result.json"
STOP_AT_EOF = "BRAINSTAGES_STOP_AT_EOF"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)

# What the system refuses for now: a full disk, a quota, a limit of memory, files or processes.
PASSING = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
)
# How libraries say that memory ran out where they have no MemoryError for it.
NO_MEMORY = (
    "allocate memory",
    "out of memory",
    "not enough memory",
    "failed to map segment",
    "start new thread",
)
# Exceptions that tell of a mistake in the program rather than in the data.
MISTAKES = (AttributeError, NameError, TypeError, SyntaxError, AssertionError, NotImplementedError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run every job of a batch; return 0 if all of them succeeded, 1 otherwise."""
    (path,) = sys.argv[1:] if argv is None else argv
    if os.environ.get(STOP_AT_EOF):
        threading.Thread(target=_stop_at_eof, daemon=True).start()
    batch = Batch.read(Path(path))
    _limit_threads(batch.threads)
    _name_user()
    is_fine = True
    for job, folder in zip(batch.jobs, batch.folders, strict=True):
        try:
            result = run_job(job, Path(folder))
            part = Path(folder) / (RESULT + ".part")
            part.write_text(json.dumps(result, indent=1), encoding="utf-8")
            part.replace(Path(folder) / RESULT)
        except (OSError, MemoryError) as error:  # nothing can be reported but by the exit status
            with suppress(OSError):  # the log may be where there is no room
                os.write(2, f"{error!r}\n".encode())
            return exit_code_of(error)
        is_fine = is_fine and result["status"] == "done"
    return 0 if is_fine else 1


def run_job(job: Job, folder: Path) -> dict[str, Any]:
    """Call the job's step with outputs inside ``folder``; describe what happened.

    Returns
    -------
    result : dict
        status (done or failed), seconds, peak_memory_gb (of this process so far), software
        (library → version) and, if it failed, error: type, message, traceback and exit_code
        (65 data, 66 missing file or package, 70 mistake in the program, 74 input/output, 75 out of
        memory or disk).
    """
    local = job.into(folder)
    for path in local.outputs.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    error = None
    try:
        _check_version(local)
        step = importlib.import_module(f"stages.{job.stage}.{job.step}")
        step.run(**local.inputs, **local.outputs, **local.params, seed=local.seed)
        _check_outputs(local)
    except Exception as failure:  # the process boundary: whatever it was, it becomes a report
        error = {
            "type": type(failure).__name__,
            "message": _message(failure, job),
            "traceback": traceback.format_exc(),
            "exit_code": exit_code_of(failure),
        }
    return {
        "status": "failed" if error else "done",
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "software": _library_versions(job.stage),
        "error": error,
    }


def exit_code_of(failure: BaseException) -> int:
    """Translate an exception into an exit code of the BIDS execution specification."""
    if _is_out_of_memory(failure):
        return 75
    if isinstance(failure, OSError) and failure.errno in PASSING:
        return 75
    if isinstance(failure, FileNotFoundError):
        return 66
    if isinstance(failure, ModuleNotFoundError):
        return 66
    # gzip and zlib report damaged content as OSError without a system's error number.
    if isinstance(failure, OSError) and failure.errno is not None:
        return 74
    return 70 if isinstance(failure, MISTAKES) else 65


def _check_version(job: Job) -> None:
    """Refuse a job that was planned for another version of the stage than the one installed here.

    It may be in a container: its image is older or newer than the app.
    """
    here = specs.load(job.stage).version
    if job.version != here:
        raise ValueError(
            f"stage {job.stage} is version {here} here and version {job.version} in the app;"
            " build its image from the app's own release"
        )


def _message(failure: Exception, job: Job) -> str:
    """Say what went wrong, and the remedy where the exception cannot know it."""
    if isinstance(failure, ModuleNotFoundError):
        return f"{failure}; install it with: pip install 'brainstages[{job.stage}]'"
    if _is_out_of_memory(failure):
        said = str(failure).strip().partition("\n")[0]
        return f"memory ran out{f' ({said})' if said else ''}; give more or run fewer side by side"
    return str(failure) or repr(failure)


def _is_out_of_memory(failure: BaseException) -> bool:
    said = str(failure).lower()
    return isinstance(failure, MemoryError) or (
        isinstance(failure, RuntimeError | ImportError) and any(word in said for word in NO_MEMORY)
    )


def _check_outputs(job: Job) -> None:
    """Refuse a step that returned without writing what its spec promises."""
    step = specs.load(job.stage).steps[job.step]
    for name, output in step.outputs.items():
        if not output.optional and not Path(job.outputs[name]).exists():
            raise RuntimeError(f"{job.id}: the step ended without writing its output {name!r}")


def _stop_at_eof() -> None:
    """End this process when its standard input ends: whoever started it is gone."""
    while os.read(0, 1024):
        pass
    os._exit(1)


def _limit_threads(threads: int) -> None:
    """Keep numerical libraries from taking more cores than the job was given.

    Environment variables reach libraries that are not loaded yet; torch is told by a call as it
    may be loaded already when the batch runs inside another process.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _name_user() -> None:
    """Name a user whom the system does not know, as in a container: torch and others ask for it."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["LOGNAME"] = f"user{os.getuid()}"


def _library_versions(stage: str) -> dict[str, str]:
    """Tell the versions of the libraries that, by its spec, make the stage's results."""
    versions = {"python": sys.version.split()[0]}
    for name in specs.load(stage).libraries:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


if __name__ == "__main__":
    sys.exit(main())
