"""A tiny random CLIP with the real structure, for tests that need no real weights."""

from __future__ import annotations

import torch
from torch import Tensor

from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.tokenizer import clip_tokenizer

# Two threads that wait for each other cost more than they give on a model this small.
torch.set_num_threads(1)

SIZES = ClipSizes(
    embed_dim=24,
    activation="quick_gelu",
    vision=VisionSizes(width=32, layers=4, heads=2, mlp_width=64, patch_size=8, image_size=48),
    text=TextSizes(width=32, layers=3, heads=2, mlp_width=64, context_length=77, vocab_size=49408),
)


def tiny_backbone(seed: int = 0) -> Backbone:
    """Random weights; 48-pixel input, 6 x 6 patches of 8 pixels."""
    return random_backbone(SIZES, clip_tokenizer(), seed)


_OPENCLIP = {"attention.out": "attn.out_proj", "mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"}


def openclip(vision: torch.nn.Module, text: torch.nn.Module) -> dict[str, Tensor]:
    """Our towers under the names of an OpenCLIP state dict."""
    out = {"logit_scale": torch.tensor(4.6)}
    tops = {"patch_embedding.weight": "conv1.weight", "position_embedding": "positional_embedding"}
    for tower, prefix in ((vision, "visual."), (text, "")):
        for name, tensor in tower.state_dict().items():
            if name == "projection.weight":
                out["visual.proj" if prefix else "text_projection"] = tensor.T.contiguous()
                continue
            if name.startswith("blocks."):
                _, number, rest = name.split(".", 2)
                stem, kind = rest.rsplit(".", 1)
                part = f"attn.in_proj_{kind}" if stem == "attention.qkv" else f"{_OPENCLIP.get(stem, stem)}.{kind}"
                name = f"transformer.resblocks.{number}.{part}"
            out[prefix + tops.get(name, name)] = tensor
    return out
