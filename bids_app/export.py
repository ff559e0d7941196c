"""Specs and command line → the files that people's launchers read.

`Boutiques <https://boutiques.github.io>`_ describes a command line as JSON; Nipoppy wants a folder
with such a description, an invocation and what to track; BABS wants one YAML file.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

import specs
from bids_app import __version__
from bids_app.cli import build_parser
from bids_app.errors import Exit
from bids_app.hpc import TIME_FACTOR, TIME_MARGIN_MINUTES
from specs import Spec
from specs.entities import build_path
from specs.schema import LEVELS, Param, Resources

IMAGE = f"brainstages:{__version__}"
SUMMARY = "From a BIDS dataset of brain scans to derivatives, models and reports."
# The command line's own converters → what Boutiques calls such values.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "_count": {"type": "Number", "integer": True, "minimum": 1},
    "_count_or_none": {"type": "Number", "integer": True, "minimum": 0},
    "float": {"type": "Number"},
    "int": {"type": "Number", "integer": True},
}
FILES = ("bids_dir", "bids_filter_file", "config_file", "plugin_file")  # must be there already
NO_INPUTS = ("help", "version", "bids_exec_spec")


def boutiques() -> dict[str, Any]:
    """Describe the command line, the options of all stages included, for Boutiques."""
    inputs = list(_inputs())
    positional = [item["value-key"] for item in inputs if "command-line-flag" not in item]
    optional = [item["value-key"] for item in inputs if "command-line-flag" in item]
    need = _largest([spec for spec in map(specs.load, specs.names())])
    return {
        "name": "brainstages",
        "description": SUMMARY,
        "tool-version": __version__,
        "schema-version": "0.5",
        "command-line": " ".join(["brainstages", *positional, *optional]),
        "container-image": {"type": "docker", "image": IMAGE},
        "inputs": inputs,
        "output-files": [
            {
                "id": "out",
                "name": "Derivatives",
                "description": "One BIDS-derivatives dataset per stage, and a start page.",
                "path-template": "[OUT_DIR]",
            }
        ],
        "error-codes": [
            {"code": int(code), "description": code.name.replace("_", " ").lower()}
            for code in Exit
            if code is not Exit.OK
        ],
        "suggested-resources": {
            "cpu-cores": need.cpus,
            "ram": need.memory_gb,
            "disk-space": max(1.0, need.disk_mb / 1000),
            "walltime-estimate": round(60 * need.minutes),
        },
        "tags": {"domain": ["neuroinformatics", "mri"], "bids": ["bids-app"]},
    }


def nipoppy(stages: Sequence[Spec]) -> dict[str, str]:
    """Write a Nipoppy processing pipeline: file name → text."""
    invocation = {
        "bids_dir": "[[NIPOPPY_DPATH_BIDS]]",
        "out_dir": "[[NIPOPPY_DPATH_PIPELINE_OUTPUT]]",
        "levels": ["participant"],
        "participant_label": ["[[NIPOPPY_PARTICIPANT_ID]]"],
        "session_label": ["[[NIPOPPY_SESSION_ID]]"],
        "stages": [spec.name for spec in stages],
        "work_dir": "[[NIPOPPY_DPATH_PIPELINE_WORK]]",
        "skip_bids_validation": True,
    }
    config = {
        "NAME": "brainstages",
        "VERSION": __version__,
        "PIPELINE_TYPE": "processing",
        "SCHEMA_VERSION": "1",
        "CONTAINER_INFO": {
            "FILE": "[[NIPOPPY_DPATH_CONTAINERS]]/[[PIPELINE_NAME]]_[[PIPELINE_VERSION]].sif",
            "URI": "docker://[[PIPELINE_NAME]]:[[PIPELINE_VERSION]]",
        },
        "STEPS": [
            {
                "INVOCATION_FILE": "invocation.json",
                "DESCRIPTOR_FILE": "descriptor.json",
                "TRACKER_CONFIG_FILE": "tracker.json",
            }
        ],
    }
    person, session = "[[NIPOPPY_BIDS_PARTICIPANT_ID]]", "[[NIPOPPY_BIDS_SESSION_ID]]"
    tracker = {
        "SCHEMA_VERSION": "1",
        "PATHS": [path.replace("sub-X_ses-Y_", f"{person}_{session}*").replace("sub-X", person)
                  .replace("ses-Y", session) for path in _promised(stages)],
        "PARTICIPANT_SESSION_DIR": f"*/{person}/{session}",
    }  # fmt: skip
    contents = {
        "config.json": config,
        "descriptor.json": boutiques(),
        "invocation.json": invocation,
        "tracker.json": tracker,
    }
    return {name: json.dumps(content, indent=4) + "\n" for name, content in contents.items()}


def babs(stages: Sequence[Spec]) -> dict[str, str]:
    """Write BABS's settings for running on a DataLad dataset: file name → text.

    What only the user can know is marked FIX ME.
    """
    need = _largest(stages)
    minutes = round(need.minutes * TIME_FACTOR + TIME_MARGIN_MINUTES)
    config = {
        "bids_app_args": {
            "$SUBJECT_SELECTION_FLAG": "--participant-label",
            "--stages": " ".join(spec.name for spec in stages),
            "-w": "$BABS_TMPDIR",
            "--nprocs": str(need.cpus),
            "--mem-gb": f"{need.memory_gb:g}",
            "--skip-bids-validation": "",
        },
        "singularity_args": ["--containall", "--cleanenv"],
        "all_results_in_one_zip": True,
        "zip_foldernames": {
            "CREATE_ROOT_OUTPUT_DIR": "true",
            "brainstages": __version__.replace(".", "-"),
        },
        "cluster_resources": {
            "interpreting_shell": "/bin/bash",
            "hard_runtime_limit": f"{minutes // 60}:{minutes % 60:02d}:00",
            "customized_text": f"#SBATCH --cpus-per-task={need.cpus}\n"
            f"#SBATCH --mem={need.memory_gb + 0.5:g}G\n#SBATCH --partition=FIXME\n",
        },
        "script_preamble": "# FIX ME: what makes datalad and apptainer available on a node\n",
        "job_compute_space": "FIX ME: a scratch folder of the nodes",
        "alert_log_messages": {"stdout": ["failed", "exit 75", "Traceback"]},
    }
    return {"brainstages.yaml": yaml.safe_dump(config, sort_keys=False)}


def stages_of_raw_data(names: Sequence[str]) -> list[Spec]:
    """Load the named stages; by default those that need nothing but a raw dataset."""
    if names:
        return [specs.load(name) for name in names]
    loaded = map(specs.load, specs.names())
    return [spec for spec in loaded if spec.sources <= {"raw", "option", spec.name}]


def _inputs() -> Iterator[dict[str, Any]]:
    """Describe each argument and option, the stages' from their specs."""
    seen: set[str] = set(NO_INPUTS)
    for action in build_parser()._actions:
        if action.dest in seen or "." in action.dest:
            continue  # --mem-gb says the same as --mem
        seen.add(action.dest)
        if isinstance(action, argparse.BooleanOptionalAction):
            for flag in action.option_strings:
                yield _item(flag.lstrip("-").replace("-", "_"), action.help, flag, {"type": "Flag"})
            continue
        long = [flag for flag in action.option_strings if flag.startswith("--")]
        flag = long[0] if long else ""
        if action.nargs == 0:
            yield _item(action.dest, action.help, flag, {"type": "Flag"})
        else:
            kind = dict(KINDS.get(getattr(action.type, "__name__", ""), {"type": "String"}))
            if action.dest in FILES:
                kind = {"type": "File"}
            if action.choices:
                kind["value-choices"] = list(action.choices)
            if action.dest == "levels":
                kind["value-choices"] = list(LEVELS)
            if action.nargs == "+":
                kind["list"] = True
            yield _item(action.dest, action.help, flag, kind)
    for name in specs.names():
        for param in specs.load(name).params.values():
            flag = f"--{name}-{param.name.replace('_', '-')}"
            help_text = f"{param.help} (default: {param.default})"
            if param.type == "bool":
                for way in (flag, flag.replace("--", "--no-", 1)):
                    key = way.lstrip("-").replace("-", "_")
                    yield _item(key, help_text, way, {"type": "Flag"})
            else:
                yield _item(f"{name}_{param.name}", help_text, flag, _kind(param))


