"""Reads DINOv2 weights of any common naming into our tower: the authors' files, those of transformers, those of timm.

Which of them a file is follows from its names, all sizes from its shapes: the width of SwiGLU, registers, grid of positions.
Training checkpoints of the authors' code, whose blocks lie in chunks (`blocks.c.i`) beside heads, are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from promptad.dino.tower import DinoSizes, DinoTower
from promptad.errors import WeightsError
from promptad.notices import notice

# Channels of an attention head in all towers that were published.
HEAD_WIDTH = 64
# What stands in every file of the authors and of timm, and in every file of transformers.
_ANCHORS = ("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight")
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module)\.")
# Used by no one but the training: the stand-in for hidden patches, and timm's place for a head.
_UNUSED = re.compile(r"^(?:embeddings\.)?mask_token$|^head\.")
_TOPS = {
    "cls_token": "class_embedding",
    "pos_embed": "position_embedding",
    "register_tokens": "registers",
    "reg_token": "registers",
    "patch_embed.proj.weight": "patch_embedding.weight",
    "patch_embed.proj.bias": "patch_embedding.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
    "embeddings.cls_token": "class_embedding",
    "embeddings.position_embeddings": "position_embedding",
    "embeddings.register_tokens": "registers",
    "embeddings.patch_embeddings.projection.weight": "patch_embedding.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embedding.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
# `blocks.i.` of the authors and timm, `blocks.c.i.` of training checkpoints, `encoder.layer.i.` of transformers.
_BLOCK = re.compile(r"(?:blocks(?:\.\d+)?|encoder\.layer)\.(\d+)\.([a-z].*)")
_INNER = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "attention.output.dense": "attention.out",
    "mlp.fc1": "ffn.inner",
    "mlp.fc2": "ffn.outer",
    "mlp.w12": "ffn.inner",
    "mlp.w3": "ffn.outer",
    "mlp.weights_in": "ffn.inner",
    "mlp.weights_out": "ffn.outer",
}
_SCALES = {
    "ls1.gamma": "scale_1",
    "ls2.gamma": "scale_2",
    "layer_scale1.lambda1": "scale_1",
    "layer_scale2.lambda1": "scale_2",
}
_PARTS = re.compile(r"attention\.attention\.(query|key|value)\.(weight|bias)")


@dataclass(frozen=True)
class LoadedDino:
    """The sizes of a tower, and its tensors under our names as they were stored."""

    sizes: DinoSizes
    tensors: dict[str, Tensor]


def looks_like_dino(names: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors have the names of a DINOv2 tower rather than those of a CLIP."""
    return any(name == anchor or name.endswith(f".{anchor}") for name in names for anchor in _ANCHORS)


def load_dino(tensors: Mapping[str, Tensor], where: str, heads: int | None = None) -> LoadedDino:
    """The tower in the tensors of a file.

    Args:
        tensors: by their names in the file. where: the file, for messages.
        heads: attention heads by a config beside the file; None for heads of 64 channels, as all that were published.

    Raises:
        WeightsError: no DINOv2 tower, not all of one, or several of which none is said to be meant.
    """
    ours = _our_names(_unwrapped(tensors, where), where)
    sizes = _sizes(ours, where, heads)
    _check_shapes(ours, sizes, where)
    return LoadedDino(sizes, ours)


