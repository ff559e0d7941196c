"""Step features: describe every candidate by a frozen network."""

from __future__ import annotations

import logging

import numpy as np
import torch

from stages.transfer.files import read_cases, write
from stages.transfer.models import load_model
from stages.transfer.network import apply

logger = logging.getLogger(__name__)


def run(
    *,
    candidates: list[str],
    model: str,
    card: str,
    features: str,
    source: str,
    layer: str,
    seed: int,
) -> None:
    """Write the features of all candidates of all participants, in the order of their files.

    Raises
    ------
    ValueError
        Patches of another size than the network's, or weights that are not the card's.
    """
    net, about = load_model(model, card)
    cases = read_cases(candidates)
    size = about["Input"]["Size"]
    if cases.patches.shape[-1] != size:
        raise ValueError(
            f"candidates have patches of {cases.patches.shape[-1]} pixels, {about['Name']} takes"
            f" {size}; run step vessels again with --transfer-patch-size {size}"
        )
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    found = apply(net, cases.patches, layer)
    dead = int((np.ptp(found, axis=0) == 0).sum())
    logger.info("%s: %s, %d of them constant", source, found.shape, dead)
    write(features, {"features": found}, {"source": source, "layer": layer, "constant": dead})
