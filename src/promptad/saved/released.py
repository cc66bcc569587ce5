"""What the authors of AnomalyCLIP (ICLR 2024), FAPrompt (ICCV 2025) and APRIL-GAN (VAND 2023) published, as files of trained prompts.

The released codes of the first two save `{"prompt_learner": state dict}` after every epoch (`epoch_15.pth`, `epoch_7.pth`): `ctx_pos` and
`ctx_neg` are the learnable tokens of the normal and the abnormal prompts, `compound_prompts_text.i` the deep tokens,
FAPrompt's `patch_meta_net` the prior network psi. `compound_prompt_projections` are the layers that are never used (flag
F-22). The rest are buffers, which say with which CLIP and which words the prompts were trained: they are compared.

APRIL-GAN's saves `{"trainable_linearlayer": state dict}`: `fc.i.weight` and `fc.i.bias` are the linear maps of the tapped layers, from shallow
to deep. Nothing in it tells the CLIP but the sizes.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.data.files import one_line, refuse_foreign, sha256_file, shown
from promptad.data.lock import only_writer, prepared_folder
from promptad.errors import ConfigError, WeightsError
from promptad.inputs import argument
from promptad.methods.contract import Trained
from promptad.methods.object_agnostic import DAMAGED, OBJECT
from promptad.methods.registry import find_method
from promptad.methods.settings import quarter_layers
from promptad.notices import notice
from promptad.saved.prompts import write_learned

_DEEP, _PRIOR = "compound_prompts_text.", "patch_meta_net."
_DEAD = "compound_prompt_projections."
_BUFFERS = re.compile(r"token_(prefix|suffix)_(pos|neg)|tokenized_prompts_(pos|neg)")
_PROMPTS, _MAPS = "prompt_learner", "trainable_linearlayer"
_KINDS = {"anomalyclip": _PROMPTS, "faprompt": _PROMPTS, "aprilgan": _MAPS}
_MAP = re.compile(r"fc\.(\d+)\.(weight|bias)")
# Embeddings of one CLIP in half and in full precision differ by less than this, those of two CLIPs by far more.
_SAME = 2e-3


@dataclass(frozen=True)
class Released:
    """What a published file holds, in our names.

    Attributes:
        settings: of the method's config, as the shapes tell them. tensors: what `Trained.load_learned` takes.
    """

    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def import_released(
    path: Path,
    output: Path,
    method: str,
    backbone: Backbone,
    *,
    preset: str = "release",
    trained_on: str = "",
    licence: str = "",
    command: str = "",
) -> Trained:
    """Writes a published file as trained prompts of ours, and gives the method that holds them.

    Args:
        backbone: the CLIP they were trained with, ViT-L-14-336 by OpenAI for the published ones.
        preset: "release" scores as the authors' code does. trained_on, licence: for the card; a file does not say them.

    Raises:
        WeightsError: unreadable, of the other method, or of another CLIP. ConfigError: an unknown method or preset.
        DataError: the output cannot be written, or is there and no file of promptad.
    """
    if method not in _KINDS:
        raise ConfigError(f"published prompts of {method!r} are not known; expected {', '.join(_KINDS)}")
    state = read_state(path, method)
    released = (map_linear if method == "aprilgan" else map_released)(state, method, backbone, shown(path))
    entry = find_method(method)
    built = cast(Trained, entry.build(backbone, entry.make_config(preset, **released.settings), "object"))
    try:
        built.load_learned(released.tensors)
    except WeightsError as error:
        raise WeightsError(f"{shown(path)}: {error}") from error
    if not trained_on:
        notice(
            f"{shown(path)}: does not say which photos it was trained on, so nothing can tell whether photos that are scored "
            f"were among them; {argument('trained_on')} puts it on the card"
        )
    source = {"name": trained_on or "photos that its file does not name", "licence": licence or "not stated"}
    card = {
        "title": f"{entry.title}, preset {preset}, as published",
        "data": [{**source, "normal": 0, "anomalous": 0, "classes": [], "imported": True}],
        "imported": {"file": path.name, "sha256": sha256_file(path)},
        "command": command,
        "losses": [],
    }
    refuse_foreign(output)
    with prepared_folder(output.parent), only_writer(output):
        write_learned(output, built, backbone, preset, card)
    return built


def read_state(path: Path, method: str) -> dict[str, Tensor]:
    """The tensors of a published file, opened as data and never as code.

    Raises:
        WeightsError: missing, no such file of tensors, or of another kind than the method's.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{shown(path)}: No such file") from None
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{shown(path)}: is no file of tensors that can be opened safely ({one_line(error)[:100]}); expected what the "
            "released code saves, such as epoch_15.pth"
        ) from error
    kind = _KINDS[method]
    state = loaded.get(kind, loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, Mapping):
        raise WeightsError(f"{shown(path)}: holds no {kind}; expected what the released code saves")
    if state is not loaded and len(loaded) > 1:
        notice(f"{shown(path)}: not used: {', '.join(sorted(str(key) for key in loaded if key != kind)[:5])}")
    tensors = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    whole = {"ctx_pos", "ctx_neg"} <= set(tensors) if kind == _PROMPTS else "fc.0.weight" in tensors
    if not whole:
        wanted = "ctx_pos and ctx_neg" if kind == _PROMPTS else "fc.0.weight"
        other = next((key for key in (_PROMPTS, _MAPS) if key in loaded), "")
        known = ", ".join(sorted(tensors)[:4]) or (f"a {other}" if other else "none")
        raise WeightsError(f"{shown(path)}: holds no {wanted} but {known}; expected what {method}'s authors published")
    return tensors


