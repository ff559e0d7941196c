"""Training steps and sampled images per second, against plain loops with the same settings.

Claim: the small model trains faster than diffusers' network in a plain loop in the style of
diffusers' example scripts, in the same precision, since it upsamples and convolves at once and
gets its memory in large pages, as stages' processes do; and it samples faster than diffusers'
pipelines do prompt by prompt. Both loops draw the same numbers and end with the same weights, to
rounding, or the benchmark stops. Each side runs in a process of its own, since where memory comes
from concerns a whole process; they take turns, ratios are medians over rounds, and the number of
threads is set. Random weights do.

    python -m tests.benchmarks.generation_speed --threads 1 --size 64 --width 32
    python -m tests.benchmarks.generation_speed --architecture sd15 --size 512 --batch 4
"""

import argparse
import copy
import multiprocessing
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from diffusers import DDIMScheduler
from diffusers.models.upsampling import Upsample2D
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, nn
from torch.nn import functional

from bids_app.launch import MEMORY
from stages.generation.adapters import choose_weights
from stages.generation.build import choose_device
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


def fresh(generator: Generator) -> Generator:
    """Copy a generator so that its denoiser may be trained."""
    other = copy.copy(generator)
    other.denoiser = copy.deepcopy(generator.denoiser).requires_grad_(True)
    return other


def largest_difference(ours: Generator, plain: Generator, *material: Tensor, batch: int) -> float:
    """Train both ways from the same weights; say how far apart any weight ends."""
    for net, training in ((ours, our_training), (plain, plain_training)):
        training(net, *material, steps=3, batch=batch, precision=FLOAT32)
    pairs = zip(ours.denoiser.parameters(), plain.denoiser.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def build(args: Any, folder: Path, *, plain: bool) -> Generator:
    """Make the model whose speed is measured, or diffusers' own, with random weights."""
    if args.architecture == "scratch":
        generator = build_scratch(size=args.size, width=args.width, seed=0)
        for block in generator.denoiser.unet.up_blocks[:-1] if plain else []:
            block.upsamplers[0] = as_diffusers(block.upsamplers[0].conv)
        return generator
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


def as_diffusers(conv: nn.Conv2d) -> Upsample2D:
    """Make diffusers' own module of a convolution's weights."""
    module = Upsample2D(conv.in_channels, use_conv=True, out_channels=conv.out_channels)
    module.conv = conv
    return module


def prepare(args: Any, folder: Path, *, plain: bool) -> tuple[Generator, Tensor, Tensor]:
    """Make model and slices on the device there is."""
    device = choose_device()
    slices, groups = toy.draw_people({"AD": 32, "CN": 32}, 0)
    generator = build(args, folder, plain=plain)
    generator.denoiser.to(device)
    generator.text_encoder.to(device)
    numbers = torch.tensor([0 if g == "AD" else 1 for g in groups])
    return generator, to_tensor(slices, args.size), numbers


def serve(line: Any, args: Any, threads: int, plain: bool) -> None:
    """Be one side: do what is asked for, and answer with the most memory used so far."""
    torch.set_num_threads(threads)
    device = choose_device()
    with TemporaryDirectory() as folder:
        generator, images, numbers = prepare(args, Path(folder), plain=plain)
    training = plain_training if plain else our_training
    sampling = plain_sampling if plain else our_sampling
    nets = {precision: fresh(generator) for precision in (FLOAT32, BFLOAT16)}
    generator.denoiser.eval()
    while what := line.recv():
        if what == "sampling":
            sampling(generator, args.images, args.sampling_steps)
        else:
            how = {"steps": args.steps, "batch": args.batch, "precision": what}
            training(nets[what], images, numbers, **how)
        peak = 0.0
        if device.type == "cuda":
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() / 2**30
        line.send(peak)


def measure(args: Any, threads: int) -> list[Any]:
    """Time training, in both precisions, and sampling; give a row for each action."""
    context = multiprocessing.get_context("spawn")
    lines, peaks = {}, {}
    for side, variables in (("", MEMORY), ("plain ", {})):
        lines[side], end = context.Pipe()
        with mock.patch.dict(os.environ, variables):  # read when a process starts
            context.Process(
                target=serve, args=(end, args, threads, side != ""), daemon=True
            ).start()

    def ask(side: str, what: str) -> None:
        lines[side].send(what)
        peaks[side] = lines[side].recv()

    rows = []
    for what in (FLOAT32, BFLOAT16, "sampling"):
        name = what if what == "sampling" else f"training, {what}"
        amount = args.images if what == "sampling" else args.steps
        actions = {f"{side}{name}": partial(ask, side, what) for side in lines}
        if what == BFLOAT16:
            actions[f"plain training, {FLOAT32}"] = partial(ask, "plain ", FLOAT32)
        for action in actions.values():
            action()  # once, so that nothing is built while the clock runs
        for row in record.time_in_turns(actions, args.rounds, aim="ratio >= 1.2"):
            rows.append({**row, "per_s": round(amount / row["seconds"], 2)})
            if any(peaks.values()):
                rows[-1]["peak_gb"] = peaks["plain " if row["what"].startswith("plain") else ""]
    for line in lines.values():
        line.send("")
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
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        with TemporaryDirectory() as folder:
            ours, images, numbers = prepare(args, Path(folder) / "ours", plain=False)
            plain, _, _ = prepare(args, Path(folder) / "plain", plain=True)
            plain.denoiser.load_state_dict(ours.denoiser.state_dict())
            pair = fresh(ours), fresh(plain)
            apart = largest_difference(*pair, images, numbers, batch=args.batch)
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
        rows += [row | about for row in measure(args, threads)]
    device = choose_device()
    name = f"generation_speed_{args.architecture}_{device.type}"
    record.save(name, rows, ["torch", "diffusers"], args.out)


if __name__ == "__main__":
    main()
