"""Weights that the user gives, loaded strictly; without them networks stay random, and say so."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from stages.encoding import resnet50, vgg16
from stages.encoding.provenance import RANDOM

NETWORKS: dict[str, tuple[type[nn.Module], int]] = {
    "vgg16": (vgg16.VGG16, vgg16.PARAMETERS),
    "resnet50": (resnet50.ResNet50, resnet50.PARAMETERS),
}


def build_network(name: str, weights: Path | None, *, seed: int) -> tuple[nn.Module, str]:
    """Build a network, load its weights, and say where they are from.

    Parameters
    ----------
    name : str
        ``vgg16`` or ``resnet50``.
    weights : Path or None
        State dict as torchvision writes it (.pth, .pt) or .safetensors; None: random weights.
    seed : int
        Of random weights.

    Returns
    -------
    network : nn.Module
        In evaluation mode.
    origin : str
        ``random-weights``, or the file's name and the begin of its SHA-256.

    Raises
    ------
    ValueError
        The file is no state dict of this network: names what is missing, unknown or of another
        shape.
    """
    kind, parameters = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind()
    count = sum(p.numel() for p in network.parameters())
    if count != parameters:
        raise RuntimeError(f"{name} has {count} parameters, expected {parameters}")
    origin = RANDOM
    if weights is not None:
        _load(network, name, weights)
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        origin = f"{weights.name} sha256:{digest[:16]}"
    return network.eval(), origin


def _load(network: nn.Module, name: str, path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        try:
            # weights_only: what is read are tensors; a file cannot run code.
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises several kinds for a file it cannot read
            raise ValueError(f"{path}: not a file of weights: {error}") from error
    wanted = network.state_dict()
    if not isinstance(state, dict):
        raise ValueError(f"{path}: found {type(state).__name__}, expected a state dict of {name}")
    missing = [key for key in wanted if key not in state]
    # Files from before 2018 lack the counters of batch normalisation, which nothing here reads.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in wanted]
    other = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    if missing or unknown or other:
        told = "; ".join(
            f"{len(keys)} {what}: {', '.join(map(str, keys[:3]))}"
            for what, keys in (
                ("missing", missing),
                ("unknown", unknown),
                ("of another shape", other),
            )
            if keys
        )
        raise ValueError(
            f"{path}: these are not torchvision's weights of {name} ({told}); give the file for"
            f" {name}, such as {name}-….pth"
        )
    network.load_state_dict({**wanted, **state}, strict=True)
