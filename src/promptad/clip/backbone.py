"""A frozen CLIP: image tower, text tower, tokenizer, and who they are; and a second image tower where there is one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from promptad.clip.architecture import Activation, ClipSizes, ResNetSizes, VisionSizes
from promptad.clip.checkpoints import LoadedWeights, load_state
from promptad.clip.device import DTYPES, Precision, usable_device
from promptad.clip.facts import CLIP_MEAN, CLIP_STD, RGB, Claim, as_rgb
from promptad.clip.features import FeatureRequest, PositionResize
from promptad.clip.memory_tower import MemoryTower, load_memory_tower, reopen_memory
from promptad.clip.resnet import ResNetTower
from promptad.clip.text import PrefixTree, TextTower
from promptad.clip.tokenizer import Tokenizer, clip_tokenizer, read_tokenizer, say_unread
from promptad.clip.vision import VisionTower
from promptad.clip.zoo import Checkpoint, locate, require_family, verify, weights_sha256
from promptad.dino.tower import DinoSizes
from promptad.errors import ConfigError, WeightsError
from promptad.notices import notice


@dataclass
class Backbone:
    """A frozen CLIP model, ready to run. No parameter of it ever receives a gradient.

    Attributes:
        name: zoo name ("starter", "ViT-B-16/openai") or the path that was given.
        sha256: of the weights file, hexadecimal; what saved detectors and caches are tied to.
        sizes, vision, text, tokenizer: the model.
        input_size: side in pixels of the square input that we recommend.
        mean, std: RGB normalisation in [0, 1] units.
        precision: "fp32", "bf16" or "fp16", of the towers; features always come out as float32.
        path: the weights file; None for weights that lie in no file.
        told_by: what shapes cannot tell ("activation", "mean", ...) -> who said it, "assumed" where nobody did.
        memory: a second image tower, whose tokens memories are then made of; None for CLIP's own.

    A backbone from a file is pickled as its :attr:`source` and opened again from there.
    """

    name: str
    sha256: str
    sizes: ClipSizes
    vision: VisionTower | ResNetTower
    text: TextTower
    tokenizer: Tokenizer
    input_size: int
    mean: RGB = CLIP_MEAN
    std: RGB = CLIP_STD
    precision: Precision = "fp32"
    path: Path | None = field(default=None, compare=False)
    told_by: Mapping[str, str] = field(default_factory=dict, compare=False)
    memory: MemoryTower | None = None

    @property
    def tapped(self) -> VisionSizes | ResNetSizes | DinoSizes:
        """Sizes of the image tower whose layers memories tap: the second one where there is one, else CLIP's."""
        return self.sizes.vision if self.memory is None else self.memory.sizes

    def memory_square(self, input_size: int) -> int:
        """Patches of that tower along the side of a square view, which has `input_size` pixels for CLIP."""
        if self.memory is None:
            return input_size // self.sizes.vision.stride
        return self.memory.input_size // self.memory.sizes.stride

    def memory_request(self, request: FeatureRequest) -> FeatureRequest:
        """A request whose taps are those of the memory, asked of the tower that those come from."""
        if self.memory is None:
            return request
        inner = replace(request, local=None, windows=(), inputs=False)
        inner = replace(inner, turns=1, mirrored=False)  # `learning.features.Encoder` turns photos for both towers
        none: dict[str, Any] = {"taps": (), "tap_class": False, "tap_pool": 1}
        return replace(request, **none, tap_point="block", tap_space="block", tap_stream="original", memory=inner)

    @property
    def device(self) -> torch.device:
        """Where the towers live."""
        return self.vision.device

    def vit(self, why: str) -> tuple[VisionTower, VisionSizes]:
        """The image tower where it is a ViT. Raises ConfigError for a ResNet; `why` says who needs one ("MaPLe")."""
        if isinstance(self.vision, ResNetTower) or isinstance(self.sizes.vision, ResNetSizes):
            raise ConfigError(f"{why} needs a ViT image tower, and {self.name} is a ResNet; take another backbone")
        return self.vision, self.sizes.vision

    @property
    def title(self) -> str:
        """Its name, with that of the memory's tower behind it: "starter with dinov2-vits14"."""
        return self.name if self.memory is None else f"{self.name} with {self.memory.name}"

    @property
    def identity(self) -> str:
        """One line for reports: name, first eight digits of the SHA-256, precision."""
        own = f"{self.name} (sha256 {self.sha256[:8]}, {self.precision})"
        return own if self.memory is None else f"{own}, memory {self.memory.identity}"

    @property
    def source(self) -> dict[str, Any]:
        """JSON-ready: where the weights are, and everything that decides a feature; :func:`reopen` takes it.

        "name", "path" (None for weights in no file) and "device" say where, of a second tower its own; the rest is
        :meth:`decides`.
        """
        path = str(self.path.resolve()) if self.path else None
        second = {} if self.memory is None else {"memory": self.memory.source}
        return {"name": self.name, "path": path, "device": str(self.device), **self.decides(), **second}

    @property
    def in_files(self) -> bool:
        """Whether all its weights lie in files, so that :attr:`source` says where."""
        return self.path is not None and (self.memory is None or self.memory.path is not None)

    def decides(self) -> dict[str, Any]:
        """JSON-ready: everything that decides a feature, and nothing else."""
        return {
            "sha256": self.sha256,
            "precision": self.precision,
            "sizes": self.sizes.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            "input_size": self.input_size,
            "positions": self.vision.position_resize,
            "tokenizer": self.tokenizer.digest,
            **({} if self.memory is None else {"memory": self.memory.decides()}),
        }

    def read_otherwise(self, then: Mapping[str, Any]) -> str:
        """What decides features and was otherwise in a :meth:`decides` of before, in words; "" where nothing was.

        Precision is left out: another one is a choice, and scores differ in the third digit. An empty `then` says nothing.
        """
        here = self.decides()
        changed = [what for what, value in then.items() if what != "precision" and here.get(what) != value]
        changed += ["memory"] if then and "memory" in here and "memory" not in then else []
        sizes = then.get("sizes")
        if "sizes" in changed and isinstance(sizes, Mapping):
            was, now = sizes.get("activation"), self.sizes.activation
            if was != now:
                changed[changed.index("sizes")] = f"activation, {was} then and {now} now,"
        return ", ".join(changed)[:120]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of :meth:`decides`: equal where features are equal. What caches and results are kept under."""
        return hashlib.sha256(json.dumps(self.decides(), sort_keys=True).encode()).hexdigest()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Weights in a file are not copied into a pickle; those in no file (random ones) are."""
        return (reopen, (self.source,)) if self.in_files else super().__reduce_ex__(protocol)

    def __deepcopy__(self, _: Any) -> Backbone:
        """Itself: it is frozen, and its weights would be read again."""
        return self

    def say_unread(self, texts: Iterable[str]) -> None:
        """A notice for every word of the texts that the tokenizer cannot read."""
        say_unread(self.tokenizer, texts, self.name)

    def with_memory(self, tower: str | Path | MemoryTower | None) -> Backbone:
        """The same CLIP with a second image tower, loaded in its precision on its device where it is not; None changes nothing."""
        if tower is None:
            return self
        if not isinstance(tower, MemoryTower):
            tower = load_memory_tower(tower, precision=self.precision, device=self.device)
        return replace(self, memory=tower)

    def require_same(self, **asked: str | None) -> None:
        """Raises ConfigError where this backbone, which is loaded, is asked to be of another precision, device or
        activation; None asks nothing."""
        own = {"precision": self.precision, "device": str(self.device), "activation": self.sizes.activation}
        for name, value in asked.items():
            if value not in (None, own[name]):
                raise ConfigError(
                    f"the backbone is loaded with {name} {own[name]} already; give {name}={value!r} to load_backbone instead"
                )

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Strings -> (P, E) float32 text features, not normalised.

        Texts that begin alike are encoded together, which spares most of the work; `batch_size` of them at a time.

        Raises:
            TextError: a text longer than the context length.
        """
        self.say_unread(texts)
        rows, eot = self.tokenizer.batch(texts)
        order = sorted(range(len(texts)), key=lambda number: rows[number])
        out = torch.empty(len(texts), self.sizes.embed_dim, device=self.device)
        for start in range(0, len(texts), batch_size):
            part = order[start : start + batch_size]
            ids, ends = [rows[i] for i in part], [eot[i] for i in part]
            tree = PrefixTree.of(ids, ends)
            if tree.spares(self.sizes.text.width):
                out[part] = self.text.encode_shared(tree)
            else:
                out[part] = self.text(torch.tensor(ids, device=self.device), torch.tensor(ends, device=self.device))
        return out


def build_towers(sizes: ClipSizes, device: str = "cpu") -> tuple[VisionTower | ResNetTower, TextTower]:
    """Both towers, frozen, in eval mode; on the "meta" device they have no weights yet, which skips initialisation."""
    with torch.device(device):
        vision = (
            ResNetTower(sizes.vision, sizes.embed_dim)
            if isinstance(sizes.vision, ResNetSizes)
            else VisionTower(sizes.vision, sizes.embed_dim, sizes.activation)
        )
        text = TextTower(sizes.text, sizes.embed_dim, sizes.activation)
    for tower in (vision, text):
        tower.eval().requires_grad_(False)
    return vision, text


def random_backbone(sizes: ClipSizes, tokenizer: Tokenizer, seed: int = 0, input_size: int | None = None) -> Backbone:
    """A backbone with small random weights, for tests and dry runs; its name says so."""
    vision, text = build_towers(sizes)
    generator = torch.Generator().manual_seed(seed)
    for tower in (vision, text):
        for name, tensor in tower.named_parameters():
            if name.endswith("bias"):
                tensor.data.zero_()
            elif "ln_" in name or "bn" in name or "downsample.1" in name:
                tensor.data.fill_(1.0)
            else:
                tensor.data.normal_(0.0, 0.05, generator=generator)
    digest = hashlib.sha256(repr((sizes, seed)).encode()).hexdigest()
    side = input_size or sizes.vision.image_size
    return Backbone("random", digest, sizes, vision, text, tokenizer, side)


def load_backbone(
    name: str | Path = "starter",
    *,
    precision: Precision = "fp32",
    device: str | torch.device = "cpu",
    activation: Activation | None = None,
    mean: RGB | None = None,
    std: RGB | None = None,
    memory: str | Path | MemoryTower | None = None,
) -> Backbone:
    """Loads a CLIP by zoo name, weights file or model folder.

    What shapes of tensors cannot tell (activation, heads, normalisation) is taken from the arguments, the zoo, a config in
    or beside the file, or OpenAI's buffers, in that order; what none of them says is assumed, with a notice.

    Args:
        name: "starter" (in the package), a name that `promptad models` lists, a file, or a folder.
        precision: "fp32", "bf16" for half the memory, or "fp16", in which PromptAD's released code computes.
        device: where the towers run.
        activation: "quick_gelu" (OpenAI's own weights) or "gelu"; needed only where nothing else says.
        mean, std: normalisation of RGB in [0, 1] units; needed only where nothing else says.
        memory: a DINOv2 that memories are to be made of, by name or path, see `clip.memory_tower.load_memory_tower`; in the
            same precision and on the same device.

    Raises:
        WeightsError: not found, not pulled yet, damaged, or not a CLIP ViT.
        ConfigError: a device that is not there, or an unknown precision or activation.
    """
    for what, value, allowed in (("precision", precision, Precision), ("activation", activation, Activation)):
        if value is not None and value not in get_args(allowed):
            raise ConfigError(f"{what} {value!r} is unknown; expected {' or '.join(map(repr, get_args(allowed)))}")
    claims = [Claim("given", activation, mean=_given_rgb("mean", mean), std=_given_rgb("std", std))]
    place = usable_device(device)
    located = require_family(locate(name), "clip", name)
    entry = located.checkpoint
    if entry is not None:
        _say_unlike(located.weights, entry)
        claims.append(_zoo_claim(entry))
    loaded = load_state(located.weights, claims)
    sizes, facts = loaded.sizes, loaded.facts
    vision, text = _filled_towers(loaded, DTYPES[precision], place, located.weights)
    if isinstance(memory, str | Path):
        memory = load_memory_tower(memory, precision=precision, device=place)
    return Backbone(
        name=entry.name if entry else str(name),
        sha256=weights_sha256(located.weights),
        sizes=sizes,
        vision=vision,
        text=text,
        tokenizer=_tokenizer(located.folder, sizes, located.weights),
        input_size=entry.input_size if entry else sizes.vision.image_size,
        mean=facts.mean,
        std=facts.std,
        precision=precision,
        path=located.weights,
        told_by=facts.sources,
        memory=memory,
    )


def _filled_towers(
    loaded: LoadedWeights, dtype: torch.dtype, device: torch.device, where: Path
) -> tuple[VisionTower | ResNetTower, TextTower]:
    """Both towers with their weights. Raises WeightsError where these do not fit."""
    vision, text = build_towers(loaded.sizes, "meta")
    for prefix, tower in (("vision.", vision), ("text.", text)):
        state = {k.removeprefix(prefix): v.to(dtype) for k, v in loaded.tensors.items() if k.startswith(prefix)}
        try:
            tower.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"{where}: {str(error).splitlines()[-1].strip()}") from error
        tower.to(device=device).requires_grad_(False)
    return vision, text


def reopen(source: Mapping[str, Any], given: str | Path | None = None, device: str | None = None) -> Backbone:
    """The backbone that a :attr:`Backbone.source` describes, loaded again.

    Args:
        source: as it was then. given: where its weights lie now, if elsewhere. device: where it is to run, if elsewhere.

    Raises:
        WeightsError: the weights are not there, or something that decides features is not what it was.
        ConfigError: the device is not there.
    """
    places = [given] if given is not None else [source["path"], source["name"]]
    place = next((p for p in places if p and Path(p).exists()), places[-1])
    if place is None:
        raise WeightsError(f"the backbone {source['name']!r} lies in no file, so it cannot be opened again")
    backbone = load_backbone(
        place,
        precision=source["precision"],
        device=device or source["device"],
        activation=source["sizes"]["activation"],
        mean=tuple(source["mean"]),
        std=tuple(source["std"]),
    )
    positions: PositionResize = source["positions"]
    backbone.vision.position_resize, backbone.input_size = positions, source["input_size"]
    backbone.name = source["name"]
    changed = [what for what, value in backbone.decides().items() if value != source[what]]
    if changed:
        raise WeightsError(
            f"{place}: is not the backbone {source['name']} that it was ({', '.join(changed)} differ: sha256 "
            f"{backbone.sha256[:8]}, then {source['sha256'][:8]}); give the right weights"
        )
    if (second := source.get("memory")) is not None:  # it compares itself with what it was
        backbone.memory = reopen_memory(second, device=str(backbone.device))
    return backbone


def _given_rgb(what: str, values: Any) -> RGB | None:
    """A normalisation that a person or a saved file gave, or None; ConfigError for what can be none."""
    try:
        checked = None if values is None else as_rgb(values)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{what} must be three numbers, for red, green and blue; got {str(values)[:60]}") from None
    if what == "std" and checked is not None and min(checked) <= 0:
        raise ConfigError(f"std must be three numbers above 0; got {str(values)[:60]}")
    return checked


def _zoo_claim(entry: Checkpoint) -> Claim:
    """What the zoo says of a checkpoint."""
    towers = {"vision": entry.vision, "text": entry.text}
    shapes = {f"{tower}.{name}": size for tower, sizes in towers.items() for name, size in sizes.items()}
    return Claim(
        f"the zoo's row of {entry.name}",
        entry.activation,
        shapes.pop("vision.heads"),
        shapes.pop("text.heads"),
        entry.mean,
        entry.std,
        {"embed_dim": entry.embed_dim, **shapes},
    )


def _say_unlike(weights: Path, entry: Checkpoint) -> None:
    """A notice where a file is taken for a checkpoint by its name alone, and has another checksum than that."""
    if verify(weights, entry).status == "differs":
        notice(
            f"{weights}: is taken for {entry.name} by its name and place, but its sha256 is not the published one; pull it "
            "again, or rename the file if it is another model"
        )


def _tokenizer(folder: Path | None, sizes: ClipSizes, path: Path) -> Tokenizer:
    """The tokenizer.json beside the weights, or CLIP's own vocabulary where that has the size of the table."""
    length, vocabulary = sizes.text.context_length, sizes.text.vocab_size
    standard = clip_tokenizer(length)
    fits = standard.vocab_size == vocabulary
    beside = folder / "tokenizer.json" if folder else None
    if beside is None or not beside.is_file():
        if fits:
            return standard
        raise WeightsError(f"{path}: has {vocabulary} text tokens, not CLIP's 49408; put its tokenizer.json beside it")
    own = read_tokenizer(beside, length)
    if own.vocab_size != vocabulary:
        sizes_differ = f"{beside}: has {own.vocab_size} tokens, the text tower of {path.name} has {vocabulary}"
        if not fits:
            raise WeightsError(f"{sizes_differ}; put the tokenizer.json of the same model there")
        notice(f"{sizes_differ}, so it is not used; CLIP's own vocabulary is, which has that size")
        return standard
    return standard if own.reads_like(standard) else own
