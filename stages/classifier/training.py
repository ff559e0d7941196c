"""The training loop, in the open: for epoch, for batch, forward, loss, backward, step.

Its state is saved every epoch; going on from there gives the same bits as never having stopped.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from stages.classifier import augment
from stages.classifier.checkpoint import (
    load_state,
    pack_optimiser,
    save_state,
    take,
    unpack_optimiser,
)
from stages.classifier.data import Data, Indices, batches
from stages.classifier.losses import make_loss
from stages.classifier.networks import has_batch_norm
from stages.classifier.penalties import penalise
from stages.classifier.program import Member, set_years

logger = logging.getLogger(__name__)
SCHEDULES = ("constant", "cosine")
MOST_FOR_STATISTICS = 256  # images over which batch normalisation's statistics are taken


@dataclass(frozen=True)
class Recipe:
    """How to train; ``penalty`` is a kind and a strength or None."""

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str = "constant"
    weight_decay: float = 0.0
    patience: int = 0
    keep: str = "best"
    augment: str = "none"
    may_flip: bool = False
    balance: bool = False
    precision: str = "no"
    compile: bool = False
    penalty: tuple[str, float] | None = None


@dataclass
class Outcome:
    """A trained member, its learning curve and the validation loss of what was kept."""

    member: Member
    history: list[dict[str, Any]]
    loss: float
    kept_epoch: int


def fit(
    member: Member,
    data: Data,
    train: Indices,
    validation: Indices,
    recipe: Recipe,
    *,
    seed: int,
    state: Path,
) -> Outcome:
    """Train a member; keep the epoch whose validation loss is least, or the last.

    Parameters
    ----------
    train, validation
        Rows of ``data``; without validation images the last epoch is kept.
    state
        File for the state after each epoch; if it is there, training goes on from it.

    Raises
    ------
    MemoryError
        The GPU's memory does not hold a batch; says which size to try.
    ValueError
        No epoch had a finite loss.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision=recipe.precision)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout
        try:
            return _fit(member, data, train, validation, recipe, seed, state, accelerator)
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(
                f"a batch of {recipe.batch_size} images does not fit into the GPU's memory; try"
                f" --classifier-batch-size {max(1, recipe.batch_size // 2)}"
            ) from error


