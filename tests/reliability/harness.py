"""Runs that can be watched and killed, and the question whether anything was lost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

TIMEOUT_S = 90
QUICK = ("--skip-bids-validation", "--no-validate-outputs")


@dataclass
class Run:
    """A run at work or at its end; ``code`` is negative for a signal."""

    app: "App"
    pid: int
    log: Path
    code: int | None = None

    @property
    def text(self) -> str:
        """What the run said on both streams."""
        return self.log.read_text(errors="replace")

    def has_ended(self) -> bool:
        """Tell whether the process is gone (and has been reaped)."""
        if self.code is None:
            answer = self.app.ask({"poll": self.pid})
            if answer["ended"]:
                self.code = answer["code"]
        return self.code is not None

    def wait(self, timeout_s: float = TIMEOUT_S) -> "Run":
        """Wait for the end; a run that hangs is killed and fails the test."""
        deadline = time.monotonic() + timeout_s
        while not self.has_ended():
            if time.monotonic() > deadline:
                self.kill_all()
                raise AssertionError(f"hangs after {timeout_s} s:\n{self.text[-3000:]}")
            time.sleep(0.02)
        return self

    def family(self) -> list[psutil.Process]:
        """List the processes of the run's session that are alive."""
        alive = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.pid and process.status() != "zombie":
                    alive.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
                continue
        return alive

    def members(self, role: str) -> list[psutil.Process]:
        """List the orchestrator, the workers or the stage processes."""
        found = []
        for process in self.family():
            try:
                is_stage = process.cmdline()[1:3] == ["-m", "stages"]
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            own = "orchestrator" if process.pid == self.pid else "stage" if is_stage else "worker"
            if own == role:
                found.append(process)
        return found

    def kill_all(self) -> None:
        """Kill every process of the run's session."""
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def orphans(self, patience_s: float = 10.0) -> list[psutil.Process]:
        """List what is still alive some time after the end."""
        deadline = time.monotonic() + patience_s
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


class App:
    """The app of the toy checkout, each run a process in a session of its own."""

    def __init__(self, checkout: Path, logs: Path) -> None:
        self._logs = logs
        self._count = 0
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            cwd=checkout,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_ET": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict) -> dict:
        """Send a request to the zygote."""
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(
        self, *arguments: object, limits=None, environment=None, before="", quick=True, **more
    ) -> Run:
        """Start a run and return at once."""
        self._count += 1
        log = self._logs / f"{self._count}.txt"
        request = {
            "arguments": [*map(str, arguments), *(QUICK if quick else ())],
            "log": str(log),
            "limits": limits or {},
            "environment": environment or {},
            "before": before,
            **more,
        }
        return Run(self, self.ask(request)["pid"], log)

    def run(self, *arguments: object, **more: object) -> Run:
        """Run to the end."""
        return self.start(*arguments, **more).wait()

    def close(self) -> None:
        """End the zygote."""
        self._process.stdin.close()
        self._process.wait(10)


def status_of(out: Path) -> dict:
    """Read the status of the latest run."""
    path = max(out.glob("logs/run-*/status.json"), key=lambda p: p.stat().st_mtime_ns)
    return json.loads(path.read_text())


def checksums(root: Path) -> dict[str, str]:
    """Hash every file below a folder but logs and pages."""
    return {
        str(p.relative_to(root)): hashlib.sha256(_unmoved(p)).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and "logs" not in p.relative_to(root).parts and p.suffix != ".html"
    }


def _unmoved(path: Path) -> bytes:
    """Read a file; where other datasets lie from it depends on the test's folders alone."""
    content = path.read_bytes()
    if path.name == "dataset_description.json":
        return json.dumps({**json.loads(content), "DatasetLinks": {}}).encode()
    return content


def kill(process: psutil.Process) -> bool:
    """Kill a process at once; False if it was gone already."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True
