"""FAPrompt (Zhu J. et al., "Fine-grained Abnormality Prompt Learning for Zero-shot Anomaly Detection", ICCV 2025).

Trained once on the labelled photos of another data set, like AnomalyCLIP, with two additions:

* compound abnormality prompts (CAP): one normal prompt "V1..V5 object." and ten abnormal ones "V1..V5 Ai1 Ai2 damaged
  object." that share V (eq. 1) and are kept apart by their pairwise cosines (eq. 2);
* a data-dependent abnormality prior (DAP): a small network turns the patches of the photo that look most abnormal (eq. 3)
  into a vector that is added to the tokens Ai of all prompts (eq. 4), held near zero for normal photos (eq. 5).

The appendix prints no equation; its Algorithm 1 names most of them (1 to 5 and 7 to 11) and says what each is for. What is
written here under their numbers was read from that and from the released code: our reading, as `docs/methods/faprompt.md`
lists it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.learning.auxiliary import Batch
from promptad.learning.map_losses import binary_focal, map_loss, pairwise_cosine, prior_of_normal
from promptad.methods.contract import Scores
from promptad.methods.faprompt.config import FAPromptConfig
from promptad.methods.object_agnostic import (
    DAMAGED,
    OBJECT,
    LearnedPrompts,
    ObjectAgnostic,
)
from promptad.prompts.layout import Layout, PromptSet, Slot
from promptad.scoring.prototypes import anomalous_logit

# The prior network's hidden layer is this many times narrower than its input.
_BOTTLENECK = 16


@dataclass(frozen=True)
class _Reading:
    """What the prompts say about B views: logit of the refined text score (B,), maps S and refined S (B, T), both of
    "anomalous", and Omega (B, t)."""

    text: Tensor
    first: Tensor
    refined: Tensor
    prior: Tensor | None

    @property
    def from_maps(self) -> Tensor:
        """(2 max S + max refined S) / 3 of equation 9, on the patch grid, (B,)."""
        return (2 * self.first.amax(1) + self.refined.amax(1)) / 3

    @property
    def score(self) -> Tensor:
        """Equation 9: half of the text score and half of the maps', (B,) in [0, 1]."""
        return (self.text.sigmoid() + self.from_maps) / 2


class FAPrompt(ObjectAgnostic):
    """Compound abnormality prompts, refined for every photo; see the module's docstring.

    Args:
        backbone: frozen CLIP; the paper's numbers are with ViT-L-14-336.
        config: see :class:`FAPromptConfig`. object_name: only for naming defects, never for scores.

    Raises:
        ConfigError, TextError: words or layers that do not exist, prompts that are too long.
    """

    name = "faprompt"
    config: FAPromptConfig

    def __init__(self, backbone: Backbone, config: FAPromptConfig, object_name: str = "object") -> None:
        shapes = {
            "normal": (1, config.normal_tokens),
            "abnormal": (config.abnormal_prompts, config.abnormal_tokens),
        }
        abnormal: list[Layout] = [
            (Slot("normal"), Slot("abnormal", i), DAMAGED, ".") for i in range(config.abnormal_prompts)
        ]
        super().__init__(backbone, config, object_name, [(Slot("normal"), OBJECT, "."), *abnormal], shapes)
        self._refined = PromptSet(abnormal, shapes, backbone)

    def _draw(self, generator: torch.Generator) -> LearnedPrompts:
        """The tokens, and psi (eq. 4): Linear(M E -> M E / 16), ReLU, Linear(-> t)."""
        prompts = super()._draw(generator)
        if self.config.prior:
            inputs = self.config.patch_count * self.backbone.sizes.embed_dim
            hidden = max(1, inputs // _BOTTLENECK)
            first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, self.backbone.sizes.text.width)
            for layer in (first, last):  # torch's own initial values, from this generator
                bound = layer.in_features**-0.5
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=generator)
            prompts.prior = nn.Sequential(first, nn.ReLU(), last)
        return prompts

    def _read(self, features: Features, normal: Tensor, abnormal: Tensor) -> _Reading:
        """Equations 3, 4 and 8 and the refined maps for B views, given the normal (E,) and the mean abnormal feature (E,)."""
        assert features.patches is not None  # `request` asks for them
        scale = self.config.scale
        image, patches = F.normalize(features.image, dim=-1), F.normalize(features.patches, dim=-1)
        logits = anomalous_logit(patches, normal, abnormal, scale)
        first = logits.sigmoid()
        if self.module.prior is None:
            return _Reading(anomalous_logit(image, normal, abnormal, scale), first, first, None)
        prior = self.module.prior(self._prior_patches(patches, logits.detach()))
        # F^_n is F_n: nothing is added to the normal prompt.
        refined = self.encode(self._refined, {"abnormal": prior}).mean(1)
        return _Reading(
            anomalous_logit(image, normal, refined, scale),
            first,
            anomalous_logit(patches, normal, refined, scale).sigmoid(),
            prior,
        )

    def _prior_patches(self, patches: Tensor, logits: Tensor) -> Tensor:
        """p_x of equation 3, (B, M E): M unit patch features (B, T, E) one after the other, most abnormal first.

        A grid of fewer than M patches gives its patches again in the same order.
        """
        count, (batch, total, embed) = self.config.patch_count, patches.shape
        if self.config.prior_patches == "raster":
            order = torch.arange(min(count, total), device=patches.device).expand(batch, -1)
        else:
            # By logit: probabilities that round to one would be ties.
            order = logits.topk(min(count, total), dim=1).indices
        order = order[:, torch.arange(count, device=order.device) % order.shape[1]]
        return patches.gather(1, order.unsqueeze(-1).expand(-1, -1, embed)).flatten(1)

    def loss(self, batch: Batch) -> Tensor:
        """L_local (eq. 7) + L_global (eq. 10) + weighted L_oc (eq. 2) and L_prior (eq. 5)."""
        assert batch.masks is not None  # `train` asks for them
        config, size = self.config, (len(batch.labels), *batch.features.grid)
        encoded = self.encode(self.prompts)
        reading = self._read(batch.features, encoded[0], encoded[1:].mean(0))
        # With two classes the softmax cross-entropy is the binary one of the logits' difference.
        total = F.binary_cross_entropy_with_logits(reading.text, batch.labels.to(reading.text.dtype))
        total = total + binary_focal(reading.score, batch.labels, config.image_focal)
        total = total + map_loss(reading.first.view(size), batch.masks)
        total = total + config.orthogonality_weight * pairwise_cosine(encoded[1:])
        if reading.prior is not None:
            total = total + config.refined_weight * map_loss(reading.refined.view(size), batch.masks)
            total = total + config.prior_weight * prior_of_normal(reading.prior, batch.labels)
        return total

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) (eq. 9) and patch maps (B, h, w) (eq. 11), both in [0, 1].

        With two classes eq. 11, a quarter of S + 1 - S_n of both prompt sets, is the mean of S and refined S. `parts` has
        "text" (eq. 8) and "map" (the maxima in eq. 9); the score is their mean.

        Raises:
            ConfigError: nothing was trained or loaded yet.
        """
        reading = self._read(features, *self.prototypes())
        maps = (reading.first + reading.refined) / 2
        parts = {"text": reading.text.sigmoid(), "map": reading.from_maps}
        return Scores(reading.score, maps.view(len(features), *features.grid), parts)


# FIX
