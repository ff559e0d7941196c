"""The spine's own cost: start-up, indexing and planning, a no-op re-run, the cost per job.

Claims: ``--help`` ≤ 0.6 s; one participant of a 1,000-participant, 12,000-file dataset indexed and
planned in ≤ 1.5 s, all of them in ≤ 6 s (``index`` has the peers); a run with 1,000
finished jobs ≤ 10 s; ≤ 0.2 s per job beyond the step itself (beside plain Nipype MultiProc on nodes
that do nothing). The toy stages stand in for the science.

``python -m tests.benchmarks.spine``
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.index import dry_run, run_app, toy_checkout, write_dataset
from tests.benchmarks.record import save

REPOSITORY = Path(__file__).parents[2]
PARTICIPANTS = 1000
PLAIN_NODES = 50
MOST_OF_PLAIN = 1.2  # of what plain Nipype takes for a node
PLAIN = """
from nipype import Function, Node, Workflow

def add_one(x):
    return x + 1

if __name__ == "__main__":
    workflow = Workflow("plain", base_dir={folder!r})
    for i in range({nodes}):
        node = Node(Function(["x"], ["y"], function=add_one), name=f"n{{i}}")
        node.inputs.x = i
        workflow.add_nodes([node])
    workflow.run("MultiProc", plugin_args={{"n_procs": {cores}}})
"""


def main() -> None:
    """Measure everything and write ``spine.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    out = parser.parse_args().out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkout, data = toy_checkout(root / "checkout"), write_dataset(root / "data", PARTICIPANTS)
        rows = [
            _row("--help", 0.6, lambda: run_app(REPOSITORY, "--help"), repeats=5),
            _row("plan one of 1,000", 1.5, lambda: dry_run(checkout, data, "00007"), repeats=5),
            _row("plan all 1,000", 6, lambda: dry_run(checkout, data), repeats=3),
            *_jobs(checkout, data, root),
        ]
    save("spine", rows, ["nipype", "pybids", "brainstages"], out)


def _jobs(checkout: Path, data: Path, root: Path) -> list[dict]:
    """Run 1,000 jobs that add a number to a tiny image, then again with nothing to do."""
    options = ["--skip-bids-validation", "--no-validate-outputs", "-w", str(root / "work")]
    command = [str(data), str(root / "out"), "participant", "--stages", "alpha", *options]
    first = _seconds(lambda: run_app(checkout, *command))
    status = max((root / "out" / "logs").glob("run-*/status.json"))
    jobs = json.loads(status.read_text())["jobs"]
    assert jobs["done"] == 2 * PARTICIPANTS, jobs
    again = _seconds(lambda: run_app(checkout, *command))
    status = max((root / "out" / "logs").glob("run-*/status.json"), key=lambda p: p.stat().st_mtime)
    assert json.loads(status.read_text())["jobs"]["skipped"] == 2 * PARTICIPANTS
    records = (root / "out" / "brainstages-alpha" / "logs" / "jobs").glob("*.json")
    inside = sum(json.loads(path.read_text())["seconds"] for path in records)
    count = 2 * PARTICIPANTS
    per_job = (first - inside / len(os.sched_getaffinity(0))) / count
    plain, cached = (_seconds(lambda: _plain_nipype(root)) / PLAIN_NODES for _ in range(2))
    return [
        {"what": f"{count} jobs, all of the run", "seconds": round(first, 2)},
        {
            "what": "cost per job beyond its step",
            "seconds": round(per_job, 4),
            "aim": "seconds <= 0.2",
        },
        {
            "what": f"no-op re-run, {count} finished jobs",
            "seconds": round(again, 2),
            "aim": "seconds <= 10",
        },
        {
            "what": f"plain Nipype MultiProc, per trivial node ({PLAIN_NODES} nodes)",
            "seconds": round(plain, 3),
            "ratio": round(plain / per_job, 1),
            "aim": f"ratio >= {1 / MOST_OF_PLAIN:.2f}",
        },
        {
            "what": "plain Nipype MultiProc, cached, per node",
            "seconds": round(cached, 3),
            "ratio": round(cached / (again / count), 1),
        },
    ]


def _plain_nipype(root: Path) -> None:
    """Run Function nodes as Nipype's documentation shows it, with its own settings."""
    script = root / "plain.py"
    script.write_text(
        PLAIN.format(
            folder=str(root / "plain"), nodes=PLAIN_NODES, cores=len(os.sched_getaffinity(0))
        )
    )
    environment = {**os.environ, "NO_ET": "1"}
    subprocess.run([sys.executable, script], check=True, capture_output=True, env=environment)


def _row(what, most, action, *, repeats) -> dict:
    """Measure the median wall time of an action, in seconds."""
    times = sorted(_seconds(action) for _ in range(repeats))
    row = {"what": what, "seconds": round(times[len(times) // 2], 3)}
    return row | {"aim": f"seconds <= {most}"}


def _seconds(action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
