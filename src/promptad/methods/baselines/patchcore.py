"""PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022) on tokens of the image tower.

A memory of the patches of good photos, each averaged with its neighbours; a patch's score is its distance to the nearest one, a
photo's the largest of them, weighted by how crowded the memory is there (section 3.3, equations 6 and 7). The paper's backbone
is WideResNet-50-2; here patches are tokens of CLIP's layers, as in PromptAD's comparison with memories on its own tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from promptad.annotations import Count, Positive, Range, Seed, Share
from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, TapPoint
from promptad.errors import ConfigError
from promptad.methods.baselines.tapped import EmbeddedConfig, TappedMemory
from promptad.methods.contract import EpochHook, Scores
from promptad.methods.state import require_learned, saved_tensor
from promptad.scoring.maps import top_mean
from promptad.scoring.tokens import greedy_coreset, nearest_rows


@dataclass(frozen=True)
class PatchCoreConfig(EmbeddedConfig):
    """Settings of PatchCore besides those of every method; defect words do not change its scores."""

    # Where in the block tokens are tapped: its output, or, of ViT towers, its output through the norm that the next block reads it
    # through ("next_norm").
    point: TapPoint = "block"
    # Orientations of each good photo that the memory holds, evenly spread over 360 degrees; 1 is the photo as it is.
    turns: Annotated[int, Range(1, 72)] = 1
    # Each orientation mirrored too.
    mirrored: bool = False
    # Share of the patches that the memory keeps, spread as far as can be; 1 keeps all.
    coreset: Annotated[float, Range(0, 1, open_low=True)] = 1.0
    # Patches drawn at random that the coreset begins to spread from, as the scripts of the released code do; 0 begins with the one
    # that is farthest from all others.
    coreset_starts: Count = 0
    # Most patches that it keeps, whatever their share; 0 sets no limit.
    budget: Count = 0
    # Share of the largest distances whose mean is a photo's score instead of the largest alone; 0 takes that.
    top: Share = 0.0
    # Nearest patches whose distances are averaged.
    neighbours: Positive = 1
    # Patches around the nearest one that say how crowded the memory is there; 0 leaves the weight of the image score out,
    # as the released code does.
    reweight: Count = 0
    # Distances as they are, or squared as in the released code.
    distance: Literal["euclidean", "squared"] = "euclidean"
    # Seed of the linear map before the coreset, and of the patches that it begins with.
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reweight == 1:
            raise ConfigError(
                "reweight=1 makes every score 0: one neighbour is the whole softmax; take 0, or 2 and more"
            )
        if self.reweight and self.top:
            raise ConfigError(
                "reweight is the weight of the largest distance alone; leave it at 0 with top, or top at 0"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "clean": {},
    "paper": {"fit": "crop", "map_size": 224, "embedding_width": 1024, "coreset": 0.1, "reweight": 9},
    "release": {
        "fit": "crop",
        "map_size": 224,
        "embedding_width": 1024,
        "edges": "zeros",
        "normalise": False,
        "coreset": 0.1,
        "coreset_starts": 10,
        "distance": "squared",
    },
}


class PatchCore(TappedMemory):
    """PatchCore for one object; see the module's docstring.

    Raises:
        ConfigError: words that do not exist. TextError: words that are too long.
    """

    name = "patchcore"

    def __init__(self, backbone: Backbone, config: PatchCoreConfig, object_name: str = "object") -> None:
        also = FeatureRequest(tap_point=config.point, turns=config.turns, mirrored=config.mirrored)
        super().__init__(backbone, config, object_name, pooling=config.pooling, also=also)
        self._rows = self._owners = torch.empty(0)

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Fills the memory with patches of good photos; with a coreset, of those that are farthest apart.

        Raises:
            ConfigError: turned copies are asked for, and features are without them.
        """
        config = self.config
        rows, owners = [], []
        for number, views in enumerate(photos):
            for copy in (copy for view in views for copy in view.tapped.orientations(config.turns, config.mirrored)):
                tokens = self.tokens(copy).flatten(0, 1)
                rows.append(tokens)
                owners.append(torch.full((len(tokens),), number, device=tokens.device))
        self._rows, self._owners = torch.cat(rows), torch.cat(owners)
        count = max(1, int(config.coreset * len(self._rows)))
        count = min(count, config.budget or count)
        if count < len(self._rows):
            kept = greedy_coreset(self._rows, count, seed=config.seed, starts=config.coreset_starts)
            self._rows, self._owners = self._rows[kept], self._owners[kept]

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Scores (B,) and maps (B, h, w) of distances, not negative.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(bool(len(self._rows)))
        rows = self._rows if leave_out is None else self._rows[self._owners != leave_out]
        if not len(rows):  # a coreset may have kept patches of that photo alone
            rows = self._rows
        batch, config = len(features), self.config
        tokens = self.tokens(features)
        distances, nearest = nearest_rows(tokens.flatten(0, 1), rows, config.neighbours)
        values = (distances.square() if config.distance == "squared" else distances).mean(dim=1).view(batch, -1)
        image, worst = values.max(dim=1)
        if config.top:
            image = top_mean(values.unsqueeze(1), config.top)
        if config.reweight and len(rows) > 1:  # a single row has no neighbourhood
            first = nearest[:, 0].view(batch, -1)
            weights = [self._weight(tokens[row, worst[row]], rows, int(first[row, worst[row]])) for row in range(batch)]
            image = image * torch.stack(weights)
        return Scores(image, values.view(batch, *features.tapped.grid), {"memory": image})

    def _weight(self, patch: Tensor, rows: Tensor, nearest: int) -> Tensor:
        """1 - softmax over the neighbours of the nearest row of the patch's distances to them, at that row (equation 7)."""
        _, around = nearest_rows(rows[nearest][None], rows, self.config.reweight)
        distances = (rows[around[0]] - patch).norm(dim=1)
        # The row itself is among them, but copies of it may stand before it.
        own = (rows[nearest] - patch).norm()
        return 1 - torch.exp(own - torch.logsumexp(distances, dim=0))

    def state(self) -> dict[str, Tensor]:
        """The memory."""
        return {"rows": self._rows, "owners": self._owners}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`."""
        rows = saved_tensor(state, "rows", (None, self.token_width), "PatchCore")
        owners = saved_tensor(state, "owners", (len(rows),), "PatchCore")
        self._rows, self._owners = rows.to(self.backbone.device), owners.to(self.backbone.device)