def map_released(state: Mapping[str, Tensor], method: str, backbone: Backbone, name: str) -> Released:
    """The tensors of a published file in our names.

    Args:
        name: the file, for messages.

    Raises:
        WeightsError: of the other method, or of another CLIP.
    """
    has_prior = any(key.startswith(_PRIOR) for key in state)
    if has_prior != (method == "faprompt"):
        other = "faprompt" if has_prior else "anomalyclip"
        raise WeightsError(f"{name}: holds prompts of {other}, not of {method}; give {argument('method', other)}")
    normal, abnormal = (_tokens(state[key], backbone, f"{name}: {key}") for key in ("ctx_pos", "ctx_neg"))
    deep = _deep(state, backbone, name)
    tensors: dict[str, Tensor] = {"slots.normal": normal, "slots.abnormal": abnormal}
    settings: dict[str, Any] = {"abnormal_prompts": len(abnormal), "deep_depth": len(deep) + 1 if len(deep) else 0}
    if len(deep):
        tensors["deep"], settings["deep_tokens"] = deep, deep.shape[1]
    if method == "faprompt":
        prior, count = _prior(state, backbone, name)
        tensors |= prior
        settings |= {"normal_tokens": normal.shape[1], "abnormal_tokens": abnormal.shape[1], "patch_count": count}
        before = (normal.shape[1], normal.shape[1] + abnormal.shape[1])
    else:
        if normal.shape[1] != abnormal.shape[1]:
            raise WeightsError(
                f"{name}: its prompts have {normal.shape[1]} and {abnormal.shape[1]} tokens; AnomalyCLIP's have as many"
            )
        settings["context_tokens"] = normal.shape[1]
        before = (normal.shape[1], abnormal.shape[1])
    _check_origin(state, backbone, before, name)
    _say_unused(state, name)
    return Released(settings, tensors)


def map_linear(state: Mapping[str, Tensor], method: str, backbone: Backbone, name: str) -> Released:
    """APRIL-GAN's linear maps in our names: of the four layers that its code taps, evenly spread over the tower.

    Args:
        name: the file, for messages.

    Raises:
        WeightsError: of other layers, or of another CLIP.
    """
    vision = backbone.sizes.vision
    layers = quarter_layers(vision.layers, 4)
    numbers = sorted(int(match[1]) for key in state if (match := _MAP.fullmatch(key)) and match[2] == "weight")
    if numbers != list(range(len(layers))) or any(f"fc.{number}.bias" not in state for number in numbers):
        raise WeightsError(
            f"{name}: its linear maps {numbers} are incomplete or of other layers than the {len(layers)} that {method}'s code taps "
            f"({', '.join(map(str, layers))} of {backbone.name})"
        )
    tensors: dict[str, Tensor] = {}
    for number, layer in enumerate(layers):
        wanted, given = (backbone.sizes.embed_dim, vision.tap_width(layer)), tuple(state[f"fc.{number}.weight"].shape)
        if given != wanted:
            raise WeightsError(
                f"{name}: fc.{number}.weight has the shape {given}, layer {layer} of {backbone.name} needs {wanted}; give the CLIP "
                f"that it was trained with ({argument('backbone')})"
            )
        for kind in ("weight", "bias"):
            tensors[f"tap{layer}.{kind}"] = state[f"fc.{number}.{kind}"].float().contiguous()
    notice(
        f"{name}: does not say with which CLIP it was trained; taken for {backbone.name} with the activation "
        f"{backbone.sizes.activation}, whose sizes it has"
    )
    rest = sorted(key for key in state if not _MAP.fullmatch(key))
    if rest:
        notice(f"{name}: not used: {', '.join(rest[:5])}{' ...' if len(rest) > 5 else ''}")
    return Released({}, tensors)


