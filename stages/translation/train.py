"""Step train: learn to translate between two groups, or between a control's two groups."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from stages.translation import checkpoint, evaluation, figures
from stages.translation.cyclegan import Networks
from stages.translation.dataset import by_participant, find_box, pool_slices, read_samples
from stages.translation.grids import axes_of, make_grid
from stages.translation.networks import (
    Generator,
    PatchDiscriminator,
    choose_blocks,
    choose_strides,
    initialise,
)
from stages.translation.people import REAL
from stages.translation.tables import participant_of, read_rows, write_rows
from stages.translation.training import Settings, train

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
SHOWN = 4
FIGURE_EVERY = 20  # epochs between pictures drawn while training


def run(
    *,
    images: list[str],
    probsegs: list[str],
    brains: list[str],
    cohort: str,
    weights: str,
    card: str,
    effects: str,
    losses: str,
    metrics: str,
    losses_figure: str,
    samples_figure: str,
    content: str,
    domains: list[str],
    pair: str,
    plane: str,
    slices_mm: list[float],
    stack_mm: float,
    spacing_mm: float,
    size: int,
    generator: str,
    features: int,
    blocks: int,
    epochs: int,
    decay_epochs: int,
    control_share: float,
    batch_size: int,
    learning_rate: float,
    cycle_weight: float,
    identity_weight: float,
    pool_size: int,
    augment: bool,
    precision: str,
    checkpoints: str,
    compile_networks: bool,
    seed: int,
) -> None:
    """Write generators, card, losses, and what they do to the people held out.

    The training state is kept in the folder ``checkpoints`` by pair; started again with it and all
    else equal, the step goes on from there. Without a folder it lies beside the weights.

    Raises
    ------
    ValueError
        Images of different grids, constant images or slices, or losses that diverge.
    """
    paths = {"gm": images, "gmfraction": probsegs, "brain": brains}[content]
    groups = _read_groups(cohort, paths, pair, domains)
    # Of everybody in the cohort, so that the controls see the same grid.
    members = {row["participant_id"] for row in read_rows(cohort)}
    source, box = find_box(sorted(path for path in paths if participant_of(path) in members))
    grid = make_grid(
        axes_of(source.shape, source.affine),
        plane=plane,
        slices_mm=slices_mm,
        stack_mm=stack_mm,
        spacing_mm=spacing_mm,
        size=size,
        box=box,
    )
    data = {key: read_samples(own, source, grid) for key, own in groups.items() if own}
    smallest = min(grid.sample_shape)
    architecture = {
        "features": features,
        "blocks": choose_blocks(blocks, smallest),
        "dims": grid.dims,
        "is_residual": generator == "residual",
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nets = _build(architecture, choose_strides(smallest), seed, device)
    share = 1.0 if pair == REAL else control_share
    settings = Settings(
        epochs=max(1, round(epochs * share)),
        decay_epochs=round(decay_epochs * share),
        batch_size=batch_size,
        learning_rate=learning_rate,
        cycle_weight=cycle_weight,
        identity_weight=identity_weight,
        pool_size=pool_size,
        augment=augment,
        precision=precision,
        seed=seed,
    )
    x, y = (pool_slices(data["train", d], name=d) for d in domains)
    shown = [data["train", d][:SHOWN, data["train", d].shape[1] // 2] for d in domains]

    def draw(epoch: int, done: list[dict[str, float]]) -> None:
        if epoch % FIGURE_EVERY and epoch < settings.epochs + settings.decay_epochs:
            return
        figures.draw_losses(Path(losses_figure), done, pair)
        figures.draw_samples(Path(samples_figure), nets.G, nets.F, shown, domains, f"epoch {epoch}")

    logger.info("%s: %d and %d images of %s", pair, len(x.images), len(y.images), grid.sample_shape)
    history = train(
        nets,
        x,
        y,
        settings,
        state_path=_state_path(checkpoints, pair, weights),
        identity=json.dumps(
            [architecture, grid.to_json(), pair, [groups["train", d] for d in domains]]
        ),
        run_as=_wrap(nets, compile_networks),
        on_epoch=draw,
    )
    draw(len(history), history)
    write_rows(losses, history)
    checkpoint.save_weights(Path(weights), nets.named())
    about = {
        "Name": f"cyclegan-{pair}",
        "Domains": domains,
        "Content": content,
        "Architecture": architecture,
        "Parameters": {n: sum(p.numel() for p in m.parameters()) for n, m in nets.named().items()},
        "Grid": grid.to_json(),
        "Source": {"Shape": list(source.shape), "Affine": source.affine.tolist()},
        "TrainingParticipants": sorted(
            {f"bids::{Path(p).name.split('_')[0]}" for d in domains for p in groups["train", d]}
        ),
        "Epochs": len(history),
        "Licence": "As the data it was trained on; images may be recoverable from weights.",
    }
    checkpoint.write_card(Path(card), Path(weights), about)
    _evaluate(nets, data, domains, pair, Path(effects), Path(metrics), seed)


def _state_path(checkpoints: str, pair: str, weights: str) -> Path:
    if not checkpoints:
        return Path(weights).with_name("state.pt")
    Path(checkpoints).mkdir(parents=True, exist_ok=True)
    return Path(checkpoints) / f"{pair}.pt"


def _read_groups(
    cohort: str, paths: Sequence[str], pair: str, domains: Sequence[str]
) -> dict[tuple[str, str], list[str]]:
    """List images by (split, domain) of a pair of groups."""
    own = by_participant(paths)
    groups: dict[tuple[str, str], list[str]] = {
        (part, d): [] for part in ("train", "test") for d in domains
    }
    for row in read_rows(cohort):
        if row[pair] != "n/a":
            groups[row["split"], row[pair]] += own.get(row["participant_id"], [])
    for d in domains:
        if not groups["train", d]:
            raise ValueError(f"{cohort}: nobody with images trains in {d}; run step cohort again")
    return groups


def _build(architecture: dict[str, Any], strides: int, seed: int, device: torch.device) -> Networks:
    draws = torch.Generator().manual_seed(seed)
    features, dims = architecture["features"], architecture["dims"]
    nets = Networks(
        G=Generator(**architecture),
        F=Generator(**architecture),
        D_X=PatchDiscriminator(features=features, strides=strides, dims=dims),
        D_Y=PatchDiscriminator(features=features, strides=strides, dims=dims),
    )
    for network in nets.named().values():
        initialise(network, draws)
        network.to(device)
    return nets


def _wrap(nets: Networks, compile_networks: bool) -> Networks:
    """Let networks use every accelerator there is, and compile them if asked to."""
    wrapped = dict(nets.named())
    if torch.cuda.device_count() > 1:
        wrapped = {name: nn.DataParallel(network) for name, network in wrapped.items()}
    if compile_networks:
        wrapped = {name: torch.compile(network) for name, network in wrapped.items()}  # type: ignore[misc]
    return Networks(**wrapped)


def _evaluate(
    nets: Networks,
    data: dict[tuple[str, str], Array],
    domains: Sequence[str],
    pair: str,
    effects: Path,
    metrics: Path,
    seed: int,
) -> None:
    """Measure translations of the people held out, of those trained on apart from them."""
    rows: list[dict[str, Any]] = []
    maps: dict[str, Array] = {}
    for origin, target, there, back in (
        (domains[0], domains[1], nets.G.eval(), nets.F.eval()),
        (domains[1], domains[0], nets.F, nets.G),
    ):
        for part in ("train", "test"):
            if (part, origin) not in data:
                continue
            images = data[part, origin]
            flat = images.reshape(-1, *images.shape[2:])
            made = evaluation.translate(there, back, flat)
            change = (made.there - flat).reshape(images.shape).mean(0)
            maps[f"{part}.to{target}"] = change
            maps[f"{part}.{origin}"] = images.mean(0)
            mask = evaluation.tissue_mask(images)
            per_slice = np.concatenate([mask] * len(images)).reshape(flat.shape)
            about = {"pair": pair, "split": part, "direction": f"{origin}To{target}"}
            measured = evaluation.summarise(evaluation.measure(flat, made, per_slice))
            for name, (value, low, high, n) in measured.items():
                rows.append(
                    about | {"metric": name, "value": value, "ci_low": low, "ci_high": high, "n": n}
                )
            errors = evaluation.noisy_cycle(there, back, flat, per_slice, seed=seed)
            for deviation, error in errors.items():
                rows.append(
                    about
                    | {
                        "metric": f"reversibility_noise{deviation:g}",
                        "value": error,
                        "n": len(flat),
                    }
                )
            size = float(np.abs(change[mask]).mean()) / 2
            rows.append(about | {"metric": "mean_change", "value": size, "n": len(images)})
    save_file(maps, effects)
    write_rows(metrics, rows)
