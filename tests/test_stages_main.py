"""The one way into a stage: what its process reports of success and of each kind of failure."""

import errno
import gzip
import zlib

import pytest

import stages.__main__ as entry


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ValueError("4D image"), 65),
        (gzip.BadGzipFile("Not a gzipped file"), 65),
        (zlib.error("incomplete"), 65),
        (EOFError("ended early"), 65),
        (FileNotFoundError(errno.ENOENT, "gone"), 66),
        (ModuleNotFoundError("No module named 'torch'"), 66),
        (TypeError("unexpected keyword"), 70),
        (PermissionError(errno.EACCES, "denied"), 74),
        (OSError(errno.EIO, "input/output error"), 74),
        (OSError(errno.ENOSPC, "disk full"), 75),
        (OSError(errno.EDQUOT, "quota"), 75),
        (MemoryError(), 75),
    ],
)
def test_failures_are_told_apart_by_exit_code(failure, code):
    assert entry.exit_code_of(failure) == code
