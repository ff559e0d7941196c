"""What leaves this stage: scaling of intensities, networks and their heads in one module."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.classifier.networks import build

SCALINGS = ("standardise", "none")
EPSILON = 1e-6


def standardise(images: Tensor) -> Tensor:
    """Give the voxels that are not 0 mean 0 and variance 1, image by image; 0 stays 0.

    Parameters
    ----------
    images : tensor, (B, C, …)
    """
    dims = tuple(range(1, images.ndim))
    inside = (images != 0).to(images.dtype)
    count = inside.sum(dims, keepdim=True).clamp(min=1)
    centred = (images - images.sum(dims, keepdim=True) / count) * inside
    variance = centred.square().sum(dims, keepdim=True) / count
    return centred / (variance + EPSILON * (variance + EPSILON)).sqrt()


class Head(nn.Module):
    """Raw scores → logits, or years.

    Classes: as they are. A quantity: scale · score + centre, or, with several bins, the mean of
    their centres weighted by softmax (Peng et al. 2021).
    """

    scale: Tensor
    centres: Tensor

    def __init__(self, *, is_quantity: bool, bins: int = 1) -> None:
        super().__init__()
        self.is_quantity, self.bins = is_quantity, bins
        if is_quantity:
            self.register_buffer("scale", torch.ones(()))
            self.register_buffer("centres", torch.zeros(bins))

    def forward(self, scores: Tensor) -> Tensor:
        """Turn scores, (B, k), into outputs, (B, classes) or (B, 1)."""
        if not self.is_quantity:
            return scores
        if self.bins > 1:
            return (scores.softmax(dim=1) * self.centres).sum(dim=1, keepdim=True)
        return scores * self.scale + self.centres


class Member(nn.Module):
    """One network and its head."""

    def __init__(self, network: nn.Module, head: Head) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, x: Tensor) -> Tensor:
        """Score scaled images."""
        return self.head(self.network(x))


class Program(nn.Module):
    """Scale images and average what the members say; the graph that is exported.

    ``architecture`` is all that is needed to build it again around stored weights; its option
    ``channels`` is 1 where it is not given.
    """

    def __init__(self, members: Sequence[Member], architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.architecture = dict(architecture)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image with its channels, (C, …)."""
        return self.architecture["options"].get("channels", 1), *self.architecture["shape"]

    def scale(self, images: Tensor) -> Tensor:
        """Scale intensities, image by image."""
        return standardise(images) if self.architecture["scaling"] == "standardise" else images

    def forward(self, image: Tensor) -> Tensor:
        """Score raw images, (B, C, …) → logits (B, classes) or years (B, 1)."""
        x = self.scale(image)
        return torch.stack([member(x) for member in self.members]).mean(dim=0)


def build_member(
    name: str,
    shape: Sequence[int],
    *,
    classes: int,
    bins: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Member:
    """Build an untrained network with its head; ``classes`` is 0 for a quantity."""
    is_quantity = classes == 0
    network = build(name, shape, bins if is_quantity else classes, **(options or {}))
    return Member(network, Head(is_quantity=is_quantity, bins=bins))


def build_program(architecture: Mapping[str, Any]) -> Program:
    """Build the modules that an architecture describes, with random weights."""
    members = [
        build_member(
            architecture["network"],
            architecture["shape"],
            classes=architecture["classes"],
            bins=architecture["bins"],
            options=architecture["options"],
        )
        for _ in range(architecture["members"])
    ]
    return Program(members, architecture)


def set_years(head: Head, years: Tensor) -> None:
    """Let a quantity's head speak in the units of the training values, (n,)."""
    if head.bins == 1:
        head.scale.copy_(years.std(correction=0).clamp(min=1e-3))
        head.centres.copy_(years.mean().expand(1))
        return
    low, high = float(years.min()), float(years.max())
    margin = max(5.0, 0.1 * (high - low))
    head.centres.copy_(torch.linspace(low - margin, high + margin, head.bins))


def soft_labels(years: Tensor, centres: Tensor, *, width: float = 1.0) -> Tensor:
    """Spread quantities over bins by a Gaussian of ``width`` bins, (B,) → (B, bins), sums 1."""
    step = float(centres[1] - centres[0])
    distance = (years[:, None] - centres) / (width * step)
    weight = torch.exp(-0.5 * distance.square()) / math.sqrt(2 * math.pi)
    return weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
