"""A finished job's scratch folder → the stage's dataset: files, sidecars, rows of shared tables.

Only this module puts results under their final names. The job's record is written last, so a job
that was cut off half-way runs again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bids_app import files, resume
from specs import Spec
from specs.job import Job
from specs.schema import Output

FIGURES = "figures"


def sink(
    job: Job,
    spec: Spec,
    folder: Path,
    result: Mapping[str, Any],
    digest: str,
    *,
    roots: Mapping[str, Path],
) -> None:
    """Move what a job wrote into its stage's dataset.

    Parameters
    ----------
    folder
        The job's scratch folder, one subfolder per output.
    result
        What the stage process reported (``result.json``).
    digest
        Hash of what determined the outputs, taken before the job ran.
    roots
        Folders of the datasets by source; the stage's own is written to.
    """
    root = roots[job.stage]
    local = job.into(folder)
    provenance = {
        "Sources": [bids_uri(path, job.stage, roots) for path in job.input_paths],
        "Parameters": _parameters(job, spec),
        "Seed": job.seed,
        "LibraryVersions": {f"brainstages {job.stage}": job.version, **result["software"]},
        "ContentHash": digest,
    }
    written: list[str] = []
    for name, output in spec.steps[job.step].outputs.items():
        source, target = Path(local.outputs[name]), Path(job.outputs[name])
        if not source.exists():
            continue  # optional: the step would have failed otherwise
        if output.table:
            files.merge_table(target, files.read_table(source), key=output.key, root=root)
        else:
            sidecar = _sidecar(output, source, provenance)
            if sidecar is not None:
                path = _sidecar_path(target)
                files.write_json(sidecar, path, root=root)
                written.append(str(path.relative_to(root)))
            files.place(source, target, root=root)
        written.append(str(target.relative_to(root)))
    record = {
        "hash": digest,
        "outputs": written,
        "seconds": result["seconds"],
        "peak_memory_gb": result["peak_memory_gb"],
        **provenance,
    }
    resume.write_record(job, root, record)


def bids_uri(path: str, stage: str, roots: Mapping[str, Path]) -> str:
    """Name a file by dataset and path inside it, ``bids:<dataset>:<path>``.

    Files of no dataset (weights, say) are given by their name alone, since a path of this machine
    means nothing elsewhere.
    """
    for source, root in sorted(roots.items(), key=lambda item: -len(str(item[1]))):
        if path.startswith(f"{root}/"):
            return f"bids:{'' if source == stage else source}:{path[len(str(root)) + 1 :]}"
    return Path(path).name


def _sidecar(output: Output, source: Path, provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """Join what the spec says, what the step found out, and where the file comes from.

    Figures and files outside the naming scheme have no sidecar; a JSON file needs none.
    """
    if not output.bids or output.bids.get("datatype") == FIGURES or source.suffix == ".json":
        return None
    found = _sidecar_path(source)
    dynamic = json.loads(found.read_text(encoding="utf-8")) if found.is_file() else {}
    return {**output.metadata, **dynamic, **provenance}


def _sidecar_path(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0] + ".json")


def _parameters(job: Job, spec: Spec) -> dict[str, Any]:
    """List a job's parameters; those with a unit as value and unit."""
    units = {name: param.unit for name, param in spec.steps[job.step].params.items()}
    return {
        name: {"Value": value, "Units": units[name]} if units[name] else value
        for name, value in job.params.items()
    }