def _fit(
    member: Member,
    data: Data,
    train: Indices,
    validation: Indices,
    recipe: Recipe,
    seed: int,
    state: Path,
    accelerator: Accelerator,
) -> Outcome:
    generator = torch.Generator().manual_seed(seed)
    if data.is_quantity:
        set_years(member.head, data.labels[train])
    loss_of = make_loss(member, data, train, balance=recipe.balance)
    member.to(accelerator.device)
    member.to(memory_format=_layout(data.images.ndim))  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        member.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    network, optimiser = accelerator.prepare(member.network, optimiser)
    forward = torch.compile(network) if recipe.compile else network
    history: list[dict[str, Any]] = []
    best, best_loss, kept = _copy(member), math.inf, -1
    if state.exists():
        tensors, notes = load_state(state)
        member.load_state_dict(take(tensors, "member"))
        unpack_optimiser(optimiser, tensors)
        generator.set_state(tensors["random.own"])
        torch.set_rng_state(tensors["random.torch"])
        best, best_loss, kept = take(tensors, "best"), notes["best_loss"], notes["kept"]
        best_loss = math.inf if best_loss is None else best_loss
        history = notes["history"]
        logger.info("going on after epoch %d", len(history))

    for epoch in range(len(history), recipe.epochs):
        if _has_stalled(epoch, kept, recipe):
            break
        started = time.perf_counter()
        rate = learning_rate(recipe, epoch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        member.train()
        order = train[torch.randperm(len(train), generator=generator).numpy()]
        order = order[accelerator.process_index :: accelerator.num_processes]
        total, count = 0.0, 0
        smallest = 2 if has_batch_norm(member) else 1
        for rows, raw in batches(data.images, order, recipe.batch_size, smallest=smallest):
            images = data.scale(raw.to(accelerator.device, non_blocking=True))
            if recipe.augment != "none" or recipe.may_flip:
                movement = augment.draw(
                    len(rows),
                    images.ndim - 2,
                    recipe.augment,
                    may_flip=recipe.may_flip,
                    generator=generator,
                )
                images = augment.move(images, movement, generator)
            images = images.to(memory_format=_layout(data.images.ndim))
            optimiser.zero_grad(set_to_none=True)
            with accelerator.autocast():
                scores = forward(images)
            loss = loss_of(scores.float(), data.labels[rows].to(scores.device))
            penalty = penalise(member.network, *recipe.penalty) if recipe.penalty else 0.0
            accelerator.backward(loss + penalty)
            optimiser.step()
            total += float(loss.detach()) * len(rows)
            count += len(rows)

        if len(validation) or epoch == recipe.epochs - 1:  # nobody reads them otherwise
            settle_statistics(member, data, train, recipe.batch_size)
        row = {"epoch": epoch, "learning_rate": rate, "train_loss": total / max(count, 1)}
        with torch.no_grad():
            penalty = penalise(member.network, *recipe.penalty) if recipe.penalty else 0.0
        row["penalty"] = float(penalty)
        if len(validation):
            scores = score(member.network, data, validation, recipe.batch_size)
            row["validation_loss"] = float(loss_of(scores, data.labels[validation]))
            row |= judge(member, scores, data.labels[validation])
        seconds = time.perf_counter() - started
        current = row.get("validation_loss", -math.inf)
        if recipe.keep == "last" or not len(validation) or current < best_loss:
            best, best_loss, kept = _copy(member), current, epoch
        history.append(row)
        if accelerator.is_main_process:
            _save(state, member, best, best_loss, kept, optimiser, generator, history)
        logger.info("epoch %d of %d: %s (%.1f s)", epoch + 1, recipe.epochs, _tell(row), seconds)
    if history and kept < 0:
        raise ValueError(
            f"no loss of {len(history)} epochs was finite: training diverged; give a smaller"
            " --classifier-learning-rate"
        )
    member.load_state_dict(best)
    member.to("cpu").eval()
    return Outcome(member, history, best_loss, kept)


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Give an epoch's learning rate: constant, or a cosine to zero."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))


@torch.no_grad()
def settle_statistics(member: Member, data: Data, train: Indices, size: int) -> None:
    """Take batch normalisation's statistics anew over training images as they are.

    The running means of few, small, augmented batches lag behind the weights, and evaluation mode
    then falls apart where training mode looks fine (seen with batches of eight).
    """
    if not has_batch_norm(member):
        return
    device = next(member.parameters()).device
    step = max(1, len(train) // MOST_FOR_STATISTICS)
    loader = (
        data.scale(raw.to(device))
        for _, raw in batches(data.images, train[::step], size, smallest=2)
    )
    torch.optim.swa_utils.update_bn(loader, member.network)


@torch.no_grad()
def score(network: nn.Module, data: Data, rows: Indices, size: int) -> Tensor:
    """Score images in evaluation mode, (n,) → (n, k), on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    found = [network(data.scale(raw.to(device))) for _, raw in batches(data.images, rows, size)]
    return torch.cat(found).float().cpu()


def judge(member: Member, scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Say how good raw scores are: accuracy, or mean absolute error in the target's units."""
    if not labels.is_floating_point():
        return {"validation_accuracy": float((scores.argmax(dim=1) == labels).float().mean())}
    years = member.head.cpu()(scores)[:, 0]
    return {"validation_error": float((years - labels).abs().mean())}


def _save(
    state: Path,
    member: Member,
    best: dict[str, Tensor],
    best_loss: float,
    kept: int,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    history: Sequence[dict[str, Any]],
) -> None:
    tensors = {f"member.{k}": v for k, v in member.state_dict().items()}
    tensors |= {f"best.{k}": v for k, v in best.items()} | pack_optimiser(optimiser)
    tensors |= {"random.own": generator.get_state(), "random.torch": torch.get_rng_state()}
    loss = best_loss if math.isfinite(best_loss) else None
    save_state(state, tensors, {"history": list(history), "best_loss": loss, "kept": kept})


def _has_stalled(epoch: int, kept: int, recipe: Recipe) -> bool:
    return recipe.patience > 0 and recipe.keep == "best" and epoch - kept > recipe.patience


def _copy(member: Member) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in member.state_dict().items()}


def _layout(ndim: int) -> torch.memory_format:
    """Put channels last, of volumes (5 sides) or planes (4).

    Tensor cores want it, and oneDNN then reorders nothing between layers.
    """
    return torch.channels_last_3d if ndim == 5 else torch.channels_last


def _tell(row: dict[str, Any]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in row.items() if k != "epoch")
