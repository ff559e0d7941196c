"""What processes that share a training are told to do in tests; each finds it here by name."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import torch

from stages.generation.team import ALONE, Team, current_team


def die(folder: str) -> None:
    """The last process is killed while the others wait for it."""
    team = current_team()
    if team.rank == team.size - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    team.mean(torch.ones(1))


def fill_the_disk(folder: str) -> None:
    """The last process cannot write, while the others wait for it."""
    team = current_team()
    if team.rank == team.size - 1:
        raise OSError(errno.ENOSPC, "No space left on device")
    team.mean(torch.ones(1))


def stay(folder: str) -> None:
    """All say that they are there, and stay."""
    team = current_team()
    Path(folder, f"{team.rank}.txt").write_text(str(os.getpid()))
    time.sleep(600)


def tell(folder: str) -> None:
    """All tell where they are and what the environment says."""
    team = current_team()
    mean = team.mean(torch.tensor([float(team.rank), 1.0])).tolist()
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "")
    told = {"mean": mean, "threads": torch.get_num_threads(), "precision": precision}
    Path(folder, f"{team.rank}.json").write_text(json.dumps(told))


def train_together(folder: str, steps: int) -> None:
    """Train as many as there are."""
    train_some(Path(folder), steps, current_team())


class Exact(torch.nn.Module):
    """A denoiser in double precision: AdamW makes whole steps of gradients that are rounding."""

    def __init__(self, denoiser: torch.nn.Module) -> None:
        super().__init__()
        self.inner = denoiser.double()

    def forward(self, latents, times, states):
        return self.inner(latents.double(), times, states.double()).float()


def train_some(folder: Path, steps: int, team: Team = ALONE) -> None:
    """Train a small model with all that the loop can do; each keeps what it ended with."""
    from safetensors.torch import save_file

    from stages.generation.augmentation import MovingMaterial
    from stages.generation.scratch import build_scratch
    from stages.generation.train import encode_material, train
    from stages.generation.validation import Validation
    from tests.stages.generation.settings import settings

    generator = build_scratch(size=16, width=8, seed=0)
    generator.denoiser = Exact(generator.denoiser)
    images = torch.rand((8, 1, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1
    numbers = torch.tensor([0, 1] * 4)
    material = encode_material(generator, images, numbers)
    validation = Validation(
        encode_material(generator, images.flip(0), numbers),
        levels=1000,
        latent_shape=generator.latent_shape,
        every=2,
        seed=3,
    )
    chosen = settings(
        steps=steps, batch_size=4, ema_decay=0.5, drop_prompt=0.3, prior_weight=0.5, warmup=2
    )
    final, losses = train(
        generator,
        generator.named_parameters(),
        MovingMaterial(images, numbers, generator, 1.0, False),
        ["shrunken", "youthful"],
        chosen,
        seed=1,
        prior=material,
        prior_prompt="brain",
        state=folder / "state.safetensors",
        save_every=3,
        validation=validation,
        team=team,
    )
    whole = {name: value.contiguous() for name, value in final.items()}
    whole |= {f"best {name}": value.contiguous() for name, value in validation.best.items()}
    whole["losses"] = torch.tensor(losses)
    whole["validation"] = torch.tensor(validation.seen)
    save_file(whole, folder / f"{steps} steps, {team.rank} of {team.size}.safetensors")
