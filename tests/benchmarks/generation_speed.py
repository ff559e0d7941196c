"""Training steps and sampled images per second, against plain loops with the same settings.

Claim: the small model samples faster than diffusers' pipelines do prompt by prompt, and trains as
fast as a plain loop in the style of diffusers' example scripts, since both wait for convolutions;
only bfloat16, where the processor has it, is faster. Both loops draw the same numbers and end with
the same weights, to rounding, or the benchmark stops. Actions run in turns, ratios are medians over
rounds, and the number of threads is set. Random weights do for speed.

    python -m tests.benchmarks.generation_speed --threads 1 --size 64 --width 32
    python -m tests.benchmarks.generation_speed --architecture sd15 --size 512 --batch 4
"""

import argparse
import copy
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor
from torch.nn import functional

from stages.generation.adapters import choose_weights
from stages.generation.checkpoint import load_checkpoint
from stages.generation.generator import Generator
from stages.generation.sampling import sample
from stages.generation.scratch import build_scratch
from stages.generation.slices import to_tensor
from stages.generation.train import STEPS_PER_SEED, Settings, draw_picks, encode_material, train
from tests.benchmarks import record
from tests.stages.generation import toy
from tests.stages.generation.tiny_checkpoint import write_checkpoint

PROMPTS = ["shrunken", "youthful"]
FLOAT32, BFLOAT16 = "float32", "bfloat16"
RATE, DECAY, DROP, GAMMA = 1e-4, 0.995, 0.1, 5.0
GUIDANCE = 2.0


def plain_training(
    generator: Generator,
    images: Tensor,
    numbers: Tensor,
    *,
    steps: int,
    batch: int,
    precision: str,
    seed: int = 0,
) -> None:
    """Train as diffusers' example scripts do: encode images and prompts in every step."""
    parameters = list(generator.denoiser.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=1e-2)
    averages = EMAModel(parameters, decay=DECAY)
    noising, device = generator.noising, generator.device
    kind = noising.config.prediction_type
    generator.denoiser.train()
    for step in range(steps):
        draws = torch.Generator().manual_seed(seed * STEPS_PER_SEED + step)
        picks = draw_picks(numbers, count=batch, balance=True, draws=draws)
        with torch.no_grad():
            mean, spread = generator.encode(images[picks].to(device))
        latents = mean + spread * torch.randn(mean.shape, generator=draws).to(device)
        noise = torch.randn(latents.shape, generator=draws).to(device)
        times = torch.randint(len(noising.alphas_cumprod), (batch,), generator=draws).to(device)
        dropped = (torch.rand(batch, generator=draws) < DROP).tolist()
        texts = [
            "" if d else PROMPTS[n] for d, n in zip(dropped, numbers[picks].tolist(), strict=True)
        ]
        with torch.no_grad():
            states = generator.states(texts)
        noisy = noising.add_noise(latents, noise, times)
        with torch.autocast(device.type, torch.bfloat16, precision == BFLOAT16):
            predicted = generator.denoiser(noisy, times, states)
        wanted = noise if kind == "epsilon" else noising.get_velocity(latents, noise, times)
        snr = compute_snr(noising, times)
        weights = torch.stack([snr, GAMMA * torch.ones_like(snr)], dim=1).min(dim=1)[0]
        weights = weights / (snr if kind == "epsilon" else snr + 1)
        loss = functional.mse_loss(predicted.float(), wanted.float(), reduction="none")
        loss = (loss.mean(dim=list(range(1, 4))) * weights).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        averages.step(parameters)
        loss.item()


def our_training(
    generator: Generator,
    images: Tensor,
    numbers: Tensor,
    *,
    steps: int,
    batch: int,
    precision: str,
    seed: int = 0,
) -> None:
    """Train with the stage's loop; encoding is part of the time."""
    settings = Settings(
        steps=steps,
        batch_size=batch,
        learning_rate=RATE,
        warmup=0,
        min_snr=GAMMA,
        drop_prompt=DROP,
        ema_decay=DECAY,
        prior_weight=0.0,
        balance=True,
        precision=precision,
    )
    weights = choose_weights(generator, text_encoder=False, lora_rank=0, seed=0)
    material = encode_material(generator, images, numbers)
    train(generator, weights, material, PROMPTS, settings, seed=seed)


@torch.no_grad()
def plain_sampling(generator: Generator, count: int, steps: int) -> None:
    """Sample prompt by prompt as diffusers' pipelines do: both passes of guidance in one batch."""
    for i in range(count):
        scheduler = DDIMScheduler.from_config(generator.noising.config)
        scheduler.set_timesteps(steps)
        latents = torch.randn(1, *generator.latent_shape, device=generator.device)
        states = generator.states(["", PROMPTS[i % 2]])
        for t in scheduler.timesteps:
            times = t.expand(2).to(generator.device)
            e, full = generator.denoiser(torch.cat([latents] * 2), times, states).chunk(2)
            latents = scheduler.step(e + GUIDANCE * (full - e), t, latents).prev_sample
        generator.decode(latents)


