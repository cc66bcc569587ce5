"""WinCLIP and WinCLIP+ (Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023).

Zero-shot: CLIP with sentences for "normal" and "anomalous" looks at the photo and at every window of 2 x 2 and 3 x 3 patches; a patch
gets the harmonic mean of the windows that cover it, and the map the harmonic mean of both scales and the photo. Few-shot
(WinCLIP+): windows and patches are compared with those of good photos too. No code of the authors is public; where four
re-implementations disagree, a setting has each reading. The photo may be looked at in several crops (`fit=multicrop`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.annotations import Above0, Count
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, window_patches
from promptad.errors import ConfigError
from promptad.methods.contract import EpochHook, Method, Scores, WordScores
from promptad.methods.ranked_words import RankedWords
from promptad.methods.settings import ScoringConfig
from promptad.methods.state import saved_tensor
from promptad.prompts.words import ensemble, object_words
from promptad.scoring.fusion import harmonic
from promptad.scoring.memory import MemoryBank, MemoryPrecision, build_memory
from promptad.scoring.prototypes import anomalous_probability, ensemble_prototype
from promptad.scoring.windows import harmonic_aggregation, mean_aggregation


@dataclass(frozen=True)
class WinCLIPConfig(ScoringConfig):
    """Settings of WinCLIP besides those of every method; defect words do not change its scores."""

    # Whose sentences: WinCLIP's (154 normal, 88 anomalous) or those of AnomalyCLIP and APRIL-GAN.
    sentences: Literal["winclip", "april_gan"] = "winclip"
    # Sentences of both sides that are taken, evenly spaced, so that each side keeps its share; 0 takes all.
    sentence_limit: Count = 0
    # How sentences become a prototype: each normalised before the mean, or only the mean of the raw features.
    prototype: Literal["normalised", "raw"] = "normalised"
    # Inverse temperature; two re-implementations have 1 / 0.07.
    scale: Above0 = 100.0
    # Sides of the windows in patches.
    windows: tuple[Count, ...] = (2, 3)
    # Whether the score of the whole photo is a further scale of the zero-shot map.
    image_in_map: bool = True
    # What the harmonic mean over windows and scales is of: the anomaly scores, or (one re-implementation) the probabilities
    # of being normal.
    aggregation: Literal["anomaly", "normality"] = "anomaly"
    # How distances of windows to good photos become those of patches.
    visual_windows: Literal["harmonic", "mean"] = "harmonic"
    # How the maps of text and good photos are joined.
    map_fusion: Literal["mean", "harmonic"] = "mean"
    # Image score: the text score, with good photos its mean with the largest distance; or the largest value of the map.
    image_fusion: Literal["mean", "map"] = "mean"
    # Whether patches of the last block are compared with those of good photos too, or windows alone.
    patch_memory: bool = True
    # How exactly rows of the memories are kept; float16 moves distances by about 1e-4.
    memory_precision: MemoryPrecision = "fp16"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.windows or len(set(self.windows)) < len(self.windows) or 0 in self.windows:
            raise ConfigError(f"windows {list(self.windows)} must be different sides of at least 1 patch, such as 2, 3")


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "squash", "map_size": 240, "smoothing": 0.0, "memory_precision": "fp32"},
    # As anomalib re-implements it, since the authors released nothing.
    "release": {
        "fit": "squash",
        "map_size": 240,
        "smoothing": 0.0,
        "memory_precision": "fp32",
        "prototype": "raw",
        "scale": 1 / 0.07,
    },
}


def limited(sides: Sequence[Sequence[str]], limit: int) -> list[list[str]]:
    """Evenly spaced sentences of both sides, `limit` in all and at least one a side; all where it is 0 or there are no more."""
    total = sum(map(len, sides))
    if not limit or limit >= total:
        return [list(side) for side in sides]
    numbers = [max(1, round(limit * len(side) / total)) for side in sides]
    return [[side[place * len(side) // n] for place in range(n)] for side, n in zip(sides, numbers, strict=True)]


class WinCLIP(Method):
    """WinCLIP for one object, and WinCLIP+ once it has seen good photos; see the module's docstring.

    Raises:
        ConfigError: a backbone that is no ViT, or words that do not exist. TextError: words that are too long.
    """

    name = "winclip"

    def __init__(self, backbone: Backbone, config: WinCLIPConfig, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        self.object = object_words(object_name)
        self._last = backbone.vit("WinCLIP")[1].layers
        self.request = FeatureRequest(taps=(self._last,) if config.patch_memory else (), windows=config.windows)
        self._ranked = RankedWords(backbone, config, object_name)
        self._normal, self._anomalous = (
            self._prototype(backbone.encode_texts(sentences))
            for sentences in limited(ensemble(config.sentences, self.object), config.sentence_limit)
        )
        self._memory: dict[str, MemoryBank] = {}

    def _prototype(self, features: Tensor) -> Tensor:
        if self.config.prototype == "normalised":
            return ensemble_prototype(features)
        return F.normalize(features.mean(dim=0), dim=-1)

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Keeps windows and patches of good photos (section 4.3, reference association)."""
        self._memory = {
            name: build_memory(
                [torch.cat([_flat(view, name) for view in photo]) for photo in photos], self.config.memory_precision
            )
            for name in (self._names if photos else ())
        }

    @property
    def _names(self) -> tuple[str, ...]:
        """The kinds of features that are compared with good photos, as `Features.tensors` calls them."""
        windows = tuple(f"window{side}" for side in self.config.windows)
        return (*windows, f"tap{self._last}") if self.config.patch_memory else windows

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w) of views, in [0, 1]."""
        text = self._probability(features.image)
        joined = self._text_map(features, text)
        highest = self.config.image_fusion == "map"
        if not self._memory:
            return Scores(joined.amax((1, 2)) if highest else text, joined, {"text": text})
        distance = self._distance_map(features, leave_out)
        joined = harmonic(joined, distance) if self.config.map_fusion == "harmonic" else (joined + distance) / 2
        memory = distance.amax((1, 2))
        image = joined.amax((1, 2)) if highest else (text + memory) / 2
        return Scores(image, joined, {"text": text, "memory": memory})

    def _probability(self, rows: Tensor) -> Tensor:
        return anomalous_probability(rows, self._normal, self._anomalous, self.config.scale)

    def _text_map(self, features: Features, text: Tensor) -> Tensor:
        """(B, h, w): harmonic mean over windows, then over scales (section 4.2)."""
        turned = self.config.aggregation == "normality"
        scales = []
        for side in self.config.windows:
            values = self._probability(features.windows[side])
            windows = window_patches(features.grid, side).to(values.device)
            scales.append(harmonic_aggregation(1 - values if turned else values, windows, features.grid))
        if self.config.image_in_map:
            whole = 1 - text if turned else text
            scales.append(whole[:, None, None].expand_as(scales[0]))
        mean = 1 / (1 / torch.stack(scales).clamp(min=1e-12)).mean(dim=0)
        return 1 - mean if turned else mean

    def _distance_map(self, features: Features, leave_out: int | None) -> Tensor:
        """(B, h, w): mean over the kinds of features of half the cosine distance to good photos (section 4.3)."""
        maps = []
        aggregate = harmonic_aggregation if self.config.visual_windows == "harmonic" else mean_aggregation
        for side in self.config.windows:
            distances = self._memory[f"window{side}"].distance(features.windows[side], leave_out=leave_out)
            maps.append(aggregate(distances, window_patches(features.grid, side).to(distances.device), features.grid))
        if self.config.patch_memory:
            patches = self._memory[f"tap{self._last}"].distance(features.taps[self._last], leave_out=leave_out)
            maps.append(patches.view(len(features), *features.grid))
        return torch.stack(maps).mean(0)

    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state for views."""
        return self._ranked(features)

    def state(self) -> dict[str, Tensor]:
        """The memories; one empty tensor without good photos, since everything follows from the words then."""
        out = {"nothing": torch.zeros(1)} if not self._memory else {}
        for name, bank in self._memory.items():
            out |= {f"{name}.rows": bank.stored, f"{name}.owners": bank.owners}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        self._memory = {}
        if "nothing" in state:
            return
        sizes, device = self.backbone.sizes, self.backbone.device
        for name in self._names:
            width = sizes.embed_dim if name.startswith("window") else sizes.vision.width
            rows = saved_tensor(state, f"{name}.rows", (None, width), "WinCLIP")
            owners = saved_tensor(state, f"{name}.owners", (len(rows),), "WinCLIP")
            self._memory[name] = MemoryBank(rows.to(device), owners.to(device))


def _flat(view: Features, name: str) -> Tensor:
    """(rows, D) windows or patches of a view."""
    return view.tensors()[name].flatten(0, 1)