def _kind(param: Param) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "String" if param.type == "str" else "Number"}
    if param.type == "int":
        kind["integer"] = True
    if param.choices:
        kind["value-choices"] = list(param.choices)
    kind |= {"minimum": param.min} if param.min is not None else {}
    kind |= {"maximum": param.max} if param.max is not None else {}
    kind |= {"list": True} if param.many else {}
    return kind


def _item(key: str, text: str | None, flag: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    item = {
        "id": key,
        "name": key.replace("_", " "),
        "description": (text or key).replace("%%", "%"),
        "value-key": f"[{key.upper()}]",
        **kind,
    }
    return {**item, "optional": True, "command-line-flag": flag} if flag else item


def _promised(stages: Sequence[Spec]) -> list[str]:
    """List the files that each session of each participant gets, for ``sub-X`` and ``ses-Y``."""
    paths = []
    for spec in stages:
        for step in spec.steps.values():
            if step.level != "participant" or set(step.over) - set(step.entities_over):
                continue
            for output in step.outputs.values():
                if output.bids and not output.optional and "figures" not in output.bids.values():
                    path = build_path({"sub": "X", "ses": "Y", **output.bids})
                    paths.append(f"brainstages-{spec.name}/{path}")
    return paths


def _largest(stages: Sequence[Spec]) -> Resources:
    """Take the largest need of any step, and the time of all of them."""
    needs = [step.resources for spec in stages for step in spec.steps.values()]
    return Resources(
        cpus=max(need.cpus for need in needs),
        memory_gb=max(need.memory_gb for need in needs),
        gpus=max(need.gpus for need in needs),
        minutes=sum(need.minutes for need in needs),
        disk_mb=sum(need.disk_mb for need in needs),
    )


EXPORTS = {
    "boutiques": lambda stages: {"brainstages.json": json.dumps(boutiques(), indent=4) + "\n"},
    "nipoppy": nipoppy,
    "babs": babs,
}
