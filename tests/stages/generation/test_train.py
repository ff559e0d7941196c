"""The loop: what it draws and weighs, and that stopping changes nothing."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.upsampling import Upsample2D
from diffusers.training_utils import compute_snr

from stages.generation.build import choose_precision
from stages.generation.generator import add_noise, aim, min_snr_weights
from stages.generation.sampling import sample
from stages.generation.scratch import build_scratch
from stages.generation.train import draw_picks, encode_material, train
from tests.conftest import REPOSITORY
from tests.stages.generation.settings import settings
from tests.stages.generation.test_dreambooth import material_of, snapshot

WORDS = ["shrunken", "youthful"]
CAPTURE = {"cwd": REPOSITORY, "capture_output": True, "text": True, "check": True}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noising_and_weights_are_those_of_diffusers(kind):
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=kind)
    alphas = scheduler.alphas_cumprod
    z, e = torch.randn(2, 5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0, 10, 300, 700, 990])
    assert torch.allclose(add_noise(alphas, z, e, times), scheduler.add_noise(z, e, times))
    wanted = e if kind == "epsilon" else scheduler.get_velocity(z, e, times)
    assert torch.allclose(aim(kind, alphas, z, e, times), wanted)
    # as in diffusers' example scripts
    snr = compute_snr(scheduler, times)
    weights = torch.stack([snr, 5.0 * torch.ones_like(snr)], 1).min(1)[0]
    weights = weights / (snr if kind == "epsilon" else snr + 1)
    assert torch.allclose(min_snr_weights(kind, alphas, times, 5.0), weights)
    assert (min_snr_weights(kind, alphas, times, 0.0) == 1).all()


def test_an_unknown_kind_of_prediction_is_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="prediction type 'sample': expected epsilon"):
        aim("sample", one, one, one, torch.zeros(1, dtype=torch.int64))


def test_balanced_draws_take_groups_equally_often():
    prompt = torch.tensor([0] * 30 + [1] * 90)
    draws = torch.Generator().manual_seed(0)
    even = prompt[draw_picks(prompt, count=20_000, balance=True, draws=draws)]
    plain = prompt[draw_picks(prompt, count=20_000, balance=False, draws=draws)]
    assert even.double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert plain.double().mean().item() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_going_on_gives_the_same_bits_as_not_stopping(tmp_path, ema):
    def run(steps, path):
        generator = build_scratch(size=16, width=8, seed=0)
        weights = generator.named_parameters()
        slices = material_of(generator)
        small = encode_material(generator, torch.zeros(8, 1, 16, 16), slices.prompt)
        small = type(small)(slices.mean[:, :, :8, :8], small.spread, small.prompt)
        chosen = settings(steps=steps, ema_decay=ema, drop_prompt=0.2, warmup=3, min_snr=5.0)
        return train(generator, weights, small, WORDS, chosen, seed=1, state=path, save_every=2)

    whole, losses = run(4, None)
    run(2, tmp_path / "state.safetensors")
    again, resumed = run(4, tmp_path / "state.safetensors")
    assert resumed == losses
    assert len(losses) == 4
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(ValueError, match="holds 4 steps, more than the 3 asked for; remove it"):
        run(3, tmp_path / "state.safetensors")


def test_bfloat16_is_chosen_where_it_is_native(monkeypatch):
    cpu = torch.device("cpu")
    for found, expected in (({"avx512_bf16": True}, "bfloat16"), ({"avx2": True}, "float32")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=found: found)
        assert choose_precision("auto", cpu) == expected
        assert choose_precision("float32", cpu) == "float32"
        assert choose_precision("bfloat16", cpu) == "bfloat16"


def test_bfloat16_rounds_the_network_and_keeps_weights_whole():
    def run(precision):
        generator = build_scratch(size=16, width=8, seed=0)
        weights = generator.named_parameters()
        small = encode_material(generator, torch.zeros(8, 1, 16, 16), torch.tensor([0, 1] * 4))
        chosen = settings(steps=3, precision=precision)
        return train(generator, weights, small, WORDS, chosen, seed=1)

    (whole, plain), (rounded, close) = run("float32"), run("bfloat16")
    assert close != plain
    assert np.array(close) == pytest.approx(np.array(plain), rel=0.02)
    assert all(value.dtype == torch.float32 for value in rounded.values())
    assert any(not torch.equal(whole[name], rounded[name]) for name in whole)


def test_a_state_is_whole_or_absent(tmp_path, monkeypatch):
    generator = build_scratch(size=16, width=8, seed=0)
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"the state before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stages.generation.state.os.fsync", full)
    small = encode_material(generator, torch.zeros(4, 1, 16, 16), torch.tensor([0, 0, 1, 1]))
    path.unlink()
    with pytest.raises(OSError, match="No space left"):
        train(
            generator,
            generator.named_parameters(),
            small,
            WORDS,
            settings(steps=1),
            seed=0,
            state=path,
            save_every=1,
        )
    assert not path.exists()


def test_upsampling_at_once_is_diffusers_upsampling(monkeypatch):
    """The same outputs and gradients, in double precision, and the same names of weights."""
    ours = build_scratch(size=16, width=8, seed=0).denoiser.double()
    with monkeypatch.context() as patch:
        patch.setattr("stages.generation.scratch.Upsample", lambda conv: plain_upsample(conv))
        theirs = build_scratch(size=16, width=8, seed=0).denoiser.double()
    assert type(theirs.unet.up_blocks[0].upsamplers[0]).__module__.startswith("diffusers")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    draws = torch.Generator().manual_seed(0)
    z = torch.randn((3, 4, 8, 8), generator=draws, dtype=torch.float64)
    states = torch.randn((3, 128), generator=draws, dtype=torch.float64)
    for net in (ours, theirs):
        net(z, torch.tensor([1, 500, 999]), states).square().sum().backward()
    first, second = ours.named_parameters(), theirs.named_parameters()
    for (name, a), (_, b) in zip(first, second, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-9, atol=1e-12), name


def plain_upsample(conv: torch.nn.Conv2d) -> Upsample2D:
    module = Upsample2D(conv.in_channels, use_conv=True, out_channels=conv.out_channels)
    module.conv = conv
    return module


def test_sampling_follows_the_seed_alone():
    generator = build_scratch(size=16, width=8, seed=0)

    def draw(seeds, batch):
        return sample(generator, [WORDS[0]] * len(seeds), seeds, steps=3, guidance=2.0, batch=batch)

    four = draw([1, 2, 3, 4], 4)
    assert torch.equal(four, draw([1, 2, 3, 4], 4))
    assert torch.allclose(four, draw([1, 2, 3, 4], 3), atol=1e-5)
    assert not torch.allclose(four[0], four[1], atol=0.1)
    assert torch.allclose(draw([3], 1)[0], four[2], atol=1e-5)


def test_the_same_seed_builds_the_same_model_and_disturbs_no_other_draws():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two = (build_scratch(size=16, width=8, seed=3) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    first, second = snapshot(one.denoiser), snapshot(two.denoiser)
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_patches_lose_nothing():
    generator = build_scratch(size=16, width=8, seed=0)
    images = torch.rand(2, 1, 16, 16)
    mean, spread = generator.encode(images)
    assert torch.equal(generator.decode(mean), images)
    assert not spread.any()


@pytest.mark.parametrize(
    ("size", "width", "message"), [(20, 8, "multiple of 8"), (16, 12, "multiple of 8")]
)
def test_sizes_that_do_not_fit_are_refused(size, width, message):
    with pytest.raises(ValueError, match=message):
        build_scratch(size=size, width=width, seed=0)


def test_running_means_are_kept_when_asked_for():
    generator = build_scratch(size=16, width=8, seed=0)
    start = {k: v.detach().clone() for k, v in generator.named_parameters().items()}
    small = encode_material(generator, torch.zeros(4, 1, 16, 16), torch.tensor([0, 0, 1, 1]))
    means, _ = train(
        generator,
        generator.named_parameters(),
        small,
        WORDS,
        settings(steps=1, ema_decay=0.5),
        seed=0,
    )
    decay = min(0.5, 1 / 10)  # young means forget faster
    for name, value in generator.named_parameters().items():
        expected = decay * start[name] + (1 - decay) * value
        assert np.allclose(means[name], expected.detach(), atol=1e-6), name
