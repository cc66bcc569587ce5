"""CoOp (Zhou K. et al., "Learning to Prompt for Vision-Language Models", IJCV 2022), as zero-shot detection compares with it.

The prompts "V1..Vn normal [c]." and "V1..Vn anomalous [c]." share n learnable tokens, trained by the cross-entropy of the class token
on the labelled photos of other objects. `methods.named_prompts` has all of it but this: prompts that depend on the
object alone, so each object of a batch is encoded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from promptad.clip.features import Features
from promptad.methods.named_prompts import ClassPrompts, NamedPrompts, NamedPromptsConfig
from promptad.prompts.layout import Layout, Slot


@dataclass(frozen=True)
class CoOpConfig(NamedPromptsConfig):
    """Settings of CoOp besides those of `NamedPromptsConfig`."""

    # Where the state and the object's name stand: behind the learnable tokens, in their middle, or in front of them.
    class_position: Literal["end", "middle", "front"] = "end"


PRINTED: dict[str, Any] = {
    "input_size": 518,
    "fit": "squash",
    "positions": "bilinear",
    "map_size": 518,
    "smoothing": 4.0,
    "local": "qk",
}
"""How the tables of AnomalyCLIP and FAPrompt look at photos, with ViT-L-14-336."""

PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": PRINTED,
    # As CoOp itself is released: more passes, larger batches.
    "release": {**PRINTED, "epochs": 200, "batch_size": 32},
}


class CoOp(NamedPrompts):
    """One learned context for all objects; see the module's docstring.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "coop"

    def _layout(self, words: str) -> Layout:
        """Of an odd number of tokens the middle has one more behind it."""
        config = cast(CoOpConfig, self.config)
        half = config.context_tokens // 2
        if config.class_position == "middle":
            return Slot("context", stop=half), words, Slot("context", start=half), "."
        return (words, Slot("context"), ".") if config.class_position == "front" else super()._layout(words)

    def encode(self, table: ClassPrompts, classes: Tensor, features: Features) -> Tensor:
        """(B, 2, E): the prompts of each view's object; every object is encoded once."""
        present, where = classes.unique(return_inverse=True)
        rows = torch.stack([2 * present, 2 * present + 1], dim=1).flatten()
        embeddings = table.prompts.assemble({"context": self.module.context})[rows]
        m = table.prompts.shared
        encoded = self.backbone.text.encode_continued(
            embeddings[:1, :m], torch.zeros_like(rows), embeddings[:, m:], table.prompts.eot[rows]
        )
        return encoded.view(len(present), 2, -1)[where]
