"""TCP (Yao et al., "TCP: Textual-based Class-aware Prompt Tuning for Visual-Language Model", CVPR 2024) in FAPrompt's variants.

CoOp's prompts with four tokens. A network turns the frozen feature of each prompt's hand-written sentences into class-aware tokens,
which overwrite the learnable ones inside the text tower; a second loss keeps the learned features near the frozen ones.
FAPrompt (ICCV 2025), appendix C.2, names two kinds of sentences: V1, one for each state, and V2, all of WinCLIP's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Positive, Range, Weight
from promptad.clip.architecture import quick_gelu
from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.text import Blend
from promptad.inputs import setting
from promptad.learning.auxiliary import Batch
from promptad.methods.baselines.coop import PRINTED
from promptad.methods.learned_once import class_words
from promptad.methods.named_prompts import ClassPrompts, NamedPrompts, NamedPromptsConfig
from promptad.methods.object_agnostic import OBJECT
from promptad.notices import notice
from promptad.prompts.words import ensemble
from promptad.scoring.prototypes import ensemble_prototype


@dataclass(frozen=True)
class TCPConfig(NamedPromptsConfig):
    """Settings of TCP besides those of `NamedPromptsConfig`."""

    # Learnable tokens in front of "normal [c]." and "anomalous [c].", and class-aware ones that take their place.
    context_tokens: Positive = 4
    # Words whose embeddings the learnable tokens begin with, as many as there are tokens; "" draws them.
    context_words: str = "a photo of a"
    # Who updates the learnable values.
    optimiser: Literal["sgd", "adam"] = "adam"
    # Sentences behind the class-aware tokens: "v1", "This is a photo of (damaged) [c].", or "v2", WinCLIP's 154 and 88.
    sentences: Literal["v1", "v2"] = "v2"
    # The hidden layer of the network has the width of the joint space divided by this.
    reduction: Positive = 4
    # Block of the text tower, counted from 1, before which class-aware tokens enter; its last one where it has fewer.
    block: Positive = 9
    # How much of the tokens that are there they replace: 1 overwrites them, 0 leaves CoOp's.
    class_weight: Annotated[float, Range(0, 1)] = 1.0
    # Weight of the loss that keeps learned features near those of the sentences.
    anchor_weight: Weight = 8.0


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {**PRINTED, "sentences": "v1"},
    # As TCP itself is released: more passes, larger batches.
    "release": {**PRINTED, "sentences": "v1", "epochs": 50, "batch_size": 32},
    # The two rows of FAPrompt's table 5; "v1" is `paper`.
    "v1": {**PRINTED, "sentences": "v1"},
    "v2": {**PRINTED, "sentences": "v2"},
}


class TCP(NamedPrompts):
    """A learned context and tokens of the class; see the module's docstring.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "tcp"
    config: TCPConfig

    def __init__(self, backbone: Backbone, config: TCPConfig, object_name: str = OBJECT) -> None:
        layers = backbone.sizes.text.layers
        self._block = min(config.block, layers)
        if config.block > layers:
            notice(
                f"class-aware tokens enter before block {layers}, the last of this text tower, which has no block "
                f"{config.block} ({setting('block', str(layers))} says the same)"
            )
        super().__init__(backbone, config, object_name)

    def _compile(self, words: Sequence[str]) -> ClassPrompts:
        frozen = []
        for name in words:
            if self.config.sentences == "v2":
                pair = ensemble("winclip", name)
            else:
                pair = [f"This is a photo of {name}."], [f"This is a photo of damaged {name}."]
            frozen += [ensemble_prototype(self.backbone.encode_texts(sentences)) for sentences in pair]
        return replace(super()._compile(words), frozen=torch.stack(frozen))

    def _meta_net(self) -> nn.Module:
        sizes = self.backbone.sizes
        hidden = max(1, sizes.embed_dim // self.config.reduction)
        last = nn.Linear(hidden, self.config.context_tokens * sizes.text.width)
        return nn.Sequential(nn.Linear(sizes.embed_dim, hidden), QuickGELU(), last)

    def encode(self, table: ClassPrompts, classes: Tensor, features: Features) -> Tensor:
        """(B, 2, E): the prompts of each view's object; every object is encoded once."""
        present, where = classes.unique(return_inverse=True)
        return self._encode_rows(table, _pairs(present)).view(len(present), 2, -1)[where]

    def _encode_rows(self, table: ClassPrompts, rows: Tensor) -> Tensor:
        """(R, E) features of single prompts."""
        assert self.module.meta is not None and table.frozen is not None
        own = self.module.meta(table.frozen[rows]).view(len(rows), self.config.context_tokens, -1)
        embeddings = table.prompts.assemble({"context": self.module.context})[rows]
        blend = Blend(self._block, own, self.config.class_weight)
        return self.backbone.text.encode_embeddings(embeddings, table.prompts.eot[rows], blend=blend)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy + anchor_weight * (1 - mean cosine of learned and frozen features of the batch's objects)."""
        table = self._table(batch.class_names)
        assert table.frozen is not None
        classes = table.index(map(class_words, batch.class_names), batch.labels.device)
        present, where = classes.unique(return_inverse=True)
        rows = _pairs(present)
        learned = self._encode_rows(table, rows)
        near = F.cosine_similarity(learned, table.frozen[rows], dim=-1).mean()
        prompts = learned.view(len(present), 2, -1)[where]
        return self._cross_entropy(prompts, batch) + self.config.anchor_weight * (1 - near)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), OpenAI's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return quick_gelu(x)


def _pairs(classes: Tensor) -> Tensor:
    """(2C,) rows of both prompts of C objects, object by object."""
    return torch.stack([2 * classes, 2 * classes + 1], dim=1).flatten()
