"""Step detect: find the landmarks of a whole image, and how far they are from those given."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from stages.transfer import detection, figures, landmarks, provenance
from stages.transfer.models import load_model, read_card
from stages.transfer.pairing import pair
from stages.transfer.tables import write_rows
from stages.transfer.tasks import LANDMARK, parse_source
from stages.transfer.volumes import prepare

logger = logging.getLogger(__name__)


def run(
    *,
    image: str | None,
    models: list[str],
    cards: list[str],
    annotations: list[str],
    points: str,
    slicer: str,
    figure: str,
    detector: str,
    ct_low: float,
    ct_high: float,
    seed: int,
) -> None:
    """Write the landmarks found, in RAS mm; nothing where no landmark network is trained.

    Raises
    ------
    ValueError
        The detector asked for does not exist, or nothing is recognised in the image.
    """
    name = choose_detector([Path(path).parent.name for path in cards], detector)
    if image is None or name is None:
        logger.info("no network trained on landmarks yet; run level group first")
        return
    card_path = next(path for path in cards if Path(path).parent.name == name)
    model = next(path for path in models if Path(path).parent.name == name)
    card = read_card(card_path)
    net, _ = load_model(model, card_path)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    names = card["Classes"][:-1]
    volume = prepare(image, card["Input"]["SpacingMm"], (ct_low, ct_high))
    shape = np.array([card["Landmarks"][n] for n in names])
    try:
        detected = detection.detect(volume, net, shape, card["Input"]["Size"])
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from error
    found = detection.as_points(detected, names, volume)
    truth: landmarks.Points = {}
    for files in pair([image], _about_image(image, annotations)).values():
        for file in files:
            truth |= landmarks.read_points(file)
    errors = detection.measure_errors(found, truth)
    who = Path(image).name.partition("_")[0]
    part = "train" if f"bids::{who}" in card["TrainingParticipants"] else "test"
    write_rows(
        points,
        [
            {
                "name": n,
                **dict(zip("xyz", map(float, found[n]), strict=True)),
                "probability": float(detected.probabilities[k]),
                "error_mm": errors.get(n),
                "participant_id": who,
                "part": part,
                "detector": name,
            }
            for k, n in enumerate(names)
        ],
    )
    Path(slicer).write_text(landmarks.format_fcsv(found), encoding="utf-8")
    origin = provenance.join(
        [card["Provenance"], provenance.SYNTHETIC if provenance.is_synthetic(image) else "real"]
    )
    known = [n for n in names if n in truth]
    given = volume.to_voxels(np.array([truth[n] for n in known])) if known else None
    title = f"{Path(image).name}: {len(names)} landmarks"
    if errors:
        title += f", mean error {np.mean(list(errors.values())):.1f} mm ({part})"
    figures.draw_points(Path(figure), volume.data, detected.points, given, title, origin)
    logger.info("%s", title)


def choose_detector(sources: list[str], wanted: str) -> str | None:
    """Choose the network that detects: the one named, or that of the most landmarks.

    Raises
    ------
    ValueError
        The one named does not exist or is no landmark network.
    """
    marks = [name for name in sources if parse_source(name).name == LANDMARK]
    if wanted and sources and wanted not in marks:
        raise ValueError(
            f"detector {wanted!r} is no network trained on landmarks; there are"
            f" {', '.join(marks) or 'none'}"
        )
    if wanted in marks:
        return wanted
    return max(marks, key=lambda name: parse_source(name).landmarks) if marks else None


def _about_image(image: str, annotations: list[str]) -> list[str]:
    """Leave out annotations that name other entities than the image's (another session's, say)."""
    kept = []
    for path in annotations:
        try:
            pair([image], [path])
        except ValueError:
            continue
        kept.append(path)
    return kept
