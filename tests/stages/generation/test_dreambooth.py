"""Fine-tuning a checkpoint of the real classes, tiny, with random weights."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from stages.generation.adapters import choose_weights, load_weights, save_weights
from stages.generation.build import load_generator
from stages.generation.checkpoint import load_checkpoint
from stages.generation.sampling import sample
from stages.generation.slices import to_tensor
from stages.generation.train import Material, encode_material, train
from tests.stages.generation import steps, toy
from tests.stages.generation.settings import settings

PROMPTS = ["ad, a mri brain", "cn, a mri brain"]


def material_of(generator, count: int = 4) -> Material:
    slices, groups = toy.draw_people({"AD": count, "CN": count}, 0)
    numbers = torch.from_numpy((groups == "CN").astype(np.int64))
    return encode_material(generator, to_tensor(slices, 32), numbers)


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: torch.nn.Module) -> bool:
    return any(not torch.equal(before[k], v) for k, v in module.state_dict().items())


@pytest.mark.parametrize("text_encoder", [False, True])
def test_unet_and_text_encoder_change_and_the_vae_does_not(checkpoint, text_encoder):
    generator = load_checkpoint(checkpoint, size=32)
    vae = generator.decode.__closure__[0].cell_contents
    assert type(vae).__name__ == "AutoencoderKL"
    before = [snapshot(m) for m in (generator.denoiser, generator.text_encoder, vae)]
    weights = choose_weights(generator, text_encoder=text_encoder, lora_rank=0, seed=0)
    train(generator, weights, material_of(generator), PROMPTS, settings(), seed=0)
    assert changed(before[0], generator.denoiser)
    assert changed(before[1], generator.text_encoder) == text_encoder
    assert not changed(before[2], vae)


def test_loss_falls_by_a_third(checkpoint):
    generator = load_checkpoint(checkpoint, size=32)
    weights = choose_weights(generator, text_encoder=False, lora_rank=0, seed=0)
    chosen = settings(steps=120, learning_rate=3e-3)
    _, losses = train(generator, weights, material_of(generator), PROMPTS, chosen, seed=0)
    own = np.array(losses)[:, 0]
    assert own[-30:].mean() <= 0.7 * own[:5].mean()


def test_the_prior_term_is_what_a_hand_computes(checkpoint):
    """Repeat step 1 of the loop with diffusers' own classes and plain arithmetic."""
    weight, size = 0.7, 3
    generator = load_checkpoint(checkpoint, size=32)
    own, prior = material_of(generator), material_of(generator, 2)
    prior = Material(prior.mean.flip(0), prior.spread.flip(0), torch.zeros(4, dtype=torch.int64))
    chosen = settings(steps=1, batch_size=size, prior_weight=weight)
    weights = choose_weights(generator, text_encoder=False, lora_rank=0, seed=0)
    _, ((own_loss, prior_loss),) = train(
        generator, weights, own, PROMPTS, chosen, seed=5, prior=prior, prior_prompt="a brain"
    )

    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint, local_files_only=True)
    draws = torch.Generator().manual_seed(5 * 1_000_003)
    share = 1.0 / torch.bincount(own.prompt).double()[own.prompt]
    picks = torch.multinomial(share, size, replacement=True, generator=draws)
    z = own.mean[picks] + own.spread[picks] * torch.randn(
        (size, *generator.latent_shape), generator=draws
    )
    others = torch.randint(4, (size,), generator=draws)
    z_prior = prior.mean[others] + prior.spread[others] * torch.randn(z.shape, generator=draws)
    noise = torch.randn((2 * size, *generator.latent_shape), generator=draws)
    times = torch.randint(1000, (2 * size,), generator=draws)
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    noisy = scheduler.add_noise(torch.cat([z, z_prior]), noise, times)
    texts = [PROMPTS[n] for n in own.prompt[picks]] + ["a brain"] * size
    tokens = pipeline.tokenizer(
        texts, padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    states = pipeline.text_encoder(tokens)[0].detach()
    predicted = pipeline.unet(noisy, times, encoder_hidden_states=states).sample
    mse = (predicted - noise).square().mean((1, 2, 3))
    assert own_loss == pytest.approx(mse[:size].mean().item(), rel=1e-4)
    assert prior_loss == pytest.approx(mse[size:].mean().item(), rel=1e-4)

    (mse[:size].mean() + weight * mse[size:].mean()).backward()
    torch.nn.utils.clip_grad_norm_(pipeline.unet.parameters(), 1.0)
    torch.optim.AdamW(pipeline.unet.parameters(), lr=1e-3, weight_decay=1e-2).step()
    for name, value in pipeline.unet.state_dict().items():
        assert torch.allclose(value, weights[f"unet.unet.{name}"], atol=2e-5), name


def test_adapters_are_small_start_as_nothing_and_load_into_diffusers(checkpoint, tmp_path):
    generator = load_checkpoint(checkpoint, size=32)
    plain = sample(generator, PROMPTS, [1, 2], steps=3, guidance=2.0, batch=2)
    weights = choose_weights(generator, text_encoder=False, lora_rank=2, seed=0)
    everything = sum(p.numel() for p in generator.named_parameters().values())
    assert sum(p.numel() for p in weights.values()) < 0.2 * everything
    start = sample(generator, PROMPTS, [1, 2], steps=3, guidance=2.0, batch=2)
    assert torch.allclose(plain, start, atol=1e-5)
    chosen = settings(steps=20, learning_rate=1e-2)
    kept, _ = train(generator, weights, material_of(generator), PROMPTS, chosen, seed=0)
    tuned = sample(generator, PROMPTS, [1, 2], steps=3, guidance=2.0, batch=2)
    assert (tuned - plain).abs().max() > 1e-3
    path = tmp_path / "generator.safetensors"
    save_weights(path, kept)

    about = {"Kind": "stable-diffusion", "Size": 32, "Width": 8, "LoraRank": 2, "Models": "joint"}
    again = load_generator(
        about | {"TextEncoderTrained": False},
        str(path),
        str(checkpoint),
        group="AD",
        device=torch.device("cpu"),
    )
    assert torch.equal(tuned, sample(again, PROMPTS, [1, 2], steps=3, guidance=2.0, batch=2))

    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(load_weights(path))
    noise = [torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    theirs = pipeline(
        PROMPTS,
        latents=torch.stack(noise),
        num_inference_steps=3,
        guidance_scale=2.0,
        height=32,
        width=32,
        output_type="pt",
    ).images
    assert torch.allclose(tuned, theirs.mean(1, keepdim=True) * 2 - 1, atol=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        {"lora_rank": 2, "text_encoder": True, "models": "separate"},
        {"prior_weight": 1.0, "prior_images": 4, "min_snr": 5.0, "gradient_checkpointing": True},
    ],
    ids=["adapters", "prior"],
)
def test_the_steps_run_from_a_checkpoint(checkpoint, people, tmp_path, given):
    options = {"generator": "stable-diffusion", "steps": 3, "batch_size": 2, "grids": 0} | given
    done = steps.run_all(tmp_path, people, base=checkpoint, **options)
    told = f"checkpoint {checkpoint.name}, fine-tuned 3 steps on synthetic scans"
    assert told in done["full"]["table"].read_text()
    assert not done["evaluate"]["cells"].exists()


def test_only_real_scans_stand_beside_published_numbers(checkpoint, people, tmp_path):
    """The same slices in a dataset that does not say that a program made it."""
    participants = shutil.copy(people["participants"], tmp_path / "participants.tsv")
    options = {"generator": "stable-diffusion", "steps": 3, "batch_size": 2, "grids": 0}
    real = people | {"participants": participants}
    done = steps.run_all(tmp_path, real, base=checkpoint, **options)
    assert "full_AD_loglik_AD" in done["evaluate"]["cells"].read_text()


def test_weights_of_another_model_are_refused(checkpoint, tmp_path):
    generator = load_checkpoint(checkpoint, size=32)
    weights = choose_weights(generator, text_encoder=False, lora_rank=2, seed=0)
    save_weights(tmp_path / "w.safetensors", weights)
    about = {"Kind": "stable-diffusion", "Size": 32, "Width": 8, "LoraRank": 4, "Models": "joint"}
    with pytest.raises(ValueError, match="weights are of another model"):
        load_generator(
            about | {"TextEncoderTrained": False},
            str(tmp_path / "w.safetensors"),
            str(checkpoint),
            group="AD",
            device=torch.device("cpu"),
        )


def test_a_model_from_scratch_takes_no_adapters(people, tmp_path):
    with pytest.raises(ValueError, match="no text encoder and no use for adapters"):
        steps.run_all(tmp_path, people, lora_rank=2)
    with pytest.raises(ValueError, match="knows nothing that could be preserved"):
        steps.run_all(tmp_path, people, prior_weight=1.0)
