"""Step finetune: train or fine-tune the diffusion model of one condition."""

import json
import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.generation import figures
from stages.generation.adapters import choose_weights, public_name, save_weights
from stages.generation.augmentation import MovingMaterial
from stages.generation.build import (
    JOINT,
    build_generator,
    choose_device,
    choose_precision,
    codec_tensors,
)
from stages.generation.card import describe_base, digest, list_people, loss_rows, tell_kept
from stages.generation.codec import CodecSettings
from stages.generation.cohort import hold_out
from stages.generation.compress import fit_codec
from stages.generation.examples import make_drawer
from stages.generation.generator import LATENT_VOLUME, STABLE_DIFFUSION, Generator
from stages.generation.provenance import describe_training
from stages.generation.sampling import draw_seed, sample
from stages.generation.slices import Pixels, load_stack, to_tensor
from stages.generation.state import fingerprint
from stages.generation.tables import read_rows, write_rows
from stages.generation.team import current_team, launch
from stages.generation.train import Settings, encode_material, train
from stages.generation.validation import BEST, Drawable, Validation
from stages.generation.volumes import save_brains

logger = logging.getLogger(__name__)

PRIOR_BATCH = 4


def run(
    *,
    cohort: str,
    stack: str,
    prompts: str,
    brains: str | None,
    base: str | None,
    weights: str,
    card: str,
    losses: str,
    curve: str,
    grid: str,
    codec: str,
    reconstructions: str,
    decoded: str,
    condition: str,
    generator: str,
    size: int,
    width: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    warmup: int,
    models: str,
    balance: bool,
    min_snr: float,
    drop_prompt: float,
    ema_decay: float,
    text_encoder: bool,
    lora_rank: int,
    prior_weight: float,
    prior_prompt: str,
    prior_images: int,
    validation_fraction: float,
    validate_every: int,
    keep: str,
    augmentation: float,
    flip: bool,
    processes: int,
    latent_channels: int,
    codec_width: int,
    codec_steps: int,
    codec_batch: int,
    codec_rate: float,
    kl_weight: float,
    precision: str,
    gradient_checkpointing: bool,
    save_every: int,
    checkpoints: str,
    grids: int,
    sampling_steps: int,
    guidance: float,
    seed: int,
) -> None:
    """Write weights, their card, losses and example images.

    Raises
    ------
    ValueError
        Prior preservation without a checkpoint, the best weights without validation, or what the
        model or checkpoint cannot do.
    """
    given = dict(locals())
    team = current_team()
    if team.size != processes:  # this process starts those that train, and waits
        launch(run, given, processes)
        return
    if keep == BEST and not validation_fraction:
        raise ValueError("keep: the best weights are those of validation; give validation_fraction")
    if generator == LATENT_VOLUME and (augmentation or flip):  # before the codec is trained
        raise ValueError("augmentation and flip: for slices only; set them to 0 and false")
    if validation_fraction and validate_every > steps:
        raise ValueError(f"validate_every {validate_every}: never in {steps} steps; lower it")
    device = choose_device()
    settings = Settings(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup=warmup,
        min_snr=min_snr,
        drop_prompt=drop_prompt,
        ema_decay=ema_decay,
        prior_weight=prior_weight,
        balance=balance,
        precision=choose_precision(precision, device),
    )
    if prior_weight and generator != STABLE_DIFFUSION:
        raise ValueError(
            "prior_weight: a model from scratch knows nothing that could be preserved; set it to 0"
        )
    texts = {r["group"]: r["prompt"] for r in read_rows(prompts) if r["condition"] == condition}
    slices, labels, people, origin = _training_slices(cohort, stack, list(texts))
    is_validation = hold_out(
        people, labels, fraction=validation_fraction, seed=draw_seed(seed, "validation people")
    )
    is_seen = ~is_validation
    compressed = None
    if generator == LATENT_VOLUME:
        compressed = fit_codec(
            brains,
            cohort,
            list(texts),
            is_seen,
            CodecSettings(
                latent_channels=latent_channels,
                codec_width=codec_width,
                codec_steps=codec_steps,
                codec_batch=codec_batch,
                codec_rate=codec_rate,
                kl_weight=kl_weight,
                precision=settings.precision,
            ),
            device=device,
            seed=seed,
            checkpoints=checkpoints if team.is_first else "",
            save_every=save_every,
        )
    images = compressed.images if compressed else to_tensor(slices, size)
    parts = [list(texts)] if models == JOINT else [[group] for group in texts]
    kept: dict[str, torch.Tensor] = {}
    history: dict[str, NDArray[np.float64]] = {}
    shown: dict[str, list[Pixels]] = {}
    looks: dict[str, Validation] = {}
    for groups in parts:
        name = "" if models == JOINT else groups[0]
        net = build_generator(
            generator,
            base,
            size=size,
            width=width,
            seed=seed,
            gradient_checkpointing=gradient_checkpointing,
            codec=compressed.codec if compressed else None,
            voxel_mm=compressed.voxel_mm if compressed else 0.0,
        )
        net.denoiser.to(device)
        net.text_encoder.to(device)
        prior = None
        if prior_weight:
            seeds = [draw_seed(seed, "prior", str(i)) for i in range(prior_images)]
            made = sample(
                net,
                [prior_prompt] * prior_images,
                seeds,
                steps=sampling_steps,
                guidance=guidance,
                batch=PRIOR_BATCH,
            )
            prior = encode_material(net, made, torch.zeros(prior_images, dtype=torch.int64))
        trained = choose_weights(net, text_encoder=text_encoder, lora_rank=lora_rank, seed=seed)
        own = np.isin(labels, groups)
        numbers = torch.tensor([groups.index(g) if g in groups else -1 for g in labels])
        pixels = images[own & is_seen]
        told = numbers[own & is_seen]
        material: Drawable
        if augmentation or flip:
            material = MovingMaterial(pixels, told, net, augmentation, flip)
        else:
            material = encode_material(net, pixels, told)
        if validation_fraction:
            aside = own & is_validation
            looks[name] = Validation(
                encode_material(net, images[aside], numbers[aside]),
                levels=len(net.noising.alphas_cumprod),
                latent_shape=net.latent_shape,
                every=validate_every,
                seed=draw_seed(seed, "validation"),
            )
        about_state = asdict(settings) | {
            "augmentation": augmentation,
            "flip": flip,
            "validation": (validation_fraction, validate_every),
        }
        averages, found = train(
            net,
            trained,
            material,
            [texts[g] for g in groups],
            settings,
            seed=seed,
            prior=prior,
            prior_prompt=prior_prompt,
            state=_state_file(checkpoints, condition, name, about_state, texts, pixels, told, net),
            save_every=save_every,
            on_grid=make_drawer(shown, texts, groups, guidance, seed),
            grid_every=max(1, steps // grids) if grids else 0,
            validation=looks.get(name),
            team=team,
        )
        if keep == BEST and team.is_first:
            averages = looks[name].best
        prefix = f"{name}/" if name else ""
        whole = averages | codec_tensors(net)
        kept |= {f"{prefix}{public_name(k)}": v for k, v in whole.items()}
        history[name] = np.array(found)
        logger.info("%s %s: loss %.4f", condition, name, history[name][-1, 0])
    if not team.is_first:
        return

    why = [tell_kept(name, keep, steps, looks.get(name)) for name in history]
    last = max(one["Step"] for one in why)
    provenance = describe_training(generator, origin=origin, steps=last, base=base)
    save_weights(weights, kept)
    write_rows(losses, loss_rows(history, looks, compressed))
    seen = {name: np.array(look.seen) for name, look in looks.items()}
    figures.draw_losses(curve, history, seen, note=provenance)
    if shown:
        title = f"Synthetic, the same noise while training ({condition})"
        figures.draw_rows(grid, shown, title, note=provenance)
    if compressed:
        write_rows(codec, compressed.errors)
        save_brains(decoded, compressed.decoded)
        title = f"Held-out volumes and what the codec leaves of them ({condition})"
        figures.draw_rows(reconstructions, compressed.rows, title, note=provenance)
    about = {
        "Name": f"generation {condition}",
        "Kind": generator,
        "Provenance": provenance,
        "Base": describe_base(base) if generator == STABLE_DIFFUSION else None,
        "Condition": condition,
        "Models": models,
        "Prompts": texts,
        "Size": None if compressed else size,
        "Width": width,
        "LoraRank": lora_rank,
        "TextEncoderTrained": text_encoder,
        "Settings": asdict(settings),
        "PriorPrompt": prior_prompt if prior_weight else None,
        "PriorImages": prior_images if prior_weight else 0,
        "TrainingSlices": dict(Counter(labels[is_seen].tolist())),
        "TrainingParticipants": list_people(people[is_seen]),
        "ValidationParticipants": list_people(people[is_validation]),
        "ValidationFraction": validation_fraction,
        "Augmentation": augmentation,
        "Flip": flip,
        "Processes": processes,
        "Kept": why,
        "Seed": seed,
        "FirstLoss": float(np.mean([h[:20, 0].mean() for h in history.values()])),
        "LastLoss": float(np.mean([h[-20:, 0].mean() for h in history.values()])),
        "SHA256": {Path(weights).name: digest(Path(weights))},
        **(compressed.describe() if compressed else {}),
        "IntendedUse": "Research on synthetic data. Not for diagnosis. Slices are not people.",
        "Licence": "That of training data and base checkpoint; check both before sharing.",
    }
    Path(card).write_text(json.dumps(about, indent=2), encoding="utf-8")


def _training_slices(
    cohort: str, stack: str, groups: list[str]
) -> tuple[Pixels, NDArray[Any], NDArray[Any], str]:
    """Read slices, group and participant of each, and whether these are real."""
    rows = [r for r in read_rows(cohort) if r["split"] == "train" and r["group"] in groups]
    places = [int(row["place"]) for row in rows]
    people = np.array([row["participant_id"] for row in rows])
    labels = np.array([row["group"] for row in rows])
    return load_stack(stack)[places], labels, people, rows[0]["origin"]


def _state_file(
    folder: str,
    condition: str,
    name: str,
    settings: dict[str, Any],
    texts: dict[str, str],
    images: torch.Tensor,
    prompt: torch.Tensor,
    net: Generator,
) -> Path | None:
    """Name the file of this training's state: another training has another name.

    The number of steps does not count, since no step depends on it: a training can be prolonged.
    Nor does the number of processes, nor which of the weights are kept in the end.
    """
    if not folder:
        return None
    settings = {key: value for key, value in settings.items() if key != "steps"}
    first = next(iter(net.named_parameters().values()))
    latents, _ = net.encode(images[:1].to(net.device))
    mark = fingerprint(settings, texts, images, prompt, first, latents)
    return Path(folder) / f"{condition}{name}-{mark}.safetensors"
