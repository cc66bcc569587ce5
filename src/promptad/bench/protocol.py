"""What is evaluated and how: the protocol, its units of work, the draw of the good photos, and unit keys.

A unit is one fit: a method variant, a class, k good photos and a run. The run decides both the photos
that are drawn and the prompts' initial values, or which of several trained prompts are used. A unit's key
hashes everything that its result depends on, the photos' content included, so a finished unit is reused only
where it would come out the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from promptad import __version__
from promptad.clip.backbone import Backbone
from promptad.data.files import sha256_file
from promptad.data.records import Record
from promptad.data.shots import draw_shots
from promptad.errors import ConfigError, DataError
from promptad.methods.registry import METHODS, Entry, find_method
from promptad.methods.settings import config_dict, words_digest
from promptad.saved.prompts import Learned

EvalSize = int | Literal["photo"]
DEFAULT_SEED = 111
"""Base seed when none is given, that of PromptAD's released code."""
PARTS = tuple(dict.fromkeys(part for entry in METHODS.values() for part in entry.parts))
"""All parts that some method has."""


@dataclass(frozen=True)
class Variant:
    """A method as it is evaluated.

    Attributes:
        method, preset: names. settings: overrides of the preset, as (key, value) pairs.
        parts: the rows that one fit gives: "text", "memory", "fused"; ("",) for methods that have no parts.
        learned: trained prompts of a method that is trained once, alike but for their seed; run r uses the r-th.
        name: tells trained prompts of one method and preset apart; "" where there is nothing to tell apart.
    """

    method: str = "promptad"
    preset: str = "clean"
    settings: tuple[tuple[str, Any], ...] = ()
    parts: tuple[str, ...] = ("fused",)
    learned: tuple[Learned, ...] = ()
    name: str = ""

    @property
    def entry(self) -> Entry:
        """The method's registry entry."""
        return find_method(self.method)

    def overrides(self, seed: int) -> dict[str, Any]:
        """The settings of one fit: the whole where it gives several rows, else the one part that is asked for."""
        values = dict(self.settings)
        if self.parts != ("",):
            values["parts"] = self.parts[0] if len(self.parts) == 1 else self.entry.parts[-1]
        if "seed" in self.entry.setting_names and not self.learned:
            values["seed"] = seed
        return values

    def weights(self, run: int) -> Learned | None:
        """The trained prompts of a run."""
        return self.learned[run % len(self.learned)] if self.learned else None

    def config(self, seed: int = DEFAULT_SEED, run: int = 0) -> Any:
        """The method's config of one fit. Raises ConfigError for unknown names and values."""
        learned, values = self.weights(run), self.overrides(seed)
        return learned.make_config(values) if learned else self.entry.make_config(self.preset, **values)

    @property
    def oracle(self) -> bool:
        """Whether the epoch is chosen on the test set (flag F-7)."""
        return getattr(self.config(), "selection", "last") == "oracle_test"


@dataclass(frozen=True)
class Unit:
    """One fit: `shots` good photos of a class, drawn in run `run`; 0 shots for methods that need none."""

    variant: Variant
    class_name: str
    shots: int
    run: int


