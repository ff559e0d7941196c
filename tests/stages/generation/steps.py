"""Calling the steps as the orchestrator does, on made-up people; defaults come from the spec."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

import specs
from stages.generation.slices import write_slice
from tests.stages.calls import make_arguments
from tests.stages.generation import toy

SPEC = specs.load("generation")
NAMES = {
    "group": ["AD", "CN"],
    "rule": ["diagnosis=AD", "diagnosis=CN"],
    "word": ["AD", "CN"],
    "prompt": ["{word}, a MRI brain"],
}
QUICK = {
    "size": 32,
    "width": 16,
    "steps": 30,
    "batch_size": 8,
    "grids": 1,
    "sampling_steps": 4,
    "image": ["001", "002", "003"],
    "evaluation_size": 40,
    "judge_epochs": 4,
    "redraws": 100,
}


def call(step: str, folder: Path, *, seed: int = 0, **given: Any) -> dict[str, Path]:
    """Run a step into ``folder``; return its outputs by name."""
    described = SPEC.steps[step]
    inputs, params = make_arguments(described, given)
    outputs = {}
    for name, output in described.outputs.items():
        stem = Path(output.path or output.table).name or "_".join(
            [f"{k}-{v}" for k, v in output.bids.items() if k in ("sub", "desc")]
            + [output.bids["suffix"] + output.bids["extension"]]
        )
        outputs[name] = folder / name / stem.format_map(params)
        outputs[name].parent.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"stages.generation.{step}")
    module.run(**inputs, **{k: str(v) for k, v in outputs.items()}, **params, seed=seed)
    return outputs


def write_people(root: Path, counts: dict[str, int], *, seed: int = 0) -> dict[str, Any]:
    """Write a dataset of made-up people that says so; return prepare's inputs."""
    slices, groups = toy.draw_people(counts, seed)
    root.mkdir(parents=True, exist_ok=True)
    lines, paths = ["participant_id\tdiagnosis\tage"], []
    for number, (pixels, group) in enumerate(zip(slices, groups, strict=True)):
        name = f"sub-{number:03d}"
        paths.append(root / f"{name}_space-upright_desc-coronalMid_T1w.nii.gz")
        write_slice(str(paths[-1]), pixels)
        lines.append(f"{name}\t{group}\t{50 + number % 30}")
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    about = {"Name": "toys", "GeneratedBy": [{"Name": "phantom"}]}
    (root / "dataset_description.json").write_text(json.dumps(about))
    return {"images": paths, "participants": root / "participants.tsv"}


def run_all(
    folder: Path, people: dict[str, Any], *, base: Path | None = None, seed: int = 0, **given: Any
) -> dict[str, Any]:
    """Run prepare, finetune and sample for every condition, and evaluate; outputs by step."""
    given = NAMES | QUICK | given

    def some(step: str) -> dict[str, Any]:
        return {k: v for k, v in given.items() if k in SPEC.steps[step].params}

    done: dict[str, Any] = {}
    done["prepare"] = call(
        "prepare", folder / "prepare", seed=seed, base=base, **people, **some("prepare")
    )
    made = done["prepare"]
    for condition in given.get("condition", ["full"]):
        own = {"prompts": made["prompts"], "base": base, "seed": seed}
        tuned = call(
            "finetune",
            folder / "models" / condition,
            cohort=made["cohort"],
            stack=made["stack"],
            brains=_there(made["volumes"]),
            **own,
            **(some("finetune") | {"condition": condition}),
        )
        drawn = call(
            "sample",
            folder / "samples" / condition,
            weights=tuned["weights"],
            card=tuned["card"],
            **own,
            **(some("sample") | {"condition": condition}),
        )
        # the orchestrator puts both files of one condition into one folder
        for name in ("table", "volumes"):
            if drawn[name].exists():
                drawn[name] = drawn[name].rename(drawn["samples"].parent / drawn[name].name)
        done[condition] = tuned | drawn
    conditions = [done[c] for c in given.get("condition", ["full"])]
    done["evaluate"] = call(
        "evaluate",
        folder / "evaluate",
        seed=seed,
        cohort=made["cohort"],
        stack=made["stack"],
        audited=made["verdict"],
        samples=[c["samples"] for c in conditions],
        tables=[c["table"] for c in conditions],
        cards=[c["card"] for c in conditions],
        brains=_there(made["volumes"]),
        volumes=[c["volumes"] for c in conditions if c["volumes"].exists()],
        decoded=[c["decoded"] for c in conditions if c["decoded"].exists()],
        **some("evaluate"),
    )
    return done


def _there(path: Path) -> Path | None:
    """Give an optional output as the orchestrator does: nothing where it was not written."""
    return path if path.exists() else None


def share_right(scores: np.ndarray, group: int) -> float:
    """Give the share of rows whose largest score is the group's."""
    return float((scores.argmax(1) == group).mean())
