"""CoCoOp (Zhou K. et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022), as zero-shot detection uses it.

CoOp's prompts, with a small network that turns the photo's embedding into a vector which is added to every learnable token: each
photo has prompts of its own, so the text is encoded for every photo, its common beginning once for both prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.annotations import Positive
from promptad.clip.features import Features
from promptad.methods.baselines.coop import PRINTED
from promptad.methods.learned_context import meta_net
from promptad.methods.named_prompts import ClassPrompts, NamedPrompts, NamedPromptsConfig


@dataclass(frozen=True)
class CoCoOpConfig(NamedPromptsConfig):
    """Settings of CoCoOp besides those of `NamedPromptsConfig`."""

    # The hidden layer of the network has the width of the joint space divided by this.
    reduction: Positive = 16


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": PRINTED,
    # As CoCoOp itself is released: four tokens that begin as words, one photo a batch.
    "release": {**PRINTED, "context_tokens": 4, "context_words": "a photo of a", "epochs": 10, "batch_size": 1},
    # `paper` with maps of V-V features, which FAPrompt's numbers of CoCoOp suggest.
    "vv": {**PRINTED, "local": "vv"},
}


class CoCoOp(NamedPrompts):
    """A learned context that follows the photo; see the module's docstring.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "cocoop"
    config: CoCoOpConfig

    def _meta_net(self) -> nn.Module:
        return meta_net(self.backbone, self.config.reduction)

    def encode(self, table: ClassPrompts, classes: Tensor, features: Features) -> Tensor:
        """(B, 2, E): both prompts of each view, with the vector of its own embedding on every learnable token."""
        assert self.module.meta is not None
        vectors = self.module.meta(F.normalize(features.image, dim=-1))  # (B, t)
        rows = torch.stack([2 * classes, 2 * classes + 1], dim=1)
        embeddings = table.prompts.assemble({"context": self.module.context})[rows]  # (B, 2, n, t)
        m = table.prompts.shared
        first = embeddings[:, 0, :m]
        encoded = self.backbone.text.encode_continued(
            torch.cat([first[:, :1], first[:, 1:] + vectors[:, None]], dim=1),
            torch.arange(len(rows), device=rows.device).repeat_interleave(2),
            embeddings[:, :, m:].flatten(0, 1),
            table.prompts.eot[rows.flatten()],
        )
        return encoded.view(len(rows), 2, -1)