def _unwrapped(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors by the names that the tower itself gave them; of a teacher and a student, the teacher's."""
    plain = {_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    prefixes = sorted(
        {name.removesuffix(anchor) for name in plain for anchor in _ANCHORS if re.search(rf"(^|\.){anchor}$", name)}
    )
    if not prefixes:
        raise WeightsError(
            f"{where}: not a DINOv2 image tower (found names such as {', '.join(sorted(plain)[:3]) or 'none'}); expected the "
            "authors' .pth, or the file of transformers or timm"
        )
    teachers = [prefix for prefix in prefixes if "teacher" in prefix]
    if len(prefixes) > 1 and len(teachers) != 1:
        raise WeightsError(f"{where}: holds several towers ({', '.join(prefixes)[:100]}); save one of them alone")
    prefix = teachers[0] if len(prefixes) > 1 else prefixes[0]
    left = [name for name in plain if not name.startswith(prefix)]
    if left:
        notice(
            f"{where}: {len(left)} tensors stand outside {prefix!r} and are not used (first: {left[0]}); the tower is loaded "
            "without them"
        )
    return {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}


def _our_names(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        block = _BLOCK.fullmatch(name)
        if name in _TOPS:
            ours = _TOPS[name]
            out[ours] = tensor if ours.startswith(("patch", "norm")) else tensor.reshape(-1, tensor.shape[-1])
        elif block is not None and (part := _PARTS.fullmatch(block[2])):
            parts.setdefault(f"blocks.{block[1]}.attention.qkv.{part[2]}", {})[part[1]] = tensor
        elif block is not None and block[2] in _SCALES:
            out[f"blocks.{block[1]}.{_SCALES[block[2]]}"] = tensor
        elif block is not None and block[2].rpartition(".")[0] in _INNER:
            stem, _, kind = block[2].rpartition(".")
            out[f"blocks.{block[1]}.{_INNER[stem]}.{kind}"] = tensor
        elif not _UNUSED.search(name):
            unknown.append(name)
    if unknown:
        raise WeightsError(
            f"{where}: {len(unknown)} tensors do not belong to a DINOv2 tower (first: {unknown[0]}); this architecture is not "
            "one that promptad runs"
        )
    for name, three in parts.items():
        if len(three) != 3:
            raise WeightsError(f"{where}: {name} lacks its {', '.join({'query', 'key', 'value'} - set(three))}")
        out[name] = torch.cat([three[part] for part in ("query", "key", "value")])
    if "class_embedding" in out:
        out["class_embedding"] = out["class_embedding"].reshape(-1)
    if "position_embedding" in out and _square(len(out["position_embedding"])):
        # timm's towers with registers: the class token's position is in the class token already.
        table = out["position_embedding"]
        out["position_embedding"] = torch.cat([torch.zeros_like(table[:1]), table])
    return out


def _square(count: int) -> int:
    """The side of a square of so many patches; 0 where there is none."""
    side = round(count**0.5)
    return side if side * side == count else 0


def _sizes(tensors: dict[str, Tensor], where: str, heads: int | None) -> DinoSizes:
    try:
        width, _, patch, _ = tensors["patch_embedding.weight"].shape
        inner, hidden = tensors["blocks.0.ffn.inner.weight"].shape[0], tensors["blocks.0.ffn.outer.weight"].shape[1]
        rows = len(tensors["position_embedding"])
    except KeyError as error:
        raise WeightsError(f"{where}: tensor {error} is missing; the file is incomplete or of another model") from error
    except (ValueError, IndexError) as error:
        raise WeightsError(f"{where}: a tensor has another number of dimensions than in a DINOv2 tower") from error
    side = _square(rows - 1)
    if not side or inner not in (hidden, 2 * hidden):
        raise WeightsError(
            f"{where}: {rows} positions and an FFN of {inner} and {hidden} channels are not those of a DINOv2 tower, which "
            "has a square grid and a class token, and as many channels or twice as many"
        )
    heads = heads or max(1, width // HEAD_WIDTH)
    if width % heads:
        raise WeightsError(
            f"{where}: {heads} attention heads do not divide the width {width}; put the right config there"
        )
    numbers = {int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")}
    if gaps := set(range(len(numbers))) - numbers:
        raise WeightsError(f"{where}: block {min(gaps)} of {len(numbers)} is missing; the file is incomplete")
    registers = len(tensors.get("registers", ()))
    return DinoSizes(width, len(numbers), heads, hidden, patch, side * patch, registers, inner == 2 * hidden)


def _check_shapes(tensors: dict[str, Tensor], sizes: DinoSizes, where: str) -> None:
    """Every tensor of the tower, and of the shape that its sizes ask for. Without registers there is no such tensor in files."""
    tensors.setdefault("registers", tensors["patch_embedding.weight"].new_empty(0, sizes.width))
    with torch.device("meta"):
        expected = DinoTower(sizes).state_dict()
    for name, tensor in expected.items():
        if name not in tensors:
            raise WeightsError(f"{where}: tensor {name} is missing; the file is incomplete or of another model")
        if tensors[name].shape != tensor.shape:
            shapes = f"{tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
            raise WeightsError(
                f"{where}: tensor {name} has the shape {shapes}; the file is damaged or of another model"
            )
