"""CLIP's text tower: strings, or assembled embeddings with gradients and deep tokens.

The tower is causal and the feature is read at the end-of-text token, so nothing after that token can change it. Every
call therefore runs only to the last end-of-text position of the batch, never over the padding to 77: the result is the
same and the work is a fraction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from promptad.clip.architecture import Block, TextSizes
from promptad.errors import ConfigError


class TextTower(nn.Module):
    """CLIP's causal text transformer. All outputs are float32 whatever the dtype of the weights."""

    def __init__(self, sizes: TextSizes, embed_dim: int, activation: str) -> None:
        super().__init__()
        self.sizes = sizes
        # Given weights skip an initialisation that would be overwritten (and costs seconds on the meta device).
        self.token_embedding = nn.Embedding(
            sizes.vocab_size, sizes.width, _weight=torch.empty(sizes.vocab_size, sizes.width)
        )
        self.position_embedding = nn.Parameter(torch.empty(sizes.context_length, sizes.width))
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.mlp_width, activation) for _ in range(sizes.layers)
        )
        self.ln_final = nn.LayerNorm(sizes.width)
        self.projection = nn.Linear(sizes.width, embed_dim, bias=False)

    def forward(self, tokens: Tensor, eot: Tensor) -> Tensor:
        """Encodes token ids (P, n) with end-of-text positions `eot` (P,) -> (P, E) float32, not normalised."""
        return self.encode_embeddings(self.token_embedding(tokens), eot)

    def encode_embeddings(self, embeddings: Tensor, eot: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """Encodes assembled token embeddings, with gradients.

        Args:
            embeddings: (P, n, t) token embeddings in prompt order, start token first; what follows the end-of-text
                token of a row is ignored. Positions are added here.
            eot: (P,) int64, index of the end-of-text token of every row, smaller than n and the context length.
            deep: sets of (m, t) deep tokens; set i overwrites positions 1..m before block i + 2 (AnomalyCLIP, ICLR
                2024; FAPrompt, ICCV 2025, flag F-21).

        Returns:
            (P, E) float32 features at the end-of-text token, after LN and projection, not normalised.

        Raises:
            ConfigError: a prompt longer than the context length, or more deep sets than blocks.
        """
        length = int(eot.max()) + 1
        if length > self.sizes.context_length:
            raise ConfigError(f"a prompt of {length} tokens exceeds the context length {self.sizes.context_length}")
        if len(deep) >= self.sizes.layers:
            raise ConfigError(
                f"{len(deep)} deep token sets need {len(deep) + 1} text blocks, found {self.sizes.layers}"
            )
        dtype = self.position_embedding.dtype
        x = embeddings[:, :length].to(dtype) + self.position_embedding[:length]
        for index, block in enumerate(self.blocks):
            if 1 <= index <= len(deep):
                own = deep[index - 1].to(dtype)
                x = torch.cat([x[:, :1], own.expand(len(x), -1, -1), x[:, 1 + len(own) :]], dim=1)
            x = block(x, causal=True)
        rows = x[torch.arange(len(x), device=x.device), eot]
        return self.projection(self.ln_final(rows)).float()
