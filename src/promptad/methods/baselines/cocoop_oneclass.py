"""CoCoOp (Zhou K. et al., CVPR 2022) learned from good photos: the row "CoCoOp + VV-CLIP" of PromptAD's table 6 (CVPR 2024).

One-class CoOp with CoCoOp's network: the vector that it makes of a photo's embedding is added to every learnable token, of the second
context of reading R1 too. Photos and patches have a network each; patches are judged by the prompts of their photo.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from promptad.annotations import Positive
from promptad.clip.features import Features
from promptad.methods.learned_context import LearnedContext, encode_prompts, first_context, meta_net
from promptad.methods.one_class import OneClassConfig, OneClassPrompts, class_rows


@dataclass(frozen=True)
class CoCoOpOneClassConfig(OneClassConfig):
    """Settings of one-class CoCoOp besides those of `OneClassConfig`."""

    # The hidden layer of the network has the width of the joint space divided by this.
    reduction: Positive = 16


class CoCoOpOneClass(OneClassPrompts):
    """Learned contexts that follow the photo; see the module's docstring.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "cocoop-oneclass"
    config: CoCoOpOneClassConfig

    def draw(self) -> LearnedContext:
        """Contexts (rows, n, t), and the network."""
        contexts = first_context(self.backbone, self.config, self.contexts)
        return LearnedContext(contexts, meta_net(self.backbone, self.config.reduction))

    def encode(self, task: str, features: Features) -> tuple[Tensor, Tensor]:
        """Frozen features of the views, and prompts (B, P, E) of each view."""
        module = self.modules[task]
        assert module.meta is not None
        vectors = module.meta(F.normalize(features.image, dim=-1))  # (B, t)
        prompts = encode_prompts(self.backbone, self.prompts, {"context": module.context}, {"context": vectors})
        return class_rows(task, features), prompts
