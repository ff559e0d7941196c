"""A small diffusion model that is trained from nothing, conditioned on words.

Every word has a fixed random vector that follows from its letters, so there is no vocabulary to
keep and any prompt can be read. A prompt is the mean of its words' vectors: two prompts that share
eight of nine words are close, as they are to a large text encoder that is not trained. Images are
cut into patches of 2 x 2 pixels, which are the channels of the latents; nothing is lost by it.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from stages.generation.generator import SCRATCH, Generator

TEXT_SIZE = 128
PATCH = 2
NORM_GROUPS = 8
NOISING: dict[str, Any] = {
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "timestep_spacing": "trailing",
}


class Upsample(nn.Module):
    """Double the size by nearest neighbours, then convolve 3 x 3: both at once.

    Of the nine neighbours of an output pixel several are the same input pixel, so that weights can
    be summed first: a transposed convolution, 4 x 4 with stride 2, with 4/9 of the products. Takes
    the place of diffusers' module of this kind, with the same weights.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, output_size: None = None) -> Tensor:
        """(B, c, h, w) -> (B, c, 2h, 2w)."""
        turned = self.conv.weight.flip(2, 3).transpose(0, 1)
        twice = turned.new_ones(1, 1, 2, 2)
        spread = functional.conv2d(turned.reshape(-1, 1, 3, 3), twice, padding=1)
        kernel = spread.view(*turned.shape[:2], 4, 4)
        return functional.conv_transpose2d(x, kernel, self.conv.bias, stride=2, padding=1)


class Denoiser(nn.Module):
    """A U-Net without attention whose time embedding is joined by that of the prompt."""

    def __init__(self, *, size: int, width: int) -> None:
        super().__init__()
        channels = (width, 2 * width, 2 * width)
        embedding = 4 * width
        self.words = nn.Sequential(
            nn.Linear(TEXT_SIZE, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        unet: Any = UNet2DModel
        self.unet = unet(
            sample_size=size // PATCH,
            in_channels=PATCH**2,
            out_channels=PATCH**2,
            layers_per_block=1,
            block_out_channels=channels,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            norm_num_groups=NORM_GROUPS,
            class_embed_type="identity",
            add_attention=False,
        )
        for block in self.unet.up_blocks[:-1]:  # the last one keeps its size
            block.upsamplers[0] = Upsample(block.upsamplers[0].conv)

    def forward(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Predict from noisy latents (B, 4, h, w), times (B,) and mean word vectors (B, 128)."""
        return self.unet(latents, times, class_labels=self.words(states)).sample


def build_scratch(*, size: int, width: int, seed: int) -> Generator:
    """Make a model with random weights that follow from the seed.

    Raises
    ------
    ValueError
        A size that cannot be halved three times, or a width that normalisation cannot group.
    """
    if size % 8:
        raise ValueError(f"size {size}: expected a multiple of 8")
    if width % NORM_GROUPS:
        raise ValueError(f"width {width}: expected a multiple of {NORM_GROUPS}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser: Any = Denoiser(size=size, width=width)
    return Generator(
        kind=SCRATCH,
        denoiser=denoiser,
        text_encoder=nn.Identity(),
        tokenize=embed_prompts,
        encode=_encode,
        decode=_decode,
        noising=DDPMScheduler(**NOISING),
        latent_shape=(PATCH**2, size // PATCH, size // PATCH),
    )


def split_words(prompt: str) -> list[str]:
    """Split a prompt into words and marks, in lower case.

    >>> split_words("AD, a MRI brain, ADNI2")
    ['ad', ',', 'a', 'mri', 'brain', ',', 'adni2']
    """
    return re.findall(r"\w+|[^\w\s]", prompt.lower())


def embed_prompts(prompts: Sequence[str]) -> Tensor:
    """Average the vectors of each prompt's words, (B, 128); zeros for the empty prompt."""
    rows = []
    for prompt in prompts:
        words = [_vector(word) for word in split_words(prompt)]
        rows.append(torch.stack(words).mean(0) if words else torch.zeros(TEXT_SIZE))
    return torch.stack(rows)


def _vector(word: str) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:7], "big")
    return torch.randn(TEXT_SIZE, generator=torch.Generator().manual_seed(seed))


def _encode(images: Tensor) -> tuple[Tensor, Tensor]:
    latents = functional.pixel_unshuffle(images, PATCH)
    return latents, torch.zeros_like(latents)


def _decode(latents: Tensor) -> Tensor:
    return functional.pixel_shuffle(latents, PATCH)
