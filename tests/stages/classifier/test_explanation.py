"""Maps against captum's, against known answers, and against networks with random weights."""

import captum.attr as captum
import numpy as np
import pytest
import torch
from torch import nn

from stages.classifier import explanation
from stages.classifier.program import Head, Member, build_member

SIDE = 12
CUBE = (slice(7, 10), slice(2, 5), slice(7, 10))


class Finder(nn.Module):
    """Sees only how bright places are: the second output is the sum of what is above 2."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 1, 1), nn.ReLU())
        with torch.no_grad():
            self.features[0].weight.fill_(1.0)
            self.features[0].bias.fill_(-2.0)

    def forward(self, x):
        found = self.features(x).sum(dim=(1, 2, 3, 4))
        return torch.stack([-found, found], dim=1)


def finder():
    return Member(Finder(), Head(is_quantity=False)).eval()


def cube_image():
    image = torch.rand(1, 1, SIDE, SIDE, SIDE) + 0.5
    image[(0, 0, *CUBE)] += 3.0
    return image


def random_member(seed=0):
    torch.manual_seed(seed)
    member = build_member("ori", (SIDE,) * 3, classes=2, options={"widths": (4, 8)}).eval()
    for module in member.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return member


@pytest.mark.parametrize("method", list(explanation.METHODS))
def test_the_planted_cube_is_where_the_maximum_is(method):
    image = cube_image()
    found = np.abs(explanation.METHODS[method](finder(), image, 1)[0])
    mask = np.zeros(found.shape, bool)
    mask[CUBE] = True
    if method != "occlusion":
        assert mask[np.unravel_index(found.argmax(), found.shape)]
    assert explanation.mass_inside(found, mask, np.ones_like(mask)) > 3


def test_monais_default_would_put_the_minimum_there():
    from monai.visualize import GradCAM

    image = cube_image()
    theirs = GradCAM(finder(), "network.features.0")(image, class_idx=1)[0, 0]
    ours = explanation.gradcam(finder(), image, 1)[0]
    assert theirs[CUBE].mean() < np.delete(theirs.ravel(), 0).mean()
    assert ours[CUBE].mean() > 10 * ours.mean() / 2


def test_gradcam_is_captums():
    member, images = random_member(), torch.rand(2, 1, SIDE, SIDE, SIDE)
    name = explanation.find_layer(member.network, (1, SIDE, SIDE, SIDE))
    layer = dict(member.network.named_modules())[name]
    ours = explanation.gradcam(member, images, 1)
    theirs = captum.LayerGradCam(member, layer).attribute(images, target=1, relu_attributions=True)
    theirs = nn.functional.interpolate(theirs, size=(SIDE,) * 3, mode="trilinear")
    assert theirs.max().item() > 0
    assert np.allclose(ours, theirs.detach().numpy()[:, 0], rtol=1e-4, atol=1e-7)


def test_integrated_gradients_are_captums_and_complete():
    member, images = random_member(), torch.rand(2, 1, SIDE, SIDE, SIDE)
    ours = explanation.integrated(member, images, 1)
    theirs = captum.IntegratedGradients(member).attribute(
        images, target=1, n_steps=explanation.PATH_STEPS, method="gausslegendre"
    )
    assert np.allclose(ours, theirs.detach().numpy()[:, 0], atol=1e-5)
    with torch.no_grad():
        difference = (member(images) - member(torch.zeros_like(images)))[:, 1].numpy()
    assert np.allclose(ours.sum(axis=(1, 2, 3)), difference, rtol=0.1, atol=1e-3)


def test_occlusion_is_captums():
    member, images = random_member(), torch.rand(2, 1, SIDE, SIDE, SIDE)
    side = round(explanation.OCCLUSION_SIDE * SIDE)
    ours = explanation.occlusion(member, images, 0)
    theirs = captum.Occlusion(member).attribute(
        images, (1, side, side, side), strides=(1, side, side, side), target=0
    )
    assert np.allclose(ours, theirs.detach().numpy()[:, 0], atol=1e-5)


def test_gradients_are_finite_differences():
    member, image = random_member(), torch.rand(1, 1, SIDE, SIDE, SIDE)
    found = explanation.gradients(member.double(), image.double(), 1)[0, 0]
    step = torch.zeros_like(image, dtype=torch.float64)
    step[0, 0, 5, 6, 7] = 1e-5
    with torch.no_grad():
        difference = member(image.double() + step) - member(image.double() - step)
    assert float(found[5, 6, 7]) == pytest.approx(float(difference[0, 1]) / 2e-5, rel=1e-4)


def test_maps_of_random_weights_are_told_from_maps_that_show_the_image():
    member, image = random_member(), torch.rand(1, 1, SIDE, SIDE, SIDE) + 0.1
    own = explanation.smoothgrad(member, image, 1)
    found = explanation.randomised_similarity("smoothgrad", member, image, 1, own, seed=9)
    assert abs(found) < 0.5
    same = explanation.randomised_similarity("smoothgrad", finder(), image, 1, own, seed=9)
    assert np.isnan(same) or abs(same) <= 1


def test_a_network_without_maps_has_no_gradcam():
    member = build_member("linear", (SIDE,) * 3, classes=2)
    with pytest.raises(ValueError, match="no layer with a map"):
        explanation.gradcam(member, torch.rand(1, 1, SIDE, SIDE, SIDE), 1)


def test_chance_mass_is_one():
    head = np.ones((10, 10, 10), bool)
    mask = np.zeros_like(head)
    mask[:5] = True
    assert explanation.mass_inside(np.ones(head.shape, "f4"), mask, head) == pytest.approx(1.0)