@dataclass(frozen=True)
class Protocol:
    """Which variants are evaluated, with which good photos, at which size.

    Attributes:
        variants: see :func:`make_variants`; each says how its epoch is selected.
        shots: the k of every k-shot row; 0 for methods that can do without. runs: draws of the good photos per k.
        base_seed: run r draws photos and initial prompts with seed base_seed + r.
        eval_size: side in pixels to which maps and masks are brought, (S, S) whatever the photo's shape; or
            "photo" for each photo's own size.
        objects: class -> words for it, where the class name is not to be used.

    Raises:
        ConfigError: a number out of range, or no variant.
    """

    variants: tuple[Variant, ...]
    shots: tuple[int, ...] = (1, 2, 4)
    runs: int = 5
    base_seed: int = DEFAULT_SEED
    eval_size: EvalSize = 400
    objects: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.variants:
            raise ConfigError("no method to evaluate; name one, for example --method promptad")
        if self.runs < 1 or self.base_seed < 0:
            raise ConfigError(f"runs must be at least 1 and the seed at least 0; got {self.runs} and {self.base_seed}")
        if not self.shots or min(self.shots) < 0:
            raise ConfigError(f"shots must be numbers of at least 0, such as 0,1,2,4; got {self.shots}")
        needing = [one.method for one in self.variants if one.entry.needs_good_photos]
        if needing and not any(self.shots):
            raise ConfigError(f"{needing[0]} learns from good photos; give --shots of at least 1, such as 1,2,4")
        if self.eval_size != "photo" and (not isinstance(self.eval_size, int) or self.eval_size < 1):
            raise ConfigError(f"evaluation size {self.eval_size!r}: expected pixels, such as 400, or 'photo'")

    def seed(self, run: int) -> int:
        """Seed of the draw and of the prompts of a run."""
        return self.base_seed + run

    def object_of(self, class_name: str) -> str:
        """Words for a class."""
        return self.objects.get(class_name, class_name)

    def units(self, class_name: str) -> list[Unit]:
        """All fits of one class. Without good photos nothing is drawn: there is one run for each trained prompts."""
        found = []
        for variant in self.variants:
            use = variant.entry.good_photos
            for k in dict.fromkeys(self.shots if use != "unused" else (0,)):
                if k or use != "needed":
                    runs = self.runs if k else max(1, len(variant.learned))
                    found += [Unit(variant, class_name, k, run) for run in range(runs)]
        return found


def make_variants(
    methods: Sequence[str],
    presets: Sequence[str] = ("clean",),
    settings: Mapping[str, Any] | None = None,
    parts: Sequence[str] = (),
    learned: Sequence[Learned] = (),
) -> tuple[Variant, ...]:
    """Every method with every preset; a setting goes to each method that has it.

    Args:
        parts: rows of methods with parts; those that a method lacks are not its rows, and none takes the part that its
            config names.
        learned: trained prompts of the methods that are trained once. They bring their preset, and those that differ in
            nothing but their seed are the runs of one variant.

    Raises:
        ConfigError: an unknown method, preset, part or setting, a wrong type, parts named twice, or a setting that
            training has fixed.
    """
    given, known = dict(settings or {}), {name: set(find_method(name).setting_names) for name in methods}
    if "parts" in given and parts:
        raise ConfigError("parts are given twice; name them either with --parts or with --set parts=...")
    for unknown in [one for one in parts if one not in PARTS]:
        raise ConfigError(f"part {unknown!r} unknown; expected some of {', '.join(PARTS)}")
    for key in given:
        if methods and not any(key in names for names in known.values()):
            find_method(methods[0]).make_config("clean", **{key: given[key]})  # raises, with the nearest known key
    out = []
    for method in dict.fromkeys(methods):
        entry = find_method(method)
        own = {key: value for key, value in given.items() if key in known[method] and key != "parts"}
        groups = _alike([one for one in learned if one.method == method])
        names = _names([group[0] for group in groups])
        sources = [(group[0].preset, tuple(group)) for group in groups]
        if not entry.trained:
            sources = [(preset, ()) for preset in dict.fromkeys(presets)]
        for preset, group in sources:
            base = group[0].make_config(own) if group else entry.make_config(preset, **own)
            wanted: Sequence[str] = ("",)
            if entry.parts:
                wanted = [one for one in parts if one in entry.parts] or [given.get("parts", base.parts)]
            name = names[group[0].sha256] if group and len(groups) > 1 else ""
            variant = Variant(method, preset, tuple(own.items()), tuple(dict.fromkeys(wanted)), group, name)
            variant.config()
            out.append(variant)
    return tuple(out)


