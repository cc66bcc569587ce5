"""Settings and presets of PromptAD (CVPR 2024), with every place where paper and released code differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promptad.errors import ConfigError
from promptad.methods.base import ScoringConfig, require_choices


@dataclass(frozen=True)
class PromptADConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method. Flags F-n are the ledger's names for where paper and released code differ.

    Attributes:
        fit, pre_resize, test_channels: the released code's preprocessing is flag F-6.
        prefixes_image, prefixes_pixel: normal prefixes N of each prompt set (F-11).
        prefix_tokens: tokens E_N of a prefix. suffixes, suffix_tokens: learnable suffixes L and their tokens E_A.
        anomaly_prefixes: "shared" with the normal prompts as in the paper, or "own": copies of the normal prefixes that
            are trained separately, so that normal prompts can move where anomaly prompts do not follow.
        suffix_position: "after" the object as printed, "before" it as released (F-3).
        generic_states: "eight", "five" or "none" (F-10).
        semantic_concatenation: off gives the CoOp baseline: an independent learnable anomaly context, no MAP, no LAP.
        manual_prompts, learnable_prompts, margin: off gives the ablations w/o MAP, w/o LAP, w/o EAM.
        attraction: weight of the mean distance 1 - cos of the good features to the normal prototype, which goes on pulling
            where the contrastive loss is satisfied.
        anchor: weight of the squared distance of the anomalous prototype to where it started: the good photos say nothing
            about where defects lie, the words do. Neither is in the paper; 0 is off.
        scale: inverse temperature of the losses, score_scale: of the scores (F-1), word_scale: of the defect words;
            scale_pixel, score_scale_pixel: of the pixel prompts (0: the same as of the image prompts).
        fusion_scale: inverse temperature of the text scores that are joined with the memory (0: as `score_scale` and
            `score_scale_pixel` say). A low one lets the memory count, a high one gives better maps of the text alone.
        numerator: "anomalous", or "normal" as eq. 16 is printed, which would be a normality score (F-2).
        margin_distance, margin_over_patches: the hinge's distance and the released code's axis slip (F-4).
        alignment, alignment_weight: which means are compared, and lambda (F-12).
        optimiser: "sgd" (paper, release) or "adam"; epochs, lr, momentum, weight_decay, final_lr: with cosine annealing;
            lr_pixel: of the pixel prompts (0: the same).
        prefix_init: words whose token embeddings start the prefixes, "" starts them at zero; of several phrases with
            commas between them, every prefix takes the next. init_std: sigma of the Gaussian of the suffixes, and of the
            one added to prefixes that a phrase of their own does not set apart.
        prompt_precision: "fp32", or "fp16" parameters as released (F-9).
        selection: "last" epoch; "oracle_test" keeps the epoch with the best test AUROC and is only for benchmarks (F-7).
        shot_order: listing from which shots are drawn: "sorted" names, or the "directory"'s own order (F-8).
        memory_layers, memory_point: tapped layers, and where in the block (F-5).
        local: "vv", "maskclip" or "qk" patch features; local_start: first block of the local stream.
        parts: "fused", or one of the parts alone: "text" (w/o memory), "memory" (w/o prompts).
        seed: of the prompts' initial values.
    """

    prefixes_image: int = 1
    prefixes_pixel: int = 1
    prefix_tokens: int = 4
    suffixes: int = 4
    suffix_tokens: int = 1
    anomaly_prefixes: str = "shared"
    suffix_position: str = "after"
    generic_states: str = "eight"
    semantic_concatenation: bool = True
    manual_prompts: bool = True
    learnable_prompts: bool = True
    margin: bool = True
    attraction: float = 0.0
    anchor: float = 0.0
    scale: float = 100.0
    scale_pixel: float = 0.0
    score_scale: float = 100.0
    score_scale_pixel: float = 0.0
    fusion_scale: float = 0.0
    word_scale: float = 100.0
    numerator: str = "anomalous"
    margin_distance: str = "squared"
    margin_over_patches: bool = False
    alignment: str = "normalised_mean"
    alignment_weight: float = 0.001
    optimiser: str = "sgd"
    epochs: int = 100
    lr: float = 0.002
    lr_pixel: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    final_lr: float = 1e-5
    prefix_init: str = ""
    init_std: float = 0.02
    prompt_precision: str = "fp32"
    selection: str = "last"
    shot_order: str = "sorted"
    memory_layers: tuple[int, ...] = (3, 8)
    memory_point: str = "block"
    local: str = "vv"
    local_start: int = 1
    parts: str = "fused"
    seed: int = 111

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choices(self, _CHOICES)
        if min(self.prefixes_image, self.prefixes_pixel, self.prefix_tokens, self.suffix_tokens) < 1:
            raise ConfigError("prefixes_image, prefixes_pixel, prefix_tokens and suffix_tokens must be at least 1")
        if self.epochs < 0 or self.suffixes < 0:
            raise ConfigError("epochs and suffixes must not be negative")
        if min(self.attraction, self.anchor) < 0:
            raise ConfigError("attraction and anchor are weights of losses and must not be negative")
        if min(self.lr, self.lr_pixel, self.weight_decay, self.momentum) < 0 or self.momentum >= 1:
            raise ConfigError("lr, lr_pixel and weight_decay must not be negative, momentum must lie in 0..1 without 1")
        if self.parts != "text" and not self.memory_layers:
            raise ConfigError("memory_layers is empty; name a layer, or set parts to text for scores without memory")
        if self.semantic_concatenation and not (self.manual_prompts or (self.learnable_prompts and self.suffixes)):
            raise ConfigError("without manual and learnable anomaly prompts there is no anomalous prototype; keep one")


_CHOICES = {
    "suffix_position": ("after", "before"),
    "anomaly_prefixes": ("shared", "own"),
    "numerator": ("anomalous", "normal"),
    "margin_distance": ("squared", "euclidean"),
    "optimiser": ("sgd", "adam"),
    "alignment": ("normalised_mean", "mean_of_normalised"),
    "prompt_precision": ("fp32", "fp16"),
    "selection": ("last", "oracle_test"),
    "shot_order": ("sorted", "directory"),
    "memory_point": ("block", "after_next_attention"),
    "local": ("vv", "maskclip", "qk"),
    "parts": ("fused", "text", "memory"),
}

# `clean` is what we recommend, `paper` what is printed, `release` what the authors' code does, its slips included.
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "prefixes_image": 3,
        "prefixes_pixel": 3,
        "prefix_tokens": 5,
        "prefix_init": "a cropped photo of the, a bright photo of a, a blurry photo of the",
        "anomaly_prefixes": "own",
        "attraction": 30.0,
        "anchor": 100.0,
        "optimiser": "adam",
        "epochs": 50,
        "lr": 0.005,
        "fusion_scale": 2.0,
    },
    "paper": {"fit": "crop", "margin_distance": "euclidean", "scale": 100.0, "score_scale": 100.0},
    "release": {
        "fit": "squash",
        "pre_resize": 1024,
        "test_channels": "bgr",
        "prefixes_image": 3,
        "suffix_position": "before",
        "scale": 4.6052,
        "score_scale": 4.6052,
        "margin_over_patches": True,
        "alignment": "mean_of_normalised",
        "prompt_precision": "fp16",
        "selection": "oracle_test",
        "shot_order": "directory",
        "memory_point": "after_next_attention",
    },
}
