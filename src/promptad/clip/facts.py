"""What the shapes of tensors cannot tell about a CLIP model: who says it, and what is assumed where nobody does.

A claim is what one source says: a person, the zoo, a config in the file or beside it, OpenAI's buffers. They are asked in
that order. Where two disagree, the first is used and a notice names both; what nobody says is assumed, in a notice too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import Tensor

from promptad.clip.architecture import Activation
from promptad.errors import WeightsError
from promptad.inputs import argument
from promptad.notices import notice
from promptad.parsing import parsed_json

RGB = tuple[float, float, float]
# Normalisation of OpenAI's and LAION's models, RGB in [0, 1] units.
CLIP_MEAN: RGB = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: RGB = (0.26862954, 0.26130258, 0.27577711)
# Channels of an attention head in every tower of OpenAI and LAION.
HEAD_WIDTH = 64
CONFIG_NAMES = ("config.json", "open_clip_config.json", "preprocessor_config.json")
BUFFERS = ("input_resolution", "context_length", "vocab_size")
"""Tensors that OpenAI's own files carry beside the weights, and nobody else's."""

What = Literal["activation", "vision_heads", "text_heads", "mean", "std"]
_WORDS: dict[str, str] = {
    "activation": "activation",
    "vision_heads": "number of attention heads (image)",
    "text_heads": "number of attention heads (text)",
    "mean": "mean of the normalisation",
    "std": "deviation of the normalisation",
}
# OpenCLIP's keys for towers that are built otherwise than ours, with the values at which they are not.
_PLAIN_VISION = {
    "timm_model_name": None, "pool_type": "tok", "attentional_pool": False, "no_ln_pre": False, "input_patchnorm": False,
    "final_ln_after_pool": False, "pos_embed_type": "learnable", "ls_init_value": None, "act_kwargs": None,
    "norm_kwargs": None,
}  # fmt: skip
_PLAIN_TEXT = {
    "hf_model_name": None, "no_causal_mask": False, "embed_cls": False, "pool_type": "argmax", "proj_type": "linear",
    "ls_init_value": None, "act_kwargs": None, "norm_kwargs": None, "tokenizer_kwargs": None,
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """What one source says of a model; None where it says nothing.

    Attributes:
        source: who says it, in words.
        activation, vision_heads, text_heads: as `architecture.ClipSizes` has them. mean, std: RGB in [0, 1] units.
        shapes: sizes that the tensors must have for the source to speak of this model, such as "vision.width".
    """

    source: str
    activation: Activation | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    mean: RGB | None = None
    std: RGB | None = None
    shapes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What is known of a model beyond its shapes.

    Attributes:
        activation, vision_heads, text_heads, mean, std: see :class:`Claim`.
        sources: name of each of these -> who said it; "assumed" where nobody did.
    """

    activation: Activation
    vision_heads: int
    text_heads: int
    mean: RGB
    std: RGB
    sources: Mapping[str, str]


