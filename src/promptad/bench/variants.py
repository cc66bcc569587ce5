"""Methods as they are evaluated: with a preset, settings, parts, and trained prompts in groups that are one row each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptad.errors import ConfigError
from promptad.inputs import argument
from promptad.methods.registry import METHODS, Entry, find_method
from promptad.saved.prompts import Learned

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
        name: tells rows of one method and preset apart: trained prompts, or settings; "" where there is nothing to tell apart.
        shots, runs: its own, instead of the protocol's; None takes those. conventions: how this row is measured, as (key, value)
            pairs on top of the protocol's.
    """

    method: str = "promptad"
    preset: str = "clean"
    settings: tuple[tuple[str, Any], ...] = ()
    parts: tuple[str, ...] = ("fused",)
    learned: tuple[Learned, ...] = ()
    name: str = ""
    shots: tuple[int, ...] | None = None
    runs: int | None = None
    conventions: tuple[tuple[str, Any], ...] = ()

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

    def weights(self, run: int, class_name: str = "") -> Learned | None:
        """The trained prompts of a run: of several files of its seed, the one that left this class out.

        Raises:
            ConfigError: several files left it out.
        """
        if not self.learned:
            return None
        seeds = self.seeds
        files = [file for file in self.learned if file.config.get("seed") == seeds[run % len(seeds)]]
        if len(files) == 1:
            return files[0]
        apart = [file for file in files if class_name not in trained_classes(file)] if class_name else files[:1]
        if len(apart) != 1:
            names = ", ".join(file.path.name for file in files)
            raise ConfigError(
                f"{class_name}: {len(apart) or 'none'} of {names} left this class out; expected one; leave the class out, "
                f"or give one file ({argument('weights')})"
            )
        return apart[0]

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The seeds of its trained prompts, a run each."""
        return tuple(dict.fromkeys(file.config.get("seed") for file in self.learned))

    def config(self, seed: int = DEFAULT_SEED, run: int = 0, class_name: str = "") -> Any:
        """The method's config of one fit. Raises ConfigError for unknown names and values."""
        learned, values = self.weights(run, class_name), self.overrides(seed)
        return learned.make_config(values) if learned else self.entry.make_config(self.preset, **values)

    @property
    def fitted_in_epochs(self) -> bool:
        """Whether a fit on good photos has epochs to choose from, and can go back to one."""
        return self.entry.needs_good_photos and hasattr(self.entry.build, "snapshot")


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
        raise ConfigError(f"parts are given twice; name them either as {argument('parts')} or among the settings")
    for unknown in [part for part in parts if part not in PARTS]:
        raise ConfigError(f"part {unknown!r} unknown; expected some of {', '.join(PARTS)}")
    for key in given:
        if methods and not any(key in names for names in known.values()):
            find_method(methods[0]).make_config("clean", **{key: given[key]})  # raises, with the nearest known key
    out = []
    for method in dict.fromkeys(methods):
        entry = find_method(method)
        own = {key: value for key, value in given.items() if key in known[method] and key != "parts"}
        groups = _alike([file for file in learned if file.method == method])
        names = _names([group[0] for group in groups])
        sources = [(group[0].preset, tuple(group)) for group in groups]
        if not entry.trained:
            sources = [(preset, ()) for preset in dict.fromkeys(presets)]
        for preset, group in sources:
            base = group[0].make_config(own) if group else entry.make_config(preset, **own)
            wanted: Sequence[str] = ("",)
            if entry.parts:
                wanted = [part for part in parts if part in entry.parts] or [given.get("parts", base.parts)]
            name = names[group[0].sha256] if group and len(groups) > 1 else ""
            variant = Variant(method, preset, tuple(own.items()), tuple(dict.fromkeys(wanted)), group, name)
            variant.config()
            out.append(variant)
    return tuple(out)


def plain_variants(methods: Sequence[str], presets: Sequence[str]) -> tuple[Variant, ...]:
    """Every method with every preset, without trained prompts: what a protocol can be checked with before anything is loaded.

    Raises:
        ConfigError: an unknown method or preset.
    """
    variants = [Variant(method, preset) for method in methods for preset in presets]
    for variant in variants:
        variant.entry.make_config(variant.preset)
    return tuple(variants)


def trained_classes(learned: Learned) -> set[str]:
    """The classes that trained prompts were trained on, as their card names them."""
    return {name for data in learned.card.get("data", []) for name in data.get("classes", [])}


def _alike(learned: Sequence[Learned]) -> list[list[Learned]]:
    """Trained prompts of one method in groups that are one row each.

    A row has one preset, one config but for the seed, one backbone and data sets of one name. Where these were trained
    with all classes but one, each time another, all files are one row: each class is scored by the file that left it out.
    """
    groups: dict[str, list[Learned]] = {}
    for file in {file.sha256: file for file in learned}.values():
        config = {key: value for key, value in file.config.items() if key != "seed"}
        sets = sorted(str(data.get("name")) for data in file.card.get("data", []))
        key = json.dumps([file.preset, config, file.backbone, sets], sort_keys=True)
        groups.setdefault(key, []).append(file)
    return [row for group in groups.values() for row in _rows(group)]


def _rows(group: Sequence[Learned]) -> list[list[Learned]]:
    """Files of one config and set, split where they left out other classes in no one-by-one order."""
    by_classes: dict[frozenset[str], list[Learned]] = {}
    for file in group:
        by_classes.setdefault(frozenset(trained_classes(file)), []).append(file)
    every = frozenset().union(*by_classes)
    one_by_one = len(by_classes) > 1 and all(len(every - classes) == 1 for classes in by_classes)
    merged = [[file for files in by_classes.values() for file in files]] if one_by_one else list(by_classes.values())
    rows: list[list[Learned]] = []
    for files in merged:
        # A seed comes twice for the same classes where one training was stored in two ways: these are no two runs.
        layers: list[list[Learned]] = []
        for file in files:
            seen = (file.config.get("seed"), trained_classes(file))
            free = (row for row in layers if seen not in [(o.config.get("seed"), trained_classes(o)) for o in row])
            row = next(free, None)
            if row is None:
                layers.append(row := [])
            row.append(file)
        rows += layers
    return rows


def _names(learned: Sequence[Learned]) -> dict[str, str]:
    """SHA-256 -> the name of each file's row: its stem, and where two have the same one the first digits."""
    stems = [file.path.stem for file in learned]
    return {
        file.sha256: file.path.stem if stems.count(file.path.stem) == 1 else f"{file.path.stem} {file.sha256[:8]}"
        for file in learned
    }
