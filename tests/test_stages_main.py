"""The one way into a stage: what its process reports of success and of each kind of failure."""

import errno
import getpass
import gzip
import os
import zlib

import pytest

import stages.__main__ as entry
from specs.job import Batch


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


def test_a_user_whom_the_system_does_not_know_gets_a_name(tmp_path, monkeypatch):
    """As under ``docker run --user``; libraries ask for the name, not for the number."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "")  # put back at the end, whatever the call leaves
        monkeypatch.delenv(variable)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    batch = tmp_path / "batch.json"
    Batch(jobs=(), folders=(), threads=1).write(batch)
    monkeypatch.setattr(entry, "_limit_threads", lambda threads: None)
    assert entry.main([str(batch)]) == 0
    assert getpass.getuser() == f"user{2**31 - 7}"
