"""A second image tower beside CLIP's: DINOv2, whose tokens the memory of good photos is then made of.

Words and prompts stay CLIP's. Both towers see the same rectangles of the same photos, each at its own size and with its own
normalisation; what the second saw stands in `Features.memory`, on a grid of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from promptad.clip.checkpoints import read_tensors
from promptad.clip.device import DTYPES, Precision, usable_device
from promptad.clip.facts import RGB
from promptad.clip.features import FeatureRequest, Features, pooled_rows
from promptad.clip.preprocess import View
from promptad.clip.zoo import Located, locate_memory, split_size, weights_sha256
from promptad.dino.checkpoints import LoadedDino, load_dino
from promptad.dino.tower import DinoSizes, DinoTower, PositionInterpolation, TokenNorm, build_tower
from promptad.errors import ConfigError, WeightsError
from promptad.inputs import argument
from promptad.parsing import parsed_json

# Normalisation of all DINOv2 models, RGB in [0, 1] units: that of ImageNet.
DINO_MEAN: RGB = (0.485, 0.456, 0.406)
DINO_STD: RGB = (0.229, 0.224, 0.225)
_NORMS: dict[str, TokenNorm] = {"block": "final", "next_norm": "next"}
INPUT_SIZE = 448
"""Side in pixels of what a square view is for a tower of which the zoo says nothing, that of AnomalyDINO (Damm et al., WACV 2025)."""


@dataclass
class MemoryTower:
    """A frozen DINOv2, ready to run.

    Attributes:
        name: zoo name ("dinov2-vits14") or the path that was given, without a size behind it.
        sha256: of the weights file, hexadecimal.
        tower: the model.
        input_size: side in pixels, a multiple of the patch, of what a square view is for this tower.
        mean, std: RGB normalisation in [0, 1] units.
        precision: of the tower; features come out as float32.
        path: the weights file; None for weights that lie in no file.

    A tower from a file is pickled as its :attr:`source` and opened again from there.
    """

    name: str
    sha256: str
    tower: DinoTower
    input_size: int = INPUT_SIZE
    mean: RGB = DINO_MEAN
    std: RGB = DINO_STD
    precision: Precision = "fp32"
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        patch = self.sizes.patch_size
        if self.input_size < patch or self.input_size % patch:
            below = max(1, self.input_size // patch) * patch
            raise ConfigError(
                f"the input of {self.name} has a side of {self.input_size} pixels, which is no multiple of its patch of {patch}; "
                f"take {below} or {below + patch}"
            )

    @property
    def sizes(self) -> DinoSizes:
        """Sizes of the tower."""
        return self.tower.sizes

    @property
    def identity(self) -> str:
        """One line for reports: name, first eight digits of the SHA-256, side of its input."""
        return f"{self.name} (sha256 {self.sha256[:8]}, {self.input_size} pixels)"

    @property
    def named(self) -> dict[str, Any]:
        """JSON-ready, for results: name, sha256, side of the input."""
        return {"name": self.name, "sha256": self.sha256, "input_size": self.input_size}

    @property
    def source(self) -> dict[str, Any]:
        """JSON-ready: where the weights are, and what decides a feature; :func:`reopen_memory` takes it."""
        path = str(self.path.resolve()) if self.path else None
        return {"name": self.name, "path": path, **self.decides()}

    def decides(self) -> dict[str, Any]:
        """JSON-ready: everything that decides a feature, and nothing else."""
        return {
            "sha256": self.sha256,
            "precision": self.precision,
            "sizes": self.sizes.to_dict(),
            "mean": list(self.mean),
            "std": list(self.std),
            "input_size": self.input_size,
            "positions": self.tower.pos_interp,
        }

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Weights in a file are not copied into a pickle; those in no file (random ones) are."""
        if self.path is None:
            return super().__reduce_ex__(protocol)
        return reopen_memory, (self.source, None, str(self.tower.device))

    def __deepcopy__(self, _: Any) -> MemoryTower:
        """Itself: it is frozen."""
        return self

    def view(self, view: View, square: int) -> View:
        """The same rectangle of the photo for this tower.

        Its sides are those of CLIP's view times `input_size` / `square`, rounded to whole patches: whatever way a photo is laid
        out, and whatever its scale, both towers see the same, this one at the same multiple of CLIP's resolution.

        Args:
            square: side in pixels of a square view for CLIP.
        """
        patch = self.sizes.patch_size
        height, width = (max(1, round(side * self.input_size / square / patch)) * patch for side in view.size)
        return View(view.region, (height, width), (0, 0, height, width))

    def require(self, request: FeatureRequest) -> None:
        """Raises ConfigError for what this tower cannot give."""
        self.tower.require(request.taps)
        if not request.taps or request.local is not None or request.windows or request.inputs:
            raise ConfigError(
                "a second image tower gives the tokens of tapped blocks, and nothing else; name blocks alone"
            )
        if request.tap_space != "block" or request.tap_stream != "original":
            raise ConfigError(
                f"{self.name} has neither a space shared with words nor a second stream of tokens; leave tap_space at block and "
                "tap_stream at original"
            )
        if request.tap_point not in _NORMS:
            raise ConfigError(
                f"tap_point={request.tap_point} is a slip of a released code on CLIP, which {self.name} does not repeat; expected one "
                f"of {', '.join(_NORMS)} (of promptad memory_point)"
            )
        if request.tap_pool < 1 or request.tap_pool % 2 == 0 or (request.tap_pool > 1 and request.tap_class):
            raise ConfigError(
                f"tap_pool={request.tap_pool} must be an odd number of positions, without the class token"
            )

    @torch.no_grad()
    def __call__(self, images: Tensor, request: FeatureRequest) -> Features:
        """Tokens of tapped blocks, registers left out: with the final norm where `tap_point` is "block", as the authors' helper
        and AnomalyDINO have them, or with LN_1 of the following block where it is "next_norm".

        Args:
            images: (B, 3, H, W) float, RGB, normalised with :attr:`mean` and :attr:`std`; sides multiples of the patch.
            request: its `taps`, `tap_point`, `tap_pool` and `tap_class`.

        Returns:
            `taps` (B, T, D), float32, on the grid of this tower; `image` (B, 0), since it has no joint space with words.

        Raises:
            ConfigError: what this tower cannot give.
        """
        self.require(request)
        grid = self.tower.grid(*images.shape[-2:])
        tokens_of = self.tower(images, request.taps, _NORMS[request.tap_point])
        taps = {layer: pooled_rows(tokens.patches, grid, request.tap_pool) for layer, tokens in tokens_of.items()}
        if request.tap_class:
            taps = {layer: torch.cat([tokens_of[layer].cls[:, None], rows], dim=1) for layer, rows in taps.items()}
        return Features(images.new_empty(len(images), 0, dtype=torch.float32), None, taps, grid)


