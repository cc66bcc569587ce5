"""A frozen CLIP: image tower, text tower, tokenizer, and who they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from promptad.clip.architecture import ClipSizes
from promptad.clip.checkpoints import load_state
from promptad.clip.text import TextTower
from promptad.clip.tokenizer import Tokenizer, clip_tokenizer, read_tokenizer
from promptad.clip.vision import VisionTower
from promptad.clip.zoo import locate, weights_sha256
from promptad.errors import WeightsError

Precision = Literal["fp32", "bf16"]
# Normalisation of every CLIP so far, RGB in [0, 1] units.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Backbone:
    """A frozen CLIP model, ready to run. No parameter of it ever receives a gradient.

    Attributes:
        name: zoo name ("starter", "ViT-B-16/openai") or the path that was given.
        sha256: of the weights file, hexadecimal; what saved detectors and caches are tied to.
        sizes, vision, text, tokenizer: the model.
        input_size: side in pixels of the square input that we recommend.
        mean, std: RGB normalisation in [0, 1] units.
        precision: "fp32" or "bf16", of the towers; features always come out as float32.
    """

    name: str
    sha256: str
    sizes: ClipSizes
    vision: VisionTower
    text: TextTower
    tokenizer: Tokenizer
    input_size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    precision: Precision = "fp32"
    path: Path | None = field(default=None, compare=False)

    @property
    def device(self) -> torch.device:
        """Where the towers live."""
        return self.vision.class_embedding.device

    @property
    def identity(self) -> str:
        """One line for reports: name, first eight digits of the SHA-256, precision."""
        return f"{self.name} (sha256 {self.sha256[:8]}, {self.precision})"

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Strings -> (P, E) float32 text features, not normalised.

        Raises:
            TextError: a text longer than the context length.
        """
        out = []
        for start in range(0, len(texts), batch_size):
            rows, eot = self.tokenizer.batch(texts[start : start + batch_size])
            ids = torch.tensor(rows, device=self.device)
            out.append(self.text(ids, torch.tensor(eot, device=self.device)))
        return torch.cat(out) if out else torch.empty(0, self.sizes.embed_dim)


def build_towers(sizes: ClipSizes, device: str = "cpu") -> tuple[VisionTower, TextTower]:
    """Both towers, frozen, in eval mode; on the "meta" device they have no weights yet, which skips initialisation."""
    with torch.device(device):
        vision = VisionTower(sizes.vision, sizes.embed_dim, sizes.activation)
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
            elif "ln_" in name:
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
    activation: str | None = None,
) -> Backbone:
    """Loads a CLIP by zoo name, weights file or model folder.

    Args:
        name: "starter" (in the package), a name that `promptad models` lists, a file, or a folder.
        precision: "fp32", or "bf16" for half the memory.
        device: where the towers run.
        activation: overrides what the zoo or the config says; needed only for files of neither.

    Raises:
        WeightsError: not found, not pulled yet, damaged, or not a CLIP ViT.
    """
    found = locate(str(name))
    entry = found.checkpoint
    if precision not in _DTYPES:
        raise WeightsError(f"precision {precision!r} is unknown; expected 'fp32' or 'bf16'")
    sizes, tensors, _ = load_state(found.weights, activation or (entry.activation if entry else None))
    vision, text = build_towers(sizes, "meta")
    dtype = _DTYPES[precision]
    for prefix, tower in (("vision.", vision), ("text.", text)):
        state = {k.removeprefix(prefix): v.to(dtype) for k, v in tensors.items() if k.startswith(prefix)}
        try:
            tower.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"{found.weights}: {str(error).splitlines()[-1].strip()}") from error
        tower.to(device=device).requires_grad_(False)
    return Backbone(
        name=entry.name if entry else str(name),
        sha256=weights_sha256(found.weights),
        sizes=sizes,
        vision=vision,
        text=text,
        tokenizer=_tokenizer(found.folder, sizes, found.weights),
        input_size=entry.input_size if entry else sizes.vision.image_size,
        mean=entry.mean if entry else CLIP_MEAN,
        std=entry.std if entry else CLIP_STD,
        precision=precision,
        path=found.weights,
    )


def _tokenizer(folder: Path | None, sizes: ClipSizes, path: Path) -> Tokenizer:
    """CLIP's own vocabulary where the table has its size, otherwise the tokenizer.json beside the weights."""
    length, vocabulary = sizes.text.context_length, sizes.text.vocab_size
    standard = clip_tokenizer(length)
    if standard.vocab_size == vocabulary:
        return standard
    beside = folder / "tokenizer.json" if folder else None
    if beside is None or not beside.is_file():
        raise WeightsError(f"{path}: has {vocabulary} text tokens, not CLIP's 49408; put its tokenizer.json beside it")
    own = read_tokenizer(beside, length)
    if own.vocab_size != vocabulary:
        raise WeightsError(f"{beside}: has {own.vocab_size} tokens, the text tower of {path.name} has {vocabulary}")
    return own
