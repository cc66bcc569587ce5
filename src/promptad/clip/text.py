"""CLIP's text tower: strings, or assembled embeddings with gradients and deep tokens.

The tower is causal and the feature is read at the end-of-text token, so nothing after that token can change it. Every
call therefore runs only to the last end-of-text position of the batch, never over the padding to 77: the result is the
same and the work is a fraction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.architecture import Block, TextSizes
from promptad.errors import ConfigError


@dataclass(frozen=True)
class PrefixTree:
    """Prompts as the tree of their beginnings: a node is a token after the tokens that lead to it.

    Attributes:
        tokens: id of every node, parents first. before: its parent, -1 for a first token. depth: its position.
        ends: the node of every prompt's end token.
    """

    tokens: list[int]
    before: list[int]
    depth: list[int]
    ends: list[int]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], eot: Sequence[int]) -> PrefixTree:
        """The tree of token ids, one row a prompt, which ends at its `eot`."""
        nodes: dict[tuple[int, int], int] = {}
        tree = cls([], [], [], [])
        for row, end in zip(rows, eot, strict=True):
            node = -1
            for position, token in enumerate(row[: end + 1]):
                parent, node = node, nodes.setdefault((node, token), len(nodes))
                if node == len(tree.tokens):
                    tree.tokens.append(token)
                    tree.before.append(parent)
                    tree.depth.append(position)
            tree.ends.append(node)
        return tree

    def spares(self, width: int) -> bool:
        """Whether encoding the tree is less work than the prompts one beside the other, padded to the longest: attention
        sees the whole tree, so it must be small enough. `width` is the tower's."""
        length, nodes = max(self.depth) + 1, len(self.tokens)

        def work(rows: int, seen: int) -> int:
            return rows * (12 * width * width + 2 * width * seen)

        return work(nodes, nodes) < work(len(self.ends) * length, length)


