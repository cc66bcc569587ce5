"""Reads CLIP weights of any common naming into our two towers.

Known namings: Hugging Face `CLIPModel` (also the bundled starter, whose linear layers are in 4 bits) and OpenCLIP
(`visual.*`, of ViT and ResNet towers), in state dicts, safetensors and TorchScript archives, whatever a training script wrapped around them. Sizes
are read from the tensors themselves; `facts.py` finds what shapes cannot tell.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from promptad.clip.architecture import ClipSizes, ResNetSizes, TextSizes, VisionSizes
from promptad.clip.facts import Claim, Facts, buffers_claim, check_shapes, config_claims, settle, usual_heads
from promptad.clip.quantised import dequantise_all
from promptad.clip.torchscript import is_torchscript, read_torchscript
from promptad.dino.checkpoints import looks_like_dino
from promptad.errors import WeightsError
from promptad.inputs import argument
from promptad.notices import notice

_HF_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp_in",
    "mlp.fc2": "mlp_out",
    "self_attn.out_proj": "attention.out",
}
_HF = {
    "vision_model.embeddings.class_embedding": "vision.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "vision.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight": "vision.position_embedding",
    "vision_model.pre_layrnorm": "vision.ln_pre",
    "vision_model.post_layernorm": "vision.ln_post",
    "visual_projection.weight": "vision.projection.weight",
    "text_model.embeddings.token_embedding.weight": "text.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "text.position_embedding",
    "text_model.final_layer_norm": "text.ln_final",
    "text_projection.weight": "text.projection.weight",
}
_OPENCLIP_BLOCK = {
    "ln_1": "ln_1",
    "ln_2": "ln_2",
    "mlp.c_fc": "mlp_in",
    "mlp.c_proj": "mlp_out",
    "attn.out_proj": "attention.out",
}
_OPENCLIP = {
    "visual.class_embedding": "vision.class_embedding",
    "visual.conv1.weight": "vision.patch_embedding.weight",
    "visual.positional_embedding": "vision.position_embedding",
    "visual.ln_pre": "vision.ln_pre",
    "visual.ln_post": "vision.ln_post",
    "visual.proj": "vision.projection.weight",
    "token_embedding.weight": "text.token_embedding.weight",
    "positional_embedding": "text.position_embedding",
    "ln_final": "text.ln_final",
    "text_projection": "text.projection.weight",
}
# Buffers that carry no weights, and the temperature, which decides no ranking.
_IGNORED = re.compile(r"(position_ids|attn_mask|logit_scale|logit_bias|input_resolution|context_length|vocab_size)$")
# Where training scripts put the model that they train, among averages and teachers of it.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "clip")
# Levels that wrappers of torch put into a name, wherever they were applied.
_LEVELS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_RESNET = "visual.attnpool.positional_embedding"
"""The tensor that only ResNet towers have."""
_ANCHORS = ("visual.conv1.weight", "vision_model.embeddings.class_embedding")
"""The tensor by which each naming is known, and before which a wrapper's prefix stands."""


@dataclass(frozen=True)
class LoadedWeights:
    """A CLIP weights file: its sizes, our-named tensors as stored (4-bit ones as float32), and what shapes cannot tell."""

    sizes: ClipSizes
    tensors: dict[str, Tensor]
    facts: Facts


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a `.safetensors` file, a pickled state dict or a TorchScript archive, and the file's metadata.

    Pickled files can hold tensors, never code: state dicts are opened with `weights_only=True`, and of an archive only the
    values are read.

    Raises:
        WeightsError: missing, truncated, not a weights file, or a pickle that holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        if is_torchscript(path):
            return read_torchscript(path), {}
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such weights file") from error
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: a pickle with more than tensors in it; promptad never runs code from a weights file: save its state "
            "dict alone, or use the .safetensors of the same model"
        ) from error
    except Exception as error:  # a damaged pickle raises anything: struct.error, IndexError, KeyError, ...
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a readable weights file ({reason}); fetch it again") from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, expected a dictionary of tensors")
    return _state_dict(loaded, str(path)), {}


