"""A diffusion model of whole brains in the latents of a codec, trained from nothing.

Prompts are read as in ``scratch``. The network is a 3D U-Net of MONAI's residual blocks;
its DiffusionModelUNet cannot be had without attention in the middle, which needs another library
and does little on latents that convolutions span.
"""

from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from stages.generation.codec import SHRINK, Codec
from stages.generation.generator import LATENT_VOLUME, Generator
from stages.generation.scratch import NOISING, TEXT_SIZE, embed_prompts
from stages.generation.volumes import cut_slices, grid_shape

NORM_GROUPS = 8
BLOCKS = 2


class LatentDenoiser(nn.Module):
    """A 3D U-Net without attention whose time embedding is joined by that of the prompt."""

    def __init__(self, *, channels: int, width: int) -> None:
        from monai.networks.nets.diffusion_model_unet import (
            DiffusionUNetResnetBlock,
            DownBlock,
            UpBlock,
        )

        super().__init__()
        embedding, wide = 4 * width, 2 * width
        groups: dict[str, Any] = {
            "spatial_dims": 3,
            "temb_channels": embedding,
            "norm_num_groups": NORM_GROUPS,
        }
        self.width = width
        self.words = nn.Sequential(
            nn.Linear(TEXT_SIZE, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.times = nn.Sequential(
            nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.first = nn.Conv3d(channels, width, 3, padding=1)
        down = {"num_res_blocks": BLOCKS, **groups}
        self.down = nn.ModuleList(
            [
                DownBlock(in_channels=width, out_channels=width, add_downsample=True, **down),
                DownBlock(in_channels=width, out_channels=wide, add_downsample=False, **down),
            ]
        )
        self.middle = DiffusionUNetResnetBlock(in_channels=wide, **groups)
        up = {"in_channels": width, "num_res_blocks": BLOCKS + 1, **groups}
        self.up = nn.ModuleList(
            [
                UpBlock(prev_output_channel=wide, out_channels=wide, add_upsample=True, **up),
                UpBlock(prev_output_channel=wide, out_channels=width, add_upsample=False, **up),
            ]
        )
        self.last = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, width), nn.SiLU(), nn.Conv3d(width, channels, 3, padding=1)
        )

    def forward(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Predict from noisy latents (B, c, h, w, d), times (B,), mean word vectors (B, 128)."""
        from monai.networks.nets.diffusion_model_unet import get_timestep_embedding

        embedding = self.times(get_timestep_embedding(times, self.width)) + self.words(states)
        x = self.first(latents)
        kept = [x]
        for block in self.down:
            x, found = block(hidden_states=x, temb=embedding)
            kept += found
        x = self.middle(x, embedding)
        for block in self.up:
            own, kept = kept[-BLOCKS - 1 :], kept[: -BLOCKS - 1]
            x = block(hidden_states=x, res_hidden_states_list=own, temb=embedding)
        return self.last(x)


def build_latent(codec: Codec, *, voxel_mm: float, width: int, seed: int) -> Generator:
    """Make a model with random weights that follow from the seed, around a trained codec.

    Raises
    ------
    ValueError
        A width that normalisation cannot group.
    """
    if width % NORM_GROUPS:
        raise ValueError(f"width {width}: expected a multiple of {NORM_GROUPS}")
    channels = len(codec.scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser: Any = LatentDenoiser(channels=channels, width=width)
    return Generator(
        kind=LATENT_VOLUME,
        denoiser=denoiser,
        text_encoder=nn.Identity(),
        tokenize=embed_prompts,
        encode=codec.encode,
        decode=codec.decode,
        noising=DDPMScheduler(**NOISING),
        latent_shape=(channels, *(n // SHRINK for n in grid_shape(voxel_mm))),
        to_slices=lambda images: cut_slices(images, voxel_mm),
        codec=codec,
    )
