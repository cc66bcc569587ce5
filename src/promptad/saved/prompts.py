"""Prompts that were trained once for every product: files of them, and those that ship with the package.

A file holds what a `methods.contract.Trained` method learned, its config, the backbone it belongs to, and its card: what it
was trained on, under which licence, with which command and what it reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from promptad import __version__
from promptad.annotations import Count, checked_value, field_types
from promptad.clip.backbone import Backbone
from promptad.data.files import one_line, sha256_file, shown
from promptad.data.tensor_file import read_saved, write_saved
from promptad.errors import ConfigError, PromptadError, WeightsError
from promptad.inputs import argument
from promptad.methods.contract import Trained
from promptad.methods.registry import Entry, find_method
from promptad.methods.settings import check_keys, config_dict
from promptad.notices import notice
from promptad.saved.compact import pack, unpack

SHIPPED = Path(__file__).resolve().parents[1] / "methods" / "shipped"
"""Folder of the trained prompts in the package, one `<method>.safetensors` a method (not of all), for the starter backbone."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Trained prompts as a file holds them.

    Attributes:
        path: the file; sha256: of its content, hexadecimal. method, preset: names. config: values of the method's config at training.
        backbone: name, sha256 and precision of the CLIP weights. tensors: what was learned.
        decides: see :meth:`Backbone.decides`, of the backbone at training; empty in files of before 0.2.
        card: what it was trained on ("data": list of {"name", "licence", "photos", ...}), "command", "epochs", ...
        photos: SHA-256 of every photo it was trained on.
    """

    path: Path
    sha256: str
    method: str
    preset: str
    config: dict[str, Any]
    backbone: dict[str, Any]
    tensors: dict[str, Tensor] = field(repr=False)  # a second to write, and no one reads it
    card: dict[str, Any] = field(default_factory=dict)
    photos: tuple[str, ...] = field(default=(), repr=False)
    decides: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same file, by its content; another process reads it into other tensors."""
        return isinstance(other, Learned) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def entry(self) -> Entry:
        """The method's registry entry."""
        return find_method(self.method)

    def make_config(self, settings: Mapping[str, Any]) -> Any:
        """The config of training with a person's settings on top, as far as they may still be changed.

        Raises:
            ConfigError: an unknown setting, or one that training has fixed.
        """
        given = check_keys(self.entry.config, settings, self.entry.title)
        trained = check_keys(self.entry.config, self.config, saved=True)
        fixed = [k for k, v in given.items() if k not in self.entry.free and v != trained.get(k)]
        if fixed:
            raise ConfigError(
                f"setting {fixed[0]!r} was fixed when these prompts were trained ({self.path.name}: "
                f"{trained.get(fixed[0])!r}); train with `promptad train {self.method} --set {fixed[0]}=...`"
            )
        return self.entry.config(**(trained | given))

    def load_into(self, method: Trained, backbone: Backbone) -> None:
        """Gives what was learned to a method of that backbone.

        Raises:
            WeightsError: another backbone, the same weights read otherwise (another activation), or tensors that do not fit.
        """
        if self.backbone["sha256"] != backbone.sha256:
            raise WeightsError(
                f"{self.path}: trained with backbone {self.backbone['name']} (sha256 {self.backbone['sha256'][:8]}), but "
                f"{backbone.name} here is {backbone.sha256[:8]}; give the right one ({argument('backbone')}), or train again"
            )
        otherwise = backbone.read_otherwise(self.decides)
        if otherwise:
            raise WeightsError(
                f"{self.path}: trained with the weights of {backbone.name}, but read otherwise ({otherwise} differ from what "
                "the config beside them or the arguments say now); load them as then, or train again"
            )
        if not self.decides:
            notice(
                f"{shown(self.path)}: an earlier promptad wrote it and does not say how the weights of {backbone.name} were read "
                f"(activation, normalisation), so it is taken to be as now ({backbone.sizes.activation}); train again to be sure"
            )
        try:
            method.load_learned(self.tensors)
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from error


def write_learned(
    path: Path,
    method: Trained,
    backbone: Backbone,
    preset: str,
    card: Mapping[str, Any],
    photos: tuple[str, ...] = (),
    *,
    compact: bool = False,
) -> None:
    """Writes what a trained method learned; `compact` stores large matrices in few bits, see `promptad.saved.compact`.

    Raises:
        DataError: the file cannot be written.
    """
    header = {
        "kind": "prompts",
        "version": __version__,
        "method": method.name,
        "preset": preset,
        "config": config_dict(method.config),
        "backbone": {
            "name": backbone.name,
            "sha256": backbone.sha256,
            "precision": backbone.precision,
            "decides": backbone.decides(),
        },
        "card": dict(card),
        "photos": list(photos),
    }
    tensors = method.learned()
    if compact:
        packed = pack(tensors)
        if packed.keys() == tensors.keys():
            notice(
                f"{shown(path)}: no matrix is large enough to be stored in few bits, so all are as they are "
                f"({argument('compact', 'True')})"
            )
        tensors = packed
    write_saved(path, header, tensors)


