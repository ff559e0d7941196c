"""Step explain: map which voxels a judgement of one image rests on."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.classifier import figures
from stages.classifier.cohort import BY_VOXELS, participant_of
from stages.classifier.explanation import METHODS, randomised_similarity
from stages.classifier.images import (
    PLANES,
    Array,
    Grid,
    check_fits,
    conform,
    fingerprint,
    save_map,
)
from stages.classifier.models import choose_models
from stages.classifier.portable import read_program
from stages.classifier.program import Member
from stages.classifier.scans import find_scans, load_scan

logger = logging.getLogger(__name__)


def run(
    *,
    scan: str,
    harmonized: list[str],
    registered: list[str],
    own: list[str],
    fractions: list[str],
    alignments: list[str],
    models: list[str],
    gradcam: str,
    smoothgrad: str,
    integrated: str,
    occlusion: str,
    mosaic: str,
    target: str,
    arm: str,
    explained: str,
    methods: list[str],
    seed: int,
) -> None:
    """Write one map per method on the image's grid, and a figure; nothing without a model.

    Maps are of the predicted class's logit (of the years for a quantity), averaged over the models
    that have not seen the person.
    """
    scans = find_scans([*harmonized, *registered, *own, *fractions], alignments, arm)
    if not scans:
        return
    name = scans[0].name
    volume = load_scan(scans[0], arm)
    digest, who = fingerprint(volume.data), participant_of(name)
    chosen = [
        (file, card)
        for file, card in choose_models(models, who, digest, arm)
        if card["Target"] == target and card["Network"] == explained
    ]
    if not chosen:
        logger.info("%s: no model %s for %s that may judge it", name, explained, target)
        return
    targets = {
        "gradcam": gradcam,
        "smoothgrad": smoothgrad,
        "integrated": integrated,
        "occlusion": occlusion,
    }
    layout = Grid.from_json(chosen[0][1]["Grid"])
    check_fits(volume, layout, scans[0].channels[0], by_voxels=arm in BY_VOXELS)
    image = torch.from_numpy(conform(volume.data, layout))[None]
    members: list[Member] = []
    outputs = []
    for file, _ in chosen:
        program, _ = read_program(file)
        members += [m for m in program.members if isinstance(m, Member)]
        scaled = program.scale(image)
        with torch.no_grad():
            outputs.append(program(image)[0])
    output = torch.stack(outputs).mean(dim=0)
    classes = chosen[0][1]["Classes"]
    index = int(output.argmax()) if classes else 0
    said = classes[index] if classes else f"{float(output[0]):.1f}"
    drawn: dict[str, Array] = {}
    for method in methods:
        try:
            single = [METHODS[method](m, scaled, index) for m in members]
        except ValueError as error:
            logger.info("%s: %s", method, error)
            continue
        found = np.mean([maps[0] for maps in single], axis=0)
        similarity = randomised_similarity(method, members[0], scaled, index, single[0], seed=seed)
        expanded = expand(found, layout)
        save_map(targets[method], expanded, volume.affine)
        about: dict[str, Any] = {
            "Description": f"{method} of {target} by {explained}, for {said}",
            "Models": [card["Name"] for _, card in chosen],
            "Predicted": said,
            "RandomisedSimilarity": None if np.isnan(similarity) else round(similarity, 3),
            "Provenance": chosen[0][1].get("Provenance", "n/a"),
        }
        path = Path(targets[method])
        path.with_name(path.name.partition(".")[0] + ".json").write_text(json.dumps(about))
        drawn[f"{method} (random weights: r {similarity:.2f})"] = expanded
    if drawn:
        title = f"{name}: {target} {said} by {explained}"
        figures.draw_maps(
            volume.data[0], drawn, title, chosen[0][1].get("Provenance", ""), Path(mosaic)
        )


def expand(found: Array, layout: Grid) -> Array:
    """Put a map of the model's grid back on the source's grid by repeating voxels; 0 outside."""
    if layout.plane:
        axis = PLANES[layout.plane]
        whole = np.zeros([n // b for n, b in zip(layout.shape, layout.blocks, strict=True)], "f4")
        place: list[Any] = [slice(None)] * 3
        place[axis] = layout.index
        whole[tuple(place)] = found
        found = whole
    for axis, block in enumerate(layout.blocks):
        found = np.repeat(found, block, axis=axis)
    full = np.zeros(layout.shape, dtype=np.float32)
    place = [slice(o, o + n) for o, n in zip(layout.offset, found.shape, strict=True)]
    full[tuple(place)] = found
    return full
