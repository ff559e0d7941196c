"""A Stable Diffusion checkpoint of the real classes, with random weights and very few of them."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

WORDS = ("ad", "cn", "mri", "brain", "sks", "xjy", "adni", "a", ",")
UNET = {
    "block_out_channels": (16, 32),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
}


def write_checkpoint(folder: Path, *, prediction: str = "epsilon", seed: int = 0) -> Path:
    """Save a whole pipeline as diffusers does."""
    tokenizer = write_tokenizer(folder.parent / f"{folder.name}-words")
    torch.manual_seed(seed)
    text = CLIPTextModel(_text_config(tokenizer, 32))
    vae, unet = _make_vae(), UNet2DConditionModel(cross_attention_dim=32, **UNET)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipeline, folder)


def write_checkpoint_xl(folder: Path, *, seed: int = 0) -> Path:
    """Save a whole SDXL pipeline as diffusers does: two tokenizers and text encoders."""
    tokenizer = write_tokenizer(folder.parent / f"{folder.name}-words")
    torch.manual_seed(seed)
    pipeline = StableDiffusionXLPipeline(
        vae=_make_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer, 32)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, 24)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(
            cross_attention_dim=32 + 24,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            **UNET,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    return _save(pipeline, folder)


def _save(pipeline: DiffusionPipeline, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    for tokenizer in folder.glob("tokenizer*"):  # as the published checkpoints have it
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(folder.parent / f"{folder.name}-words" / name, tokenizer / name)
        (tokenizer / "tokenizer.json").unlink()
    return folder


def _text_config(tokenizer: CLIPTokenizer, size: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size,
        intermediate_size=37,
        projection_dim=20,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        sample_size=32,
    )


def write_tokenizer(folder: Path, words: tuple[str, ...] = WORDS) -> CLIPTokenizer:
    """Make a CLIP tokenizer whose vocabulary is letters, digits and a few whole words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789,")
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[str] = []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            if pair not in merges:
                merges.append(pair)
            parts = [parts[0] + parts[1], *parts[2:]]
            if parts[0] not in vocabulary:
                vocabulary.append(parts[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=77,
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
