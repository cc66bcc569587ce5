"""Reads CLIP weights of any common naming into our two towers.

Known namings: Hugging Face `CLIPModel` (also the bundled starter, whose linear layers are in 4 bits) and OpenCLIP
(`visual.*`). Sizes are read from the tensors themselves; a config beside or inside the file adds what shapes cannot
tell: the number of heads and the activation.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes
from promptad.clip.quantised import dequantise_all
from promptad.errors import WeightsError

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
# Buffers that carry no weights, and the temperature, which is read apart.
_IGNORED = re.compile(r"(position_ids|attn_mask|logit_scale|logit_bias|input_resolution|context_length|vocab_size)$")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a `.safetensors` file or of a pickled state dict, and the file's metadata.

    Pickled files are opened with `weights_only=True`: they can hold tensors, never code.

    Raises:
        WeightsError: missing, truncated, not a weights file, or a pickle that holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such weights file") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: a pickle with more than tensors in it (OpenAI's original .pt files are TorchScript programs); "
            "promptad never runs code from a weights file: use the .safetensors of the same model"
        ) from error
    except Exception as error:  # a damaged pickle raises anything: struct.error, IndexError, KeyError, ...
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a readable weights file ({reason}); fetch it again") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, expected a dictionary of tensors")
    tensors = {str(k).removeprefix("module."): v for k, v in loaded.items() if isinstance(v, Tensor)}
    return tensors, {}


def to_our_names(tensors: dict[str, Tensor], where: str = "weights") -> dict[str, Tensor]:
    """Maps Hugging Face or OpenCLIP tensors to the names of our towers.

    Raises:
        WeightsError: neither naming fits, or a tensor of unknown name (a tower that we would not run as trained).
    """
    if "visual.conv1.weight" in tensors:
        mapped = _map(
            tensors, where, _OPENCLIP, _OPENCLIP_BLOCK, ("visual.transformer.resblocks.", "transformer.resblocks.")
        )
        for name in ("vision.projection.weight", "text.projection.weight"):
            if name in mapped and f"{_openclip_linear(name)}.weight" not in tensors:
                mapped[name] = mapped[name].T  # OpenCLIP stores (in, out) matrices, not linear layers
        return mapped
    if "vision_model.embeddings.class_embedding" in tensors:
        return _map(tensors, where, _HF, _HF_BLOCK, ("vision_model.encoder.layers.", "text_model.encoder.layers."))
    raise WeightsError(
        f"{where}: not a CLIP model with image and text towers (found names such as "
        f"{', '.join(sorted(tensors)[:3]) or 'none'}); expected Hugging Face CLIPModel or OpenCLIP ViT weights"
    )


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
            f"{where}: {len(unknown)} tensors do not belong to a CLIP ViT (first: {unknown[0]}); "
            "this architecture is not one that promptad runs"
        )
    for name, qkv in parts.items():
        if set(qkv) != set("qkv"):
            raise WeightsError(f"{where}: {name} lacks its {', '.join(sorted(set('qkv') - set(qkv)))} projection")
        out[name] = torch.cat([qkv["q"], qkv["k"], qkv["v"]])
    return out


def read_config(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The JSON config inside the file, or beside it (`config.json`, `open_clip_config.json`); empty when there is none."""
    texts: list[str | bytes] = [metadata["config"]] if "config" in metadata else []
    for name in ("config.json", "open_clip_config.json"):
        beside = path.parent / name
        if not texts and beside.is_file():
            texts.append(beside.read_bytes())
    if not texts:
        return {}
    try:
        config = json.loads(texts[0])
    except ValueError as error:
        raise WeightsError(f"{path}: its config is not valid JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def infer_sizes(tensors: dict[str, Tensor], config: dict[str, Any], activation: str | None, where: str) -> ClipSizes:
    """Sizes of the model from its (our-named) tensors; heads and activation from the config where it has them."""
    try:
        conv = tensors["vision.patch_embedding.weight"]
        text_positions = tensors["text.position_embedding"]
        vision = _tower_sizes(tensors, "vision")
        text = _tower_sizes(tensors, "text")
        side = round((tensors["vision.position_embedding"].shape[0] - 1) ** 0.5)
        vocab = tensors["text.token_embedding.weight"].shape[0]
        embed_dim = tensors["vision.projection.weight"].shape[0]
    except KeyError as error:
        raise WeightsError(f"{where}: tensor {error} is missing; the file is incomplete or of another model") from error
    try:
        heads = {tower: _heads(config, tower, width) for tower, (width, _, _) in (("vision", vision), ("text", text))}
        fits = all(width % heads[tower] == 0 for tower, (width, _, _) in (("vision", vision), ("text", text)))
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        fits = False
    if not fits:
        raise WeightsError(f"{where}: its config gives no number of heads that fits; use the config of the same model")
    return ClipSizes(
        embed_dim=embed_dim,
        activation=activation or _activation(config),  # type: ignore[arg-type]
        vision=VisionSizes(vision[0], vision[1], heads["vision"], vision[2], conv.shape[-1], side * conv.shape[-1]),
        text=TextSizes(text[0], text[1], heads["text"], text[2], text_positions.shape[0], vocab),
    )


def _tower_sizes(tensors: dict[str, Tensor], tower: str) -> tuple[int, int, int]:
    numbers = {int(n.split(".")[2]) for n in tensors if n.startswith(f"{tower}.blocks.")}
    layers = max(numbers, default=-1) + 1
    if layers != len(numbers):
        raise KeyError(f"{tower}.blocks.{min(set(range(layers)) - numbers)}")
    mlp, width = tensors[f"{tower}.blocks.0.mlp_in.weight"].shape
    return width, layers, mlp


def _heads(config: dict[str, Any], tower: str, width: int) -> int:
    """From any of the three config dialects; every CLIP so far has heads of 64."""
    openclip = config.get("model_cfg", {}).get(f"{tower}_cfg", {})
    if "heads" in openclip:
        return int(openclip["heads"])
    if "head_width" in openclip:
        return width // int(openclip["head_width"])
    section = config.get(f"{tower}_config") or config.get(tower) or {}
    return int(section.get("num_attention_heads", max(1, width // 64)))


def _activation(config: dict[str, Any]) -> str:
    if "model_cfg" in config:
        return "quick_gelu" if config["model_cfg"].get("quick_gelu") else "gelu"
    found = config.get("hidden_act") or (config.get("vision_config") or {}).get("hidden_act")
    # transformers leaves out values equal to its defaults, and CLIPConfig's default is quick_gelu.
    if found is None:
        return "quick_gelu" if "vision_config" in config else "gelu"
    return "quick_gelu" if found == "quick_gelu" else "gelu"


def load_state(path: Path, activation: str | None = None) -> tuple[ClipSizes, dict[str, Tensor], dict[str, Any]]:
    """Sizes, our-named tensors (as stored; 4-bit ones as float32) and config of a CLIP weights file.

    Args:
        path: `.safetensors`, `.bin` or `.pt`.
        activation: "quick_gelu" or "gelu"; None takes the config's, and "gelu" where nothing says.

    Raises:
        WeightsError: anything that keeps the file from being a complete CLIP model.
    """
    tensors, metadata = read_tensors(path)
    config = read_config(path, metadata)
    ours = to_our_names(dequantise_all(tensors), str(path))
    return infer_sizes(ours, config, activation, str(path)), ours, config
