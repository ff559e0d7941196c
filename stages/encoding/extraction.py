"""Features of frames: any layer of a network, or what the eye sees first (luminance, motion).

A feature space is named ``network`` or ``network+layer``, where ``+`` stands for the dots of the
layer's name in the network: ``resnet50+layer3+5`` is ``layer3.5``.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.encoding.images import to_tensor

DEFAULT_LAYERS = {"vgg16": "classifier.4", "resnet50": "avgpool", "autoencoder": "encoder.avgpool"}
ALIASES = {
    ("vgg16", "fc6"): "classifier.1",
    ("vgg16", "fc7"): "classifier.4",
    ("vgg16", "fc8"): "classifier.6",
    ("vgg16", "fc6raw"): "classifier.0",
    ("vgg16", "fc7raw"): "classifier.3",
}
GRIDS = (1, 2, 4, 8)  # patches per side at which luminance and motion are measured


def resolve_layer(network: nn.Module, model: str) -> str:
    """Find the module that a feature space names.

    Raises
    ------
    ValueError
        No such layer: lists the network's layers.

    >>> resolve_layer(nn.Sequential(nn.ReLU()), "toy+0")
    '0'
    """
    name, _, layer = model.partition("+")
    layer = layer.replace("+", ".") if layer else DEFAULT_LAYERS[name]
    layer = ALIASES.get((name, layer), layer)
    known = [module for module, _ in network.named_modules() if module]
    if layer not in known:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(layer, known, 3))
        listed = ", ".join(m.replace(".", "+") for m in known if m.count(".") < 2)
        hint = f" (near: {near})" if near else ""
        raise ValueError(f"{model!r}: {name} has no layer {layer!r}{hint}; layers: {listed}")
    return layer


def extract(
    network: nn.Module, layer: str, frames: NDArray[np.uint8], *, map_grid: int
) -> NDArray[np.float32]:
    """Run frames through a network and keep one layer's output.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    layer : str
        Name of a module.
    frames : array, (B, 224, 224, 3), uint8
    map_grid : int
        Layers that are maps are averaged over this many patches per side.

    Returns
    -------
    features : array, (B, features), float32
        Of a map, channels × patches.
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        # A copy: rectifiers that follow may work in place.
        kept.append(output.detach().clone())

    handle = network.get_submodule(layer).register_forward_hook(keep)
    device = next(network.parameters()).device
    try:
        with torch.inference_mode():
            network(to_tensor(frames).to(device))
    finally:
        handle.remove()
    output = kept[0]
    if output.ndim == 4 and output.shape[2] > map_grid:
        output = nn.functional.adaptive_avg_pool2d(output, map_grid)
    return output.flatten(1).float().cpu().numpy()


def luminance(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Mean and deviation of brightness in patches of 1, 2, 4 and 8 per side, (frames, 170)."""
    return np.stack([_patches(_brightness(frame)) for frame in frames])


def motion(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Absolute change of brightness since the frame before, in the same patches, (frames, 170).

    The first frame has changed from nothing: 0. A cut shows as change everywhere.
    """
    rows, before = [], None
    for frame in frames:
        now = _brightness(frame)
        rows.append(_patches(np.abs(now - (now if before is None else before))))
        before = now
    return np.stack(rows)


def _brightness(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    # Relative luminance of Rec. 709, on 0–1, the display's gamma undone.
    linear = (frame.astype(np.float32) / 255) ** 2.2
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32))


def _patches(values: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = []
    for grid in GRIDS:
        step = len(values) // grid
        cells = values[: step * grid, : step * grid].reshape(grid, step, grid, step)
        parts += [cells.mean((1, 3)).ravel(), cells.std((1, 3)).ravel()]
    return np.concatenate(parts)
