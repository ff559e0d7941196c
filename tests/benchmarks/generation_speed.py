"""Training steps and sampled images per second, against plain loops with the same settings.

Claim: on two cores with the number of threads set, the small model trains and samples no slower
than a plain loop as in diffusers' examples; fine-tuning a checkpoint is faster, since images and
prompts are encoded once. Both sides run in one process, in turn, and the better of the repeats
counts. Random weights do for speed.

    python -m tests.benchmarks.generation_speed --threads 1 --size 64 --width 32
    python -m tests.benchmarks.generation_speed --architecture sd15 --size 512 --batch 4
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import EMAModel, compute_snr
from torch.nn import functional

from stages.generation.adapters import choose_weights
from stages.generation.checkpoint import load_checkpoint
from stages.generation.generator import Generator
from stages.generation.sampling import sample
from stages.generation.scratch import build_scratch
from stages.generation.slices import to_tensor
from stages.generation.train import Settings, encode_material, train
from tests.benchmarks import record
from tests.stages.generation import toy
from tests.stages.generation.tiny_checkpoint import write_checkpoint

PROMPTS = ["shrunken", "youthful"]


def plain_training(generator: Generator, images: Any, numbers: Any, args: Any) -> None:
    """Train as diffusers' example scripts do: encode images and prompts in every step."""
    parameters = list(generator.denoiser.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-2)
    averages = EMAModel(parameters, decay=0.995)
    noising = generator.noising
    data = torch.utils.data.TensorDataset(images, numbers)
    loader = torch.utils.data.DataLoader(data, args.batch, shuffle=True, drop_last=True)
    device, done = generator.device, 0
    generator.denoiser.train()
    while done < args.steps:
        for batch, which in loader:
            with torch.no_grad():
                mean, spread = generator.encode(batch.to(device))
                states = generator.states([PROMPTS[i] for i in which])
            latents = mean + spread * torch.randn_like(mean)
            noise = torch.randn_like(latents)
            times = torch.randint(0, 1000, (len(latents),), device=device).long()
            noisy = noising.add_noise(latents, noise, times)
            with torch.autocast(device.type, torch.bfloat16, args.precision == "bfloat16"):
                predicted = generator.denoiser(noisy, times, states)
            kind = noising.config.prediction_type
            wanted = noise if kind == "epsilon" else noising.get_velocity(latents, noise, times)
            snr = compute_snr(noising, times)
            weights = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
            weights = weights / (snr if kind == "epsilon" else snr + 1)
            loss = functional.mse_loss(predicted.float(), wanted, reduction="none")
            loss = (loss.mean(dim=list(range(1, 4))) * weights).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            averages.step(parameters)
            loss.item()
            done += 1
            if done == args.steps:
                return


def our_training(generator: Generator, images: Any, numbers: Any, args: Any) -> None:
    """Train with the stage's loop; encoding is part of the time."""
    weights = choose_weights(generator, text_encoder=False, lora_rank=0, seed=0)
    settings = Settings(
        steps=args.steps,
        batch_size=args.batch,
        learning_rate=1e-4,
        warmup=0,
        min_snr=5.0,
        drop_prompt=0.1,
        ema_decay=0.995,
        prior_weight=0.0,
        balance=True,
        precision=args.precision,
    )
    material = encode_material(generator, images, numbers)
    train(generator, weights, material, PROMPTS, settings, seed=0)


@torch.no_grad()
def plain_sampling(generator: Generator, count: int, steps: int) -> None:
    """Sample image by image with two calls of the network per step."""
    for i in range(count):
        scheduler = DDIMScheduler.from_config(generator.noising.config)
        scheduler.set_timesteps(steps)
        latents = torch.randn(1, *generator.latent_shape, device=generator.device)
        full, empty = generator.states([PROMPTS[i % 2]]), generator.states([""])
        for t in scheduler.timesteps:
            times = t.expand(1).to(generator.device)
            e = generator.denoiser(latents, times, empty)
            e = e + 2.0 * (generator.denoiser(latents, times, full) - e)
            latents = scheduler.step(e, t, latents).prev_sample
        generator.decode(latents)


def our_sampling(generator: Generator, count: int, steps: int) -> None:
    """Sample as the stage does."""
    prompts = [PROMPTS[i % 2] for i in range(count)]
    sample(generator, prompts, list(range(count)), steps=steps, guidance=2.0, batch=10)


def timed(function: Callable[[], None]) -> float:
    """Measure seconds, the work of an accelerator included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


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


def main() -> None:
    """Measure both sides in turn and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", choices=["scratch", "tiny", "sd15"], default="scratch")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--sampling-steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    slices, groups = toy.draw_people({"AD": 32, "CN": 32}, 0)
    images = to_tensor(slices, args.size)
    numbers = torch.tensor([0 if g == "AD" else 1 for g in groups])
    with TemporaryDirectory() as folder:
        generator = build(args, Path(folder))
        generator.denoiser.to(device)
        generator.text_encoder.to(device)
        seconds: dict[str, list[float]] = {}
        for _ in range(args.repeats):
            for name, training in (("plain", plain_training), ("ours", our_training)):
                fresh = copy.copy(generator)
                fresh.denoiser = copy.deepcopy(generator.denoiser).requires_grad_(True)
                if name == "plain" and args.architecture == "scratch":
                    fresh.denoiser = fresh.denoiser.to(memory_format=torch.contiguous_format)
                run = lambda t=training, g=fresh: t(g, images, numbers, args)  # noqa: E731
                seconds.setdefault(f"{name} training", []).append(timed(run))
            for name, draw in (("plain", plain_sampling), ("ours", our_sampling)):
                generator.denoiser.eval()
                run = lambda d=draw: d(generator, args.images, args.sampling_steps)  # noqa: E731
                seconds.setdefault(f"{name} sampling", []).append(timed(run))
    rows = []
    for what, count in (("training", args.steps), ("sampling", args.images)):
        ours, plain = (min(seconds[f"{name} {what}"]) for name in ("ours", "plain"))
        rows.append(
            {
                "what": f"{what}, {args.architecture}",
                "size": args.size,
                "batch": args.batch,
                "threads": args.threads,
                "ours_per_s": round(count / ours, 3),
                "plain_per_s": round(count / plain, 3),
                "ratio": round(plain / ours, 2),
                "peak_gb": round(torch.cuda.max_memory_allocated() / 2**30, 2)
                if torch.cuda.is_available()
                else None,
            }
        )
    name = f"generation_speed_{args.architecture}_{device.type}_{args.threads}"
    record.save(name, rows, ["torch", "diffusers"], args.out)


if __name__ == "__main__":
    main()