def _tokens(values: Tensor, backbone: Backbone, name: str) -> Tensor:
    """(..., prompts, tokens, t) -> (prompts, tokens, t) float32."""
    width = backbone.sizes.text.width
    if values.ndim < 2 or values.shape[-1] != width:
        raise WeightsError(
            f"{name} has the shape {tuple(values.shape)}, the text tower of {backbone.name} is {width} wide; give the CLIP "
            f"that the prompts were trained with ({argument('backbone')})"
        )
    return values.float().reshape(-1, *values.shape[-2:]).contiguous()


def _deep(state: Mapping[str, Tensor], backbone: Backbone, name: str) -> Tensor:
    """(sets, tokens, t) deep tokens, in the order of their blocks."""
    numbers = sorted(int(key.removeprefix(_DEEP)) for key in state if re.fullmatch(re.escape(_DEEP) + r"\d+", key))
    sets = [_tokens(state[f"{_DEEP}{number}"], backbone, f"{name}: {_DEEP}{number}") for number in numbers]
    blocks = backbone.sizes.text.layers
    if numbers != list(range(len(sets))) or len({tokens.shape for tokens in sets}) > 1 or len(sets) >= blocks:
        raise WeightsError(
            f"{name}: its {len(sets)} sets of deep tokens are incomplete or too many for the {blocks} text blocks of "
            f"{backbone.name}; give the CLIP that the prompts were trained with ({argument('backbone')})"
        )
    return torch.cat(sets) if sets else torch.empty(0)


def _prior(state: Mapping[str, Tensor], backbone: Backbone, name: str) -> tuple[dict[str, Tensor], int]:
    """The prior network in our names, and from how many patches it reads."""
    ours = {"linear1": "prior.0", "linear2": "prior.2"}
    keys = {f"{_PRIOR}{layer}.{kind}": f"{own}.{kind}" for layer, own in ours.items() for kind in ("weight", "bias")}
    missing = [key for key in keys if key not in state]
    if missing:
        raise WeightsError(f"{name}: {missing[0]} is missing; the file is of another method or damaged")
    inputs, embed = state[f"{_PRIOR}linear1.weight"].shape[-1], backbone.sizes.embed_dim
    if inputs % embed:
        raise WeightsError(
            f"{name}: its prior network reads {inputs} values, no multiple of the {embed} of {backbone.name}; give the CLIP "
            f"that the prompts were trained with ({argument('backbone')})"
        )
    return {own: state[key].float().contiguous() for key, own in keys.items()}, inputs // embed


def _check_origin(state: Mapping[str, Tensor], backbone: Backbone, before: tuple[int, int], name: str) -> None:
    """Compares what the buffers say: the CLIP by its embedding of the start token, the words by their tokens."""
    start = state.get("token_prefix_pos")
    if start is not None:
        own = backbone.text.token_embedding.weight[backbone.tokenizer.start].detach().float().cpu()
        given = start.float().reshape(-1, start.shape[-1])[0]
        if given.shape != own.shape or float((given - own).abs().max()) > _SAME:
            raise WeightsError(
                f"{name}: was trained with another CLIP than {backbone.name} (the start tokens differ); give the right one "
                f"({argument('backbone')})"
            )
    for side, words, tokens in (("pos", OBJECT, before[0]), ("neg", DAMAGED, before[1])):
        rows = state.get(f"tokenized_prompts_{side}")
        if rows is None:
            continue
        tokenizer = backbone.tokenizer
        expected = [*tokenizer.words(words), *tokenizer.words("."), tokenizer.end]
        for row in rows.reshape(-1, rows.shape[-1]).tolist():
            if row[1 + tokens : 1 + tokens + len(expected)] != expected:
                raise WeightsError(
                    f'{name}: its prompts do not end with "{words}."; prompts of other words are not read'
                )


def _say_unused(state: Mapping[str, Tensor], name: str) -> None:
    known = ("ctx_pos", "ctx_neg")
    rest = [
        key
        for key in state
        if key not in known and not key.startswith((_DEEP, _PRIOR, _DEAD)) and not _BUFFERS.fullmatch(key)
    ]
    if rest:
        notice(f"{name}: not used: {', '.join(sorted(rest)[:5])}{' ...' if len(rest) > 5 else ''}")