def read_learned(path: Path) -> Learned:
    """Reads what :func:`write_learned` wrote.

    Raises:
        WeightsError: missing, damaged, another kind of file, or of another version's settings.
    """
    saved = read_saved(path, kind="prompts")
    header = saved.header
    try:
        learned = Learned(
            path,
            sha256_file(path),
            checked_value("method", str, header["method"]),
            checked_value("preset", str, header["preset"]),
            checked_value("config", dict, header["config"]),
            {name: checked_value(name, str, header["backbone"][name]) for name in ("name", "sha256", "precision")},
            unpack(saved.tensors),
            checked_card(header["card"]),
            checked_value("photos", tuple[str, ...], header["photos"]),
            checked_value("backbone", dict, header["backbone"].get("decides", {})),
        )
        if not learned.entry.trained:
            raise ConfigError(f"method {learned.method!r} is not trained")
        learned.make_config({})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, PromptadError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else one_line(error)
        raise WeightsError(
            f"{shown(path)}: its header does not fit this version of promptad ({reason}); train it again"
        ) from error
    return learned


@dataclass(frozen=True)
class _Source:
    """One data set of a card."""

    name: str
    licence: str
    normal: Count
    anomalous: Count
    classes: tuple[str, ...] = ()


def checked_card(card: Any) -> dict[str, Any]:
    """A card whose entries are of the kinds that reports read.

    Raises:
        ConfigError: an entry is of another kind. KeyError: a data set without one of its entries.
    """
    card = checked_value("card", dict, card)
    kinds = {"title": str, "command": str, "key": str, "seconds": float}
    known = {name: checked_value(name, kind, card[name]) for name, kind in kinds.items() if name in card}
    losses = checked_value("losses", tuple[float, ...], card.get("losses", []))
    sources = card.get("data", [])
    if not isinstance(sources, list):
        raise ConfigError(f"data must be a list of data sets; got {sources!r}")
    types, data = field_types(_Source), []
    for source in sources:
        entries = checked_value("data", dict, source)
        entries = {"classes": [], **entries}
        entries |= {name: checked_value(name, kind, entries[name]) for name, kind in types.items()}
        data.append({**entries, "classes": list(entries["classes"])})
    return {**card, **known, "losses": list(losses), "data": data}


def source_words(source: Mapping[str, Any]) -> str:
    """What a card says of one data set, on one line."""
    if source.get("imported"):
        return f"{source['name']} (which photos, is not known; licence {source['licence']})"
    return (
        f"{source['name']} ({source['normal']} good, {source['anomalous']} anomalous photos of {len(source['classes'])} "
        f"classes; licence {source['licence']})"
    )


def find_learned(method: str, backbone: Backbone) -> Learned:
    """The trained prompts in the package for a method and a backbone.

    Raises:
        WeightsError: there are none; the line says how to make them.
    """
    path = SHIPPED / f"{method}.safetensors"
    if path.is_file():
        learned = read_learned(path)
        if learned.backbone["sha256"] == backbone.sha256:
            return learned
    raise WeightsError(
        f"{find_method(method).title} needs trained prompts, and the package has none for the backbone {backbone.name}; "
        f"train them with `promptad train {method} ... --backbone {backbone.name} -o prompts.safetensors`, then give "
        f"them ({argument('weights')})"
    )


def is_shipped(method: str, sha256: str) -> bool:
    """Whether trained prompts with that SHA-256 are those of the package."""
    path = SHIPPED / f"{method}.safetensors"
    return path.is_file() and sha256_file(path) == sha256


def choose_learned(
    method: str | None, preset: str | None, weights: str | Path | Learned | None, backbone: Backbone
) -> Learned | None:
    """The trained prompts for what a person asks for; None for a method that is not trained.

    Args:
        method, preset: None takes what `weights` says. weights: a file, or None for the package's own.

    Raises:
        ConfigError: `weights` are of another method or preset. WeightsError: unreadable, or none in the package.
    """
    if weights is None:
        if not find_method(method or "promptad").trained:
            return None
        learned = find_learned(str(method), backbone)
    else:
        learned = weights if isinstance(weights, Learned) else read_learned(Path(weights))
    for what, given, held in (("method", method, learned.method), ("preset", preset, learned.preset)):
        if given not in (None, held):
            raise ConfigError(
                f"{learned.path}: holds prompts of the {what} {held!r}, not {given!r}; leave {argument(what)} out, or "
                f"train others with `promptad train`"
            )
    return learned