def usual_layers(sizes: DinoSizes) -> tuple[int, ...]:
    """The blocks (1-based) that a memory reads where nobody names others: those at 7, 8 and 9 twelfths of the depth.

    Those are 7, 8, 9 of 12 blocks, 14, 16, 18 of 24 and 23, 27, 30 of 40. SubspaceAD (CVPR 2026) reads blocks between 0.55 and 0.75 of
    the depth; layers as shares of it, because a fixed number means another thing in every tower.
    """
    return tuple(dict.fromkeys(max(1, round(sizes.layers * share / 12)) for share in (7, 8, 9)))


def load_memory_tower(
    name: str | Path,
    *,
    precision: Precision = "fp32",
    device: str | torch.device = "cpu",
    input_size: int | None = None,
    pos_interp: PositionInterpolation | None = None,
) -> MemoryTower:
    """Loads a DINOv2 by zoo name, weights file or model folder.

    Args:
        name: a name that `promptad models` lists, the authors' .pth, or a file or folder of transformers or timm. With
            "@672" behind it, photos are given at that side in pixels.
        precision, device: as of `load_backbone`.
        input_size: side in pixels of what a square view is; None for the zoo's, 448.
        pos_interp: how positions are brought to another grid than the trained one; None as the authors do for such a tower,
            see :func:`promptad.dino.tower.interpolated`.

    Raises:
        WeightsError: not found, not pulled yet, damaged, or no DINOv2.
        ConfigError: a device that is not there, or a size that is no multiple of the patch.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r} is unknown; expected {' or '.join(map(repr, get_args(Precision)))}")
    bare, side = split_size(name)
    if side is not None and input_size not in (None, side):
        raise ConfigError(f"{name} asks for {side} pixels, and input_size={input_size} for others; leave one out")
    place = usable_device(device)
    located = locate_memory(bare)
    loaded = _read(located)
    tower = build_tower(loaded.tensors, loaded.sizes, DTYPES[precision]).to(place)
    if pos_interp is not None:
        tower.pos_interp = pos_interp
    entry = located.checkpoint
    return MemoryTower(
        name=entry.name if entry else str(bare),
        sha256=weights_sha256(located.weights),
        tower=tower,
        input_size=side or input_size or (entry.input_size if entry else INPUT_SIZE),
        mean=entry.mean if entry else DINO_MEAN,
        std=entry.std if entry else DINO_STD,
        precision=precision,
        path=located.weights,
    )


def reopen_memory(source: Mapping[str, Any], given: str | Path | None = None, device: str = "cpu") -> MemoryTower:
    """The tower that a :attr:`MemoryTower.source` describes, loaded again.

    Args:
        source: as it was then. given: where its weights lie now, if elsewhere. device: where it is to run.

    Raises:
        WeightsError: the weights are not there, or something that decides features is not what it was.
    """
    places = [given] if given is not None else [source["path"], source["name"]]
    place = next((p for p in places if p and Path(p).exists()), places[-1])
    tower = load_memory_tower(
        split_size(place)[0],
        precision=source["precision"],
        device=device,
        input_size=source["input_size"],
        pos_interp=source["positions"],
    )
    tower.name = source["name"]
    changed = [what for what, value in tower.decides().items() if value != source[what]]
    if changed:
        raise WeightsError(
            f"{place}: is not the memory's image tower {source['name']} that it was ({', '.join(changed)} differ: sha256 "
            f"{tower.sha256[:8]}, then {source['sha256'][:8]}); give the right weights ({argument('memory_backbone')})"
        )
    return tower


def _read(located: Located) -> LoadedDino:
    """The tower of a weights file; the number of heads by the config beside it, where there is one."""
    where = str(located.weights)
    loaded = load_dino(read_tensors(located.weights)[0], where, _heads(located))
    entry = located.checkpoint
    if entry is not None and (named := loaded.sizes.to_dict()) != dict(entry.vision):
        other = next(name for name, value in named.items() if entry.vision.get(name) != value)
        raise WeightsError(
            f"{where}: is taken for {entry.name} by its name and place, but its {other} is {named[other]}, expected "
            f"{entry.vision.get(other)}; pull it again, or rename the file if it is another model"
        )
    return loaded


def _heads(located: Located) -> int | None:
    """Attention heads by the config.json beside the weights; None where there is none or it does not say.

    Raises:
        WeightsError: a config that is no JSON, or of a tower that ours is not.
    """
    path = located.weights.parent / "config.json"
    if located.folder is None or not path.is_file():
        return None
    try:
        config = parsed_json(path.read_text("utf-8"))
        heads, eps = config.get("num_attention_heads"), float(config.get("layer_norm_eps", 1e-6))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: is no config of a DINOv2 ({str(error)[:100]}); use that of the same model"
        ) from error
    if abs(eps - 1e-6) > 1e-12 or config.get("hidden_act", "gelu") != "gelu":
        raise WeightsError(
            f"{path}: asks for layer_norm_eps={eps:g} and {config.get('hidden_act', 'gelu')}; promptad runs DINOv2 with 1e-6 and gelu"
        )
    if heads is not None and (isinstance(heads, bool) or not isinstance(heads, int) or heads < 1):
        raise WeightsError(
            f"{path}: num_attention_heads={heads!r} is no number of heads; use the config of the same model"
        )
    return heads
