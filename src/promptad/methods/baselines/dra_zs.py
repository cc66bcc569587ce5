"""DRA (Ding et al., CVPR 2022) trained once on seen classes, for tables 1 to 3 of PromptAD zero-shot (WACV 2024); see `open_set_zs`.

The residual head compares with good photos. Those of the seen classes stand in where there are none of the product; a few good
photos of the product (table 3) take their place, as these are what references are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.learning.auxiliary import AuxiliarySet
from promptad.learning.epochs import Checkpoint, Progress
from promptad.methods.baselines import dra
from promptad.methods.baselines.open_set_config import SeenClassesConfig
from promptad.methods.baselines.open_set_zs import SeenClassHeads
from promptad.methods.contract import EpochHook

_OWN = "good."


@dataclass(frozen=True)
class DRAZeroShotConfig(dra.DRAConfig, SeenClassesConfig):
    """Settings of DRA, and of the photos of the seen classes."""

    # Good photos of the product take the place of the seen classes' as references, or only set the threshold.
    few_shot: Literal["references", "off"] = "references"


PRESETS: dict[str, dict[str, Any]] = {**dra.PRESETS, "clean": {**dra.PRESETS["clean"], "normals": 40}}


class DRAZeroShot(SeenClassHeads, dra.DRA):
    """DRA for classes that it was not trained on.

    Attributes:
        seen: what was kept of the seen classes; :meth:`kept` gives that of the product once it is there.
    """

    name, title = "dra-zs", "DRA, zero-shot"
    seen: Mapping[str, Tensor]

    def train(
        self, data: AuxiliarySet | None, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
    ) -> list[float]:
        """Trains the heads anew and forgets good photos; gives the mean loss of every epoch.

        Raises:
            ConfigError: no data, or training diverged.
        """
        history = super().train(data, checkpoint=checkpoint, progress=progress)
        self.seen = self.kept()
        return history

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps maps of good photos of the product as references; the heads stay as they were trained.

        Raises:
            ConfigError: no photo, or nothing was trained or loaded yet.
        """
        if not photos:
            raise ConfigError("fit needs at least one good photo")
        net = self.net()
        if self.config.few_shot == "references":
            owners = [number for number, views in enumerate(photos) for _ in views]
            self.learned_from(net, self._stack(photos, photos[0][0].grid), owners)

    def learned(self) -> dict[str, Tensor]:
        """The heads, the channels' scales, and the references of the seen classes.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        return {**super().learned(), **self.seen}

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores :meth:`learned`. Raises WeightsError when a tensor is missing or of another shape."""
        super().load_learned(tensors)
        self.seen = self.kept()

    def state(self) -> dict[str, Tensor]:
        """:meth:`learned`, and the references of the product once there are good photos."""
        learned, own = self.learned(), self.kept()
        fitted = own["references"] is not self.seen["references"]
        return {**learned, **({_OWN + name: values for name, values in own.items()} if fitted else {})}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`. Raises WeightsError when a tensor is missing or of another shape."""
        self.load_learned(state)
        own = {name.removeprefix(_OWN): values for name, values in state.items() if name.startswith(_OWN)}
        if own:
            self.load_kept(own)
