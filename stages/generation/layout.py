"""The files of a Stable Diffusion checkpoint, as diffusers saves it, checked before loading."""

import json
from pathlib import Path
from typing import Any

WEIGHTS = {
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
FILES = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    *(f"{part}/config.json" for part in WEIGHTS),
)
#: A tokenizer comes as either of these.
TOKENIZERS = (("tokenizer/vocab.json", "tokenizer/merges.txt"), ("tokenizer/tokenizer.json",))
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
COPY = "copy the checkpoint again"
LAYOUT = (
    "model_index.json, scheduler/scheduler_config.json, tokenizer/{tokenizer_config.json,"
    " vocab.json, merges.txt}, and config.json with *.safetensors in text_encoder/, unet/ and vae/"
)


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a whole Stable Diffusion 1.x or 2.x checkpoint.

    Raises
    ------
    FileNotFoundError
        A file is missing: names it and the layout expected.
    ValueError
        Weights are there as pickles alone, or it is a checkpoint of another kind.
    """
    if folder.is_file():
        word = "a pickle can run programs" if folder.suffix in PICKLES else "one file is not enough"
        raise ValueError(
            f"{folder}: found a file, expected a folder ({word}); convert it with diffusers'"
            " convert_original_stable_diffusion_to_diffusers.py --to_safetensors"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one with {LAYOUT}")
    if (folder / "model_index.json").is_file():
        _check_kind(folder)  # first, since other kinds lack files of ours that they do not need
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        missing.append(next(n for n in TOKENIZERS[0] if not (folder / n).is_file()))
    if missing:
        raise FileNotFoundError(
            f"{folder}: {' and '.join(missing)} missing; expected a folder with {LAYOUT}"
        )
    for part in WEIGHTS:
        find_weights(folder, part)
    _check_agreement(folder)


def find_weights(folder: Path, part: str) -> Path:
    """Find the weights of a part.

    Raises
    ------
    FileNotFoundError
        None are there.
    ValueError
        They are there as pickles alone.
    """
    stem = WEIGHTS[part]
    names = (f"{stem}.safetensors", f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.json")
    for name in names:
        if (folder / part / name).is_file():
            return folder / part / name
    pickles = sorted(p.name for p in (folder / part).glob("*") if p.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"{folder / part}: found only {', '.join(pickles)}; a pickle can run programs, so"
            f" only {names[0]} is read; load it where you trust it and save it with"
            " safe_serialization=True"
        )
    raise FileNotFoundError(f"{folder}: {part}/{names[0]} missing; expected {LAYOUT}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a damaged file is named."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); {COPY}") from error


def _check_kind(folder: Path) -> None:
    kind = read_json(folder / "model_index.json").get("_class_name", "")
    if kind != "StableDiffusionPipeline":
        raise ValueError(
            f"{folder}: model_index.json names {kind or 'no pipeline'}, expected"
            " StableDiffusionPipeline: Stable Diffusion 1.x and 2.x are supported; SDXL, SD 3 and"
            " others are not"
        )


def _check_agreement(folder: Path) -> None:
    """Refuse parts that do not fit one another."""
    text, unet, vae = (read_json(folder / part / "config.json") for part in WEIGHTS)
    if unet.get("cross_attention_dim") != text.get("hidden_size"):
        raise ValueError(
            f"{folder}: unet/ reads texts of {unet.get('cross_attention_dim')} numbers,"
            f" text_encoder/ gives {text.get('hidden_size')}; take both from one checkpoint"
        )
    if unet.get("in_channels") != vae.get("latent_channels"):
        raise ValueError(
            f"{folder}: unet/ takes {unet.get('in_channels')} channels, vae/ gives"
            f" {vae.get('latent_channels')}; checkpoints for inpainting or scaling do not serve"
        )
