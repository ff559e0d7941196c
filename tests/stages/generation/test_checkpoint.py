"""A checkpoint folder is checked file by file, and gives what diffusers' own pipeline gives."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from stages.__main__ import exit_code_of
from stages.generation.checkpoint import load_checkpoint, require_base
from stages.generation.layout import check_folder
from stages.generation.sampling import sample
from stages.generation.texts import load_text
from tests.stages.generation.tiny_checkpoint import write_checkpoint, write_tokenizer

PROMPTS, SEEDS = ["ad, a mri brain", "cn"], [3, 4]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_are_those_of_diffusers_pipeline(prediction, guidance, tmp_path):
    folder = write_checkpoint(tmp_path / "base", prediction=prediction)
    ours = load_checkpoint(folder, size=32)
    images = sample(ours, PROMPTS, SEEDS, steps=4, guidance=guidance, batch=2)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = [
        torch.randn(ours.latent_shape, generator=torch.Generator().manual_seed(s)) for s in SEEDS
    ]
    theirs = pipeline(
        PROMPTS,
        latents=torch.stack(noise),
        num_inference_steps=4,
        guidance_scale=guidance,
        height=32,
        width=32,
        output_type="pt",
    ).images
    assert torch.allclose(images, theirs.mean(1, keepdim=True) * 2 - 1, atol=2e-5)


def test_without_a_folder_the_layout_is_told():
    with pytest.raises(FileNotFoundError, match=r"--weights base=PATH.*model_index.json") as caught:
        require_base(None)
    assert exit_code_of(caught.value) == 66


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_missing_file_is_named(broken, name):
    (broken / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} missing; expected") as caught:
        load_checkpoint(broken, size=32)
    assert exit_code_of(caught.value) == 66


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_folder(tmp_path / "nothing")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_refused_and_never_opened(broken, part):
    (weights,) = (broken / part).glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"found only .*\.bin; a pickle can run programs"):
        load_checkpoint(broken, size=32)


def test_a_single_ckpt_file_is_refused(tmp_path):
    path = tmp_path / "v1-5.ckpt"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected a folder \(a pickle can run programs\)"):
        check_folder(path)


@pytest.mark.parametrize(
    ("kind", "folders"),
    [
        ("StableDiffusion3Pipeline", ("scheduler", "text_encoder", "tokenizer", "transformer")),
        ("StableDiffusionInpaintPipeline", ("scheduler", "text_encoder", "tokenizer", "unet")),
    ],
)
def test_other_pipelines_are_refused_whatever_files_they_have(tmp_path, kind, folders):
    for name in folders:
        (tmp_path / name).mkdir()
    index = {"_class_name": kind, "_diffusers_version": "0.42.1"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=rf"names {kind}, expected .* 1.x, 2.x and XL are support"):
        check_folder(tmp_path)


def test_damaged_json_is_named(broken):
    (broken / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index.json: not valid JSON"):
        check_folder(broken)


def test_a_wrong_tokenizer_is_told(broken, tmp_path):
    other = tmp_path / "other"
    write_tokenizer(other, ("ad",))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(other / name, broken / "tokenizer" / name)
    with pytest.raises(ValueError, match=r"wrong tokenizer: it has \d+ tokens, the text encoder"):
        load_checkpoint(broken, size=32)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_named(broken, part):
    (weights,) = (broken / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{part}/{weights.name}: cannot be read .*copy the"):
        load_checkpoint(broken, size=32)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_there_are_not_made_up(broken, part):
    (path,) = (broken / part).glob("*.safetensors")
    tensors = load_file(path)
    tensors.pop(min(tensors))
    save_file(tensors, path)
    with pytest.raises(ValueError, match=rf"{part}/{path.name}: 1 weights missing, such as"):
        load_checkpoint(broken, size=32)


def test_a_damaged_tokenizer_is_named(broken):
    (broken / "tokenizer/vocab.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer: .*copy the checkpoint again"):
        load_checkpoint(broken, size=32)


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("unet", "cross_attention_dim", 768, "reads texts of 768 numbers, text_encoder/ give 32"),
        ("unet", "in_channels", 9, "takes 9 channels, vae/ gives 4; checkpoints for inpainting"),
    ],
)
def test_parts_that_do_not_fit_are_told(broken, part, key, value, message):
    path = broken / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=message):
        check_folder(broken)


def test_a_prompt_that_would_be_cut_is_refused(checkpoint):
    generator = load_checkpoint(checkpoint, size=32)
    generator.tokenize(["a " * 75])
    with pytest.raises(ValueError, match="78 tokens with start and end, at most 77"):
        generator.tokenize(["a " * 76])


def test_a_size_that_the_model_cannot_take_is_refused(checkpoint):
    with pytest.raises(ValueError, match="needs a multiple of 4"):
        load_checkpoint(checkpoint, size=30)


def test_text_embeddings_are_near_for_prompts_that_share_tokens(checkpoint):
    tokenize, embed = load_text(checkpoint)
    assert tokenize("AD, ADNI") == ["ad</w>", ",</w>", "adni</w>"]
    assert embed("ad").shape == (32,)
