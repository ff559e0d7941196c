"""SDXL: two text encoders, a pooled text and sizes; all as diffusers' own pipeline has them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from stages.generation.adapters import choose_weights, load_weights, save_weights
from stages.generation.checkpoint import load_checkpoint
from stages.generation.layout import check_folder
from stages.generation.sampling import sample
from stages.generation.texts import load_text
from stages.generation.train import train
from tests.stages.generation import steps
from tests.stages.generation.test_dreambooth import (
    PROMPTS,
    changed,
    material_of,
    settings,
    snapshot,
)
from tests.stages.generation.tiny_checkpoint import write_checkpoint_xl

SEEDS = [3, 4]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SDXL checkpoint folder that nobody changes."""
    return write_checkpoint_xl(tmp_path_factory.mktemp("xl") / "base")


def draw_theirs(folder: Path, guidance: float, lora: Path | None = None) -> torch.Tensor:
    """Draw with diffusers' pipeline and our sampler's kind of scheduler."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    if lora is not None:
        pipeline.load_lora_weights(load_weights(lora))
    noise = [torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    images = pipeline(
        PROMPTS,
        latents=torch.stack(noise),
        num_inference_steps=4,
        guidance_scale=guidance,
        height=32,
        width=32,
        output_type="pt",
    ).images
    return images.mean(1, keepdim=True) * 2 - 1


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_are_those_of_diffusers_pipeline(checkpoint, guidance):
    ours = load_checkpoint(checkpoint, size=32)
    images = sample(ours, PROMPTS, SEEDS, steps=4, guidance=guidance, batch=2)
    assert torch.allclose(images, draw_theirs(checkpoint, guidance), atol=2e-5)


def test_an_empty_prompt_is_zeros_as_the_checkpoint_says(checkpoint, tmp_path):
    assert not load_checkpoint(checkpoint, size=32).states([""]).any()
    other = shutil.copytree(checkpoint, tmp_path / "base")
    index = json.loads((other / "model_index.json").read_text())
    index["force_zeros_for_empty_prompt"] = False
    (other / "model_index.json").write_text(json.dumps(index))
    assert load_checkpoint(other, size=32).states([""]).any()


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_unet_and_both_text_encoders_learn(checkpoint, lora_rank, tmp_path):
    generator = load_checkpoint(checkpoint, size=32)
    encoders = generator.text_encoder
    parts = [generator.denoiser, encoders.clip, encoders.clip_2]
    before = [snapshot(part) for part in parts]
    weights = choose_weights(generator, text_encoder=True, lora_rank=lora_rank, seed=0)
    chosen = settings(steps=10, learning_rate=1e-2)
    kept, losses = train(generator, weights, material_of(generator), PROMPTS, chosen, seed=0)
    assert all(torch.isfinite(torch.tensor(losses)).flatten())
    if lora_rank:
        path = tmp_path / "generator.safetensors"
        save_weights(path, kept)
        named = {name.split(".")[0] for name in load_weights(path)}
        assert named == {"unet", "text_encoder", "text_encoder_2"}
        tuned = sample(generator, PROMPTS, SEEDS, steps=4, guidance=3.0, batch=2)
        assert (tuned - draw_theirs(checkpoint, 3.0)).abs().max() > 1e-3
        assert torch.allclose(tuned, draw_theirs(checkpoint, 3.0, path), atol=1e-4)
    else:
        assert all(changed(then, part) for then, part in zip(before, parts, strict=True))


def test_the_steps_run_from_a_checkpoint(checkpoint, people, tmp_path):
    options = {"generator": "stable-diffusion", "steps": 3, "batch_size": 2, "grids": 1}
    done = steps.run_all(tmp_path, people, base=checkpoint, lora_rank=2, **options)
    assert "fine-tuned 3 steps" in done["full"]["table"].read_text()
    audit = json.loads(done["prepare"]["verdict"].read_text())
    assert audit["Pairs"][0]["first_tokens"] == "ad</w> ,</w> a</w> mri</w> brain</w>"


def test_prompts_are_audited_by_the_encoder_whose_pooled_text_counts(checkpoint):
    _, embed = load_text(checkpoint)
    pipeline = StableDiffusionXLPipeline.from_pretrained(checkpoint, local_files_only=True)
    pooled = pipeline.encode_prompt(PROMPTS[0], device="cpu", num_images_per_prompt=1)[2][0]
    assert torch.allclose(torch.from_numpy(embed(PROMPTS[0])).float(), pooled.detach(), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "text_encoder_2/config.json",
        "text_encoder_2/model.safetensors",
        "tokenizer_2/tokenizer_config.json",
        "tokenizer_2/vocab.json",
    ],
)
def test_a_missing_file_is_named(checkpoint, tmp_path, name):
    broken = shutil.copytree(checkpoint, tmp_path / "base")
    (broken / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} missing; expected"):
        check_folder(broken)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("cross_attention_dim", 32, "reads texts of 32 numbers, .* give 56; take all from one"),
        ("projection_class_embeddings_input_dim", 60, "reads 60 numbers of a pooled text .* 68"),
    ],
)
def test_parts_that_do_not_fit_are_told(checkpoint, tmp_path, key, value, message):
    broken = shutil.copytree(checkpoint, tmp_path / "base")
    path = broken / "unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=message):
        check_folder(broken)
