"""Log lines as fMRIPrep's users know them: IMPORTANT shown by default, one file per run."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

IMPORTANT, VERBOSE = 25, 15
FORMAT = "%(asctime)s,%(msecs)03d %(name)s %(levelname)s:\n\t %(message)s"
DATE_FORMAT = "%y%m%d-%H:%M:%S"

logging.addLevelName(IMPORTANT, "IMPORTANT")
logging.addLevelName(VERBOSE, "VERBOSE")
logger = logging.getLogger("brainstages")


class Listener:
    """A stream to somebody who may go; what cannot be told then is lost, not the run."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write if somebody listens."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if somebody listens."""
        with suppress(OSError):
            self._stream.flush()


class _Console(logging.StreamHandler):
    """Writes to whatever standard error is now, so that a live progress bar stays below."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _File(logging.FileHandler):
    """Loses lines rather than the run when they cannot be written, on a full disk say."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        pass


def open_closed_streams() -> None:
    """Open the standard streams that are closed: libraries need them, files take their numbers."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open as long as we run)


def set_up(verbose: int, *, debug: bool) -> None:
    """Send the log to standard error: important lines, more with each ``-v``."""
    level = logging.DEBUG if debug else max(IMPORTANT - 5 * verbose, logging.DEBUG)
    logger.handlers.clear()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    _add(_Console(), level)


def add_file(path: Path) -> None:
    """Write everything into a file as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _add(_File(path, encoding="utf-8", errors="backslashreplace"), logging.DEBUG)


def _add(handler: logging.Handler, level: int) -> None:
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(FORMAT, DATE_FORMAT))
    logger.addHandler(handler)
