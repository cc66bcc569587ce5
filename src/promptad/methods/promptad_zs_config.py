"""Settings and presets of PromptAD zero-shot (WACV 2024). No code was released: W-n names what the paper leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.errors import ConfigError
from promptad.methods.base import ScoringConfig, require_choices


@dataclass(frozen=True)
class PromptADZeroShotConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method (the paper names no input size, W-4).

    Attributes:
        normals: good training photos per class at most, drawn by the seed; 0 takes all.
        anomalies: labelled anomalies per class, all of one anomaly type; the paper has 1 and 10.
        definition: normality prompt of this object, instead of the one in `prompts/banks/definitions.toml`.
        prompt_norm: length to which prompt embeddings are brought before they enter; 0 keeps CLIP's own.
        layers: tapped layers, shallow to deep; () takes a quarter, half and three quarters of the tower, 3, 6 and 9 of
            ViT-B (W-5).
        standardise: bring every channel of the taps to mean 0 and deviation 1 over the training patches. The first layer is
            linear, so this changes where training starts and how fast it goes, not what can be learned.
        width, heads, feedforward, dropout: of the transformer blocks (W-7).
        film: text enters the "first" block or "every" one (W-6).
        score_heads: "separate" score convolutions at every layer, or one "shared" by them (W-8).
        scale_products: divide products with prototypes by the square root of `width` (W-9).
        branches: "both", or "abnormal" (the paper's ABN) or "normal" (NOR) alone, which leaves no interaction.
        ccl: cross-view contrastive learning; off leaves out the scores against the other side's prompt.
        cmi: cross-modal interaction: "mutual", "one_way" from normality to abnormality as detailed, or "off" (W-10).
        mask_last: normality also masks the last layer of the abnormality branch (W-11).
        top_fraction: share of a map's places whose mean is its score. margin: of the deviation loss.
        loss_layers: deviation loss of "all" layers, summed, or of the "last" (W-12).
        optimiser: "adamw" or "adam"; epochs, iterations per epoch, batch_size, lr, weight_decay; lr is multiplied by
            `decay` after every `decay_every` epochs (W-13).
        oversample: how often an anomaly stands in the pool that batches are drawn from.
        balanced: half of every draw is anomalous, whatever the pool holds (W-13).
        batches: "mixed" classes, or "episodes" of one class each (W-14).
        image_score: "sum_of_tops" of both branches, or "top_of_sum" (W-15).
        few_shot: good photos replace the normality "prototype", or "off": they only set the threshold (W-16).
        seed: of the initial values, the photos drawn and the batches.
    """

    normals: int = 0
    anomalies: int = 10
    definition: str = ""
    prompt_norm: float = 0.0
    layers: tuple[int, ...] = ()
    standardise: bool = False
    width: int = 128
    heads: int = 4
    feedforward: int = 2048
    dropout: float = 0.1
    film: str = "first"
    score_heads: str = "separate"
    scale_products: bool = True
    branches: str = "both"
    ccl: bool = True
    cmi: str = "mutual"
    mask_last: bool = True
    top_fraction: float = 0.1
    margin: float = 5.0
    loss_layers: str = "all"
    optimiser: str = "adamw"
    epochs: int = 30
    iterations: int = 20
    batch_size: int = 48
    lr: float = 2e-4
    weight_decay: float = 1e-5
    decay_every: int = 10
    decay: float = 0.1
    oversample: int = 10
    balanced: bool = False
    batches: str = "mixed"
    image_score: str = "sum_of_tops"
    few_shot: str = "prototype"
    seed: int = 111

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choices(self, _CHOICES)
        positive = ("anomalies", "width", "heads", "feedforward", "epochs", "iterations", "batch_size", "oversample")
        for name in positive:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("normals", "prompt_norm", "margin", "lr", "weight_decay", "decay_every", "decay", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative; got {getattr(self, name)}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be a multiple of heads {self.heads}; change one of them")
        if not 0 < self.top_fraction <= 1 or not 0 <= self.dropout < 1:
            raise ConfigError("top_fraction must lie in 0..1 without 0, dropout in 0..1 without 1")
        if list(self.layers) != sorted(set(self.layers)):
            raise ConfigError(f"layers {list(self.layers)} must rise, for example 3, 6, 9; empty takes the usual ones")


_CHOICES = {
    "film": ("first", "every"),
    "score_heads": ("separate", "shared"),
    "branches": ("both", "abnormal", "normal"),
    "cmi": ("mutual", "one_way", "off"),
    "loss_layers": ("all", "last"),
    "optimiser": ("adamw", "adam"),
    "batches": ("mixed", "episodes"),
    "image_score": ("sum_of_tops", "top_of_sum"),
    "few_shot": ("prototype", "off"),
}

_PAPER = {"input_size": 224, "fit": "squash", "smoothing": 0.0}
# `clean` is what we recommend; `paper` the paper's, its gaps filled as the page says. There is no code to be true to.
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "normals": 40,
        "standardise": True,
        "feedforward": 256,
        "epochs": 8,
        "iterations": 20,
        "batch_size": 16,
    },
    "paper": _PAPER,
    "release": _PAPER,
}
