"""Places of the template that every head has: their names, and where they lie in a phantom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bids_app.demo.phantom import Phantom

#: Template coordinates, RAS mm; of the paired ones the right one, the left is its mirror image.
MIDDLE = {
    "anteriorCommissure": (0, 3, -5),
    "posteriorCommissure": (0, -25, -2),
    "genu": (0, 29, 4),
    "splenium": (0, -37, 12),
    "pons": (0, -26, -34),
    "vermis": (0, -62, -22),
    "precuneus": (0, -62, 40),
    "medialFrontal": (0, 44, 32),
}
PAIRED = {
    "frontalPole": (26, 60, 6),
    "handKnob": (36, -24, 58),
    "insula": (38, 6, 0),
    "caudateHead": (13, 14, 8),
    "thalamus": (11, -18, 8),
    "hippocampusHead": (26, -14, -20),
    "temporalPole": (40, 14, -34),
    "occipitalPole": (16, -96, -2),
    "cerebellum": (26, -62, -38),
    "frontalHorn": (16, 30, 6),
    "trigone": (26, -44, 10),
    "angularGyrus": (48, -60, 32),
}
TEMPLATE_MM = {name: tuple(map(float, at)) for name, at in MIDDLE.items()} | {
    f"{side}{name[0].upper()}{name[1:]}": (sign * x, float(y), float(z))
    for name, (x, y, z) in PAIRED.items()
    for side, sign in (("right", 1.0), ("left", -1.0))
}


def find_landmarks(phantom: Phantom) -> dict[str, NDArray[np.float64]]:
    """Find where each landmark lies in a phantom's world, mm.

    Solves to_template(w) = p by fixed-point iteration; the warp is small beside its smoothness.
    """
    wanted = np.array(list(TEMPLATE_MM.values())).T
    back = np.linalg.inv(phantom.world_to_template)
    guess = back[:3, :3] @ wanted + back[:3, 3:]
    for _ in range(20):
        guess = guess + back[:3, :3] @ (wanted - phantom.to_template(guess))
    return dict(zip(TEMPLATE_MM, guess.T, strict=True))
