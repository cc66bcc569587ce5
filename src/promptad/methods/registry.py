"""The methods by name. A new method is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promptad.clip.backbone import Backbone
from promptad.errors import ConfigError
from promptad.methods import ensemble, promptad, promptad_config
from promptad.methods.base import Method, check_keys, make_config


@dataclass(frozen=True)
class Entry:
    """How a method is made.

    Attributes:
        build: (backbone, config, object name) -> method. config: its dataclass. presets: named settings.
        title: as reports write it. needs_good_photos: whether it can score before `fit`.
    """

    build: Callable[[Backbone, Any, str], Method]
    config: type[Any]
    presets: Mapping[str, Mapping[str, Any]]
    title: str
    needs_good_photos: bool

    def make_config(self, preset: str = "clean", **overrides: Any) -> Any:
        """The config of a preset with overrides. Raises ConfigError for unknown names."""
        return make_config(self.config, preset, self.presets, overrides)

    def read_config(self, values: Mapping[str, Any]) -> Any:
        """The config from saved values. Raises ConfigError for unknown names."""
        return self.config(**check_keys(self.config, values))


METHODS: dict[str, Entry] = {
    "promptad": Entry(
        promptad.PromptAD, promptad_config.PromptADConfig, promptad_config.PRESETS, "PromptAD (CVPR 2024)", True
    ),
    "clip": Entry(
        ensemble.TextEnsemble, ensemble.EnsembleConfig, ensemble.PRESETS, "CLIP text ensemble, untrained", False
    ),
}


def find_method(name: str) -> Entry:
    """The entry of that name. Raises ConfigError naming the known ones."""
    if name not in METHODS:
        raise ConfigError(f"method {name!r} unknown; expected one of {', '.join(METHODS)}")
    return METHODS[name]
