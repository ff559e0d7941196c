"""The text encoders of a checkpoint: prompts → tokens → what the denoiser is told."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stages.generation.layout import (
    COPY,
    ENCODERS,
    SDXL,
    TOKENIZERS,
    check_folder,
    load_part,
    read_json,
)

Tokenize = Callable[[Sequence[str]], Tensor]
EMPTY = -1  # in place of the tokens of a prompt that is told as zeros


class TextEncoder(nn.Module):
    """CLIP's text encoder: tokens (B, L) → states (B, L, d)."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the last hidden states."""
        return self.clip(tokens)[0]


class TextEncoderXL(nn.Module):
    """SDXL's two text encoders: tokens (B, 2, L) → states (B, L + 1, d).

    The last row is the pooled text of the second encoder, filled up with zeros; where tokens are
    ``EMPTY`` all is zeros.
    """

    def __init__(self, clip: nn.Module, clip_2: nn.Module) -> None:
        super().__init__()
        self.clip, self.clip_2 = clip, clip_2

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the hidden states before the last layer, side by side, and the pooled text."""
        known = tokens.clamp(min=0)
        first = self.clip(known[:, 0], output_hidden_states=True).hidden_states[-2]
        second = self.clip_2(known[:, 1], output_hidden_states=True)
        context = torch.cat([first, second.hidden_states[-2]], 2)
        pooled = second.text_embeds
        pooled = functional.pad(pooled, (0, context.shape[2] - pooled.shape[1]))
        is_told = (tokens[:, 0, 0] != EMPTY).view(-1, 1, 1)
        return torch.cat([context, pooled[:, None]], 1) * is_told


def load_tokenizer(folder: Path, name: str, encoder: str) -> Any:
    """Load a tokenizer of a checkpoint.

    Raises
    ------
    ValueError
        Not that of the text encoder.
    """
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)
    except Exception as error:  # the tokenizers library knows no narrower kind
        raise ValueError(f"{folder / name}: {error}; {COPY}") from error
    config = read_json(folder / encoder / "config.json")
    known, expected = len(tokenizer), config.get("vocab_size")
    if known != expected:
        raise ValueError(
            f"{folder / name}: wrong tokenizer: it has {known} tokens, the text encoder"
            f" {expected}; take both from one checkpoint"
        )
    return tokenizer


def load_encoder(folder: Path) -> tuple[Tokenize, TextEncoder | TextEncoderXL]:
    """Load what turns prompts into tokens, and these into states; see ``check_folder``."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    kind = check_folder(folder)
    names = zip(TOKENIZERS[kind], ENCODERS[kind], strict=True)
    readers = [_padded(load_tokenizer(folder, name, encoder)) for name, encoder in names]
    clip = load_part(CLIPTextModel, folder, "text_encoder")
    if kind != SDXL:
        return readers[0], TextEncoder(clip)
    clip_2 = load_part(CLIPTextModelWithProjection, folder, "text_encoder_2")
    index = read_json(folder / "model_index.json")
    is_zero = index.get("force_zeros_for_empty_prompt", True)

    def tokenize(prompts: Sequence[str]) -> Tensor:
        tokens = torch.stack([read(prompts) for read in readers], 1)
        if is_zero:
            tokens[[not prompt for prompt in prompts]] = EMPTY
        return tokens

    return tokenize, TextEncoderXL(clip, clip_2)


def load_text(
    folder: Path,
) -> tuple[Callable[[str], list[str]], Callable[[str], NDArray[np.float64]]]:
    """Load what reads prompts: into tokens as text, and into the embedding of the whole prompt.

    Of SDXL's two encoders the second gives the embedding that its denoiser is told.
    """
    kind = check_folder(folder)
    name, encoder = TOKENIZERS[kind][-1], ENCODERS[kind][-1]
    tokenizer = load_tokenizer(folder, name, encoder)
    tokenize, network = load_encoder(folder)

    def embed(prompt: str) -> NDArray[np.float64]:
        tokens = tokenize([prompt])
        with torch.no_grad():
            if isinstance(network, TextEncoderXL):
                found = network.clip_2(tokens[:, 1]).text_embeds
            else:
                found = network.clip(tokens).pooler_output
        return found[0].double().numpy()

    return lambda prompt: list(tokenizer.tokenize(prompt)), embed


def _padded(tokenizer: Any) -> Callable[[Sequence[str]], Tensor]:
    def tokenize(prompts: Sequence[str]) -> Tensor:
        longest = tokenizer.model_max_length
        for prompt in prompts:
            count = len(tokenizer(prompt).input_ids)
            if count > longest:
                raise ValueError(
                    f"prompt {prompt!r}: {count} tokens with start and end, at most {longest}; the"
                    " rest would be cut off unseen, so shorten it"
                )
        padded = tokenizer(
            list(prompts), padding="max_length", max_length=longest, return_tensors="pt"
        )
        return padded.input_ids

    return tokenize