def our_sampling(generator: Generator, count: int, steps: int) -> None:
    """Sample as the stage does."""
    prompts = [PROMPTS[i % 2] for i in range(count)]
    sample(generator, prompts, list(range(count)), steps=steps, guidance=GUIDANCE, batch=10)


def finished(action: Callable[[], None]) -> Callable[[], None]:
    """Make an action wait for the work of an accelerator."""

    def run() -> None:
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def fresh(generator: Generator) -> Generator:
    """Copy a generator so that its denoiser may be trained."""
    other = copy.copy(generator)
    other.denoiser = copy.deepcopy(generator.denoiser).requires_grad_(True)
    return other


def largest_difference(generator: Generator, *material: Tensor, batch: int) -> float:
    """Train both ways from the same weights; say how far apart any weight ends."""
    ours, plain = fresh(generator), fresh(generator)
    for net, training in ((ours, our_training), (plain, plain_training)):
        training(net, *material, steps=3, batch=batch, precision=FLOAT32)
    pairs = zip(ours.denoiser.parameters(), plain.denoiser.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def build(args: Any, folder: Path) -> Generator:
    """Make the model whose speed is measured, with random weights."""
    if args.architecture == "scratch":
        return build_scratch(size=args.size, width=args.width, seed=0)
    generator = load_checkpoint(write_checkpoint(folder / "base"), size=args.size)
    if args.architecture == "sd15":
        from diffusers import UNet2DConditionModel

        generator.denoiser.unet = UNet2DConditionModel(cross_attention_dim=32)  # sizes of SD 1.5
        generator.latent_shape = (4, args.size // 8, args.size // 8)
        encode = generator.encode
        generator.encode = lambda images: tuple(
            functional.avg_pool2d(part, 4) for part in encode(images)
        )
    return generator


def measure(generator: Generator, images: Tensor, numbers: Tensor, args: Any) -> list[Any]:
    """Time training, in both precisions, and sampling; give a row for each action."""

    def training(loop: Any, precision: str) -> Callable[[], None]:
        own = fresh(generator)
        how = {"steps": args.steps, "batch": args.batch, "precision": precision}
        return finished(partial(loop, own, images, numbers, **how))

    rows = []
    for precision in (FLOAT32, BFLOAT16):
        actions = {
            f"training, {precision}": training(our_training, precision),
            f"plain training, {precision}": training(plain_training, precision),
        }
        if precision != FLOAT32:
            actions[f"plain training, {FLOAT32}"] = training(plain_training, FLOAT32)
        for row in record.time_in_turns(actions, args.rounds):
            rows.append({**row, "per_s": round(args.steps / row["seconds"], 2)})
    generator.denoiser.eval()
    actions = {
        "sampling": finished(partial(our_sampling, generator, args.images, args.sampling_steps)),
        "plain sampling": finished(
            partial(plain_sampling, generator, args.images, args.sampling_steps)
        ),
    }
    for row in record.time_in_turns(actions, args.rounds):
        rows.append({**row, "per_s": round(args.images / row["seconds"], 2)})
    return rows


def main() -> None:
    """Measure both sides in turns and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=["scratch", "tiny", "sd15"], default="scratch")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--sampling-steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    slices, groups = toy.draw_people({"AD": 32, "CN": 32}, 0)
    images = to_tensor(slices, args.size)
    numbers = torch.tensor([0 if g == "AD" else 1 for g in groups])
    rows = []
    with TemporaryDirectory() as folder:
        generator = build(args, Path(folder))
        generator.denoiser.to(device)
        generator.text_encoder.to(device)
        for threads in args.threads:
            torch.set_num_threads(threads)
            apart = largest_difference(generator, images, numbers, batch=args.batch)
            if apart > RATE:  # the length of one step of one weight
                raise SystemExit(f"the loops end {apart:.2g} apart; they do not do the same")
            about = {
                "architecture": args.architecture,
                "size": args.size,
                "batch": args.batch,
                "threads": threads,
                "load": round(os.getloadavg()[0], 1),  # of the machine, the last minute
                "weights_apart": apart,
            }
            if torch.cuda.is_available():
                about["peak_gb"] = torch.cuda.max_memory_allocated() / 2**30
            rows += [row | about for row in measure(generator, images, numbers, args)]
    name = f"generation_speed_{args.architecture}_{device.type}"
    record.save(name, rows, ["torch", "diffusers"], args.out)


if __name__ == "__main__":
    main()
