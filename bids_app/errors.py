"""Exit codes of the BIDS execution specification and the one exception that carries them."""

import errno
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


def exit_of_os_error(error: OSError, otherwise: Exit) -> Exit:
    """Tell a full disk or an exhausted quota, which passes, from what does not."""
    passing = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
    return Exit.TEMPORARY if error.errno in passing else otherwise
