"""Which voxels a judgement rests on; a dict of methods, each (module, images, index) → map.

Grad-CAM shows what the last convolutions hold, on their coarse grid; gradients show what the
output is sensitive to, voxel by voxel; occlusion shows what the output loses. None alone is
evidence: a map that stays the same when the weights are random (``randomised_similarity``) shows
the image and not the model (Adebayo et al. 2018).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from stages.classifier.program import Member

Array = NDArray[np.float32]
SMOOTHING_SAMPLES, SMOOTHING_NOISE = 16, 0.15
PATH_STEPS = 16
OCCLUSION_SIDE = 0.15  # of the longest side


def find_layer(network: nn.Module, shape: Sequence[int]) -> str:
    """Name the layer whose map Grad-CAM weighs: the last one that still has places.

    Of the layers whose output is a map, the last with at least four places along the longest side;
    in a network with very small input, the last with more than one. ``shape`` is (C, …).

    Raises
    ------
    ValueError
        A network without maps, such as the linear one: its weights are their own explanation.
    """
    sides: dict[str, int] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            hooks.append(
                module.register_forward_hook(
                    lambda _m, _i, output, name=name: sides.__setitem__(name, max(output.shape[2:]))
                )
            )
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    for least in (4, 2):
        fitting = [name for name, side in sides.items() if side >= least]
        if fitting:
            return fitting[-1]
    raise ValueError("no layer with a map: Grad-CAM needs convolutions; take another method")


def keep_values(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave a map as it is.

    MONAI's default normaliser turns maps upside down (largest becomes 0), so it is always replaced.
    """
    return maps


def gradcam(member: Member, images: Tensor, index: int) -> Array:
    """Grad-CAM by MONAI (Selvaraju et al. 2017), (n, C, …) → (n, …), ≥ 0, on the images' grid."""
    from monai.visualize import GradCAM

    layer = find_layer(member.network, images.shape[1:])
    network = copy.deepcopy(member).eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # hooks see what the layer gave, not what came after
    with torch.enable_grad():
        cam = GradCAM(network, f"network.{layer}", postprocessing=keep_values)
        found = [cam(image[None], class_idx=index) for image in images]
    return np.maximum(np.concatenate([_numpy(f) for f in found])[:, 0], 0)


def gradients(member: Member, images: Tensor, index: int) -> Tensor:
    """Differentiate an output by the images, (n, C, …) → the same shape."""
    inputs = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(member.eval()(inputs)[:, index].sum(), inputs)
    return found.detach()


def smoothgrad(member: Member, images: Tensor, index: int) -> Array:
    """Mean size of the gradient over noisy copies (Smilkov et al. 2017), summed over channels."""
    generator = torch.Generator().manual_seed(0)
    dims = tuple(range(1, images.ndim))
    spread = images.amax(dims, keepdim=True) - images.amin(dims, keepdim=True)
    total = torch.zeros_like(images)
    for _ in range(SMOOTHING_SAMPLES):
        noise = torch.randn(images.shape, generator=generator) * SMOOTHING_NOISE * spread
        total += gradients(member, images + noise, index).abs()
    return _numpy(total / SMOOTHING_SAMPLES).sum(axis=1)


def integrated(member: Member, images: Tensor, index: int) -> Array:
    """Integrate gradients from an empty image to the image (Sundararajan et al. 2017), signed.

    Summed over voxels it is the output's difference between the two, but for the steps' coarseness
    (Gauss-Legendre points).
    """
    points, weights = np.polynomial.legendre.leggauss(PATH_STEPS)
    total = torch.zeros_like(images)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        total += float(weight) * gradients(member, images * float(point), index)
    return _numpy(total * images).sum(axis=1)


@torch.no_grad()
def occlusion(member: Member, images: Tensor, index: int) -> Array:
    """Loss of the output when a block of the image is 0 in all channels, spread over the block."""
    shape = images.shape[2:]
    side = max(1, round(OCCLUSION_SIDE * max(shape)))
    member.eval()
    whole = member(images)[:, index]
    found = torch.zeros_like(images)
    for corner in np.ndindex(*[-(-size // side) for size in shape]):
        place = (slice(None), slice(None), *(slice(c * side, (c + 1) * side) for c in corner))
        hidden = images.clone()
        hidden[place] = 0
        if torch.equal(hidden, images):
            continue  # empty already
        lost = whole - member(hidden)[:, index]
        found[place] = lost.reshape(-1, *[1] * (images.ndim - 1))
    return _numpy(found)[:, 0]


METHODS: dict[str, Callable[[Member, Tensor, int], Array]] = {
    "gradcam": gradcam,
    "smoothgrad": smoothgrad,
    "integrated": integrated,
    "occlusion": occlusion,
}


def randomised_similarity(
    method: str, member: Member, images: Tensor, index: int, own: Array, *, seed: int
) -> float:
    """Correlate maps with those of the same network with random weights, by ranks inside the head.

    Near 0 is as it should be; near 1 means that the method shows edges of the image.
    """
    other = copy.deepcopy(member)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in other.modules():
            if hasattr(module, "reset_parameters"):
                cast(Any, module).reset_parameters()
    maps = METHODS[method](other, images, index)
    inside = (_numpy(images) != 0).any(axis=1)
    if not inside.any() or np.ptp(own[inside]) == 0 or np.ptp(maps[inside]) == 0:
        return float("nan")
    return float(stats.spearmanr(own[inside], maps[inside]).statistic)


def mass_inside(found: Array, mask: NDArray[np.bool_], head: NDArray[np.bool_]) -> float:
    """Say how much denser a map is inside a mask than in the head on average; 1 is chance."""
    weight = np.abs(found) * head
    share = float(weight[mask & head].sum() / max(float(weight.sum()), 1e-12))
    return share / float((mask & head).sum() / head.sum())


def _numpy(values: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float32)