def _state_dict(loaded: dict[Any, Any], where: str) -> dict[str, Tensor]:
    """The tensors of the one model in what a training script saved, whatever it calls its place there.

    Raises:
        WeightsError: several models, of which no name says which is meant.
    """
    places: dict[str, dict[str, Tensor]] = {}
    nested, walked = [("", loaded)], {id(loaded)}  # a pickle can hold a dictionary that holds itself
    while nested:
        place, values = nested.pop()
        places[place] = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
        inside = {name: value for name, value in values.items() if isinstance(value, dict) and id(value) not in walked}
        walked |= {id(value) for value in inside.values()}
        nested += [(f"{place}.{name}".lstrip("."), value) for name, value in inside.items()]
    models = sorted(place for place, tensors in places.items() if _has_tower(tensors))
    if not models:  # what stands there is named in the refusal
        return max(places.values(), key=len)
    if len(models) == 1:
        return places[models[0]]
    named = ", ".join(place or "its top level" for place in models)[:200]
    usual = next((place for place in ("", *_WRAPPERS) if place in models), None)
    if usual is None:
        raise WeightsError(f"{where}: holds several models ({named}); save one of them alone")
    notice(
        f"{where}: holds several models ({named}); that of {usual or 'its top level'} is used; save another alone to use it"
    )
    return places[usual]


def _has_tower(tensors: Mapping[str, Tensor]) -> bool:
    return looks_like_dino(tensors) or any(
        _ends_with(_LEVELS.sub("", name), anchor) for name in tensors for anchor in _ANCHORS
    )


def unwrap(tensors: dict[str, Tensor], where: str = "weights") -> dict[str, Tensor]:
    """The tensors by the names that the model itself gave them.

    What wrappers put in front or in between goes: "module." (DataParallel), "_orig_mod." (torch.compile), "model.",
    "clip_model." and any other prefix that stands before the image tower. Tensors that do not have that prefix are no part
    of the model, which a notice says.

    Raises:
        WeightsError: two models in one file, or two tensors of one name.
    """
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        bare = _LEVELS.sub("", name)
        if bare in plain:
            raise WeightsError(
                f"{where}: holds two tensors that are both {bare!r} without wrappers; save one model alone"
            )
        plain[bare] = tensor
    prefixes = {name.removesuffix(anchor) for name in plain for anchor in _ANCHORS if _ends_with(name, anchor)}
    if len(prefixes) > 1:
        raise WeightsError(
            f"{where}: holds several models ({', '.join(sorted(prefixes))[:100]}); save one of them alone"
        )
    prefix = prefixes.pop() if prefixes else ""
    if prefix:
        left = [name for name in plain if not name.startswith(prefix)]
        if left:
            notice(
                f"{where}: {len(left)} tensors stand outside {prefix!r} and are not used (first: {left[0]}); the towers are "
                "loaded without them"
            )
        plain = {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}
    if "text.token_embedding.weight" in plain and "visual.conv1.weight" in plain:  # OpenCLIP's CustomTextCLIP
        plain = {name.removeprefix("text."): tensor for name, tensor in plain.items()}
    return plain


def _ends_with(name: str, anchor: str) -> bool:
    return name == anchor or name.endswith(f".{anchor}")


def to_our_names(tensors: dict[str, Tensor], where: str = "weights") -> dict[str, Tensor]:
    """Maps Hugging Face or OpenCLIP tensors to the names of our towers; wrappers were taken off before.

    Raises:
        WeightsError: neither naming fits, or a tensor of unknown name (a tower that we would not run as trained).
    """
    if "visual.conv1.weight" in tensors:
        trunk = _resnet_names(tensors) if _RESNET in tensors else {}
        rest = {name: tensor for name, tensor in tensors.items() if not (trunk and name.startswith("visual."))}
        mapped = trunk | _map(
            rest, where, _OPENCLIP, _OPENCLIP_BLOCK, ("visual.transformer.resblocks.", "transformer.resblocks.")
        )
        for name in ("vision.projection.weight", "text.projection.weight"):
            if name in mapped and f"{_openclip_linear(name)}.weight" not in tensors:
                mapped[name] = mapped[name].T  # OpenCLIP stores (in, out) matrices, not linear layers
        return mapped
    if "vision_model.embeddings.class_embedding" in tensors:
        return _map(tensors, where, _HF, _HF_BLOCK, ("vision_model.encoder.layers.", "text_model.encoder.layers."))
    if looks_like_dino(tensors):
        raise WeightsError(
            f"{where}: holds a DINOv2, an image tower without words; give it for the memory ({argument('memory_backbone')}) beside a CLIP"
        )
    raise WeightsError(
        f"{where}: not a CLIP model with image and text towers (found names such as "
        f"{', '.join(sorted(tensors)[:3]) or 'none'}); expected Hugging Face CLIPModel or OpenCLIP weights"
    )


