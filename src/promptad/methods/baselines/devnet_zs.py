"""DevNet (Pang et al., KDD 2019) trained once on seen classes, for table 1 of PromptAD zero-shot (WACV 2024); see `open_set_zs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.methods.baselines import devnet
from promptad.methods.baselines.open_set_config import SeenClassesConfig
from promptad.methods.baselines.open_set_zs import SeenClassHeads


@dataclass(frozen=True)
class DevNetZeroShotConfig(devnet.DevNetConfig, SeenClassesConfig):
    """Settings of DevNet, and of the photos of the seen classes."""


PRESETS: dict[str, dict[str, Any]] = {**devnet.PRESETS, "clean": {**devnet.PRESETS["clean"], "normals": 40}}


class DevNetZeroShot(SeenClassHeads, devnet.DevNet):
    """DevNet for classes that it was not trained on."""

    name, title = "devnet-zs", "DevNet, zero-shot"
