"""Start runs of the app by fork from a process that has imported everything: half a second each.

Runs with the toy checkout as current folder; reads one request in JSON per line from standard
input, answers with one line. What a fork runs is ``bids_app.app.main``, as the console script does.
"""

import importlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

PRELOADED = (
    "bids_app.app",
    "bids_app.interface",
    "bids_app.workflow",
    "nibabel",
    "nipype.pipeline.engine",
    "nipype.pipeline.plugins.multiproc",
    "numpy",
)


def main() -> None:
    """Answer requests until standard input ends."""
    sys.path.insert(0, str(Path.cwd()))
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = {"ended": pid != 0, "code": os.waitstatus_to_exitcode(status) if pid else 0}
        else:
            answer = {"pid": _start(request)}
        print(json.dumps(answer), flush=True)


def _start(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these ignored
        null = os.open(os.devnull, os.O_RDONLY)
        out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(request["environment"])
        if "umask" in request:
            os.umask(request["umask"])
        if "uid" in request:
            os.setgroups([])
            os.setgid(request["uid"])
            os.setuid(request["uid"])
        for name, value in request["limits"].items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        if request["before"]:
            exec(request["before"], {})  # a fault that only the inside of the process can have
        from bids_app.app import main as run

        code = run(request["arguments"])
        sys.stderr.flush()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # not os._exit at once: the process pool's threads end as at the end of a program
        import threading

        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join(10)
        os._exit(code)


if __name__ == "__main__":
    main()
