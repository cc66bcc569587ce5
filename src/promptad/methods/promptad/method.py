"""PromptAD, few-shot (Li X. et al., "PromptAD: Learning Prompts with only Normal Samples", CVPR 2024).

From k good photos of one object the method learns prompts (sections 4.2 and 4.3) and keeps a visual memory (4.1):

* semantic concatenation: a learnable normal prefix P in front of the object's name is a normal prompt (eq. 9); the same
  prefix with a defect state is a manual anomaly prompt (MAP, eq. 10), with a learnable suffix A a learnable one (LAP, eq. 11);
* the contrastive loss (eq. 12), the explicit anomaly margin (eq. 13) between the prototypes (eq. 14), and the alignment of
  the MAP and LAP means (eq. 15);
* at test (4.4), the probability of the anomalous prototype (eq. 16), joined with the distance to the memory (eq. 8) for every
  patch (eq. 17) and for the photo (eq. 18).

The preset "clean" adds three things of ours, all off in the others: a loss that draws the normal prototype to the good
photos, one that holds the anomalous prototype where its words put it, and prefixes of the anomaly prompts that start as
copies of the normal ones and then go their own way, without which the two losses would pull at the same parameters.

There are two sets of prompts, one for image scores and one for pixel scores; both are trained from the same features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.errors import ConfigError
from promptad.learning import losses
from promptad.learning.optimise import Schedule, optimise
from promptad.methods.contract import TASKS, EpochHook, Method, Scores, WordScores
from promptad.methods.promptad.config import PromptADConfig
from promptad.methods.promptad.local import block_numbers, draw_linear, mapped, stacked_blocks
from promptad.methods.promptad.prompt_sets import Prompts, Prototypes, Snapshot, build_prompts
from promptad.methods.promptad.towers import memory_settings, tap_point
from promptad.methods.state import require_learned, saved_tensor
from promptad.prompts.words import anomaly_states, defect_words, ensemble, object_words
from promptad.scoring.fusion import harmonic, raised
from promptad.scoring.good_scores import GoodScores
from promptad.scoring.maps import enlarged, onto_grid, top_mean
from promptad.scoring.patch_memory import PatchMemory
from promptad.scoring.prototypes import (
    anomalous_logit,
    anomalous_probability,
    ensemble_prototype,
    state_probabilities,
)


class PromptAD(Method):
    """Few-shot PromptAD for one object.

    Args:
        backbone: frozen CLIP; PromptAD's numbers are with ViT-B-16-plus-240.
        config: see :class:`PromptADConfig`.
        object_name: the object in words or as the data set names it.

    Raises:
        ConfigError: words or layers that do not exist. TextError: words too long for the text tower.
    """

    name = "promptad"

    def __init__(self, backbone: Backbone, config: PromptADConfig, object_name: str = "object") -> None:
        self.backbone, self.config = backbone, config
        self.object = object_words(object_name)
        self.states = anomaly_states(
            object_name,
            generic=config.generic_states,
            source=config.state_bank,
            extra=config.defects,
            replace=config.only_defects,
        )
        self._memory = PatchMemory(memory_settings(config, backbone))
        self._blocks = block_numbers(backbone) if config.local == "linear" else ()
        request = FeatureRequest(
            taps=self._memory.settings.layers,
            local=None if config.local == "linear" else LocalStream(config.local_start, config.local),
            tap_point=tap_point(config, backbone),
            tap_pool=config.memory_pool,
            turns=config.memory_turns,
            mirrored=config.memory_mirrored,
        )
        if request.taps:
            request = backbone.memory_request(request)
        self.request = replace(request, taps=tuple(dict.fromkeys((*request.taps, *self._blocks))))
        self._untrained = self._sentences()
        self._sets = self._start()
        self._prototypes: dict[str, Prototypes] = {}
        self._good: dict[str, GoodScores] = {}
        self.history: list[float] = []

    # -- prompts (section 4.2) ------------------------------------------------------------------------------------

    def _start(self) -> dict[str, Prompts]:
        """Both prompt sets as the seed draws them; linear layers of the local features belong to the pixel set."""
        config, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        numbers = {"image": config.prefixes_image, "pixel": config.prefixes_pixel}
        sets = {
            task: build_prompts(self.backbone, config, self.object, self.states, prefixes, generator)
            for task, prefixes in numbers.items()
        }
        if config.local == "linear":
            sets["pixel"].parameters |= draw_linear(self.backbone, generator)
        return sets

    def _sentences(self) -> Tensor | None:
        """(2, E) unit prototypes of the untrained sentences, normal and anomalous; None without any."""
        if self.config.sentences == "none" or self.config.parts == "memory":
            return None
        pair = ensemble(self.config.sentences, self.object)
        return torch.stack([ensemble_prototype(self.backbone.encode_texts(texts)) for texts in pair])

    def prompt_counts(self, task: str) -> dict[str, int]:
        """Numbers of normal, manual anomaly and learnable anomaly prompts of the "image" or "pixel" set."""
        prompts = self._sets[task]
        rows = {"normal": prompts.normal, "manual": prompts.manual, "learnable": prompts.learnable}
        return {name: span.stop - span.start for name, span in rows.items()}

    @torch.no_grad()
    def prompt_features(self, task: str) -> dict[str, Tensor]:
        """Unit features (P, E) of the "normal", "manual" and "learnable" prompts of the "image" or "pixel" set."""
        features, prompts = F.normalize(self._encode()[task], dim=-1), self._sets[task]
        spans = {"normal": prompts.normal, "manual": prompts.manual, "learnable": prompts.learnable}
        return {name: features[span] for name, span in spans.items()}

    def parameter_count(self, task: str) -> int:
        """Number of trained values of a prompt set."""
        return sum(tensor.numel() for tensor in self._sets[task].parameters.values())

    def _encode(self) -> dict[str, Tensor]:
        """Raw features (P, E) of both prompt sets, from one pass of the text tower."""
        sets = [self._sets[task] for task in TASKS]
        embeddings = [prompts.compiled.assemble(prompts.parameters) for prompts in sets]
        compiled = [prompts.compiled for prompts in sets]
        m, longest = compiled[0].shared, max(e.shape[1] for e in embeddings)
        prefixes = torch.cat([e[c.first, :m] for e, c in zip(embeddings, compiled, strict=True)])
        rest = torch.cat([F.pad(e[:, m:], (0, 0, 0, longest - e.shape[1])) for e in embeddings])
        groups = torch.cat([compiled[0].groups, len(compiled[0].first) + compiled[1].groups])
        features = self.backbone.text.encode_continued(prefixes, groups, rest, torch.cat([c.eot for c in compiled]))
        return dict(zip(TASKS, features.split([len(p.compiled) for p in sets]), strict=True))

    # -- training (sections 4.2 and 4.3) -----------------------------------------------------------------------------------

    def fit(
        self,
        photos: Sequence[Sequence[Features]],
        *,
        anomalies: Sequence[Sequence[Features]] = (),
        after_epoch: EpochHook | None = None,
    ) -> None:
        """Builds the memory and learns both prompt sets from good photos, given as the features of their views.

        Args:
            photos: per photo, the features of its views (each a batch, patches and taps as in `request`).
            after_epoch: called with the epoch and this method, whose prototypes are then those of that epoch.

        Raises:
            ConfigError: no photo, or training diverged.
        """
        if not photos:
            raise ConfigError("fit needs at least one good photo")
        self._sets = self._start()  # fitting again starts anew
        self._memory.build(photos)
        if self.config.parts != "memory":
            self._train(photos, after_epoch)
        self._freeze(photos)

    def _train(self, photos: Sequence[Sequence[Features]], after_epoch: EpochHook | None) -> None:
        """Learns both prompt sets from the good photos' views."""
        views = [view for photo in photos for view in photo]
        images = F.normalize(torch.cat([view.image for view in views]), dim=-1).unsqueeze(1)
        by_grid: dict[tuple[int, int], list[Tensor]] = {}
        for view in views:
            by_grid.setdefault(view.grid, []).append(self._local(view))
        patches = [torch.cat(views_of_grid, dim=1) for views_of_grid in by_grid.values()]
        fixed = [] if self._blocks else [F.normalize(group[0], dim=-1) for group in patches]

        def step(epoch: int, _: float) -> None:
            if after_epoch is not None:
                self._freeze(photos)
                after_epoch(epoch, self)

        def loss() -> Tensor:
            encoded = self._encode()
            local = fixed or [F.normalize(self._mapped(group).flatten(0, 1), dim=-1) for group in patches]
            groups = {"image": [images], "pixel": local}
            return torch.stack([self._loss(task, encoded[task], groups[task]) for task in TASKS]).sum()

        config = self.config
        parameters = {f"{task}.{k}": v for task in TASKS for k, v in self._sets[task].parameters.items()}
        schedule = Schedule(
            config.optimiser,
            config.epochs,
            config.lr,
            config.momentum,
            config.weight_decay,
            config.final_lr,
        )
        rates = {name: config.lr_pixel or config.lr for name in parameters if name.startswith("pixel.")}
        self.history = optimise(parameters, loss, schedule, rates=rates, after_epoch=step)

    def _local(self, view: Features) -> Tensor:
        """(L, B, T, D) tokens that linear layers map, or (1, B, T, E) patch features of the image tower."""
        if self._blocks:
            return stacked_blocks(view, self._blocks)
        assert view.patches is not None  # `request` asks for them
        return view.patches.unsqueeze(0)

    def _mapped(self, local: Tensor) -> Tensor:
        """What :meth:`_local` gave, in the joint space: (L, B, T, E)."""
        return mapped(local, self._sets["pixel"].parameters) if self._blocks else local

    def _loss(self, task: str, raw: Tensor, groups: list[Tensor]) -> Tensor:
        """Contrastive (eq. 12) + margin (eq. 13) + lambda * alignment (eq. 15) and our two terms; `groups` are (V, T, E) unit vectors.

        The first call must be for the parameters' initial values: it sets the anchor.
        """
        config, prompts = self.config, self._sets[task]
        scale = config.scale if task == "image" else config.scale_pixel or config.scale
        negatives = F.normalize(raw[prompts.normal.stop :], dim=-1)
        normal, anomalous = self._prototypes_of(prompts, raw)
        weights = [group.shape[0] * group.shape[1] for group in groups]
        total = torch.zeros((), device=raw.device)
        for group, weight in zip(groups, weights, strict=True):
            share = weight / sum(weights)
            total = total + share * losses.one_class_contrastive(group.flatten(0, 1), normal, negatives, scale)
            if config.attraction:
                total = total + share * config.attraction * losses.attraction(group.flatten(0, 1), normal)
            if config.margin:
                total = total + share * losses.explicit_anomaly_margin(
                    group,
                    normal,
                    anomalous,
                    distance=config.margin_distance,
                    sum_over_patches=config.margin_over_patches and task == "pixel",
                )
        if config.anchor:
            if prompts.anchor is None:
                prompts.anchor = anomalous.detach()
            total = total + config.anchor * losses.anchor_distance(anomalous, prompts.anchor)
        manual, learnable = raw[prompts.manual], raw[prompts.learnable]
        if len(manual) and len(learnable):
            total = total + config.alignment_weight * losses.mean_alignment(manual, learnable, config.alignment)
        return total

    @staticmethod
    def _prototypes_of(prompts: Prompts, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Unit prototypes: mean of the raw normal prompts; mean of all raw anomaly prompts, equally weighted."""
        return (
            F.normalize(raw[prompts.normal].mean(0), dim=-1),
            F.normalize(raw[prompts.normal.stop :].mean(0), dim=-1),
        )

    @torch.no_grad()
    def _freeze(self, photos: Sequence[Sequence[Features]]) -> None:
        """Prototypes of the prompts as they are now, and what these say of the good photos."""
        for task, raw in self._encode().items():
            prompts = self._sets[task]
            normal, anomalous = self._prototypes_of(prompts, raw)
            if task == "image" and self._untrained is not None:
                normal, anomalous = F.normalize(torch.stack([normal, anomalous]) + self._untrained, dim=-1)
            states = (
                raw[prompts.manual].view(-1, len(self.states) or 1, raw.shape[-1]) if len(raw[prompts.manual]) else None
            )
            by_state = F.normalize(states.mean(0), dim=-1) if states is not None else raw.new_empty(0, raw.shape[-1])
            self._prototypes[task] = Prototypes(normal, anomalous, by_state)
        if self._raises:
            self._good = self._good_scores(photos)

    def snapshot(self, task: str) -> Snapshot:
        """The "image" or "pixel" prompts and prototypes as they are now; training on does not change it."""
        parameters = {name: tensor.detach().clone() for name, tensor in self._sets[task].parameters.items()}
        # `_freeze` makes new prototypes and alters none.
        return Snapshot(parameters, self._prototypes[task], self._good.get(task))

    def restore(self, task: str, snapshot: Snapshot) -> None:
        """Goes back to a :meth:`snapshot` of the same task and the same detector."""
        for name, saved in snapshot.parameters.items():
            self._sets[task].parameters[name].data.copy_(saved)
        self._prototypes[task] = snapshot.prototypes
        if snapshot.good is not None:
            self._good[task] = snapshot.good

    # -- scores (sections 4.1 and 4.4) ------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, features: Features, *, leave_out: int | None = None) -> Scores:
        """Image scores (B,) and patch maps (B, h, w) of views; in [0, 1], but for distances that text raised, which have no end.

        Raises:
            ConfigError: nothing was learned or loaded yet.
        """
        require_learned(bool(self._prototypes))
        config, batch = self.config, len(features)
        parts: dict[str, Tensor] = {}
        if config.parts != "memory":
            text = parts["text"] = self._text("image", features.image)
        if config.parts != "text":
            whole, memory_map = self._memory.distances(features, leave_out=leave_out)
            memory = parts["memory"] = self._top(whole.view(batch, *features.tapped.grid))
        if config.parts == "text":
            image, patch_map = text, self._text_map(features).flatten(1)
        elif config.parts == "memory":
            image, patch_map = memory, memory_map
        elif self._raises:
            beyond = self._good["image"].deviations(self._gap("image", features.image), leave_out=leave_out)
            image = raised(memory, beyond, config.fusion_weight, config.fusion_margin)
            beyond = onto_grid(self._gap_map(features, leave_out), features.tapped.grid).flatten(1)
            patch_map = raised(memory_map, beyond, config.fusion_weight_pixel, config.fusion_margin)
        else:
            text_map = onto_grid(self._text_map(features), features.tapped.grid).flatten(1)
            image, patch_map = harmonic(memory, text), harmonic(memory_map, text_map)
        grid = features.grid if config.parts == "text" else features.tapped.grid
        return Scores(image, patch_map.view(batch, *grid), parts)

    @property
    def _raises(self) -> bool:
        """Whether the text raises the distances, for which it must know its scores of the good photos."""
        return self.config.parts == "fused" and self.config.fusion == "raised"

    @torch.no_grad()
    def _good_scores(self, photos: Sequence[Sequence[Features]]) -> dict[str, GoodScores]:
        """What the text says of good photos, and of their patches."""
        images = [torch.cat([self._gap("image", view.image) for view in views]) for views in photos]
        patches = [torch.cat([self._patch_gaps(view).flatten() for view in views]) for views in photos]
        spread = self.config.fusion_spread
        return {"image": GoodScores.of(images, spread), "pixel": GoodScores.of(patches, spread)}

    def _gap(self, task: str, features: Tensor) -> Tensor:
        """How much nearer (..., E) features are to the anomalous than to the normal prototype, in cosines: (...,)."""
        prototypes = self._prototypes[task]
        gap = anomalous_logit(F.normalize(features, dim=-1), prototypes.normal, prototypes.anomalous, 1.0)
        return gap if self.config.numerator == "anomalous" else -gap

    def _patch_gaps(self, features: Features) -> Tensor:
        """(B, T) of patches; of several maps of local features their mean."""
        return self._gap("pixel", self._mapped(self._local(features))).mean(0)

    def _gap_map(self, features: Features, leave_out: int | None) -> Tensor:
        """(B, h, w): how far the text's scores of patches lie beyond those of good photos, in standard deviations."""
        beyond = self._good["pixel"].deviations(self._patch_gaps(features), leave_out=leave_out)
        return beyond.view(len(features), *features.grid)

    def _text_map(self, features: Features) -> Tensor:
        """(B, h, w): the text's scores of patches."""
        return self._text("pixel", self._mapped(self._local(features))).mean(0).view(len(features), *features.grid)

    def _top(self, maps: Tensor) -> Tensor:
        """The largest value of memory maps (B, h, w), or the mean of the largest, (B,), where the config takes it."""
        if self.config.memory_maximum == "map":
            square = self.backbone.memory_square(self.config.input_size or self.backbone.input_size)
            maps = enlarged(maps, square, self.config.map_size)
        return top_mean(maps, self.config.memory_top)

    def _text(self, task: str, features: Tensor) -> Tensor:
        config, prototypes = self.config, self._prototypes[task]
        scale = config.score_scale if task == "image" else config.score_scale_pixel or config.score_scale
        if config.parts == "fused":
            scale = config.fusion_scale or scale
        probability = anomalous_probability(features, prototypes.normal, prototypes.anomalous, scale)
        return probability if self.config.numerator == "anomalous" else 1 - probability

    @torch.no_grad()
    def words(self, features: Features) -> WordScores | None:
        """Probability of every defect state, for the view (image prompts) and for every patch (pixel prompts)."""
        if not self._prototypes or not len(self._prototypes["image"].states):
            return None
        image, pixel = self._prototypes["image"], self._prototypes["pixel"]
        local = self._mapped(self._local(features))
        return WordScores(
            words=tuple(defect_words(state) for state in self.states),
            image=state_probabilities(features.image, image.states, self.config.word_scale),
            patches=state_probabilities(local, pixel.states, self.config.word_scale).mean(0),
        )

    # -- saving -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Prototypes, learned prompts and the memory, its rows as `memory_precision` keeps them."""
        out: dict[str, Tensor] = {}
        for task, prototypes in self._prototypes.items():
            out[f"{task}.normal"], out[f"{task}.anomalous"] = prototypes.normal, prototypes.anomalous
            out[f"{task}.states"] = prototypes.states
            out |= {f"{task}.prompts.{k}": v.detach() for k, v in self._sets[task].parameters.items()}
        out |= {f"good.{task}": good.moments for task, good in self._good.items()}
        return out | self._memory.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores :meth:`state`; the scores are then those of the saved detector."""
        device = self.backbone.device

        def take(name: str, *shape: int | None) -> Tensor:
            return saved_tensor(state, name, shape, "PromptAD").to(device)

        embed = self.backbone.sizes.embed_dim
        for task in TASKS:
            count = len(self.states) if self.prompt_counts(task)["manual"] else 0
            self._prototypes[task] = Prototypes(
                take(f"{task}.normal", embed), take(f"{task}.anomalous", embed), take(f"{task}.states", count, embed)
            )
            for name, parameter in self._sets[task].parameters.items():
                parameter.data.copy_(take(f"{task}.prompts.{name}", *parameter.shape))
        if self._raises:
            spread = self.config.fusion_spread
            self._good = {task: GoodScores(take(f"good.{task}", None, 3), spread) for task in TASKS}
        self._memory.load(take, self.backbone.tapped.tap_width)
