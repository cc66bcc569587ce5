"""MaPLe (Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023) learned from good photos, as in PromptAD's table 6.

Learnable tokens in both towers. In front of the object's name stand "V1 V2 of a"; before the following blocks of the text tower other
learnable tokens overwrite V1 and V2. A linear layer of each block turns its text tokens into as many tokens of the image tower,
which stand behind the patches and are replaced before the same blocks. What is compared is therefore not the frozen CLIP's feature of
a photo: every photo runs through the image tower once more for each of the two tasks. Behind the last block with
learnable tokens these travel on as they are. The rest, and how one class teaches two, is in `methods.one_class`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from promptad.annotations import Positive
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalAttention
from promptad.inputs import setting
from promptad.methods.learned_context import LearnedContext, first_context
from promptad.methods.one_class import OneClassConfig, OneClassPrompts, class_rows
from promptad.notices import notice


@dataclass(frozen=True)
class MaPLeConfig(OneClassConfig):
    """Settings of MaPLe besides those of `OneClassConfig`."""

    # Learnable tokens of a context, and as many in the image tower.
    context_tokens: Positive = 2
    # Words whose embeddings the learnable tokens begin with, as many as there are tokens; "" draws them.
    context_words: str = "a photo"
    # Words that do not learn, between the learnable tokens and the object's name.
    fixed_words: str = "of a"
    # Blocks of both towers that see learnable tokens of their own; all where a tower has fewer, with a line.
    depth: Positive = 9
    # Patch features of the maps: the ordinary patch tokens ("qk"), since the row of table 6 is printed without V-V.
    local: LocalAttention = "qk"


class CoupledContext(LearnedContext):
    """Everything that is learned for one task.

    Args:
        context: (rows, n, t) first tokens. deep: (rows, J - 1, n, t) tokens before blocks 2 to J. width: D of the image tower.

    Attributes:
        coupling: J linear layers t -> D; those of the deep tokens begin as copies of one.
    """

    def __init__(self, context: Tensor, deep: Tensor, width: int) -> None:
        super().__init__(context, None)
        self.deep = nn.Parameter(deep)
        first, later = (nn.Linear(context.shape[-1], width) for _ in range(2))
        self.coupling = nn.ModuleList([first, *(deepcopy(later) for _ in range(deep.shape[1]))])

    def vision(self) -> list[Tensor]:
        """J sets of (n, D) tokens for the image tower, made of the normal side's text tokens, with gradients."""
        return [layer(tokens) for layer, tokens in zip(self.coupling, [self.context[0], *self.deep[0]], strict=True)]


class MaPLe(OneClassPrompts):
    """Learned tokens in both towers; see the module's docstring.

    With reading R1 the anomalous side has deep tokens of its own too; the tokens of the image tower follow the normal side.

    Raises:
        ConfigError, TextError: an image tower that is no ViT, words or layers that do not exist, prompts that are too long.
    """

    name = "maple"
    config: MaPLeConfig
    modules: Mapping[str, CoupledContext]

    def __init__(self, backbone: Backbone, config: MaPLeConfig, object_name: str = "object") -> None:
        self._tower, sizes = backbone.vit("MaPLe")
        self.depth = min(config.depth, backbone.sizes.text.layers, sizes.layers)
        if self.depth < config.depth:
            notice(
                f"depth={config.depth} is more than this backbone has blocks (text {backbone.sizes.text.layers}, image "
                f"{sizes.layers}); {self.depth} have learnable tokens ({setting('depth', str(self.depth))} says the same)"
            )
        super().__init__(backbone, config, object_name)
        self.request = config.looks(inputs=True)

    def draw(self) -> CoupledContext:
        """Contexts, deep tokens N(0, std^2) and linear layers as torch begins them."""
        context = first_context(self.backbone, self.config, self.contexts)
        deep = torch.randn(self.contexts, self.depth - 1, *context.shape[1:]) * self.config.init_std
        return CoupledContext(context, deep, self._tower.sizes.width)

    def encode_texts(self, task: str) -> Tensor:
        """(P, E): each prompt with the deep tokens of its own context."""
        module = self.modules[task]
        embeddings = self.prompts.assemble({"context": module.context})
        sides = zip(embeddings.chunk(self.contexts), self.prompts.eot.chunk(self.contexts), module.deep, strict=True)
        text = self.backbone.text
        return torch.cat([text.encode_embeddings(rows, eot, deep.unbind()) for rows, eot, deep in sides])

    def encode(self, task: str, features: Features) -> tuple[Tensor, Tensor]:
        """Features of the views with the learned tokens in the image tower, and prompts (P, E)."""
        assert features.inputs is not None  # `request` asks for them
        local = self.request.local if task == "pixel" else None
        looks = FeatureRequest(local=local, positions=self.request.positions)
        return class_rows(task, self._tower(features.inputs, looks, self.modules[task].vision())), self.texts(task)
