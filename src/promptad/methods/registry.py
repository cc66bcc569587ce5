"""The methods by name. A new method is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from promptad.clip.backbone import Backbone
from promptad.errors import ConfigError
from promptad.methods import (
    anomalyclip,
    ensemble,
    faprompt,
    promptad,
    promptad_config,
    promptad_zs,
    promptad_zs_config,
    rwda,
    rwda_config,
)
from promptad.methods.base import FREE_SETTINGS, Method, check_keys, make_config


@dataclass(frozen=True)
class Entry:
    """How a method is made.

    Attributes:
        build: (backbone, config, object name) -> method. config: its dataclass. presets: named settings.
        title: as reports write it.
        good_photos: "needed" to score at all, "optional" to score better, or "unused" but for the threshold.
        trained: it needs prompts that were trained once (`methods.base.Trained`), shipped or a person's own.
        parts: scores that can be had one by one with the setting `parts`, the whole one last; () without that setting.
        map_range: where the colours of heat maps begin and end as long as no good photo sets them.
        map_bounds: values that become black and white in 16-bit map files.
        score_limit: what no image score can reach, 1 for probabilities; None without such a limit.
        free: settings that may differ from those of training.
    """

    build: Callable[[Backbone, Any, str], Method]
    config: type[Any]
    presets: Mapping[str, Mapping[str, Any]]
    title: str
    good_photos: Literal["needed", "optional", "unused"]
    trained: bool = False
    parts: tuple[str, ...] = ()
    map_range: tuple[float, float] = (0.5, 1.0)
    map_bounds: tuple[float, float] = (0.0, 1.0)
    score_limit: float | None = None
    free: tuple[str, ...] = FREE_SETTINGS

    @property
    def needs_good_photos(self) -> bool:
        """Whether it cannot score before it has seen a good photo."""
        return self.good_photos == "needed"

    @property
    def setting_names(self) -> tuple[str, ...]:
        """The fields of the config."""
        return tuple(field.name for field in fields(self.config))

    def make_config(self, preset: str = "clean", **overrides: Any) -> Any:
        """The config of a preset with overrides. Raises ConfigError for unknown names."""
        return make_config(self.config, preset, self.presets, overrides)

    def read_config(self, values: Mapping[str, Any]) -> Any:
        """The config from saved values. Raises ConfigError for unknown names."""
        return self.config(**check_keys(self.config, values))


METHODS: dict[str, Entry] = {
    "promptad": Entry(
        promptad.PromptAD,
        promptad_config.PromptADConfig,
        promptad_config.PRESETS,
        "PromptAD (CVPR 2024)",
        "needed",
        parts=("text", "memory", "fused"),
    ),
    "faprompt": Entry(
        faprompt.FAPrompt,
        faprompt.FAPromptConfig,
        faprompt.PRESETS,
        "FAPrompt (ICCV 2025)",
        "unused",
        score_limit=1.0,
        trained=True,
        map_range=(0.1, 0.5),  # most pixels are normal, so defects seldom reach probabilities above a half
    ),
    "anomalyclip": Entry(
        anomalyclip.AnomalyCLIP,
        anomalyclip.AnomalyCLIPConfig,
        anomalyclip.PRESETS,
        "AnomalyCLIP (ICLR 2024)",
        "unused",
        score_limit=1.0,
        trained=True,
        map_range=(0.1, 0.5),  # most pixels are normal, so defects seldom reach probabilities above a half
    ),
    "clip": Entry(
        ensemble.TextEnsemble,
        ensemble.EnsembleConfig,
        ensemble.PRESETS,
        "CLIP text ensemble, untrained",
        "unused",
        score_limit=1.0,
    ),
    "promptad-zs": Entry(
        promptad_zs.PromptADZeroShot,
        promptad_zs_config.PromptADZeroShotConfig,
        promptad_zs_config.PRESETS,
        "PromptAD zero-shot (WACV 2024)",
        "optional",
        trained=True,
        map_bounds=(-50.0, 50.0),
        map_range=(0.0, 30.0),  # scores are unbounded: defects of objects that were not trained on reach 20 to 40
        free=(*FREE_SETTINGS, "definition", "image_score", "few_shot"),
    ),
    "rwda": Entry(
        rwda.RWDA,
        rwda_config.RWDAConfig,
        rwda_config.PRESETS,
        "RWDA (BMVC 2023)",
        "optional",
        trained=True,
        parts=rwda_config.PARTS,
        free=rwda_config.FREE,
    ),
}


def find_method(name: str) -> Entry:
    """The entry of that name. Raises ConfigError naming the known ones."""
    if name not in METHODS:
        raise ConfigError(f"method {name!r} unknown; expected one of {', '.join(METHODS)}")
    return METHODS[name]