def _alike(learned: Sequence[Learned]) -> list[list[Learned]]:
    """Trained prompts of one method in groups that differ in nothing but their seed."""
    groups: dict[str, list[Learned]] = {}
    for one in {file.sha256: file for file in learned}.values():
        config = {key: value for key, value in one.config.items() if key != "seed"}
        key = json.dumps([one.preset, config, one.backbone, sorted(one.photos)], sort_keys=True)
        # A seed comes twice where one training was stored in two ways: these are no two runs.
        while one.config.get("seed") in [other.config.get("seed") for other in groups.get(key, [])]:
            key += "+"
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _names(learned: Sequence[Learned]) -> dict[str, str]:
    """SHA-256 -> the name of each file's row: its stem, and where two have the same one the first digits."""
    stems = [one.path.stem for one in learned]
    return {
        one.sha256: one.path.stem if stems.count(one.path.stem) == 1 else f"{one.path.stem} {one.sha256[:8]}"
        for one in learned
    }


# -- the draw ------------------------------------------------------------------------------------------------


def draw_order(records: Sequence[Record], seed: int, order: str = "sorted") -> list[Record]:
    """All normal training photos of a class in the order of a seed's draw: the first k are the k shots.

    Args:
        order: listing that the seed shuffles: "sorted" names, the same on every machine, or the "directory"'s
            own order, as PromptAD's released code takes it (flag F-8), which is another one on another disk.

    Raises:
        DataError: no normal training photo.
    """
    normal = [one for one in records if one.split == "train" and one.label == 0]
    if not normal:
        name = records[0].class_name if records else "class"
        raise DataError(
            f"{name}: no normal training photos; expected some in train/good; add them or leave the class out"
        )
    if order == "sorted":
        return draw_shots(normal, len({os.path.abspath(one.path) for one in normal}), seed)
    listed = _as_listed(normal)
    return [listed[index] for index in np.random.default_rng(seed).permutation(len(listed))]


def _as_listed(records: Sequence[Record]) -> list[Record]:
    by_path = {os.path.abspath(one.path): one for one in records}
    listed = []
    for folder in dict.fromkeys(os.path.dirname(path) for path in by_path):
        with os.scandir(folder) as entries:
            paths = [os.path.join(folder, entry.name) for entry in entries]
        listed += [by_path[path] for path in paths if path in by_path]
    return listed


def take_shots(
    ordered: Sequence[Record], k: int, problem: Callable[[Path], str | None]
) -> tuple[list[Record], list[str]]:
    """The first k photos of a draw that can be read, and a line for each that had to be passed over.

    Args:
        problem: why a photo cannot be read, or None.

    Raises:
        DataError: fewer than k are there.
    """
    shots: list[Record] = []
    passed = []
    for record in ordered:
        if len(shots) == k:
            break
        reason = problem(record.path)
        if reason is None:
            shots.append(record)
        else:
            passed.append(reason)
    if len(shots) < k:
        readable = f", {len(shots)} of them readable" if passed else ""
        raise DataError(
            f"{ordered[0].class_name}: {k} good photos were asked for, train has {len(ordered)}{readable}; "
            "add photos or choose smaller --shots"
        )
    return shots, passed


# -- keys ----------------------------------------------------------------------------------------------------


def fingerprint_of(records: Sequence[Record]) -> str:
    """SHA-256 over labels and content of photos and masks, whatever their names: the test set's identity."""
    lines = sorted(
        f"{_content(one.path)} {one.label} {_content(one.mask) if one.mask else ''} {one.defect_type}"
        for one in records
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _content(path: Path) -> str:
    try:
        return sha256_file(path)
    except DataError:
        return "unreadable"


def unit_key(unit: Unit, protocol: Protocol, backbone: Backbone, shots: Sequence[str], fingerprint: str) -> str:
    """24 hexadecimal digits from all that a unit's result depends on.

    Args:
        shots: SHA-256 of the good photos in the order of the draw. fingerprint: of test photos and masks.
    """
    config = unit.variant.config(protocol.seed(unit.run), unit.run)
    learned = unit.variant.weights(unit.run)
    described = {
        "version": __version__,
        "method": [unit.variant.method, unit.variant.preset],
        "config": config_dict(config),
        "words": words_digest(config),
        "parts": unit.variant.parts,
        "learned": learned.sha256 if learned else "",
        "object": protocol.object_of(unit.class_name),
        "class": unit.class_name,
        "shots": list(shots),
        "run": unit.run,
        "test": fingerprint,
        "eval_size": protocol.eval_size,
        "backbone": backbone.fingerprint,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]
