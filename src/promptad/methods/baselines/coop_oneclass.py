"""CoOp (Zhou K. et al., IJCV 2022) learned from good photos: the row "CoOp + VV-CLIP" of PromptAD's table 6 (CVPR 2024).

Four learnable tokens in front of the object's name, and nothing else: all of it is in `methods.one_class`. With reading R1 it is
PromptAD's own prompts without semantic concatenation and without margin, a row of its table 3 with the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from promptad.clip.features import Features
from promptad.methods.one_class import OneClassConfig, OneClassPrompts, class_rows


@dataclass(frozen=True)
class CoOpOneClassConfig(OneClassConfig):
    """Settings of one-class CoOp: those of `OneClassConfig`."""


class CoOpOneClass(OneClassPrompts):
    """Learned contexts that are the same for all photos; see the module's docstring.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "coop-oneclass"

    def encode(self, task: str, features: Features) -> tuple[Tensor, Tensor]:
        """Frozen features of the views, and prompts (P, E)."""
        return class_rows(task, features), self.texts(task)
