"""Which image tower PromptAD's memory reads, and at which of its layers."""

from __future__ import annotations

from dataclasses import replace

from promptad.clip.backbone import Backbone
from promptad.clip.features import TapPoint
from promptad.clip.memory_tower import usual_layers
from promptad.errors import ConfigError
from promptad.inputs import argument, setting
from promptad.methods.promptad.config import PRESETS, PromptADConfig
from promptad.notices import notice
from promptad.scoring.patch_memory import MemorySettings


def memory_settings(config: PromptADConfig, backbone: Backbone) -> MemorySettings:
    """What the memory keeps: of CLIP's `memory_layers`, or, where there is a memory backbone, of its `memory_backbone_layers`.

    Raises:
        ConfigError: layers of a memory backbone, and there is none.
    """
    settings, tower = config.memory(backbone.sizes.vision), backbone.memory
    if tower is None:
        if config.memory_backbone_layers:
            raise ConfigError(
                f"{setting('memory_backbone_layers')} names blocks of a second image tower, and there is none; give one "
                f"({argument('memory_backbone', 'dinov2-vits14')}), or use {setting('memory_layers')}"
            )
        return settings
    if not settings.layers:
        notice(
            f"with {setting('parts', 'text')} there is no memory, so the memory backbone {tower.name} is not used; leave it out"
        )
        return settings
    known = {PromptADConfig().memory_layers, *(tuple(preset.get("memory_layers", ())) for preset in PRESETS.values())}
    if config.memory_layers not in known:
        notice(
            f"{setting('memory_layers')} names layers of CLIP's tower, which the memory does not read with a memory backbone; "
            f"{setting('memory_backbone_layers')} names those of {tower.name}"
        )
    return replace(settings, layers=config.memory_backbone_layers or usual_layers(tower.sizes))


def tap_point(config: PromptADConfig, backbone: Backbone) -> TapPoint:
    """Where the tower of the memory is tapped. What only CLIP's tower has is passed on, and refused by the other."""
    if backbone.memory is None or config.memory_point == "after_next_attention":
        return config.memory_point
    return config.memory_backbone_point
