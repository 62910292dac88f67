"""A prompt to what the UNet's cross-attention sees, by open_clip's own text tower and tokenizer.

open_clip, because the weights of SD2 are of its making and keep its names, the host and ldm use it too, and its package
holds the tokenizer's vocabulary: transformers would have to fetch one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..checkpoint.small_model import register_architecture
from ..errors import CheckpointError
from .packages import importing

__all__ = ["TextEncoder"]

_BACKTRACK = 20
"""How many tokens behind a comma go over to the next chunk with it (the host's ``comma_padding_backtrack``)."""


class TextEncoder(nn.Module):
    """The text half of open_clip's ``arch``, as ldm's ``FrozenOpenCLIPEmbedder`` uses it, and its names.

    ``left_out``: how many of the last layers there are not. The tower's own projection to one vector is left out too.

    Raises:
        CheckpointError: open_clip is missing, or knows no such architecture.
    """

    def __init__(self, arch: str, left_out: int = 0) -> None:
        super().__init__()
        with importing("open_clip"):
            import open_clip
            from open_clip.transformer import QuickGELU, TextTransformer

        register_architecture()
        config = open_clip.get_model_config(arch)
        if config is None:
            raise CheckpointError(f"open_clip knows no text encoder {arch!r}.")
        given = config["text_cfg"]
        tower = TextTransformer(
            **{name: given[name] for name in ("context_length", "vocab_size", "width", "heads")},
            layers=given["layers"] - left_out,
            act_layer=QuickGELU if config.get("quick_gelu") else nn.GELU,
        )
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self._chunk = given["context_length"] - 2
        self._tokenizer = open_clip.tokenizer.SimpleTokenizer()

    def forward(self, prompt: str) -> Tensor:
        """(1, 77 N, width) for a prompt of N chunks, in the weights' dtype; ldm/modules/encoders/modules.py:162-187."""
        tokens = torch.tensor(list(self.chunks(prompt)), device=self.positional_embedding.device)
        x = self.token_embedding(tokens) + self.positional_embedding
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf"), device=x.device, dtype=x.dtype).triu_(1)
        batch_first = getattr(self.transformer, "batch_first", False)  # since open_clip 2.27
        x = x if batch_first else x.transpose(0, 1)
        for block in self.transformer.resblocks:
            x = block(x, attn_mask=mask)
        x = x if batch_first else x.transpose(0, 1)
        encoded: Tensor = self.ln_final(x)
        return encoded.reshape(1, -1, encoded.shape[-1])

    def chunks(self, prompt: str) -> Iterator[list[int]]:
        """The prompt's tokens, 75 at a time, with a start, an end, and zeros after it: at least one chunk.

        Cut as the host cuts (modules/sd_hijack_clip.py:82-170): at BREAK, and behind a comma that is near the end.
        """
        encoder = self._tokenizer.encoder
        start, end, comma = (encoder[name] for name in ("<start_of_text>", "<end_of_text>", ",</w>"))
        parts = [self._tokenizer.encode(part) for part in re.split(r"\s*\bBREAK\b\s*", prompt)]
        if len(parts) > 1 and not parts[-1]:
            parts.pop()
        for tokens in parts:
            for chunk in _cut(tokens, self._chunk, comma):
                yield [start, *chunk, end, *[0] * (self._chunk - len(chunk))]


def _cut(tokens: list[int], limit: int, comma: int) -> Iterator[list[int]]:
    """The tokens in pieces of up to ``limit``; at least one."""
    while len(tokens) > limit:
        near = range(limit, limit - _BACKTRACK, -1) if tokens[limit] != comma else ()
        count = next((count for count in near if tokens[count - 1] == comma), limit)
        yield tokens[:count]
        tokens = tokens[count:]
    yield tokens
