"""Exit codes of the BIDS execution specification and the one exception that carries them."""

import errno
import re
from enum import IntEnum


class Exit(IntEnum):
    """What the process's exit code means."""

    OK = 0
    SOME_FAILED = 1
    INVALID_INPUT = 16
    UNKNOWN_LEVEL = 17
    NOTHING_SELECTED = 18
    USAGE = 64
    DATA = 65
    MISSING_FILE = 66
    SOFTWARE = 70
    CANNOT_CREATE = 73
    IO = 74
    TEMPORARY = 75
    INTERRUPTED = 130


class AppError(Exception):
    """A reason to stop before or instead of running jobs, told to the user in one paragraph."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


# What passes, and what to do about it before running again.
PASSING = {
    errno.ENOSPC: "the disk or its inodes are used up: make room",
    errno.EDQUOT: "the quota is used up: make room",
    errno.EFBIG: "the limit of a file's size is reached: raise it (ulimit -f)",
    errno.ENOMEM: "memory ran out: give more",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EAGAIN: "too many processes or locks: raise the limit (ulimit -u)",
}
NO_THREAD = "can't start new thread"  # what Python says of EAGAIN
CLEANED = (
    "the work folder is gone; was it cleaned up meanwhile? Give one that is kept with -w, then run"
    " again: it goes on where it stopped"
)
REFUSALS = (errno.EROFS, errno.EACCES, errno.EPERM)
# How a file system says that what it shows lies elsewhere and cannot be reached.
LOSSES = (
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EIO,
    errno.ENODEV,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
)


def exit_of_os_error(error: OSError, otherwise: Exit) -> Exit:
    """Tell a full disk or another exhausted limit, which passes, from what does not."""
    return Exit.TEMPORARY if error.errno in PASSING else otherwise


def remedy_for(said: str) -> str:
    """Say what to do about a system's error that is known by its text alone; nothing if unknown."""
    number = re.search(r"\[Errno (\d+)\]", said.replace(NO_THREAD, f"[Errno {errno.EAGAIN}]"))
    remedy = PASSING.get(int(number[1])) if number else None
    return f"; {remedy}, then run again: it goes on where it stopped" if remedy else ""


def tell_os_error(error: OSError) -> str:
    """Say what the system refused, about which file, and what to do."""
    if error.errno in PASSING:
        return f"{error}{remedy_for(f'[Errno {error.errno}]')}"
    if error.errno in REFUSALS:
        return f"{error}; the folder must be writable, or the file readable, for this user"
    if error.errno in LOSSES:
        return f"{error}; is the folder still mounted? Run again once the file can be read"
    return str(error)
