"""The loss of each image: noise it, let the network answer, weigh what is wrong."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.generation.generator import Generator, add_noise, aim, min_snr_weights

EMPTY, PRIOR, FIRST = 0, 1, 2  # numbers of the empty prompt, the prior's, the first group's


class Denoising(nn.Module):
    """A generator's network and text encoder with the loss that they are trained by.

    Parameters
    ----------
    prompts
        Texts by number: the empty one, that of prior images, those of the groups.
    is_text_trained
        Encode prompts in every step; otherwise once.
    min_snr
        Gamma of the weights of noise levels.
    precision
        float32 or bfloat16, of the network alone.
    """

    def __init__(
        self,
        generator: Generator,
        prompts: Sequence[str],
        *,
        is_text_trained: bool,
        min_snr: float,
        precision: str,
    ) -> None:
        super().__init__()
        self.denoiser, self.text_encoder = generator.denoiser, generator.text_encoder
        self.alphas = generator.noising.alphas_cumprod.to(generator.device)
        self.kind = generator.noising.config.prediction_type
        self.min_snr, self.is_half = min_snr, precision == "bfloat16"
        self.tokens = generator.tokenize(prompts).to(generator.device)
        self.states: Tensor | None = None
        if not is_text_trained:
            with torch.no_grad():
                self.states = self.text_encoder(self.tokens)

    def forward(self, latents: Tensor, noise: Tensor, times: Tensor, numbers: Tensor) -> Tensor:
        """Give each image's weighted error, (B,); ``numbers`` tell its prompt."""
        states = self.text_encoder(self.tokens) if self.states is None else self.states
        noisy = add_noise(self.alphas, latents, noise, times)
        with torch.autocast(latents.device.type, torch.bfloat16, self.is_half):
            predicted = self.denoiser(noisy, times, states[numbers])
        wanted = aim(self.kind, self.alphas, latents, noise, times)
        error = (predicted.float() - wanted).square().flatten(1).mean(1)
        return min_snr_weights(self.kind, self.alphas, times, self.min_snr) * error