@dataclass(frozen=True)
class Blend:
    """Tokens of each prompt's own that are mixed into positions 1..m before a block (TCP, Yao et al., CVPR 2024).

    Attributes:
        block: which one, counted from 1. tokens: (P, m, t). weight: 1 overwrites what is there, 0 leaves it.
    """

    block: int
    tokens: Tensor
    weight: float = 1.0

    def into(self, x: Tensor) -> Tensor:
        """(P, n, t) with the tokens mixed in; n is larger than m."""
        end = 1 + self.tokens.shape[1]
        mixed = self.weight * self.tokens.to(x.dtype) + (1 - self.weight) * x[:, 1:end]
        return torch.cat([x[:, :1], mixed, x[:, end:]], dim=1)


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

    def encode_shared(self, tree: PrefixTree) -> Tensor:
        """Encodes prompts like :meth:`forward`, every beginning that they share once.

        A token sees itself and those that lead to it, whatever prompt it belongs to. Causality makes this exact.

        Returns:
            (P, E) float32, not normalised.

        Raises:
            ConfigError: a prompt longer than the context length.
        """
        self._check(max(tree.depth) + 1, ())
        device = self.position_embedding.device
        visible = torch.eye(len(tree.tokens), dtype=torch.bool)
        for node, parent in enumerate(tree.before):  # parents come first
            if parent >= 0:
                visible[node] |= visible[parent]
        visible = visible.to(device)
        ids, depth, ends = (torch.tensor(values, device=device) for values in (tree.tokens, tree.depth, tree.ends))
        x = (self.token_embedding(ids) + self.position_embedding[depth])[None]
        for block in cast(Iterable[Block], self.blocks):
            q, k, v = block.attention.project(block.ln_1(x))
            x = x + block.attention.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=visible))
            x = x + block.mlp(x)
        return cast(Tensor, self.projection(self.ln_final(x[0, ends]))).float()

    def encode_embeddings(
        self, embeddings: Tensor, eot: Tensor, deep: Sequence[Tensor] = (), blend: Blend | None = None
    ) -> Tensor:
        """Encodes assembled token embeddings, with gradients.

        Args:
            embeddings: (P, n, t) token embeddings in prompt order, start token first; what follows the end-of-text
                token of a row is ignored. Positions are added here.
            eot: (P,) int64, index of the end-of-text token of every row, smaller than n and the context length.
            deep: sets of (m, t) deep tokens; set i overwrites positions 1..m before block i + 2 (AnomalyCLIP, ICLR
                2024; FAPrompt, ICCV 2025, flag F-21).
            blend: tokens of each prompt's own that enter before one block.

        Returns:
            (P, E) float32 features at the end-of-text token, after LN and projection, not normalised.

        Raises:
            ConfigError: a prompt longer than the context length, or more deep sets than blocks.
        """
        length = int(eot.max()) + 1
        self._check(length, deep)
        x = embeddings[:, :length].to(self.position_embedding.dtype) + self.position_embedding[:length]
        for index, block in enumerate(cast(Iterable[Block], self.blocks)):
            if blend is not None and blend.block == index + 1:
                x = blend.into(x)
            x = block(_overwrite(x, deep, index), causal=True)
        return self._read(x, eot)

    def encode_continued(
        self, prefix: Tensor, groups: Tensor, rest: Tensor, eot: Tensor, deep: Sequence[Tensor] = ()
    ) -> Tensor:
        """Encodes prompts of which many begin alike: each beginning is encoded once, with gradients.

        Causality makes this exact: a beginning cannot see what follows it, so its keys and values are the same in all
        prompts that start with it. Deep tokens that lie inside the beginning change nothing about that; where they reach
        beyond it, the whole prompts are encoded instead.

        Args:
            prefix: (G, m, t) embeddings of the different beginnings, start token first.
            groups: (P,) int64, which beginning each prompt has.
            rest: (P, n, t) embeddings of what follows.
            eot: (P,) int64 positions of the end-of-text tokens in the whole prompt, all at least m.
            deep: sets of deep tokens, as in :meth:`encode_embeddings`.

        Returns:
            (P, E) float32, what :meth:`encode_embeddings` gives for the whole prompts.

        Raises:
            ConfigError: a prompt longer than the context length, or more deep sets than blocks.
        """
        length, m = int(eot.max()) + 1, prefix.shape[1]
        if any(1 + len(own) > m for own in deep):
            return self.encode_embeddings(torch.cat([prefix[groups], rest], dim=1), eot, deep)
        self._check(length, deep)
        n, dtype = length - m, self.position_embedding.dtype
        start = prefix.to(dtype) + self.position_embedding[:m]
        x = rest[:, :n].to(dtype) + self.position_embedding[m:length]
        visible = torch.ones(n, length, dtype=torch.bool, device=x.device).tril(diagonal=m)
        for index, block in enumerate(cast(Iterable[Block], self.blocks)):
            start = _overwrite(start, deep, index)
            q, k, v = block.attention.project(block.ln_1(start))
            own_q, own_k, own_v = block.attention.project(block.ln_1(x))
            keys, values = torch.cat([k[groups], own_k], dim=2), torch.cat([v[groups], own_v], dim=2)
            seen = F.scaled_dot_product_attention(own_q, keys, values, attn_mask=visible)
            x = x + block.attention.merge(seen)
            x = x + block.mlp(x)
            start = start + block.attention.merge(F.scaled_dot_product_attention(q, k, v, is_causal=True))
            start = start + block.mlp(start)
        return self._read(x, eot - m)

    def _read(self, x: Tensor, at: Tensor) -> Tensor:
        rows = x[torch.arange(len(x), device=x.device), at]
        return self.projection(self.ln_final(rows)).float()

    def _check(self, length: int, deep: Sequence[Tensor]) -> None:
        if length > self.sizes.context_length:
            raise ConfigError(f"a prompt of {length} tokens exceeds the context length {self.sizes.context_length}")
        if len(deep) >= self.sizes.layers:
            raise ConfigError(
                f"{len(deep)} deep token sets need {len(deep) + 1} text blocks, found {self.sizes.layers}"
            )


def _overwrite(x: Tensor, deep: Sequence[Tensor], index: int) -> Tensor:
    """(P, n, t) with the deep tokens that belong before block `index` (counted from 0) behind the start token; those that
    would stand behind the last position have nothing to overwrite."""
    if not 1 <= index <= len(deep):
        return x
    own = deep[index - 1][: x.shape[1] - 1].to(x.dtype)
    return torch.cat([x[:, :1], own.expand(len(x), -1, -1), x[:, 1 + len(own) :]], dim=1)
