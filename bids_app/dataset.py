"""Files that belong to a whole derivative dataset: description, participants, labels."""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_app import __version__, files
from bids_app.layout import RAW, STAGE_PREFIX
from bids_app.sink import FIGURES
from specs import Spec

BIDS_VERSION = "1.10.0"
# What the specification has no name for yet, and what is not data.
BIDSIGNORE = """\
*.html
logs
models
plans
**/figures
*_xfm.*
*_T1wmap.*
*_angiomap.*
*_boldmap.*
*_predictions.*
*_metrics.*
*_points.*
"""


def write_dataset_files(
    spec: Spec,
    roots: Mapping[str, Path],
    raw_description: Mapping[str, Any],
    container: Mapping[str, str],
) -> None:
    """Write what makes a folder a BIDS-derivatives dataset.

    ``container`` is what BIDS wants to know of the image that the stage ran in; empty for none.
    """
    root = roots[spec.name]
    description: dict[str, Any] = {
        "Name": f"brainstages {spec.name}: {spec.summary}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "brainstages",
                "Version": __version__,
                "Description": f"Stage {spec.name}, version {spec.version}",
                **({"Container": dict(container)} if container else {}),
            }
        ],
        "DatasetLinks": _links(spec, roots, raw_description),
        "HowToAcknowledge": "See logs/*/CITATION.md beside this dataset.",
    }
    if "DatasetDOI" in raw_description:
        description["SourceDatasets"] = [{"DOI": raw_description["DatasetDOI"]}]
    if "License" in raw_description:
        description["License"] = raw_description["License"]
    with files.locked(root):
        files.write_json(description, root / "dataset_description.json", root=root)
        files.write_text(BIDSIGNORE, root / ".bidsignore", root=root)
        files.write_text(_readme(spec), root / "README.md", root=root)
    labels = _descriptions(spec)
    if labels:
        files.merge_table(root / "descriptions.tsv", labels, key="desc_id", root=root)


def copy_participants(participants: Sequence[str], source: Path, root: Path) -> None:
    """Take the participants' rows (age, sex, …) from the raw dataset over to a derivative.

    A participant without a row gets one with nothing but the name.
    """
    rows = {
        row.get("participant_id", ""): row for row in files.read_table(source / "participants.tsv")
    }
    chosen = [
        {**rows.get(f"sub-{label}", {}), "participant_id": f"sub-{label}"}
        for label in participants
        if (root / f"sub-{label}").is_dir()
    ]
    if chosen:
        files.merge_table(root / "participants.tsv", chosen, key="participant_id", root=root)
    dictionary = source / "participants.json"
    if chosen and dictionary.is_file():
        path = root / "participants.json"
        with files.locked(root):
            files.write_json({**_dictionary(dictionary), **_dictionary(path)}, path, root=root)


def _dictionary(path: Path) -> dict[str, Any]:
    """Read what columns mean; one that is not there or damaged is empty and stops nobody."""
    try:
        found = files.read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _descriptions(spec: Spec) -> list[dict[str, str]]:
    """Explain each ``desc-`` label, as BIDS asks of derivatives.

    A label made from a parameter has a row for each of the parameter's choices.
    """
    labels: dict[str, str] = {}
    for step in spec.steps.values():
        listed = {name: p.choices or tuple(p.default) for name, p in step.params.items() if p.many}
        for output in step.outputs.values():
            if "desc" in output.bids and output.bids.get("datatype") != FIGURES:
                used = [name for name in listed if "{" + name + "}" in output.bids["desc"]]
                for values in itertools.product(*(listed[name] for name in used)):
                    given = dict(zip(used, values, strict=True))
                    text = str(output.metadata.get("Description", output.help))
                    told = "; ".join(f"{name} {value}" for name, value in given.items())
                    label = output.bids["desc"].format_map(given)
                    labels[label] = f"{text} ({told})" if told else text
    return [{"desc_id": f"desc-{label}", "description": text} for label, text in labels.items()]


def _links(
    spec: Spec, roots: Mapping[str, Path], raw_description: Mapping[str, Any]
) -> dict[str, str]:
    """Say where the datasets are that ``bids:<name>:`` in Sources speaks of.

    A DOI where there is one; else a path relative to the dataset, which stays right when all of it
    moves and tells nothing of this machine.
    """
    links = {}
    for source in sorted(spec.sources & roots.keys()):
        doi = str(raw_description.get("DatasetDOI", "")) if source == RAW else ""
        if doi:
            links[source] = doi
        elif source != spec.name:
            links[source] = os.path.relpath(roots[source], roots[spec.name])
    return links


def _readme(spec: Spec) -> str:
    steps = "\n".join(f"- **{step.name}**: {step.summary}" for step in spec.steps.values())
    return (
        f"# {STAGE_PREFIX}{spec.name}\n\n{spec.summary}\n\nWritten by brainstages in these steps:"
        f"\n\n{steps}\n\nEach image's JSON sidecar tells its sources, parameters and seed;"
        " descriptions.tsv explains the desc- labels; sub-*.html shows each participant.\n"
    )
