"""A variational autoencoder that shrinks volumes, so that diffusion has less to do.

It works on what a brain differs by from the mean of training brains, x, which is less to learn
since all lie alike. x is cut into cubes of 2 x 2 x 2 voxels, which are channels, and halved once
more by MONAI's AutoencoderKL, trained by

    L = mean |x - D(m + s e)| + kl_weight KL(N(m, s^2) || N(0, 1)),    (m, s) = E(x), e ~ N(0, 1)

(Rombach et al. 2022, without perceptual and adversarial terms, which need another network). KL is
the mean over latents, nats. Afterwards latents are shifted and scaled, channel by channel, to mean
0 and variance 1 over the training volumes: the noise of diffusion has variance 1.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.generation.state import load_state, save_state

logger = logging.getLogger(__name__)

NORM_GROUPS = 8
ENCODE_BATCH = 4
EMA_DECAY = 0.995
WARMUP = 50
CLIP_NORM = 1.0
PATCH = 2
FIRST_LOG_VARIANCE = -6.0
DEVIATION = 0.25  # about that of brains from their mean, where white is 1 and black -1
SHRINK = 2 * PATCH  # edge of a volume over that of its latents


@dataclass(frozen=True)
class CodecSettings:
    """How a codec is made and trained; see the spec for each."""

    latent_channels: int
    codec_width: int
    codec_steps: int
    codec_batch: int
    codec_rate: float
    kl_weight: float
    precision: str


class Codec(nn.Module):
    """Volumes to latents of mean 0 and variance 1, and back."""

    mean: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, *, width: int, latent_channels: int) -> None:
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        super().__init__()
        net: Any = AutoencoderKL(
            spatial_dims=3,
            in_channels=PATCH**3,
            out_channels=PATCH**3,
            num_res_blocks=(1, 1),
            channels=(width, 2 * width),
            attention_levels=(False, False),
            latent_channels=latent_channels,
            norm_num_groups=NORM_GROUPS,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        # Latents that are mostly noise at first teach the decoder to do without them.
        nn.init.constant_(net.quant_conv_log_sigma.conv.bias, FIRST_LOG_VARIANCE)
        self.net: Any = net
        self.register_buffer("mean", mean.clone())
        self.register_buffer("shift", torch.zeros(latent_channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(latent_channels, 1, 1, 1))

    def distribute(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and standard deviation of latents before they are shifted and scaled."""
        from monai.networks.utils import pixelunshuffle

        return self.net.encode(pixelunshuffle((images - self.mean) / DEVIATION, 3, PATCH))

    def restore(self, latents: Tensor) -> Tensor:
        """Give volumes of latents that are not shifted and scaled."""
        from monai.networks.utils import pixelshuffle

        return DEVIATION * pixelshuffle(self.net.decode(latents).float(), 3, PATCH) + self.mean

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and standard deviation of latents, (B, 1, x, y, z) → (B, c, x/4, y/4, z/4)."""
        mean, spread = self.distribute(images)
        return (mean - self.shift) * self.scale, spread * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Give volumes, (B, c, h, w, d) → (B, 1, 4h, 4w, 4d)."""
        return self.restore(latents / self.scale + self.shift)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode volumes, a few at a time."""
        return torch.cat([self.decode(self.encode(some)[0]) for some in images.split(ENCODE_BATCH)])

    def fit_scale(self, images: Tensor) -> None:
        """Set shift and scale such that drawn latents have mean 0 and variance 1."""
        self.shift.zero_()
        self.scale.fill_(1)
        pairs = [self.encode(some) for some in images.split(ENCODE_BATCH)]
        mean, spread = (torch.cat([pair[i] for pair in pairs]).double() for i in (0, 1))
        every = (0, 2, 3, 4)
        centre = mean.mean(every, keepdim=True)
        variance = ((mean - centre) ** 2 + spread**2).mean(every, keepdim=True)
        self.shift.copy_(centre[0])
        self.scale.copy_(variance[0].clamp(min=1e-12).rsqrt())


def build_codec(mean: Tensor, *, width: int, latent_channels: int, seed: int) -> Codec:
    """Make a codec with random weights that follow from the seed.

    Parameters
    ----------
    mean : tensor, (x, y, z), -1 to 1
        Of training volumes.

    Raises
    ------
    ValueError
        A width that normalisation cannot group.
    """
    if width % NORM_GROUPS:
        raise ValueError(f"codec_width {width}: expected a multiple of {NORM_GROUPS}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Codec(mean, width=width, latent_channels=latent_channels).eval()


def train_codec(
    codec: Codec,
    images: Tensor,
    settings: CodecSettings,
    *,
    seed: int,
    state: Path | None = None,
    save_every: int = 200,
) -> list[list[float]]:
    """Train on volumes, going on from a saved state where there is one; keep the weights' mean.

    What is drawn in a step follows from seed and step alone, so an interrupted training gives the
    same numbers as one that was not.

    Parameters
    ----------
    images : tensor, (n, 1, x, y, z), -1 to 1
        Training volumes, on the codec's device.

    Returns
    -------
    losses : list
        Per step: mean absolute error (of the range -1 to 1), KL per latent, nats.

    Raises
    ------
    ValueError
        The saved state is past the number of steps.
    """
    net, weights = codec.net, dict(codec.net.named_parameters())
    optimiser = torch.optim.AdamW(list(weights.values()), lr=settings.codec_rate, fused=True)
    averages = {name: p.detach().clone() for name, p in weights.items()}
    start, losses = 0, list[list[float]]()
    if state is not None and state.is_file():
        start, losses = load_state(state, weights=weights, averages=averages, optimiser=optimiser)
        if start > settings.codec_steps:
            raise ValueError(
                f"{state}: holds {start} steps, more than the {settings.codec_steps} asked for;"
                " remove it"
            )
        logger.info("the codec goes on after step %d of %d", start, settings.codec_steps)
    device = images.device
    net.train()
    for step in range(start, settings.codec_steps):
        draws = np.random.default_rng([seed, step])
        real = images[draws.integers(len(images), size=settings.codec_batch)]
        with torch.autocast(device.type, torch.bfloat16, settings.precision == "bfloat16"):
            mean, spread = (part.float() for part in codec.distribute(real))
            noise = torch.from_numpy(draws.standard_normal(mean.shape, np.float32)).to(device)
            made = codec.restore(mean + spread * noise)
        error = (made - real).abs().mean()
        kl = 0.5 * (mean**2 + spread**2 - 2 * spread.log() - 1).mean()
        loss = error + settings.kl_weight * kl

        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights.values(), CLIP_NORM)
        for group in optimiser.param_groups:
            group["lr"] = settings.codec_rate * min(1.0, (step + 1) / (WARMUP + 1))
        optimiser.step()
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(averages.values()), [p.detach() for p in weights.values()], 1 - decay
        )
        losses.append([error.item(), kl.item()])

        done = step + 1
        if done % save_every == 0 or done == settings.codec_steps:
            logger.info(
                "codec: step %d of %d, error %.4f, KL %.2f", done, settings.codec_steps, *losses[-1]
            )
            if state is not None:
                save_state(
                    state,
                    step=done,
                    weights=weights,
                    averages=averages,
                    optimiser=optimiser,
                    losses=losses,
                )
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(averages[name])
    codec.eval().requires_grad_(False)
    codec.fit_scale(images)
    return losses
