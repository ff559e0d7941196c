"""Looking at people who are not trained on, and keeping the weights that do best on them."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file

from stages.generation.denoising import Denoising
from stages.generation.findings import find_remedies
from stages.generation.scratch import build_scratch, embed_prompts
from stages.generation.tables import read_rows
from stages.generation.train import encode_material, train
from stages.generation.validation import LEVELS, Validation
from tests.stages.generation import steps
from tests.stages.generation.settings import settings

WORDS = ["shrunken", "youthful"]
CPU = torch.device("cpu")
OPTIONS = {"validation_fraction": 0.34, "validate_every": 5, "steps": 30, "grids": 0}


@pytest.fixture(scope="module")
def prepared(people, tmp_path_factory):
    """Inputs of the step finetune."""
    known = steps.SPEC.steps["prepare"].params
    given = {k: v for k, v in (steps.NAMES | steps.QUICK).items() if k in known}
    return steps.call("prepare", tmp_path_factory.mktemp("prepare"), **people, **given)


def finetune(prepared, folder, **given):
    known = steps.SPEC.steps["finetune"].params
    given = {k: v for k, v in (steps.QUICK | OPTIONS | given).items() if k in known}
    inputs = {name: prepared[name] for name in ("cohort", "stack", "prompts")}
    return steps.call("finetune", folder, **inputs, **given, condition="full")


@pytest.fixture(scope="module")
def done(prepared, tmp_path_factory):
    return finetune(prepared, tmp_path_factory.mktemp("done"))


def test_the_loss_is_that_of_diffusers_classes_at_all_noise_levels():
    generator = build_scratch(size=16, width=8, seed=0)
    images = torch.rand((4, 1, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1
    material = encode_material(generator, images, torch.tensor([0, 0, 1, 1]))
    look = Validation(material, levels=1000, latent_shape=generator.latent_shape, every=1, seed=7)
    net = Denoising(
        generator, ["", "", *WORDS], is_text_trained=False, min_snr=0.0, precision="float32"
    )
    weights = {"a": torch.ones(1)}
    first = look.look(1, net, weights, CPU)

    noise, times = look._noise, look._times
    assert len(times) == 4 * LEVELS
    assert np.ptp(np.bincount(times // 250, minlength=4)) <= 1  # evenly over all levels
    scheduler = DDPMScheduler.from_config(generator.noising.config)
    z = material.mean.repeat(LEVELS, 1, 1, 1)
    noisy = scheduler.add_noise(z, noise, times)
    states = embed_prompts([WORDS[0]] * 2 + [WORDS[1]] * 2).repeat(LEVELS, 1)
    with torch.no_grad():
        predicted = generator.denoiser(noisy, times, states)
    wanted = scheduler.get_velocity(z, noise, times)
    assert first == pytest.approx((predicted - wanted).square().mean().item(), rel=1e-5)
    assert look.look(2, net, weights, CPU) == first  # nothing is drawn anew
    assert look.best_step == 1


def test_the_running_mean_of_weights_is_looked_at():
    generator = build_scratch(size=16, width=8, seed=0)
    weights = generator.named_parameters()
    material = encode_material(generator, torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]))
    given = {"levels": 1000, "latent_shape": generator.latent_shape, "every": 4, "seed": 0}
    look, again = Validation(material, **given), Validation(material, **given)
    chosen = settings(steps=4, learning_rate=0.01, ema_decay=0.9)
    means, _ = train(generator, weights, material, WORDS, chosen, seed=0, validation=look)
    assert all(torch.equal(look.best[name], mean) for name, mean in means.items())
    net = Denoising(
        generator, ["", "", *WORDS], is_text_trained=False, min_snr=0.0, precision="float32"
    )
    last = again.look(1, net, weights, CPU)
    with torch.no_grad():
        for name, mean in means.items():
            weights[name].copy_(mean)
    assert look.seen == [[4, again.look(2, net, weights, CPU)]]
    assert last != look.seen[0][1]


def test_the_weights_of_the_least_loss_are_kept():
    material = encode_material(
        build_scratch(size=16, width=8, seed=0), torch.zeros(2, 1, 16, 16), torch.tensor([0, 1])
    )
    look = Validation(material, levels=10, latent_shape=(4, 8, 8), every=1, seed=0)
    value = torch.zeros(1)
    for step, loss in enumerate([0.5, 0.2, 0.3, 0.2], 1):
        value.fill_(step)
        look.look(step, lambda z, *_, loss=loss: torch.full((len(z),), loss), {"w": value}, CPU)
    assert look.best_step == 2
    assert look.best["w"].item() == 2
    assert [step for step, _ in look.seen] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="validation loss nan at step 5; lower learning_rate"):
        look.look(5, lambda z, *_: torch.full((len(z),), torch.nan), {"w": value}, CPU)


def test_validation_people_are_trained_on_by_nobody(prepared, done):
    card = json.loads(done["card"].read_text())
    split = {f"bids::{r['participant_id']}": r["split"] for r in read_rows(prepared["cohort"])}
    groups = {f"bids::{r['participant_id']}": r["group"] for r in read_rows(prepared["cohort"])}
    training, aside = set(card["TrainingParticipants"]), set(card["ValidationParticipants"])
    assert training and aside and not training & aside
    assert training | aside == {name for name, part in split.items() if part == "train"}
    assert {groups[name] for name in aside} == {"AD", "CN"}
    assert sum(card["TrainingSlices"].values()) == len(training)


def test_the_curve_is_written_and_does_not_depend_on_what_is_kept(prepared, done, tmp_path):
    rows = read_rows(done["losses"])
    seen = {int(r["step"]): r["validation_loss"] for r in rows if r["validation_loss"] != "n/a"}
    assert list(seen) == list(range(5, 31, 5))
    best = finetune(prepared, tmp_path, keep="best", learning_rate=0.01)
    last = finetune(prepared, tmp_path / "last", keep="last", learning_rate=0.01)
    assert best["losses"].read_bytes() == last["losses"].read_bytes()
    rows = [r for r in read_rows(best["losses"]) if r["validation_loss"] != "n/a"]
    least = min(rows, key=lambda row: float(row["validation_loss"]))
    (kept,) = json.loads(best["card"].read_text())["Kept"]
    assert kept["Step"] == int(least["step"])
    assert kept["Why"] == "least loss on validation participants"
    (other,) = json.loads(last["card"].read_text())["Kept"]
    assert (other["Step"], other["Why"]) == (30, "the last step")
    assert other["ValidationLoss"] == kept["ValidationLoss"]


def test_the_best_weights_are_those_of_a_training_that_ended_there(prepared, tmp_path):
    """With a step size at which the loss on validation people rises soon."""
    given = {"learning_rate": 0.1, "warmup": 0, "ema_decay": 0.0, "steps": 4, "validate_every": 1}
    best = finetune(prepared, tmp_path / "best", keep="best", **given)
    (kept,) = json.loads(best["card"].read_text())["Kept"]
    assert kept["Step"] < 4
    short = finetune(prepared, tmp_path / "short", **(given | {"steps": kept["Step"]}))
    first, second = (load_file(made["weights"]) for made in (best, short))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_going_on_keeps_what_validation_saw(prepared, tmp_path):
    given = {"keep": "best", "save_every": 10, "learning_rate": 0.01}
    whole = finetune(prepared, tmp_path / "whole", **given)
    given["checkpoints"] = str(tmp_path / "state")
    finetune(prepared, tmp_path / "part", **(given | {"steps": 20}))
    again = finetune(prepared, tmp_path / "again", **given)
    for name in ("weights", "losses"):
        assert again[name].read_bytes() == whole[name].read_bytes(), name
    assert len(list((tmp_path / "state").iterdir())) == 1


@pytest.mark.parametrize(
    "given",
    [{"validation_fraction": 0.2}, {"augmentation": 1.0}, {"flip": True}],
    ids=["fraction", "augmentation", "flip"],
)
def test_options_change_the_training(prepared, done, tmp_path, given):
    other = finetune(prepared, tmp_path, steps=5, **given)
    losses = [float(row["loss"]) for row in read_rows(other["losses"])]
    plain = [float(row["loss"]) for row in read_rows(done["losses"])][:5]
    assert len(losses) == 5
    assert losses != plain


def test_separate_models_have_validations_of_their_own(prepared, tmp_path):
    made = finetune(prepared, tmp_path, models="separate", keep="best", steps=10)
    kept = json.loads(made["card"].read_text())["Kept"]
    assert [one["Model"] for one in kept] == ["AD", "CN"]
    assert kept[0]["ValidationLoss"] != kept[1]["ValidationLoss"]


def test_what_cannot_be_kept_is_refused(prepared, tmp_path):
    with pytest.raises(ValueError, match="those of validation; give validation_fraction"):
        finetune(prepared, tmp_path, keep="best", validation_fraction=0.0)
    with pytest.raises(ValueError, match="validate_every 100: never in 30 steps; lower it"):
        finetune(prepared, tmp_path, validate_every=100)
    with pytest.raises(ValueError, match="for slices only; set them to 0 and false"):
        finetune(prepared, tmp_path, generator="latent-volume", augmentation=1.0)


def test_remedies_are_those_that_were_not_tried():
    plain = {"ValidationFraction": 0.0, "Augmentation": 0.0}
    assert "validation_fraction 0.2 with keep best" in find_remedies(plain)
    assert "augmentation 1" in find_remedies(plain)
    tried = {"ValidationFraction": 0.2, "Augmentation": 1.0, "Kept": [{"Why": "the last step"}]}
    assert find_remedies(tried) == "keep best; fewer steps; more participants"
    tried["Kept"] = [{"Why": "least loss on validation participants"}]
    assert find_remedies(tried) == "fewer steps; more participants"
