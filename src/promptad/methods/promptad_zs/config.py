"""Settings and presets of PromptAD zero-shot (WACV 2024). No code was released: W-n names what the paper leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from promptad.annotations import Count, Positive, Range, Seed, Share, Weight
from promptad.errors import ConfigError
from promptad.learning.deviation import Rounding
from promptad.methods.settings import ScoringConfig, check_rising


@dataclass(frozen=True)
class PromptADZeroShotConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method (the paper names no input size, W-4)."""

    # -- training photos -------------------------------------------------------------------------------------------
    # Good training photos per class at most, drawn by the seed; 0 takes all.
    normals: Count = 0
    # Labelled anomalies per class, all of one anomaly type; the paper has 1 and 10.
    anomalies: Positive = 10
    # How often an anomaly stands in the pool that batches are drawn from.
    oversample: Positive = 10
    # Half of every draw is anomalous, whatever the pool holds (W-13).
    balanced: bool = False
    # Batches of mixed classes, or episodes of one class each. The paper trains in episodes; what one holds is open (W-14).
    batches: Literal["mixed", "episodes"] = "mixed"

    # -- prompts ---------------------------------------------------------------------------------------------------
    # Normality prompt of this object, instead of the one in `prompts/banks/definitions.toml`.
    definition: str = ""
    # Length to which prompt embeddings are brought before they enter; 0 keeps CLIP's own.
    prompt_norm: Weight = 0.0

    # -- decoders --------------------------------------------------------------------------------------------------
    # Tapped layers, shallow to deep; empty takes a quarter, half and three quarters of the tower, 3, 6, 9 of ViT-B (W-5).
    # The code of CLIPSeg, whose decoder this is after, taps the outputs of blocks 4, 7 and 10.
    layers: tuple[Count, ...] = ()
    # Bring every channel of the taps to mean 0 and deviation 1 over the training patches. The first layer is linear, so
    # this changes where training starts and how fast it goes, not what can be learned.
    standardise: bool = False
    # Channels of the transformer blocks (W-7).
    width: Positive = 128
    # Attention heads (W-7).
    heads: Positive = 4
    # Hidden channels of the feed-forward layers (W-7).
    feedforward: Positive = 2048
    # In the blocks, while training (W-7).
    dropout: Share = 0.1
    # Text enters the first block or every one (W-6).
    film: Literal["first", "every"] = "first"
    # A score convolution at every layer, or one for all (W-8).
    score_heads: Literal["separate", "shared"] = "separate"
    # Divide products with prototypes by the square root of `width`; the paper has the inner product alone (W-9).
    scale_products: bool = True
    # Both branches, or the paper's ABN or NOR alone, which leaves no interaction.
    branches: Literal["both", "abnormal", "normal"] = "both"
    # Cross-view contrastive learning; off leaves out the scores against the other side's prompt.
    ccl: bool = True
    # Cross-view mutual interaction: both ways, from normality to abnormality as detailed, or off (W-10).
    cmi: Literal["mutual", "one_way", "off"] = "mutual"
    # Normality also masks the last layer of the abnormality branch (W-11).
    mask_last: bool = True

    # -- losses ----------------------------------------------------------------------------------------------------
    # Share of a map's places whose mean is its score.
    top_fraction: Annotated[float, Range(0, 1, open_low=True)] = 0.1
    # Of a share that is no whole number of places: the paper takes it as in DRA, whose code rounds down (19 of 196).
    top_rounding: Rounding = "up"
    # Of the deviation loss.
    margin: Weight = 5.0
    # Deviation loss of every layer, as stated, or of the last; that all count the same is our reading (W-12).
    loss_layers: Literal["all", "last"] = "all"
    # W-13 like all that follows here.
    optimiser: Literal["adamw", "adam"] = "adamw"
    # Passes of `iterations` batches.
    epochs: Positive = 30
    # Batches of an epoch.
    iterations: Positive = 20
    # Photos of a batch.
    batch_size: Positive = 48
    # Learning rate.
    lr: Weight = 2e-4
    # Of the optimiser.
    weight_decay: Weight = 1e-5
    # Epochs after which the learning rate is multiplied by `decay`, again and again; 0 keeps it.
    decay_every: Count = 10
    # That factor.
    decay: Weight = 0.1
    # Of the initial values, the photos drawn and the batches.
    seed: Seed = 111

    # -- scores ----------------------------------------------------------------------------------------------------
    # Sum of both branches' top means, or top mean of their sum (W-15).
    image_score: Literal["sum_of_tops", "top_of_sum"] = "sum_of_tops"
    # Which branch's map and score are given: their sum, or one of both, as figure 5 shows them.
    scored: Literal["both", "abnormal", "normal"] = "both"
    # Good photos replace the normality prototype, or only set the threshold (W-16).
    few_shot: Literal["prototype", "off"] = "prototype"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scored != "both" and self.branches not in ("both", self.scored):
            raise ConfigError(
                f"scored={self.scored}: that branch is not there with branches={self.branches}; change one of them"
            )
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be a multiple of heads {self.heads}; change one of them")
        check_rising(self.layers)


_PAPER = {
    "input_size": 224,
    "fit": "squash",
    "smoothing": 0.0,
    "scale_products": False,
    "top_rounding": "down",
    "batches": "episodes",
}
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
