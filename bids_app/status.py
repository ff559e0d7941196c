"""How a run ended: per participant, as an exit code, and as ``status.json``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bids_app.errors import Exit
from bids_app.plan import Problem
from specs.job import Job


@dataclass
class Outcome:
    """What became of the planned jobs.

    ``skipped`` counts jobs that were done before this run; ``failures`` holds one entry per job
    that failed or could not be planned: participant, stage, step, reason, exit_code, log.
    """

    done: int = 0
    skipped: int = 0
    blocked: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    participants: dict[str, str] = field(default_factory=dict)


def sum_up(
    participants: Sequence[str],
    planned: Sequence[Job],
    pending: Sequence[Job],
    problems: Sequence[Problem],
    states: Mapping[str, Mapping[str, Any]],
    stopped: str = "",
) -> Outcome:
    """Sum up a run.

    Parameters
    ----------
    planned, pending
        All jobs, and those among them that had to run.
    states
        Job id → how it ended (``bids_app.execute``).
    stopped
        What kept jobs without an end from running, if anything is known.
    """
    ends = Counter(states.get(job.id, {}).get("state", "") for job in pending)
    outcome = Outcome(
        done=ends["done"],
        skipped=len(planned) - len(pending) + ends["unchanged"] + ends["idle"],
        blocked=ends["blocked"],
    )
    for problem in problems:
        outcome.failures.append(
            failure(problem.participant, problem.stage, problem.step, problem.message, Exit.DATA)
        )
    for job in pending:
        state = states.get(job.id, {"state": ""})
        if state["state"] == "failed":
            error = state["error"]
            outcome.failures.append(
                failure(job.participant, job.stage, job.step, error["message"], error["exit_code"])
                | {"job": job.id, "traceback": error["traceback"], "log": error["log"]}
            )
        elif state["state"] == "":
            what = f"did not run: {stopped}" if stopped else "did not run"
            outcome.failures.append(
                failure(job.participant, job.stage, job.step, what, Exit.TEMPORARY)
            )
    failed = {failure["participant"] for failure in outcome.failures}
    outcome.participants = {p: "failed" if p in failed else "done" for p in participants}
    return outcome


def exit_code(outcome: Outcome) -> tuple[Exit, str]:
    """Choose the exit code and say why.

    One common cause is told by its own code when nothing succeeded, or when it is passing (out of
    memory or disk), so that a launcher may try again.
    """
    if not outcome.failures:
        return Exit.OK, "all jobs are done"
    codes = {failure["exit_code"] for failure in outcome.failures}
    failed = [p for p, state in outcome.participants.items() if state == "failed"]
    named = ", ".join(f"sub-{p}" for p in failed[:10]) + (", …" if len(failed) > 10 else "")
    first = outcome.failures[0]["reason"]
    reason = f"{len(failed)} of {len(outcome.participants)} participants failed: {named}; {first}"
    if not failed:
        reason = first
    is_total = len(failed) == len(outcome.participants) or not failed
    if len(codes) == 1 and (is_total or codes == {Exit.TEMPORARY}):
        return Exit(codes.pop()), reason
    return Exit.SOME_FAILED, reason


def failure(participant: str, stage: str, step: str, reason: str, code: int) -> dict[str, Any]:
    """Describe what failed; an empty participant stands for the group or a whole dataset."""
    return {
        "participant": participant,
        "stage": stage,
        "step": step,
        "reason": reason,
        "exit_code": int(code),
    }
