"""Settings and presets of PromptAD (CVPR 2024), with every place where paper and released code differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from promptad.annotations import Count, Positive, Range, Seed, Share, Weight
from promptad.clip.architecture import ResNetSizes, VisionSizes
from promptad.clip.features import TapPoint
from promptad.errors import ConfigError
from promptad.learning.losses import Alignment, MarginDistance
from promptad.methods.settings import GeneralWords, ScoringConfig, quarter_layers
from promptad.scoring.memory import MemoryPrecision
from promptad.scoring.patch_memory import Comparison, MemorySettings


@dataclass(frozen=True)
class PromptADConfig(ScoringConfig):
    """Everything that can be chosen, besides the settings of every method.

    Flags F-n are the ledger's names for where paper and released code differ; the released code's preprocessing is F-6.
    How its numbers are measured (F-7, F-8) is in `bench/conventions.py`.
    """

    # Until 0.1 these stood here; what they chose is done by benchmarks alone.
    retired: ClassVar[Mapping[str, str]] = {
        "selection": "benchmarks choose epochs, with `promptad evaluate --oracle-test`",
        "shot_order": "benchmarks draw photos, with `promptad evaluate --convention shot_order=directory`",
    }

    # -- prompts ---------------------------------------------------------------------------------------------------
    # Normal prefixes N of the image prompts (F-11).
    prefixes_image: Positive = 1
    # Normal prefixes N of the pixel prompts (F-11).
    prefixes_pixel: Positive = 1
    # Tokens E_N of a prefix.
    prefix_tokens: Positive = 4
    # Learnable suffixes L of the anomaly prompts.
    suffixes: Count = 4
    # Tokens E_A of a suffix.
    suffix_tokens: Positive = 1
    # Prefixes of the anomaly prompts: those of the normal prompts as in the paper, or copies of them that are trained
    # separately, so that normal prompts can move where anomaly prompts do not follow.
    anomaly_prefixes: Literal["shared", "own"] = "shared"
    # Suffixes stand after the object as printed, or before it as released (F-3).
    suffix_position: Literal["after", "before"] = "after"
    # General state words: the paper's eight, the code's five, or none (F-10).
    generic_states: GeneralWords = "eight"
    # Off gives the CoOp baseline: an independent learnable anomaly context, no MAP, no LAP. Table 3's first row has no
    # margin either: `semantic_concatenation=false margin=false`.
    semantic_concatenation: bool = True
    # Manual anomaly prompts; off is the ablation w/o MAP.
    manual_prompts: bool = True
    # Learnable anomaly prompts; off is the ablation w/o LAP.
    learnable_prompts: bool = True
    # Words whose token embeddings start the prefixes, "" starts them at zero; of several phrases with commas between
    # them, every prefix takes the next.
    prefix_init: str = ""
    # Untrained sentences whose prototypes are averaged with the learned ones of photos, not of patches, where photos are scored: what
    # learning on good photos alone breaks, they hold.
    sentences: Literal["none", "winclip", "april_gan", "clip_ac"] = "none"
    # Sigma of the Gaussian of the suffixes, and of the one added to prefixes that no phrase of their own sets apart.
    init_std: Weight = 0.02
    # Parameters in fp32, or in fp16 as released (F-9).
    prompt_precision: Literal["fp32", "fp16"] = "fp32"

    # -- losses ----------------------------------------------------------------------------------------------------
    # Explicit anomaly margin; off is the ablation w/o EAM.
    margin: bool = True
    # Distance in the hinge: Euclidean as printed, or squared (F-4).
    margin_distance: MarginDistance = "squared"
    # The released code's slip: the pixel margin's softmax runs over patches (F-4).
    margin_over_patches: bool = False
    # Which means are aligned (F-12).
    alignment: Alignment = "normalised_mean"
    # Lambda of the alignment (F-12).
    alignment_weight: Weight = 0.001
    # Weight of the mean distance 1 - cos of the good features to the normal prototype, which goes on pulling where the
    # contrastive loss is satisfied; not in the paper, 0 is off.
    attraction: Weight = 0.0
    # Weight of the squared distance of the anomalous prototype to where it started: the good photos say nothing about
    # where defects lie, the words do; not in the paper, 0 is off.
    anchor: Weight = 0.0
    # Inverse temperature of the losses of the image prompts (F-1).
    scale: float = 100.0
    # The same of the pixel prompts; 0 takes that of the image prompts.
    scale_pixel: float = 0.0
    # "sgd" in paper and release.
    optimiser: Literal["sgd", "adam"] = "sgd"
    # Steps over all good photos.
    epochs: Count = 100
    # Learning rate, falling along a cosine.
    lr: Weight = 0.002
    # Learning rate of the pixel prompts; 0 takes the same.
    lr_pixel: Weight = 0.0
    # Of SGD; the first beta of Adam.
    momentum: Share = 0.9
    # Of the optimiser.
    weight_decay: Weight = 5e-4
    # Where the cosine ends.
    final_lr: float = 1e-5
    # Of the prompts' initial values.
    seed: Seed = 111

    # -- scores ----------------------------------------------------------------------------------------------------
    # Inverse temperature of the image scores (F-1).
    score_scale: float = 100.0
    # The same of the pixel scores; 0 takes that of the image scores.
    score_scale_pixel: float = 0.0
    # Inverse temperature of the text scores that are joined with the memory; 0 takes `score_scale` and
    # `score_scale_pixel`. A low one lets the memory count, a high one gives better maps of the text alone.
    fusion_scale: float = 0.0
    # How the text scores are joined with the memory's distances: half their harmonic mean (eqs. 17 and 18), or the distance, raised
    # where the text score lies beyond those of the good photos ("raised", `scoring.fusion`): where words spread on good photos
    # they are worth little.
    fusion: Literal["harmonic", "raised"] = "harmonic"
    # With "raised": power by which a photo's distance rises for each standard deviation beyond the margin.
    fusion_weight: Weight = 0.1
    # The same of a patch's distance.
    fusion_weight_pixel: Weight = 0.05
    # With "raised": standard deviations above the good photos' mean from which on text counts.
    fusion_margin: Weight = 2.0
    # With "raised": what the difference of cosines usually spreads over a product's good photos; counts as two photos.
    fusion_spread: Annotated[float, Range(0, 1, open_low=True)] = 0.012
    # Inverse temperature of the defect words.
    word_scale: float = 100.0
    # Probability in the score: of "anomalous", or of "normal" as eq. 16 is printed, a normality score (F-2).
    numerator: Literal["anomalous", "normal"] = "anomalous"
    # Patch features of the text maps, the rows of table 5: V-V attention, MaskCLIP's values, CLIP's own tokens ("qk"), or
    # these of every block, each through a linear layer that is learned together with the prompts.
    # "vv_cosine" is a variant of V-V attention that ResNet towers alone have.
    local: Literal["vv", "vv_cosine", "maskclip", "qk", "linear"] = "vv"
    # First block of the local stream.
    local_start: Count = 1
    # Tapped layers whose patches the memory keeps; empty takes those at a quarter, a half and three quarters of the tower's depth:
    # 3, 6 and 9 of 12 blocks, 6, 12 and 18 of 24; of a ResNet stages 2 and 3.
    memory_layers: tuple[Count, ...] = (3, 8)
    # The same of a memory backbone, where there is one, instead; empty takes the blocks at 7, 8 and 9 twelfths of its depth.
    memory_backbone_layers: tuple[Count, ...] = ()
    # Side of the windows of patches over which tapped features are averaged first; 1 leaves them as they are, 3 is what
    # patch memories on ResNet towers do (PatchCore), where table 8 states nothing.
    memory_pool: Count = 1
    # Sides (odd) of further windows over the patches of every layer: distances of patches as they are (1) and of patches that
    # are averaged over so many are computed apart, each to patches of its own kind, and averaged.
    memory_windows: tuple[Positive, ...] = (1,)
    # The same of heat maps alone; empty takes `memory_windows`. Large defects stand out more in wide windows, and fine ones drown.
    memory_map_windows: tuple[Positive, ...] = ()
    # Where in the block they are tapped (F-5): its output, that plus the next block's attention as in the released code, or its
    # output through the norm that the next block reads it through ("next_norm"; a ResNet has none there, and gives the output).
    memory_point: TapPoint = "block"
    # The same of a memory backbone, whose tokens are read behind its final norm ("block", as AnomalyDINO does) or the next block's.
    memory_backbone_point: Literal["block", "next_norm"] = "block"
    # Orientations of each good photo that the memory holds, evenly spread over 360 degrees; 1 is the photo as it is. For parts
    # that lie at any angle; each is encoded once, in `fit`.
    memory_turns: Annotated[int, Range(1, 72)] = 1
    # Each orientation mirrored too.
    memory_mirrored: bool = False
    # Orientations that a photo is compared with: so many of them that fit it best, the same for all patches; 0 takes all, for
    # each patch the nearest.
    memory_best_turns: Count = 0
    # What a patch is compared with: the nearest patch of the memory, or the subspace that its patches span (SubspaceAD,
    # CVPR 2026).
    memory_comparison: Comparison = "nearest"
    # Share of the patches' variance that this subspace holds.
    memory_variance: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 0.99
    # Most patches that the memory keeps of a layer, spread as far as can be (PatchCore's coreset); 0 keeps all.
    memory_budget: Count = 0
    # How exactly its rows are kept, in memory and in files; float16 moves distances by about 1e-4.
    memory_precision: MemoryPrecision = "fp16"
    # Where the memory map has its maximum, which enters the image score (eq. 18): on the patch grid, or, as the released
    # code takes it, on the map that is enlarged to `map_size` pixels, before the Gaussian.
    memory_maximum: Literal["grid", "map"] = "grid"
    # Share of the memory map's largest values whose mean enters the image score instead of its maximum (AnomalyDINO, WACV 2025);
    # 0 takes the maximum.
    memory_top: Share = 0.0
    # The whole score, or one of its parts alone: "text" (w/o memory), "memory" (w/o prompts).
    parts: Literal["fused", "text", "memory"] = "fused"

    @property
    def fit_epochs(self) -> int:
        """Passes over the good photos."""
        return self.epochs

    @property
    def scored_parts(self) -> str:
        """The parts that make the image score."""
        return self.parts

    @property
    def general_words(self) -> GeneralWords:
        """Which state words stand for every object."""
        return self.generic_states

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_pool % 2 == 0 or (self.local == "linear" and self.memory_pool > 1):
            raise ConfigError(
                f"memory_pool={self.memory_pool} must be odd, and 1 with local=linear, whose layers read the same taps"
            )
        if not self.memory_windows or any(side % 2 == 0 for side in self.memory_windows):
            raise ConfigError(
                f"memory_windows={list(self.memory_windows)} must be one or more odd numbers, such as 1, 3"
            )
        if any(side % 2 == 0 for side in self.memory_map_windows):
            raise ConfigError(f"memory_map_windows={list(self.memory_map_windows)} must be odd numbers, such as 1, 3")
        if self.memory_best_turns and self.memory_comparison == "subspace":
            raise ConfigError(
                "memory_best_turns chooses among nearest patches; leave it at 0 with memory_comparison=subspace"
            )
        if self.local == "linear" and self.memory_point != "block":
            raise ConfigError("local=linear reads the outputs of the blocks; set memory_point to block")
        if self.semantic_concatenation and not (self.manual_prompts or (self.learnable_prompts and self.suffixes)):
            raise ConfigError("without manual and learnable anomaly prompts there is no anomalous prototype; keep one")

    def memory(self, vision: VisionSizes | ResNetSizes) -> MemorySettings:
        """What the memory keeps of an image tower of these sizes and how it compares; no layer where it is not used."""
        usual = (2, 3) if isinstance(vision, ResNetSizes) else quarter_layers(vision.layers, 3)
        return MemorySettings(
            (self.memory_layers or usual) if self.parts != "text" else (),
            self.memory_windows,
            self.memory_comparison,
            self.memory_variance,
            self.memory_turns * (2 if self.memory_mirrored else 1),
            self.memory_best_turns,
            self.memory_budget,
            self.memory_precision,
            self.memory_map_windows,
        )


# `clean` is what we recommend, `paper` what is printed, `release` what the authors' code does, its slips included.
PRESETS: dict[str, dict[str, Any]] = {
    "clean": {
        "prefixes_image": 3,
        "prefixes_pixel": 3,
        "prefix_tokens": 5,
        "prefix_init": "a cropped photo of the, a bright photo of a, a blurry photo of the",
        "anomaly_prefixes": "own",
        "sentences": "winclip",
        "attraction": 5.0,
        "anchor": 100.0,
        "optimiser": "adam",
        "epochs": 50,
        "lr": 0.005,
        "fusion": "raised",
        "memory_layers": (),
        "memory_point": "next_norm",
    },
    "paper": {
        "fit": "crop",
        "margin_distance": "euclidean",
        "scale": 100.0,
        "score_scale": 100.0,
        "memory_precision": "fp32",
        "memory_maximum": "map",
    },
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
        "memory_point": "after_next_attention",
        "memory_precision": "fp16",
        "memory_maximum": "map",
    },
}
