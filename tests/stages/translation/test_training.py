"""Training stops and goes on, diverges loudly, and does what its options say."""

import dataclasses

import numpy as np
import pytest
import torch

from stages.translation import checkpoint, training
from stages.translation.cyclegan import Pool
from stages.translation.training import Samples, Settings, train
from tests.stages.translation import straightforward
from tests.stages.translation.test_cyclegan import small_networks

SETTINGS = Settings(
    epochs=2,
    decay_epochs=2,
    batch_size=2,
    learning_rate=0.001,
    cycle_weight=10.0,
    identity_weight=0.5,
    pool_size=3,
    augment=True,
    precision="float32",
    seed=0,
)


def draw(n, seed):
    rng = np.random.default_rng(seed)
    waves = np.sin(np.linspace(0, 6, 16))[:, None] * np.cos(np.linspace(0, seed * 3, 16))
    images = rng.uniform(0.5, 1, (n, 1, 1, 1)) * waves + rng.normal(0, 0.05, (n, 1, 16, 16))
    return Samples(images.astype(np.float32), np.arange(n) % 2)


def weights(nets):
    return torch.cat([p.detach().flatten() for n in nets.named().values() for p in n.parameters()])


def run(path, settings=SETTINGS, **options):
    nets = small_networks()
    losses = train(nets, draw(5, 1), draw(7, 2), settings, state_path=path, identity="", **options)
    return nets, losses


class Stop(Exception):
    pass


def test_going_on_gives_the_same_numbers_as_not_stopping(tmp_path):
    whole, losses = run(tmp_path / "a.pt")

    def stop(epoch, _):
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path / "b.pt", on_epoch=stop)
    resumed, again = run(tmp_path / "b.pt")
    assert torch.equal(weights(whole), weights(resumed))
    assert losses == again and len(losses) == 4


def test_a_state_of_other_settings_is_not_taken_up(tmp_path):
    run(tmp_path / "a.pt")
    seen = []
    other = dataclasses.replace(SETTINGS, cycle_weight=1.0)
    run(tmp_path / "a.pt", other, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == [1, 2, 3, 4]


def test_diverging_losses_stop_with_the_last_good_state(tmp_path, monkeypatch):
    real, calls = training._step, []

    def step(*args):
        terms = real(*args)
        calls.append(1)
        if len(calls) > 4:  # an epoch has four batches
            terms["cycle_X"] = torch.tensor(float("nan"))
        return terms

    monkeypatch.setattr(training, "_step", step)
    with pytest.raises(ValueError, match=r"diverged in epoch 2 \(cycle_X.*after epoch 1 is kept"):
        run(tmp_path / "a.pt")
    assert len(torch.load(tmp_path / "a.pt", weights_only=True)["losses"]) == 1


def test_a_file_that_is_no_state_is_named(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a\.pt: no training state.*delete it"):
        checkpoint.load_state(tmp_path / "a.pt", "")


@pytest.mark.parametrize("change", [{"augment": False}, {"identity_weight": 0.0}, {"pool_size": 0}])
def test_options_have_an_effect(tmp_path, change):
    default, _ = run(tmp_path / "a.pt")
    changed, _ = run(tmp_path / "b.pt", dataclasses.replace(SETTINGS, **change))
    assert not torch.equal(weights(default), weights(changed))


def test_half_precision_stays_close(tmp_path):
    _, default = run(tmp_path / "a.pt")
    nets, losses = run(tmp_path / "b.pt", dataclasses.replace(SETTINGS, precision="bfloat16"))
    assert all(p.dtype == torch.float32 for p in nets.G.parameters())
    assert losses[0]["cycle_X"] == pytest.approx(default[0]["cycle_X"], rel=0.05)


def test_partners_show_the_same_slice():
    x, y = draw(6, 1), draw(9, 2)
    batches = training._batches(x, y, 2, np.random.default_rng(0))
    rows_x = np.concatenate([b[0] for b in batches])
    rows_y = np.concatenate([b[1] for b in batches])
    assert len(rows_x) == 9 and set(rows_x) == set(range(6))
    assert (x.places[rows_x] == y.places[rows_y]).all()


def test_a_step_has_the_gradients_of_separate_passes_through_plain_layers():
    x, y = (torch.from_numpy(draw(3, seed).images).double() for seed in (1, 2))
    gradients = []
    for step in (training._step, straightforward.step):
        nets = small_networks()
        for network in nets.named().values():
            network.double()
            if step is straightforward.step:
                straightforward.make_plain(network)
        optimisers = [
            torch.optim.SGD([p for network in group for p in network.parameters()], 1e-3)
            for group in (nets.generators, nets.discriminators)
        ]
        pools, rng = [Pool(2), Pool(2)], np.random.default_rng(0)
        for _ in range(3):  # pools are full from the second on
            step(nets, optimisers, pools, x, y, SETTINGS, rng)
        gradients.append([p.grad for n in nets.named().values() for p in n.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_losses_fall(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=15, decay_epochs=0, augment=False)
    _, losses = run(tmp_path / "a.pt", settings)
    assert losses[-1]["cycle_X"] < 0.7 * losses[0]["cycle_X"]
