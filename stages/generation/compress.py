"""Make the codec of a cohort's whole brains: train it, and tell what it loses."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.generation.codec import Codec, CodecSettings, build_codec, train_codec
from stages.generation.slices import Pixels
from stages.generation.state import fingerprint
from stages.generation.tables import read_rows
from stages.generation.verdicts import HELD_OUT, TRAINING
from stages.generation.volumes import Brains, load_brains, to_images, to_voxels

SHOWN = 3  # volumes in the figure


@dataclass(frozen=True)
class Compressed:
    """A trained codec with what it was trained on.

    Attributes
    ----------
    images : tensor, (n, 1, x, y, z), -1 to 1
        Volumes of the training part, in the order of the cohort.
    losses : list
        Of ``train_codec``.
    errors : list of dict
        Rows: what volumes lose on the way through, training and held-out ones.
    rows : dict of list
        Name → planes of held-out volumes, and the same decoded.
    decoded
        All volumes of the cohort, encoded and decoded: what synthetic ones may be compared with.
    settings
        How it was trained.
    """

    codec: Codec
    voxel_mm: float
    images: Tensor
    losses: list[list[float]]
    errors: list[dict[str, Any]]
    rows: dict[str, list[Pixels]]
    decoded: Brains
    settings: CodecSettings

    def describe(self) -> dict[str, Any]:
        """Say it on a model's card."""
        told = asdict(self.settings)
        return {
            "VoxelMm": self.voxel_mm,
            "Codec": {
                "Width": told.pop("codec_width"),
                "LatentChannels": told.pop("latent_channels"),
                "Shape": list(self.images.shape[2:]),
                "Settings": told,
                "LastLoss": float(np.mean([row[0] for row in self.losses[-20:]])),
                "Reconstruction": {row["volumes"]: row for row in self.errors},
            },
        }


def fit_codec(
    brains: str | None,
    cohort: str,
    groups: Sequence[str],
    is_seen: NDArray[np.bool_],
    settings: CodecSettings,
    *,
    device: torch.device,
    seed: int,
    checkpoints: str,
    save_every: int,
) -> Compressed:
    """Train a codec on a cohort's training volumes.

    Parameters
    ----------
    is_seen : array, (n,)
        Which of the training part's volumes are trained on; the others are for validation.

    Raises
    ------
    FileNotFoundError
        Step prepare wrote no volumes.
    """
    if brains is None:
        raise FileNotFoundError(
            "plans/brains.safetensors: no volumes; run step prepare with generator latent-volume"
        )
    whole = load_brains(brains)
    train, held_out = (_take(whole, cohort, part, groups) for part in ("train", "test"))
    images = to_images(train.voxels)
    seen = images[is_seen]
    codec = build_codec(
        seen.mean((0, 1)),
        width=settings.codec_width,
        latent_channels=settings.latent_channels,
        seed=seed,
    ).to(device)
    state = None
    if checkpoints:
        own = {k: v for k, v in asdict(settings).items() if k != "codec_steps"}
        mark = fingerprint(own, seed, seen, next(codec.parameters()))
        state = Path(checkpoints) / f"codec-{mark}.safetensors"
    losses = train_codec(
        codec, seen.to(device), settings, seed=seed, state=state, save_every=save_every
    )
    train = Brains(train.voxels[is_seen], train.voxel_mm)
    mean = train.voxels.astype(np.float64).mean(0)
    decoded = Brains(
        to_voxels(codec.reconstruct(to_images(whole.voxels).to(device))), whole.voxel_mm
    )
    learnt, new = (_take(decoded, cohort, part, groups) for part in ("train", "test"))
    errors = [
        {"volumes": TRAINING, **measure_loss(train.voxels, learnt.voxels[is_seen], mean)},
        {"volumes": HELD_OUT, **measure_loss(held_out.voxels, new.voxels, mean)},
    ]
    shown = range(min(SHOWN, len(held_out.voxels)))
    rows = {
        "held out": [plane for i in shown for plane in held_out.planes(i)],
        "the same, encoded and decoded": [plane for i in shown for plane in new.planes(i)],
    }
    return Compressed(codec, whole.voxel_mm, images, losses, errors, rows, decoded, settings)


def measure_loss(
    real: NDArray[np.uint8], made: NDArray[np.uint8], mean: NDArray[np.float64]
) -> dict[str, Any]:
    """Measure what volumes, (n, x, y, z), lose on their way through a codec.

    Parameters
    ----------
    mean : array, (x, y, z)
        Of training volumes: what a codec would give that knew nothing of a person.

    Returns
    -------
    row : dict
        Root mean square error (white is 1) over volumes, the same of the mean, both over brain
        only too, and the peak signal-to-noise ratio in dB.
    """
    wanted = real.astype(np.float64)
    square, baseline = (wanted - made) ** 2, (wanted - mean) ** 2
    inside = wanted > 0
    rms = float(np.sqrt(square.mean())) / 255
    return {
        "n": len(real),
        "rms": rms,
        "baseline": float(np.sqrt(baseline.mean())) / 255,
        "psnr_db": float(-20 * np.log10(max(rms, 1e-12))),
        "brain_rms": float(np.sqrt(square[inside].mean())) / 255,
        "brain_baseline": float(np.sqrt(baseline[inside].mean())) / 255,
    }


def _take(whole: Brains, cohort: str, part: str, groups: Sequence[str]) -> Brains:
    rows = [r for r in read_rows(cohort) if r["split"] == part and r["group"] in groups]
    return Brains(whole.voxels[[int(row["place"]) for row in rows]], whole.voxel_mm)
