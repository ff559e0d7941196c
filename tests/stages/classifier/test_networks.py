"""Networks, penalties, heads and programs."""

import numpy as np
import pytest
import torch

from stages.classifier.data import Data
from stages.classifier.networks import NETWORKS, build
from stages.classifier.penalties import parse_penalty, penalise
from stages.classifier.program import (
    Head,
    build_member,
    build_program,
    set_years,
    soft_labels,
    standardise,
)
from stages.classifier.training import score, settle_statistics

SMALL = [name for name in NETWORKS if name not in ("densenet121", "resnet10", "resnet18")]


def count(network):
    return sum(p.numel() for p in network.parameters())


def architecture(**given):
    usual = {"network": "bn", "shape": [16, 16, 16], "classes": 2, "bins": 1, "options": {}}
    return {**usual, "members": 1, "scaling": "standardise", **given}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(16, 17, 15), (16, 18)])
def test_small_networks_work_on_small_images(name, shape):
    network = build(name, shape, 3)
    assert network(torch.randn(2, 1, *shape)).shape == (2, 3)


def test_parameters_are_those_published():
    assert count(build("sfcn", (64, 64, 64), 40)) == 2_952_936
    assert count(build("densenet121", (32, 32, 32), 2)) == 11_244_674


def test_monais_networks_say_what_they_need():
    with pytest.raises(ValueError, match=r"densenet121: images of 16x16x16.*at least 32"):
        build("densenet121", (16, 16, 16), 2)


def test_the_variants_differ_in_normalisation_alone():
    kinds = {n: [type(m).__name__ for m in build(n, (16,) * 3, 2).modules()] for n in ("ori", "bn")}
    assert kinds["bn"].count("BatchNorm3d") == kinds["ori"].count("Conv3d") == 8
    assert [k for k in kinds["bn"] if k != "BatchNorm3d"] == kinds["ori"]
    after = kinds["bn"].index("Conv3d")
    assert kinds["bn"][after + 1 : after + 3] == ["BatchNorm3d", "ReLU"]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_pooling_before_relu_is_relu_before_pooling(norm):
    """Pooling first is cheaper; outputs and gradients are those of the usual order."""
    torch.manual_seed(0)
    network = build("ori", (12, 10, 8), 2, norm=norm, widths=[4, 6]).double()
    usual = list(network.features)
    for index, layer in enumerate(network.features):
        if isinstance(layer, torch.nn.MaxPool3d):
            usual[index : index + 2] = [usual[index + 1], layer]
    assert [type(a) for a in usual] != [type(a) for a in network.features]
    image = torch.randn(3, 1, 12, 10, 8, dtype=torch.float64)
    found = []
    for module in (network, torch.nn.Sequential(*usual, network.head)):
        network.zero_grad()
        outputs = module(image)
        outputs.square().sum().backward()
        found.append([outputs.detach(), *(p.grad.clone() for p in network.parameters())])
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(*found, strict=True))


def test_penalties_equal_hand_computed_values():
    network = torch.nn.Sequential(
        torch.nn.Conv3d(1, 1, 1), torch.nn.BatchNorm3d(1), torch.nn.Linear(2, 1)
    )
    with torch.no_grad():
        network[0].weight.fill_(-3.0)
        network[0].bias.fill_(100.0)
        network[2].weight.copy_(torch.tensor([[1.0, -2.0]]))
    found = {k: penalise(network, k, 0.1).item() for k in ("l1", "l2", "l1l2")}
    by_hand = {"l1": 0.1 * (3 + 1 + 2), "l2": 0.1 * (9 + 1 + 4), "l1l2": 0.1 * (6 + 14)}
    assert found == pytest.approx(by_hand)
    assert parse_penalty("l1l2@1e-3") == ("l1l2", 1e-3)
    for text in ("l3@1", "l2", "l2@-1"):
        with pytest.raises(ValueError, match="expected l1, l2 or l1l2"):
            parse_penalty(text)


def test_standardising_leaves_outside_alone_and_undoes_any_scale():
    image = torch.rand(2, 1, 8, 8, 8) + 0.5
    image[:, :, :2] = 0
    found = standardise(image)
    inside = found[0][image[0] != 0]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-5)
    assert float(inside.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert (found[:, :, :2] == 0).all()
    moved = torch.where(image != 0, 900 * image + 40, 0)
    assert torch.allclose(standardise(moved), found, atol=1e-4)
    assert torch.equal(standardise(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, 4, 4))


def test_a_program_is_the_mean_of_its_members():
    program = build_program(architecture(members=3)).eval()
    image = torch.rand(2, 1, 16, 16, 16)
    single = [member(standardise(image)) for member in program.members]
    assert torch.allclose(program(image), sum(single) / 3, atol=1e-6)


def test_quantities_come_out_in_their_own_units():
    head = Head(is_quantity=True)
    set_years(head, torch.tensor([30.0, 70.0]))
    assert head(torch.tensor([[0.0], [1.0]])).flatten().tolist() == pytest.approx([50.0, 70.0])
    alone = Head(is_quantity=True)
    set_years(alone, torch.tensor([44.0]))  # one person has no spread
    assert torch.isfinite(alone(torch.tensor([[1.0]]))).all()
    bins = Head(is_quantity=True, bins=41)
    set_years(bins, torch.tensor([20.0, 80.0]))
    wanted = torch.tensor([33.0, 61.5])
    logits = soft_labels(wanted, bins.centres).clamp(min=1e-12).log()
    assert torch.allclose(bins(logits)[:, 0], wanted, atol=0.05)
    assert torch.allclose(soft_labels(wanted, bins.centres).sum(dim=1), torch.ones(2))


def test_training_and_evaluation_mode_agree_once_statistics_are_settled():
    """Small batches and few steps leave the running means behind; settled, both modes agree."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(5, 3, size=(16, 1, 24, 24, 24)).astype(np.float32)
    data = Data(images, torch.arange(16) % 2, lambda x: x)
    rows = np.arange(16)
    member = build_member("bn", (24, 24, 24), classes=2)
    whole = torch.from_numpy(images)
    with torch.no_grad():
        as_trained = member.train()(whole)
        fresh = build_member("bn", (24, 24, 24), classes=2)
        fresh.load_state_dict(member.state_dict())
        settle_statistics(fresh, data, rows, 16)
        settled = score(fresh.network, data, rows, 16)
        stale = build_member("bn", (24, 24, 24), classes=2).eval()
        stale.load_state_dict({k: v for k, v in member.state_dict().items()})
        far = score(stale.network, data, rows, 16)
    # All in one batch: statistics of the batch are statistics of the data, but for n / (n - 1).
    assert float((settled - as_trained).abs().max()) < 0.01
    assert float((far - as_trained).abs().max()) > 0.1
