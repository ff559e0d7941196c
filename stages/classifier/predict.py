"""Step predict: judge one person's images by the model files alone."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.classifier.calibration import Bias, correct_gap
from stages.classifier.cohort import BY_VOXELS, participant_of
from stages.classifier.images import Grid, check_fits, conform, fingerprint
from stages.classifier.models import choose_models, has_seen
from stages.classifier.portable import Judge, read_card
from stages.classifier.reading import read_output
from stages.classifier.scans import Scan, find_scans, load_scan
from stages.classifier.tables import number, read_people, write_rows

logger = logging.getLogger(__name__)


def run(
    *,
    scan: str,
    participants: str | None,
    harmonized: list[str],
    registered: list[str],
    own: list[str],
    fractions: list[str],
    alignments: list[str],
    models: list[str],
    model: str | None,
    predictions: str,
    arm: list[str],
    seed: int,
) -> None:
    """Write one row per image and model; nothing without models or images of their arms.

    Raises
    ------
    ValueError
        A model or an image that must be refused: damaged, another version, space or voxel size.
    """
    files = [*harmonized, *registered, *own, *fractions]
    people = read_people(participants) if participants else {}
    rows: list[dict[str, Any]] = []
    given = [read_card(Path(model))["Arm"]] if model else []
    for name in dict.fromkeys([*given, *arm]):
        for found in find_scans(files, alignments, name):
            person = people.get(participant_of(found.name), {})
            rows += judge_image(found, models, model, name, person)
    if model and not find_scans(files, alignments, given[0]):
        raise ValueError(
            f"{Path(scan).name}: no image of arm {given[0]}, which {model} was trained on; run"
            " preprocessing and harmonization as its card says"
        )
    if rows:
        write_rows(predictions, rows)
        about = {"Description": "Judgements by models that have not seen this participant."}
        sidecar = Path(predictions).with_suffix(".json")
        sidecar.write_text(json.dumps(about), encoding="utf-8")
    else:
        logger.warning("%s: no model for it; run level group first", Path(scan).name)


def judge_image(
    scan: Scan, models: list[str], model: str | None, arm: str, person: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Judge one image by every model that may, and by the one that was given."""
    volume = load_scan(scan, arm)
    digest, who = fingerprint(volume.data), participant_of(scan.name)
    chosen = choose_models(models, who, digest, arm)
    if model and (given := read_card(Path(model)))["Arm"] == arm:
        chosen.append((Path(model), given))
    rows: list[dict[str, Any]] = []
    for file, card in chosen:
        layout = Grid.from_json(card["Grid"])
        check_fits(volume, layout, scan.channels[0], by_voxels=arm in BY_VOXELS)
        output = Judge(file)(conform(volume.data, layout)[None])[0]
        found = read_output(output, {"Classes": card["Classes"]}, temperature=card["Temperature"])
        row: dict[str, Any] = {
            "filename": scan.name,
            "target": card["Target"],
            "arm": arm,
            "network": card["Network"],
            "model": card["Name"],
            "was_seen": has_seen(card, who, digest),
            "predicted": found.pop("predicted"),
        }
        if "Bias" in card:
            true = number(person.get(card["Column"], "n/a"))
            bias = Bias(card["Bias"]["Intercept"], card["Bias"]["Slope"])
            row["gap"] = row["predicted"] - true
            years = np.array([row["predicted"]])
            row["gap_corrected"] = float(correct_gap(np.array([true]), years, bias)[0])
        rows.append({**row, **found, "provenance": card.get("Provenance", "n/a")})
    return rows
