"""``brainstages demo DIR``: the demo dataset, and the run that takes it through all stages."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bids_app import log
from bids_app.errors import AppError, Exit

USAGE = "usage: brainstages demo DIR [OPTION ...]; the options are those of a run"


def make_arguments(given: Sequence[str]) -> list[str]:
    """Write the dataset to DIR/bids, unless it is there, and return the run's command line.

    Parameters
    ----------
    given : sequence of str
        DIR, then options of a run, which win over the demo's own.

    Raises
    ------
    AppError
        There is no DIR, or a library that draws phantoms is missing.
    """
    if not given or given[0].startswith("-"):
        raise AppError(Exit.USAGE, USAGE)
    folder, options = Path(given[0]).resolve(), given[1:]
    raw = folder / "bids"
    if not raw.exists():
        log.logger.log(log.IMPORTANT, "phantoms of six people are drawn: %s", raw)
        _write(raw)
    truth, preprocessed = raw / "derivatives" / "truth", raw / "derivatives" / "preprocessed"
    own = ["--preset", "tiny", "-w", str(folder / "work")]
    links = [f"landmarks={truth}", f"lesions={truth}", f"fmriprep={preprocessed}"]
    own += [word for link in links for word in ("-d", link)]
    return [str(raw), str(folder / "derivatives"), "participant", "group", *own, *options]


def _write(raw: Path) -> None:
    """Write the dataset whole or not at all, so that a demo cut off can be started again."""
    try:
        from bids_app.demo.dataset import write_dataset  # numerical libraries: not for --help
    except ImportError as error:
        what = f"the demo needs {error.name}; install it with pip install 'brainstages[demo]'"
        raise AppError(Exit.MISSING_FILE, what) from error
    part = raw.with_name(raw.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    write_dataset(part)
    part.rename(raw)
