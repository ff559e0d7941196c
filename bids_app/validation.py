"""Checks with the official BIDS validator: of what is used before a run, of what was written after.

The validator (bids-validator-deno) works offline. The input is checked through a view, a folder of
links to the selected participants' files alone, so that the cost follows what is used.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_app import log
from bids_app.config import Config
from bids_app.errors import AppError, Exit
from bids_app.plan import Plan
from specs import Spec

logger = log.logger
VALIDATOR = "bids-validator-deno"
# About one image's content: that participant's job will say it better, and the others can go on.
CONTENT_CODES = (
    "EMPTY_FILE",
    "FILE_READ",
    "NIFTI_HEADER_UNREADABLE",
    "NIFTI_PIXDIM4",
    "NIFTI_TOO_SMALL",
    "T1W_FILE_WITH_TOO_MANY_DIMENSIONS",
)
# Complaints that a view of some files cannot but raise, and that mean nothing for the run.
VIEW_CODES = ("PARTICIPANT_ID_MISMATCH", "SIDECAR_WITHOUT_DATAFILE")
# What would be nice to know of a dataset but concerns no run: a hundred lines for any real one.
RECOMMENDATIONS = ("RECOMMENDED", "TOO_FEW_AUTHORS", "NO_AUTHORS", "README_FILE")


@dataclass(frozen=True)
class Findings:
    """What the validator found: one sentence per kind of issue."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find_validator() -> str | None:
    """Find the validator beside this Python or on PATH."""
    beside = Path(sys.executable).with_name(VALIDATOR)
    return str(beside) if beside.is_file() else shutil.which(VALIDATOR)


def validate_inputs(bids_dir: Path, paths: Iterable[str], view: Path) -> Findings:
    """Check the files of a raw dataset that a run will read, and the files at its root.

    Parameters
    ----------
    paths
        Absolute paths of the files; sidecars beside them are checked with them.
    view
        Folder for the links; made anew.
    """
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True)
    chosen = {Path(path) for path in paths}
    chosen |= {sidecar for path in chosen if (sidecar := _sidecar(path)).is_file()}
    chosen |= {p for p in bids_dir.iterdir() if p.is_file() and not p.name.startswith(".")}
    for path in sorted(chosen):
        link = view / path.relative_to(bids_dir)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    ignored = bids_dir / ".bidsignore"
    if ignored.is_file():
        shutil.copyfile(ignored, view / ".bidsignore")
    findings = _run_validator(view, leave_out=(*CONTENT_CODES, *VIEW_CODES))
    shutil.rmtree(view, ignore_errors=True)
    return findings


def validate_outputs(root: Path) -> Findings:
    """Check a whole derivative dataset."""
    return _run_validator(root)


def _run_validator(root: Path, *, leave_out: tuple[str, ...] = ()) -> Findings:
    validator = find_validator()
    if validator is None:
        return Findings(warnings=(f"{VALIDATOR} is not installed, so nothing was validated",))
    done = subprocess.run(
        [validator, str(root), "--format", "json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        issues = json.loads(done.stdout)["issues"]["issues"]
    except (json.JSONDecodeError, KeyError):
        return Findings(warnings=(f"{VALIDATOR} failed on {root}: {done.stderr.strip()[-500:]}",))
    kept = [
        issue
        for issue in issues
        if issue["code"] not in leave_out
        and not any(word in issue["code"] for word in RECOMMENDATIONS)
    ]
    return Findings(
        errors=_sentences(issue for issue in kept if issue["severity"] == "error"),
        warnings=_sentences(issue for issue in kept if issue["severity"] == "warning"),
    )


def _sentences(issues: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Tell each kind of issue once, with a place and how many more there are."""
    kinds: Counter[str] = Counter()
    first: dict[str, str] = {}
    for issue in issues:
        kind = " ".join(filter(None, [issue["code"], issue.get("subCode")]))
        kinds[kind] += 1
        text = issue.get("issueMessage") or issue.get("codeMessage") or ""
        text = text.strip().partition("\n")[0]
        first.setdefault(kind, f"{issue.get('location', '')}: {kind} {text}".strip())
    return tuple(
        first[kind] + (f" (and {count - 1} more)" if count > 1 else "")
        for kind, count in kinds.items()
    )


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0] + ".json")


def check_used(config: Config, plan: Plan, view: Path) -> None:
    """Validate the raw files that jobs will read; errors stop the run."""
    if config.skip_bids_validation:
        return
    raw = f"{config.bids_dir}/"
    used = {path for job in plan.jobs for path in job.input_paths if path.startswith(raw)}
    findings = validate_inputs(config.bids_dir, used, view)
    for warning in findings.warnings:
        logger.info("input: %s", warning)
    if findings.errors:
        listed = "\n".join(f"- {error}" for error in findings.errors[:20])
        raise AppError(
            Exit.INVALID_INPUT,
            f"{config.bids_dir} is not valid BIDS; mend it or pass --skip-bids-validation:\n"
            + listed,
        )


def check_written(stages: Sequence[Spec], roots: Mapping[str, Path]) -> dict[str, list[str]]:
    """Validate the datasets of the stages that were run; log what is wrong."""
    invalid = {}
    for spec in stages:
        if not roots[spec.name].is_dir():
            continue
        findings = validate_outputs(roots[spec.name])
        for warning in findings.warnings:
            logger.debug("%s: %s", spec.name, warning)
        for error in findings.errors:
            logger.error("%s is not valid BIDS: %s", spec.name, error)
        invalid[spec.name] = list(findings.errors)
    return invalid
