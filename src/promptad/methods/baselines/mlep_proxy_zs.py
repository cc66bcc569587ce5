"""The stand-in for MLEP (Liu et al., IJCAI 2019) trained once on seen classes, beside table 1 of PromptAD zero-shot (WACV 2024); see
`open_set_zs`. Like the stand-in for one product it is NOT that method.

Deviations of its two scores are those of the good photos of all seen classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.methods.baselines import mlep_proxy
from promptad.methods.baselines.open_set_config import SeenClassesConfig
from promptad.methods.baselines.open_set_zs import SeenClassHeads


@dataclass(frozen=True)
class MLEPProxyZeroShotConfig(mlep_proxy.MLEPProxyConfig, SeenClassesConfig):
    """Settings of the stand-in, and of the photos of the seen classes."""


PRESETS: dict[str, dict[str, Any]] = {**mlep_proxy.PRESETS, "clean": {**mlep_proxy.PRESETS["clean"], "normals": 40}}


class MLEPProxyZeroShot(SeenClassHeads, mlep_proxy.MLEPProxy):
    """The stand-in for classes that it was not trained on."""

    name, title = "mlep-proxy-zs", "MLEP proxy, zero-shot"
