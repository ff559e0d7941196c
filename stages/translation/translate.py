"""Step translate: bring one image to one domain and back, on its own grid."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from stages.translation import checkpoint, evaluation, figures, volumes
from stages.translation.grids import PLANES, axes_of, gather, scatter
from stages.translation.intensities import find_scale, from_network, to_network
from stages.translation.tables import participant_of, read_rows

logger = logging.getLogger(__name__)


def run(
    *,
    image: str | None,
    probseg: str | None,
    brain: str | None,
    cohort: str,
    weights: str,
    card: str,
    translated: str,
    cycle: str,
    difference: str,
    figure: str,
    content: str,
    domains: str,
    seed: int,
) -> None:
    """Write the translation towards one domain, the way back, and what changed.

    Participants outside both domains are translated too, from neither: they are taken for members
    of the other domain. The difference is computed on the networks' grid, interpolated to the
    image's own, and added to the image, so that nothing is blurred where nothing changes.

    Raises
    ------
    ValueError
        An image on another grid than the training images', or constant.
    """
    path = {"gm": image, "gmfraction": probseg, "brain": brain}[content]
    if path is None:
        raise FileNotFoundError(
            f"content {content}: this scan has no such image; run preprocessing with profile mni-gm"
        )
    about = checkpoint.read_card(Path(card))
    if about["Content"] != content:
        raise ValueError(
            f"{card}: trained on content {about['Content']}, asked for {content}; use one of them"
            " for all steps"
        )
    if domains not in about["Domains"]:
        raise ValueError(
            f"{card}: translates between {' and '.join(about['Domains'])}, not to {domains}; name"
            " the domains as in training"
        )
    networks = checkpoint.load_generators(Path(weights), about)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for network in networks.values():
        network.to(device)
    names = ("G", "F") if domains == about["Domains"][1] else ("F", "G")
    there, back = (networks[name] for name in names)
    volume = volumes.load(path)
    volumes.check_same_grid(
        path, volume, about["Source"]["Shape"], np.array(about["Source"]["Affine"])
    )
    grid, axes = checkpoint.grid_of(about), axes_of(volume.data.shape, volume.affine)
    scale = find_scale(volume.data, path)
    before = gather(to_network(volume.data, scale) + 1, axes, grid) - 1
    after = evaluation.apply(there, before)
    returned = evaluation.apply(back, after)
    change, error = (
        from_network(scatter(made - before, grid, axes), scale) for made in (after, returned)
    )
    origin = _find_origin(cohort, path)
    note: dict[str, object] = {
        "Synthetic": True,
        "TranslatedTo": domains,
        "Origin": origin,
        "SkullStripped": True,
        "ScaleOfRange": scale,
        "Plane": grid.plane,
    }
    if grid.dims == 2:
        note["SlicesMm"] = grid.axes[PLANES[grid.plane]].centres.tolist()
    for target, data in (
        (translated, np.maximum(volume.data + change, 0)),
        (cycle, np.maximum(volume.data + error, 0)),
        (difference, change),
    ):
        volumes.save(target, data, volume.affine)
        volumes.describe(target, note)
    title = f"{participant_of(path)}: {origin} to {domains}"
    figures.draw_translation(Path(figure), before, after, returned, grid, title)


def _find_origin(cohort: str, path: str) -> str:
    """Say which domain a participant is of, in the cohort or outside of it."""
    for row in read_rows(cohort):
        if row["participant_id"] == participant_of(path):
            return row["classes"]
    return "neither"
