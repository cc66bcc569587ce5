"""A tiny random CLIP and DINOv2 with the real structure, for tests that need no real weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.tokenizer import clip_tokenizer
from promptad.dino.tower import DinoSizes, DinoTower, build_tower

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


DINO_SIZES = DinoSizes(width=128, layers=4, heads=2, hidden=160, patch_size=14, image_size=84)


def tiny_dino(seed: int = 0, **other: object) -> DinoTower:
    """A DINOv2 tower with random weights; 84-pixel input, 6 x 6 patches of 14 pixels; `other` sizes where they are given."""
    sizes = replace(DINO_SIZES, **other)
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: parameter.shape for name, parameter in DinoTower(sizes).state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        noise = 0.1 * torch.randn(shape, generator=generator)
        # Factors and norms lie around 1, all else around 0, so that every one of them shows.
        state[name] = (
            1 + noise if "scale" in name or (("ln_" in name or "norm" in name) and "weight" in name) else noise
        )
    return build_tower(state, sizes)


def dino_official(tower: DinoTower, chunk: int = 0) -> dict[str, Tensor]:
    """Our tower under the names of the authors' files, with the mask token; `chunk` blocks in each `blocks.c.` of a training."""
    state = {name: tensor.detach().clone() for name, tensor in tower.state_dict().items()}
    swiglu = tower.sizes.swiglu
    inner = {"ffn.inner": "mlp.w12" if swiglu else "mlp.fc1", "ffn.outer": "mlp.w3" if swiglu else "mlp.fc2"}
    inner |= {"ln_1": "norm1", "ln_2": "norm2", "attention.qkv": "attn.qkv", "attention.out": "attn.proj"}
    out = {
        "cls_token": state.pop("class_embedding").view(1, 1, -1),
        "pos_embed": state.pop("position_embedding")[None],
        "mask_token": torch.zeros(1, tower.sizes.width),
    }
    registers = state.pop("registers")
    if len(registers):
        out["register_tokens"] = registers[None]
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            stem, _, kind = rest.rpartition(".")
            own = f"{inner[stem]}.{kind}" if stem else f"ls{rest[-1]}.gamma"
            place = f"{int(number) // chunk}.{number}" if chunk else number
            out[f"blocks.{place}.{own}"] = tensor
        else:
            out[name.replace("patch_embedding", "patch_embed.proj")] = tensor
    return out


def dino_transformers(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names -> those of the files of transformers, which no live module of transformers 5 has any more."""
    out: dict[str, Tensor] = {}
    tops = {"cls_token": "cls_token", "pos_embed": "position_embeddings", "register_tokens": "register_tokens"}
    tops |= {"mask_token": "mask_token"}
    inner = {"attn.proj": "attention.output.dense", "ls1.gamma": "layer_scale1.lambda1"}
    inner |= {"ls2.gamma": "layer_scale2.lambda1", "mlp.w12": "mlp.weights_in", "mlp.w3": "mlp.weights_out"}
    for name, tensor in official.items():
        if name in tops:
            out[f"embeddings.{tops[name]}"] = tensor
        elif name.startswith("patch_embed."):
            out[name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")] = tensor
        elif name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            base = f"encoder.layer.{number}."
            if rest.startswith("attn.qkv."):
                for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    out[f"{base}attention.attention.{part}.{rest[9:]}"] = rows.clone()
                continue
            for ours, theirs in inner.items():
                rest = rest.replace(ours, theirs)
            out[base + rest] = tensor
        else:
            out[name.replace("norm.", "layernorm.")] = tensor
    return out


def dino_timm(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names -> those of timm: no mask token; with registers no row of positions for the class token."""
    out = {name: tensor for name, tensor in official.items() if name not in ("mask_token", "register_tokens")}
    if "register_tokens" in official:
        out["reg_token"] = official["register_tokens"]
        out["cls_token"] = official["cls_token"] + official["pos_embed"][:, :1]
        out["pos_embed"] = official["pos_embed"][:, 1:].clone()
    return {name.replace("mlp.w12", "mlp.fc1").replace("mlp.w3", "mlp.fc2"): tensor for name, tensor in out.items()}
