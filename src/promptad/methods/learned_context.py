"""Learnable tokens in front of an object's name: what CoOp and its successors share, whatever teaches them.

Trained once on other objects they are `methods.named_prompts`, fitted to good photos of the product `methods.one_class`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from promptad.annotations import Above0, Count, Positive, Seed, Share, Weight
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, LocalAttention, LocalStream, PositionResize
from promptad.errors import ConfigError
from promptad.inputs import setting
from promptad.methods.settings import ScoringConfig
from promptad.prompts.layout import PromptSet


@dataclass(frozen=True)
class ContextConfig(ScoringConfig):
    """Settings of every method with a learnable context, besides those of every method; defect words do not change their
    scores."""

    # Learnable tokens of a context.
    context_tokens: Positive = 12
    # Words whose embeddings the learnable tokens begin with, as many as there are tokens; "" draws them.
    context_words: str = ""
    # Sigma of learnable tokens that are drawn.
    init_std: Weight = 0.02
    # Inverse temperature of loss and scores.
    scale: Above0 = 100.0
    # Patch features of the maps: "qk" are the ordinary patch tokens.
    local: LocalAttention = "vv"
    # First block of the local stream.
    local_start: Count = 1
    # How CLIP's position table is brought to another grid: as OpenCLIP does, or bilinear.
    positions: PositionResize = "bicubic"
    # Who updates the learnable values.
    optimiser: Literal["sgd", "adam"] = "sgd"
    # Learning rate, where it begins.
    lr: Above0 = 0.002
    # Of SGD; the first beta of Adam.
    momentum: Share = 0.9
    # L2 penalty of the learnable values.
    weight_decay: Weight = 5e-4
    # Of everything that is drawn.
    seed: Seed = 111

    def looks(self, *, inputs: bool = False) -> FeatureRequest:
        """What the image tower is to give."""
        return FeatureRequest(local=LocalStream(self.local_start, self.local), positions=self.positions, inputs=inputs)


class LearnedContext(nn.Module):
    """Everything that is learned: contexts (rows, n, t), and a network that a method adds, or None."""

    def __init__(self, context: Tensor, meta: nn.Module | None) -> None:
        super().__init__()
        self.context = nn.Parameter(context)
        self.meta = meta


def first_context(backbone: Backbone, config: ContextConfig, rows: int = 1) -> Tensor:
    """(rows, n, t) float32 on the CPU: contexts before any learning, drawn from torch's own generator, or all of them words.

    Raises:
        ConfigError: another number of words than of tokens.
    """
    text = backbone.text
    if not config.context_words:
        return torch.randn(rows, config.context_tokens, text.sizes.width) * config.init_std
    backbone.say_unread([config.context_words])
    ids = backbone.tokenizer.words(config.context_words)
    if len(ids) != config.context_tokens:
        raise ConfigError(
            f"the words {config.context_words!r} are {len(ids)} tokens, and {config.context_tokens} are to begin with them; "
            f"give {setting('context_tokens', str(len(ids)))}, or leave the words out ({setting('context_words', '')})"
        )
    with torch.no_grad():
        table: Tensor = text.token_embedding.weight
        words = table[torch.tensor(ids, device=table.device)].float().cpu()
    return words.repeat(rows, 1, 1)


def meta_net(backbone: Backbone, reduction: int) -> nn.Sequential:
    """CoCoOp's network: the embedding (B, E) of a photo -> the vector (B, t) that is added to every learnable token."""
    sizes = backbone.sizes
    hidden = max(1, sizes.embed_dim // reduction)
    return nn.Sequential(nn.Linear(sizes.embed_dim, hidden), nn.ReLU(), nn.Linear(hidden, sizes.text.width))


def encode_prompts(
    backbone: Backbone,
    prompts: PromptSet,
    parameters: Mapping[str, Tensor],
    shift: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Features of P prompts with gradients, not normalised; beginnings that prompts share are encoded once.

    Args:
        parameters, shift: as `PromptSet.assemble` takes them.

    Returns:
        (P, E) float32, or (B, P, E) with `shift`.
    """
    embeddings = prompts.assemble(parameters, shift)
    m, starts = prompts.shared, len(prompts.first)
    batch = len(embeddings) if shift else 1
    offsets = starts * torch.arange(batch, device=prompts.groups.device)
    features = backbone.text.encode_continued(
        embeddings[..., prompts.first, :m, :].flatten(0, -3),
        (offsets[:, None] + prompts.groups).flatten(),
        embeddings[..., m:, :].flatten(0, -3),
        prompts.eot.repeat(batch),
    )
    return features.view(*embeddings.shape[:-2], -1)