def usual_heads(width: int) -> int:
    """Attention heads of a tower of this width by OpenAI's own rule."""
    return max(1, width // HEAD_WIDTH)


def settle(claims: Sequence[Claim], widths: tuple[int, int], where: str) -> Facts:
    """The facts that follow from the claims, first come first served; notices for disagreement and for what is assumed.

    Args:
        claims: in the order in which they are believed; what "given" says is never argued with.
        widths: of the image and the text tower. where: the weights file, for the lines.
    """
    assumed = {
        "activation": "gelu",
        "vision_heads": usual_heads(widths[0]),
        "text_heads": usual_heads(widths[1]),
        "mean": CLIP_MEAN,
        "std": CLIP_STD,
    }
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for what in _WORDS:
        said = [(claim.source, getattr(claim, what)) for claim in claims if getattr(claim, what) is not None]
        sources[what], values[what] = said[0] if said else ("assumed", assumed[what])
        other = next(((source, value) for source, value in said[1:] if not _same(value, values[what])), None)
        if other is not None and sources[what] != "given":
            notice(
                f"{where}: the {_WORDS[what]} is {values[what]} by {sources[what]} and {other[1]} by {other[0]}; the first "
                "is used"
            )
    _say_assumed([what for what, source in sources.items() if source == "assumed"], where)
    return Facts(**values, sources=sources)


def _say_assumed(names: Sequence[str], where: str) -> None:
    words = {
        "activation": f"the exact GELU (OpenAI's own weights need quick_gelu: {argument('activation', 'quick_gelu')})",
        "vision_heads": f"attention heads of {HEAD_WIDTH} channels",
        "text_heads": f"attention heads of {HEAD_WIDTH} channels",
        "mean": "CLIP's usual normalisation of colours",
        "std": "CLIP's usual normalisation of colours",
    }
    if names:
        listed = ", ".join(dict.fromkeys(words[name] for name in names))
        beside = "preprocessor_config.json" if set(names) <= {"mean", "std"} else "config"
        notice(
            f"{where}: nothing in or beside the file says otherwise, so assumed are: {listed}; the model's {beside} beside it would tell"
        )


def _same(a: Any, b: Any) -> bool:
    """Equal, for normalisation up to the rounding of the fourth digit, with which it is often written."""
    if isinstance(a, tuple):
        return all(abs(x - y) < 5e-4 for x, y in zip(a, b, strict=True))
    return bool(a == b)


def check_shapes(claims: Sequence[Claim], sizes: Mapping[str, int], where: str) -> None:
    """Raises WeightsError where a config speaks of other sizes than the tensors have: it is that of another model."""
    for claim in claims:
        for name, said in claim.shapes.items():
            if name in sizes and said != sizes[name]:
                raise WeightsError(
                    f"{where}: {claim.source} says {name} is {said}, the tensors have {sizes[name]}; it belongs to another "
                    "model, so put the right one there, or take it away"
                )


def buffers_claim(tensors: Mapping[str, Tensor], widths: tuple[int, int], where: str) -> Claim | None:
    """OpenAI's claim on a file that carries their three buffers: QuickGELU, heads of 64, their normalisation.

    Raises:
        WeightsError: the buffers hold no numbers.
    """
    buffers = {name: tensors[name] for name in BUFFERS if name in tensors}
    if len(buffers) < len(BUFFERS):
        return None
    try:
        resolution, context, vocabulary = (int(tensor.item()) for tensor in buffers.values())
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{where}: {', '.join(BUFFERS)} are not three numbers; the file is damaged") from error
    shapes = {"vision.image_size": resolution, "text.context_length": context, "text.vocab_size": vocabulary}
    image, text = map(usual_heads, widths)
    return Claim("OpenAI's buffers", "quick_gelu", image, text, CLIP_MEAN, CLIP_STD, shapes)


def config_claims(path: Path, metadata: Mapping[str, str]) -> list[Claim]:
    """What the JSON config inside a weights file and those beside it say, in the order in which they are believed.

    Raises:
        WeightsError: a config that is no JSON, says what cannot be, or asks for a tower that promptad does not run.
    """
    texts: dict[str, str | bytes] = {"its own header": metadata["config"]} if "config" in metadata else {}
    for name in CONFIG_NAMES:
        try:
            texts[name] = (path.parent / name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise WeightsError(f"{path}: cannot read {name} beside it ({error.strerror or error})") from error
    claims = []
    for source, text in texts.items():
        try:
            config = parsed_json(text)
        except ValueError as error:
            raise WeightsError(f"{path}: {source} is not valid JSON ({str(error)[:100]})") from error
        try:
            claims.append(claim_of_config(config, source))
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        except (AttributeError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
            raise WeightsError(
                f"{path}: {source} is not of the form that a CLIP config has; use the config of the same model"
            ) from error
    return claims


def claim_of_config(config: Mapping[str, Any], source: str) -> Claim:
    """What a config says, in any of the dialects of Hugging Face, OpenCLIP, timm and promptad's own starter.

    Raises:
        WeightsError: it asks for what our towers do not compute. Any other error: it is of no such form.
    """
    if "model_cfg" in config or "vision_cfg" in config:
        return _openclip(config, source)
    if "vision_config" in config or "vision_config_dict" in config:
        return _hugging_face(config, source)
    if isinstance(config.get("vision"), dict):
        return _own(config, source)
    shown = config.get("pretrained_cfg", config)  # timm, or a preprocessor of Hugging Face
    mean, std = shown.get("image_mean", shown.get("mean")), shown.get("image_std", shown.get("std"))
    return Claim(source, mean=_rgb(mean), std=_rgb(std))


def _openclip(config: Mapping[str, Any], source: str) -> Claim:
    """`{"model_cfg": {...}, "preprocess_cfg": {...}}` of a hub folder, or the bare model config; its defaults count."""
    model, shown = config.get("model_cfg", config), config.get("preprocess_cfg", {})
    vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    for section, values, plain in (("vision_cfg", vision, _PLAIN_VISION), ("text_cfg", text, _PLAIN_TEXT)):
        for key, usual in plain.items():
            if values.get(key, usual) not in (usual, None, False, {}):
                raise WeightsError(f"{source} asks for {section}.{key}={values[key]!r}, which promptad does not run")
    heads = vision.get("heads")
    if heads is None and "width" in vision:  # a ResNet, whose layers are a list, has the width of its stem here
        widened = 32 if isinstance(vision.get("layers"), list) else 1
        heads = widened * int(vision["width"]) // int(vision.get("head_width", HEAD_WIDTH))
    shapes = {
        "embed_dim": model.get("embed_dim"),
        "vision.width": vision.get("width"),
        "vision.layers": vision.get("layers"),
        "vision.patch_size": vision.get("patch_size"),
        "vision.image_size": vision.get("image_size"),
        "text.width": text.get("width"),
        "text.layers": text.get("layers"),
        "text.context_length": text.get("context_length"),
        "text.vocab_size": text.get("vocab_size"),
    }
    return Claim(
        source,
        "quick_gelu" if model.get("quick_gelu") else "gelu",
        _count(heads),
        _count(text.get("heads", 8)),
        _rgb(shown.get("mean", CLIP_MEAN)),
        _rgb(shown.get("std", CLIP_STD)),
        _numbers(shapes),
    )


def _hugging_face(config: Mapping[str, Any], source: str) -> Claim:
    """`CLIPConfig`; what it leaves out has the default of transformers."""
    # Old files have each section twice, and transformers then believes the second.
    vision = {**config.get("vision_config", {}), **(config.get("vision_config_dict") or {})}
    text = {**config.get("text_config", {}), **(config.get("text_config_dict") or {})}
    for section, values in (("vision_config", vision), ("text_config", text)):
        if abs(float(values.get("layer_norm_eps", 1e-5)) - 1e-5) > 1e-9:
            raise WeightsError(
                f"{source} asks for {section}.layer_norm_eps={values['layer_norm_eps']}, promptad runs 1e-5"
            )
    first, second = (values.get("hidden_act", "quick_gelu") for values in (vision, text))
    if text and first != second:
        raise WeightsError(
            f"{source} asks for {first!r} in the image and {second!r} in the text tower; promptad runs one"
        )
    shapes = {
        "embed_dim": config.get("projection_dim"),
        "vision.width": vision.get("hidden_size"),
        "vision.layers": vision.get("num_hidden_layers"),
        "vision.mlp_width": vision.get("intermediate_size"),
        "vision.patch_size": vision.get("patch_size"),
        "vision.image_size": vision.get("image_size"),
        "text.width": text.get("hidden_size"),
        "text.layers": text.get("num_hidden_layers"),
        "text.mlp_width": text.get("intermediate_size"),
        "text.context_length": text.get("max_position_embeddings"),
        "text.vocab_size": text.get("vocab_size"),
    }
    return Claim(
        source,
        _activation(first, source),
        _count(vision.get("num_attention_heads", 12)),
        _count(text.get("num_attention_heads", 8)),
        shapes=_numbers(shapes),
    )


def _own(config: Mapping[str, Any], source: str) -> Claim:
    """The config of the starter in the package."""
    vision, text = config["vision"], config.get("text", {})
    return Claim(
        source,
        _activation(config["hidden_act"], source) if "hidden_act" in config else None,
        _count(vision.get("num_attention_heads")),
        _count(text.get("num_attention_heads")),
    )


def _activation(name: Any, source: str) -> Activation:
    if name not in get_args(Activation):
        raise WeightsError(
            f"{source} asks for the activation {name!r}; promptad runs {' and '.join(get_args(Activation))}"
        )
    return cast(Activation, name)


def _count(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or int(value) != value or not 0 < value < 1 << 20:
        raise ValueError(value)
    return int(value)


def _rgb(values: Any) -> RGB | None:
    return None if values is None else as_rgb(values)


def as_rgb(values: Any) -> RGB:
    """Three numbers for red, green and blue.

    Raises:
        TypeError, ValueError, OverflowError: other than three plain numbers of a size that a normalisation can have.
    """
    red, green, blue = (float(value) for value in values)
    if not all(-10 < value < 10 for value in (red, green, blue)):
        raise ValueError(values)
    return red, green, blue


def _numbers(shapes: Mapping[str, Any]) -> dict[str, int]:
    """Those that are whole numbers; OpenCLIP writes some as a pair of equal ones."""
    out = {}
    for name, value in shapes.items():
        number = value[0] if isinstance(value, list) and value and value.count(value[0]) == len(value) else value
        if isinstance(number, int) and not isinstance(number, bool):
            out[name] = number
    return out
