"""What runs said of themselves: statuses, settings, failures that still stand, and remedies."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_app.errors import Exit
from specs import Spec

#: Runs that carried nothing out and therefore say nothing about results.
IDLE_RUN = re.compile(r"^(reports_only|boilerplate_only) = true$", re.MULTILINE)
#: What tells failures of one kind apart and is no reason by itself: paths, names of files, people.
PLACES = re.compile(r"[^\s'\"(]*/[^\s'\"),;]*|\bsub-[A-Za-z0-9]+[^\s'\"),;:]*")
SHOWN_SETTINGS = ("preset", "recipe", "random_seed", "runner", "plugin")

#: What to do about a failure, by exit code; docs/troubleshooting.md has the long form.
REMEDIES: dict[int, str] = {
    Exit.SOME_FAILED: "Mend the causes below and run the same command again.",
    Exit.INVALID_INPUT: "Correct the file that is named, or trust it: --skip-bids-validation.",
    Exit.UNKNOWN_LEVEL: "Give participant or group as third word of the command.",
    Exit.NOTHING_SELECTED: "Check the labels and filters; in a container, what is mounted.",
    Exit.USAGE: "Correct the command line; brainstages --help lists the options.",
    Exit.DATA: "Look at the file or table named; mend it, or leave the participant out.",
    Exit.MISSING_FILE: "Put the file where it is expected, or give it: --weights NAME=PATH, -d …",
    Exit.SOFTWARE: "This is likely a mistake in brainstages: report it with the crash file.",
    Exit.CANNOT_CREATE: "Check rights and space of the output folder.",
    Exit.IO: "Check the disk or network share, then run again.",
    Exit.TEMPORARY: "Give what ran out (memory: --mem; room on the disk; a limit), then run again.",
    Exit.INTERRUPTED: "Run the same command again; what is finished is kept.",
}


def read_runs(out_dir: Path) -> list[dict[str, Any]]:
    """Read the statuses of all runs, the latest first; what is damaged is passed over.

    ``idle`` is true of runs that only rebuilt pages or wrote the methods text.
    """
    runs = []
    for path in sorted((out_dir / "logs").glob("run-*/status.json"), reverse=True):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            settings = path.with_name("config.toml")
            text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
        except (ValueError, OSError):
            continue
        if isinstance(run, dict) and {"run", "stages", "participants", "failures"} <= run.keys():
            runs.append({**run, "idle": bool(IDLE_RUN.search(text))})
    return runs


def settings_of(out_dir: Path, run: Mapping[str, Any]) -> dict[str, str]:
    """Tell in words what a run was asked for: the dataset, levels and settings that matter."""
    try:
        text = (out_dir / "logs" / run["run"] / "config.toml").read_text(encoding="utf-8")
        settings = tomllib.loads(text)
    except (OSError, ValueError):
        return {}
    told = {name.replace("_", " "): str(settings.get(name, "")) for name in SHOWN_SETTINGS}
    folder = Path(str(settings.get("bids_dir", "")))
    # The last folders name the data; what is above them concerns nobody a page is shown to.
    return {"data": "/".join(folder.parts[-2:]).lstrip("/")} | {k: v for k, v in told.items() if v}


def standing_failures(
    runs: Sequence[Mapping[str, Any]], stages: Mapping[str, Spec]
) -> list[dict[str, Any]]:
    """Collect the failures that no later run dealt with again, each with its remedy.

    A run deals with a failure if it had the stage, the level of the step and the participant.
    """
    standing: list[dict[str, Any]] = []
    newer: list[Mapping[str, Any]] = []
    for run in runs:
        if run.get("idle"):
            continue
        for failure in run["failures"]:
            if not any(_deals_with(later, failure, stages) for later in newer):
                remedy = REMEDIES.get(int(failure.get("exit_code", 0)), "")
                crash = f"logs/{run['run']}/crash-{failure['job']}.txt" if "job" in failure else ""
                standing.append({**failure, "remedy": remedy, "crash": crash, "run": run["run"]})
        newer.append(run)
    return standing


def group_failures(failures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put failures of one step together whose reasons differ by paths and people alone.

    Returns
    -------
    groups : list of dict
        The first failure of each group with ``cases`` (all of them), ``labels`` (of participants,
        each once) and ``reasons`` (the different ones); the largest group first.

    >>> told = {"stage": "a", "step": "b", "participant": ""}
    >>> groups = group_failures([told | {"reason": f"/data/{x}.nii.gz: 4D image"} for x in "pq"])
    >>> [group["reasons"] for group in groups]
    [['/data/p.nii.gz: 4D image', '/data/q.nii.gz: 4D image']]
    """
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for failure in failures:
        kind = PLACES.sub("…", str(failure["reason"]))
        key = (str(failure["stage"]), str(failure["step"]), kind)
        group = groups.setdefault(key, {**failure, "cases": [], "labels": {}, "reasons": {}})
        group["cases"].append(failure)
        group["reasons"][str(failure["reason"])] = None
        if failure["participant"]:
            group["labels"][str(failure["participant"])] = None
    told = [
        {**g, "labels": list(g["labels"]), "reasons": list(g["reasons"])} for g in groups.values()
    ]
    return sorted(told, key=lambda group: -len(group["cases"]))


def latest_run(runs: Sequence[Mapping[str, Any]], stage: str) -> Mapping[str, Any] | None:
    """Find the latest run that had a stage and did more than rebuild pages."""
    return next((r for r in runs if stage in r["stages"] and not r.get("idle")), None)


def participant_states(
    runs: Sequence[Mapping[str, Any]], failures: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, str]]:
    """Tell for each participant and stage whether it was done or failed."""
    states: dict[str, dict[str, str]] = {}
    for run in runs:
        if not run.get("idle"):
            for label in run["participants"]:
                states.setdefault(label, {})
                for stage in run["stages"]:
                    states[label].setdefault(stage, "done")
    for failure in failures:
        if failure["participant"]:
            states.setdefault(failure["participant"], {})[failure["stage"]] = "failed"
    return states


def _deals_with(
    run: Mapping[str, Any], failure: Mapping[str, Any], stages: Mapping[str, Spec]
) -> bool:
    spec = stages.get(failure["stage"])
    step = spec.steps.get(failure["step"]) if spec else None
    label = failure["participant"]
    return (
        failure["stage"] in run["stages"]
        and (step is None or step.level in run.get("levels", (step.level,)))
        and (not label or label in run["participants"])
    )
