"""Penalties on kernels, added to the loss as Keras does it: not on biases, not on normalisation.

    l1: λ Σ|w|      l2: λ Σw²      l1l2: λ Σ(|w| + w²)

Explicit and not Adam's decay, which scales with the step size of each weight (Loshchilov & Hutter
2019). Behind batch normalisation a kernel's scale has no effect on the output, so there the penalty
changes the effective learning rate and little else.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

KERNELS = (nn.Conv2d, nn.Conv3d, nn.Linear)
PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda w: w.abs().sum(),
    "l2": lambda w: w.square().sum(),
    "l1l2": lambda w: w.abs().sum() + w.square().sum(),
}


def parse_penalty(text: str) -> tuple[str, float]:
    """Read ``KIND@STRENGTH``.

    >>> parse_penalty("l2@0.001")
    ('l2', 0.001)

    Raises
    ------
    ValueError
        Another form.
    """
    kind, _, strength = text.partition("@")
    try:
        value = float(strength)
    except ValueError:
        value = -1.0
    if kind not in PENALTIES or value < 0:
        raise ValueError(f"penalty {text!r}: expected l1, l2 or l1l2 @ strength, such as l2@0.001")
    return kind, value


def penalise(network: nn.Module, kind: str, strength: float) -> Tensor:
    """Sum the penalty over all kernels, scalar."""
    kernels = [m.weight for m in network.modules() if isinstance(m, KERNELS)]
    return strength * torch.stack([PENALTIES[kind](kernel) for kernel in kernels]).sum()
