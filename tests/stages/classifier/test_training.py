"""The loop: resuming, choosing, what options do."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.classifier import training
from stages.classifier.checkpoint import load_state
from stages.classifier.data import Data, batches
from stages.classifier.losses import make_loss
from stages.classifier.program import build_member, standardise
from stages.classifier.training import Recipe, fit, learning_rate

RECIPE = Recipe(epochs=4, batch_size=4, learning_rate=0.01, augment="light", may_flip=True)


def toy(n=20, side=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.normal(1, 0.3, size=(n, side, side, side)).astype(np.float32)
    images[labels == 1, 2:5, 2:5, 2:5] += 0.7
    return Data(images[:, None], torch.from_numpy(labels), standardise)


def train(state, recipe=RECIPE, *, data=None, name="gn", seed=3, **sizes):
    data = toy() if data is None else data
    torch.manual_seed(11)
    classes = 0 if data.is_quantity else 2
    member = build_member(name, data.images.shape[2:], classes=classes, **sizes)
    rows = np.arange(len(data.images))
    return fit(member, data, rows[:14], rows[14:], recipe, seed=seed, state=state)


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


@pytest.mark.parametrize(("name", "keep"), [("gn", "best"), ("bn", "last")])
def test_two_and_two_epochs_equal_four(tmp_path, name, keep):
    recipe = replace(RECIPE, keep=keep)
    whole = train(tmp_path / "whole", recipe, name=name)
    half = train(tmp_path / "half", replace(recipe, epochs=2), name=name)
    assert len(half.history) == 2
    rest = train(tmp_path / "half", recipe, name=name)
    assert rest.history == whole.history
    assert same(rest.member.state_dict(), whole.member.state_dict())


def test_the_seed_decides_everything(tmp_path):
    a, b = train(tmp_path / "a"), train(tmp_path / "b")
    other = train(tmp_path / "c", seed=4)
    assert same(a.member.state_dict(), b.member.state_dict())
    assert not same(a.member.state_dict(), other.member.state_dict())


KILLED = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from stages.classifier import training
from tests.stages.classifier.test_training import train
if len(sys.argv) > 2:
    step = torch.optim.AdamW.step
    count = 0
    def slow(self, *a, **k):
        global count
        count += 1
        if count == 10:  # in the middle of the third epoch
            Path(sys.argv[2]).write_text("now")
            time.sleep(60)
        return step(self, *a, **k)
    torch.optim.AdamW.step = slow
found = train(Path(sys.argv[1]))
print(found.history[-1]["validation_loss"].hex(), found.kept_epoch)
"""