def _resnet_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a ResNet image tower, whose names are ours already, without the counters of batches seen."""
    return {
        f"vision.{name.removeprefix('visual.')}": tensor
        for name, tensor in tensors.items()
        if name.startswith("visual.") and not name.endswith(".num_batches_tracked") and not _IGNORED.search(name)
    }


def _openclip_linear(ours: str) -> str:
    return "text_projection" if ours.startswith("text") else "visual.proj"


def _map(
    tensors: dict[str, Tensor], where: str, names: dict[str, str], block: dict[str, str], prefixes: tuple[str, str]
) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        tower = next((t for t, p in zip(("vision", "text"), prefixes, strict=True) if name.startswith(p)), None)
        stem, _, kind = name.rpartition(".")
        if tower is not None:
            number, _, rest = name.removeprefix(prefixes[0] if tower == "vision" else prefixes[1]).partition(".")
            inner, _, kind = rest.rpartition(".")
            base = f"{tower}.blocks.{number}."
            if inner in block:
                out[f"{base}{block[inner]}.{kind}"] = tensor
            elif rest.startswith("attn.in_proj_"):
                out[f"{base}attention.qkv.{rest.removeprefix('attn.in_proj_')}"] = tensor
            elif (match := re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest)) is not None:
                parts.setdefault(f"{base}attention.qkv.{match[2]}", {})[match[1]] = tensor
            else:
                unknown.append(name)
        elif name in names:
            out[names[name]] = tensor
        elif name == "text_projection.weight" and "text_projection" in names:
            out["text.projection.weight"] = tensor
        elif stem in names and kind in ("weight", "bias"):
            out[f"{names[stem]}.{kind}"] = tensor
        elif not _IGNORED.search(name):
            unknown.append(name)
    if unknown:
        raise WeightsError(
            f"{where}: {len(unknown)} tensors do not belong to a CLIP model (first: {unknown[0]}); "
            "this architecture is not one that promptad runs"
        )
    for name, qkv in parts.items():
        if set(qkv) != set("qkv"):
            raise WeightsError(f"{where}: {name} lacks its {', '.join(sorted(set('qkv') - set(qkv)))} projection")
        out[name] = torch.cat([qkv["q"], qkv["k"], qkv["v"]])
    return out


def infer_sizes(tensors: dict[str, Tensor], where: str) -> ClipSizes:
    """Sizes of the model from its (our-named) tensors; heads and activation are placeholders until the facts are known.

    Raises:
        WeightsError: a tensor is missing, or the position table is of no square grid.
    """
    try:
        text_positions = tensors["text.position_embedding"]
        text = _tower_sizes(tensors, "text")
        vocab = tensors["text.token_embedding.weight"].shape[0]
        vision, embed_dim = (
            _resnet_sizes(tensors, where) if "vision.attnpool.c_proj.weight" in tensors else _vit_sizes(tensors, where)
        )
    except KeyError as error:
        raise WeightsError(f"{where}: tensor {error} is missing; the file is incomplete or of another model") from error
    except (ValueError, IndexError) as error:
        raise WeightsError(f"{where}: a tensor has another number of dimensions than in a CLIP model") from error
    return ClipSizes(
        embed_dim=embed_dim,
        activation="gelu",
        vision=vision,
        text=TextSizes(*text, context_length=text_positions.shape[0], vocab_size=vocab),
    )


def _vit_sizes(tensors: dict[str, Tensor], where: str) -> tuple[VisionSizes, int]:
    conv = tensors["vision.patch_embedding.weight"]
    side = _grid_side(tensors["vision.position_embedding"].shape[0], "vision.position_embedding", where)
    sizes = _tower_sizes(tensors, "vision")
    embed_dim = tensors["vision.projection.weight"].shape[0]
    return VisionSizes(*sizes, patch_size=conv.shape[-1], image_size=side * conv.shape[-1]), embed_dim


def _resnet_sizes(tensors: dict[str, Tensor], where: str) -> tuple[ResNetSizes, int]:
    embed_dim, width = tensors["vision.attnpool.c_proj.weight"].shape
    positions = "vision.attnpool.positional_embedding"
    side = _grid_side(tensors[positions].shape[0], positions, where)
    rows = [{int(n.split(".")[2]) for n in tensors if n.startswith(f"vision.layer{stage}.")} for stage in range(1, 5)]
    for stage, numbers in enumerate(rows, start=1):
        if not numbers or max(numbers) + 1 != len(numbers):
            raise KeyError(f"vision.layer{stage}.{min(set(range(len(numbers) + 1)) - numbers)}")
    stem = tensors["vision.conv3.weight"].shape[0]
    return ResNetSizes(stem, tuple(map(len, rows)), usual_heads(width), 32 * side), embed_dim


def _grid_side(rows: int, name: str, where: str) -> int:
    """Side of the square grid that a position table of so many rows is for."""
    side = round(max(0, rows - 1) ** 0.5)
    if side * side + 1 != rows or not side:
        raise WeightsError(
            f"{where}: {name} has {rows} rows, expected 1 and those of a square grid, such as 197; this architecture is not one "
            "that promptad runs"
        )
    return side


def _tower_sizes(tensors: dict[str, Tensor], tower: str) -> tuple[int, int, int, int]:
    """Width, layers, heads of the usual width, and width of the MLP."""
    numbers = {int(n.split(".")[2]) for n in tensors if n.startswith(f"{tower}.blocks.")}
    layers = max(numbers, default=-1) + 1
    if layers != len(numbers):
        raise KeyError(f"{tower}.blocks.{min(set(range(layers)) - numbers)}")
    mlp, width = tensors[f"{tower}.blocks.0.mlp_in.weight"].shape
    return width, layers, usual_heads(width), mlp


def load_state(path: Path, first: Sequence[Claim] = ()) -> LoadedWeights:
    """Reads a CLIP weights file, with what the configs in and beside it say.

    Args:
        path: `.safetensors`, `.bin` or `.pt`: a state dict, wrapped or not, or a TorchScript archive.
        first: what is known of the model from elsewhere; believed before what lies at the file.

    Raises:
        WeightsError: anything that keeps the file from being a complete CLIP model.
    """
    where = str(path)
    tensors, metadata = read_tensors(path)
    plain = unwrap(tensors, where)
    ours = to_our_names(dequantise_all(plain), where)
    sizes = infer_sizes(ours, where)
    widths = (sizes.vision.width, sizes.text.width)
    buffers = buffers_claim(plain, widths, where)
    claims = [*first, *config_claims(path, metadata), *([buffers] if buffers else [])]
    check_shapes(claims, _named_sizes(sizes), where)
    facts = settle(claims, widths, where)
    for tower, width, heads in zip(("vision", "text"), widths, (facts.vision_heads, facts.text_heads), strict=True):
        if width % heads:
            raise WeightsError(
                f"{where}: the {tower} tower is {width} wide, which {heads} attention heads (by "
                f"{facts.sources[f'{tower}_heads']}) do not divide; put the config of the same model beside it"
            )
    sizes = replace(
        sizes,
        activation=facts.activation,
        vision=replace(sizes.vision, heads=facts.vision_heads),
        text=replace(sizes.text, heads=facts.text_heads),
    )
    return LoadedWeights(sizes, ours, facts)


def _named_sizes(sizes: ClipSizes) -> dict[str, int]:
    """The sizes that tensors tell, under the names of :attr:`Claim.shapes`."""
    towers = {"vision": sizes.to_dict()["vision"], "text": sizes.to_dict()["text"]}
    if isinstance(sizes.vision, ResNetSizes):  # configs call the stem's width the tower's
        towers["vision"] = {"width": sizes.vision.stem_width, "image_size": sizes.vision.image_size}
    named = {f"{tower}.{name}": value for tower, values in towers.items() for name, value in values.items()}
    return {
        "embed_dim": sizes.embed_dim,
        **{name: value for name, value in named.items() if not name.endswith("heads")},
    }
