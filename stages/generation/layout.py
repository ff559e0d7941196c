"""The files of a Stable Diffusion checkpoint, as diffusers saves it: checked, then loaded."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

SD, SDXL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
#: Tokenizers and text encoders of each kind, in parallel.
TOKENIZERS = {SD: ("tokenizer",), SDXL: ("tokenizer", "tokenizer_2")}
ENCODERS = {SD: ("text_encoder",), SDXL: ("text_encoder", "text_encoder_2")}
#: A tokenizer comes as either of these.
VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))
TIME_IDS = 6  # SDXL's U-Net is told sizes and crops in as many numbers
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
COPY = "copy the checkpoint again"
LAYOUT = (
    "model_index.json, scheduler/scheduler_config.json, tokenizer/{tokenizer_config.json,"
    " vocab.json, merges.txt}, and config.json with *.safetensors in text_encoder/, unet/ and vae/;"
    " SDXL: tokenizer_2/ and text_encoder_2/ too"
)


def check_folder(folder: Path) -> str:
    """Refuse a folder that is not a whole checkpoint of Stable Diffusion; return its kind.

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
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(
            f"{folder}: model_index.json missing; expected a folder with {LAYOUT}"
        )
    kind = _read_kind(folder)
    parts = (*ENCODERS[kind], "unet", "vae")
    files = ["scheduler/scheduler_config.json", *(f"{part}/config.json" for part in parts)]
    for name in TOKENIZERS[kind]:
        files.append(f"{name}/tokenizer_config.json")
        if not any(all((folder / name / f).is_file() for f in some) for some in VOCABULARIES):
            files += [f"{name}/{f}" for f in VOCABULARIES[0]]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: {' and '.join(missing)} missing; expected a folder with {LAYOUT}"
        )
    for part in parts:
        find_weights(folder, part)
    _check_agreement(folder, kind)
    return kind


def find_weights(folder: Path, part: str) -> Path:
    """Find the weights of a part.

    Raises
    ------
    FileNotFoundError
        None are there.
    ValueError
        They are there as pickles alone.
    """
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
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


def load_part(kind: Any, folder: Path, part: str) -> Any:
    """Load a part in float32, whole: libraries fill what a file lacks with random weights.

    Raises
    ------
    ValueError
        Weights that cannot be read, or some that are missing.
    """
    path = find_weights(folder, part)
    try:
        module, found = kind.from_pretrained(
            folder / part,
            local_files_only=True,
            use_safetensors=True,
            variant="fp16" if ".fp16." in path.name else None,
            torch_dtype=torch.float32,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); {COPY}") from error
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{path}: {len(missing)} weights missing, such as {missing[0]}; {COPY}")
    return module.eval()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a damaged file is named."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); {COPY}") from error


def _read_kind(folder: Path) -> str:
    kind = read_json(folder / "model_index.json").get("_class_name", "")
    if kind not in ENCODERS:
        raise ValueError(
            f"{folder}: model_index.json names {kind or 'no pipeline'}, expected {SD} or {SDXL}:"
            " Stable Diffusion 1.x, 2.x and XL are supported; SD 3 and others are not"
        )
    return str(kind)


def _check_agreement(folder: Path, kind: str) -> None:
    """Refuse parts that do not fit one another."""
    unet, vae = (read_json(folder / part / "config.json") for part in ("unet", "vae"))
    texts = [read_json(folder / part / "config.json") for part in ENCODERS[kind]]
    given = sum(text.get("hidden_size", 0) for text in texts)
    if unet.get("cross_attention_dim") != given:
        raise ValueError(
            f"{folder}: unet/ reads texts of {unet.get('cross_attention_dim')} numbers,"
            f" {' and '.join(f'{part}/' for part in ENCODERS[kind])} give {given}; take all from"
            " one checkpoint"
        )
    if unet.get("in_channels") != vae.get("latent_channels"):
        raise ValueError(
            f"{folder}: unet/ takes {unet.get('in_channels')} channels, vae/ gives"
            f" {vae.get('latent_channels')}; checkpoints for inpainting or scaling do not serve"
        )
    if kind == SDXL:
        sizes = TIME_IDS * unet.get("addition_time_embed_dim", 0)
        given = texts[1].get("projection_dim", 0) + sizes
        if unet.get("projection_class_embeddings_input_dim") != given:
            raise ValueError(
                f"{folder}: unet/ reads {unet.get('projection_class_embeddings_input_dim')} numbers"
                f" of a pooled text and sizes, given are {given}; refiners and others whose sizes"
                " count differently do not serve"
            )