def test_killed_in_mid_epoch_and_run_again_gives_the_same_numbers(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    state, sign = tmp_path / "state", tmp_path / "sign"
    command = [sys.executable, str(script), str(state)]
    process = subprocess.Popen([*command, str(sign)], env=environment)
    deadline = time.monotonic() + 120
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(load_state(state)[1]["history"]) == 2
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    torch.set_num_threads(1)
    whole = train(tmp_path / "whole")
    expected = f"{whole.history[-1]['validation_loss'].hex()} {whole.kept_epoch}"
    assert again.stdout.strip() == expected


def test_the_epoch_with_the_least_validation_loss_is_kept(tmp_path):
    found = train(tmp_path / "a", replace(RECIPE, epochs=6, learning_rate=0.03))
    losses = [row["validation_loss"] for row in found.history]
    assert found.kept_epoch == int(np.argmin(losses)) and found.loss == min(losses)
    last = train(tmp_path / "b", replace(RECIPE, epochs=6, learning_rate=0.03, keep="last"))
    assert last.kept_epoch == 5


def test_training_stops_when_patience_ends(tmp_path):
    found = train(tmp_path / "a", replace(RECIPE, epochs=30, learning_rate=0.0, patience=3))
    assert len(found.history) == 4 and found.kept_epoch == 0


def test_a_planted_difference_is_learnt(tmp_path):
    recipe = replace(RECIPE, epochs=10, augment="none")
    found = train(tmp_path / "a", recipe, name="bn")
    assert max(row["validation_accuracy"] for row in found.history) == 1.0


@pytest.mark.parametrize("bins", [1, 20])
def test_quantities_are_learnt_in_their_units(tmp_path, bins):
    plain = toy(40)
    years = 50 + 20 * plain.images[:, 0, 2:5, 2:5, 2:5].mean(axis=(1, 2, 3))
    data = Data(plain.images, torch.from_numpy(years.astype(np.float32)), standardise)
    recipe = replace(RECIPE, epochs=15, augment="none", schedule="cosine")
    name = "sfcn" if bins > 1 else "bn"
    found = train(tmp_path / "a", recipe, data=data, name=name, bins=bins)
    spread = float(data.labels.std())
    assert min(row["validation_error"] for row in found.history) < 0.8 * spread


def test_the_penalty_shrinks_kernels_and_is_in_no_loss_that_is_reported(tmp_path):
    free = train(tmp_path / "a", replace(RECIPE, keep="last"))
    held = train(tmp_path / "b", replace(RECIPE, keep="last", penalty=("l2", 0.1)))
    size = [sum(float(p.square().sum()) for p in f.member.parameters()) for f in (free, held)]
    assert size[1] < size[0]
    assert held.history[-1]["penalty"] > 0 and held.history[-1]["validation_loss"] < 5


def test_balanced_classes_weigh_alike():
    labels = torch.tensor([0] * 9 + [1])
    data = Data(np.zeros((10, 1, 4, 4, 4), "f4"), labels, standardise)
    member = build_member("gn", (4, 4, 4), classes=2)
    loss = make_loss(member, data, np.arange(10), balance=True)
    always_first = torch.tensor([[2.0, -2.0]]).repeat(10, 1)
    expected = (np.log1p(np.exp(-4.0)) + np.log1p(np.exp(4.0))) / 2
    assert float(loss(always_first, labels)) == pytest.approx(expected, rel=1e-5)


def test_the_cosine_goes_from_the_rate_to_nothing():
    recipe = replace(RECIPE, schedule="cosine", epochs=10)
    rates = [learning_rate(recipe, epoch) for epoch in range(10)]
    assert rates[0] == 0.01 and rates[5] == pytest.approx(0.005)
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.001


def test_statistics_are_those_of_the_images_when_nobody_validates(tmp_path):
    data = toy()
    member = build_member("bn", data.images.shape[2:], classes=2)
    rows = np.arange(20)
    found = fit(member, data, rows, rows[:0], RECIPE, seed=0, state=tmp_path / "state").member
    convolution, norm = found.network.features[:2]
    with torch.no_grad():
        seen = convolution(standardise(torch.from_numpy(data.images)))
    assert torch.allclose(norm.running_mean, seen.mean(dim=(0, 2, 3, 4)), atol=1e-4)


def test_batches_come_in_order_and_a_lonely_last_one_is_left_out():
    images = np.arange(7, dtype=np.float32).reshape(-1, 1, 1, 1, 1) * np.ones((2, 2, 2), "f4")
    found = [
        (list(rows), batch[:, 0, 0, 0, 0].tolist())
        for rows, batch in batches(images, np.array([6, 1, 3, 0, 2]), 2, smallest=2)
    ]
    assert found == [([6, 1], [6.0, 1.0]), ([3, 0], [3.0, 0.0])]


def test_a_gpu_without_memory_is_told_which_batch_to_try(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "_fit", full)
    with pytest.raises(MemoryError, match="try --classifier-batch-size 2"):
        train(tmp_path / "a")


def test_a_state_that_is_none_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="no training state"):
        train(tmp_path / "a")
    assert math.isfinite(train(tmp_path / "b").loss)
