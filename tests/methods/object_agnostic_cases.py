"""AnomalyCLIP and FAPrompt on a tiny random CLIP: labelled photos to train on, and what both sets of tests ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.clip.features import Features
from promptad.clip.preprocess import Preprocess
from promptad.data.records import Record
from promptad.learning.auxiliary import AuxiliarySet, Batch
from promptad.learning.features import Encoder
from promptad.methods.object_agnostic import ObjectAgnostic
from promptad.methods.registry import find_method

# The tiny towers have four and three blocks.
BASE = {"local_start": 2, "epochs": 2, "batch_size": 3, "lr": 0.02, "defects": ("bent [c]",), "only_defects": True}
# Read by the detector and the benchmarks, or only by the ranking of words (tested with it).
ELSEWHERE = {
    "input_size",
    "fit",
    "finest_defect",
    "input_range",
    "max_megapixels",
    "pre_resize",
    "test_channels",
    "view_score",
    "map_size",
    "smoothing",
}
ELSEWHERE |= {"defects", "only_defects", "state_bank"}
# Settings of both methods -> another value.
OTHERS: dict[str, dict[str, Any]] = {
    "deep_tokens": {"deep_tokens": 2},
    "deep_depth": {"deep_depth": 2},
    "deep_precision": {"deep_precision": "fp16"},
    "scale": {"scale": 5.0},
    "local": {"local": "maskclip"},
    "local_start": {"local_start": 3},
    "normalise_class": {"normalise_class": True},
    "positions": {"positions": "bilinear"},  # some of the photos have another grid than the tower
    "epochs": {"epochs": 3},
    "batch_size": {"batch_size": 2},
    "lr": {"lr": 0.01},
    "betas": {"betas": (0.9, 0.999)},
    "init_std": {"init_std": 0.2},
    "seed": {"seed": 7},
}


def labelled_photos(folder: Path) -> list[Record]:
    """Three good and three anomalous photos of two shapes, the anomalous ones with masks."""
    records = []
    for index in range(6):
        shape = (60, 60) if index % 2 else (60, 40)
        pixels = np.random.default_rng(index).integers(0, 256, (*shape, 3), dtype=np.uint8)
        mask = np.zeros(shape, np.uint8)
        if index >= 3:
            mask[10:30, 15:35] = 255
            pixels[mask > 0] = (250, 20, 20)
        path, mask_path = folder / f"{index}.png", folder / f"{index}_mask.png"
        Image.fromarray(pixels).save(path)
        Image.fromarray(mask).save(mask_path)
        label = int(index >= 3)
        records.append(Record(path, label, mask_path if label else None, "nut", "bent" if label else "good", "test"))
    return records


def build(backbone: Backbone, name: str, object_name: str = "nut", preset: str = "clean", **values: Any) -> Any:
    """A method that is not trained yet."""
    entry = find_method(name)
    return entry.build(backbone, entry.make_config(preset, **(BASE | values)), object_name)


def auxiliary(method: ObjectAgnostic, records: list[Record], *, masks: bool = True) -> AuxiliarySet:
    return AuxiliarySet(records, Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request), masks=masks)


def trained(backbone: Backbone, name: str, records: list[Record], **values: Any) -> Any:
    method = build(backbone, name, **values)
    method.train(auxiliary(method, records))
    return method


def encode(method: ObjectAgnostic, seed: int = 9, shape: tuple[int, int] = (60, 60)) -> Features:
    photo = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (view,) = Encoder(method.backbone, Preprocess(48, 8, "letterbox"), method.request).encode([photo])[0].features
    return view


def outcome(method: ObjectAgnostic, seed: int = 9) -> Tensor:
    scores = method.score(encode(method, seed))
    return torch.cat([scores.image, scores.map.flatten()])


def random_batch(count: int = 4, grid: tuple[int, int] = (6, 5), seed: int = 3) -> Batch:
    """Features of no photo: every second one is anomalous, with a mask."""
    generator = torch.Generator().manual_seed(seed)
    features = Features(
        torch.randn(count, 24, generator=generator), torch.randn(count, grid[0] * grid[1], 24, generator=generator)
    )
    features = Features(features.image, features.patches, {}, grid)
    labels = torch.arange(count) % 2
    masks = (torch.rand(count, grid[0] * 8, grid[1] * 8, generator=generator) > 0.8).float() * labels[:, None, None]
    return Batch(features, labels, masks, ("nut",) * count)


@torch.no_grad()
def stir(method: ObjectAgnostic, size: float = 0.3, seed: int = 5) -> None:
    """Moves all learnable values away from the start, as training would, so that every term counts."""
    generator = torch.Generator().manual_seed(seed)
    method.load_learned(
        {k: v + size * torch.randn(v.shape, generator=generator) for k, v in method.module.state_dict().items()}
    )


def plain_prompt(method: ObjectAgnostic, parts: list[str | Tensor]) -> np.ndarray:
    """Feature (E,) float64 of one prompt, assembled by hand and encoded over all 77 positions."""
    backbone = method.backbone
    table, tokenizer = backbone.text.token_embedding.weight.detach(), backbone.tokenizer
    rows = [table[tokenizer.start][None]]
    for part in parts:
        rows.append(table[tokenizer.words(part)] if isinstance(part, str) else part.detach())
    rows.append(table[tokenizer.end][None])
    embeddings = torch.cat(rows)
    eot = len(embeddings) - 1
    embeddings = torch.cat([embeddings, torch.zeros(77 - len(embeddings), embeddings.shape[1])])
    deep = [tokens.detach() for tokens in method.module.deep_sets()]
    if method.config.deep_precision == "fp16":
        deep = [torch.from_numpy(tokens.numpy().astype(np.float16).astype(np.float32)) for tokens in deep]
    return backbone.text.encode_embeddings(embeddings[None], torch.tensor([eot]), deep)[0].detach().double().numpy()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def two_class(features: np.ndarray, normal: np.ndarray, abnormal: np.ndarray, scale: float) -> np.ndarray:
    """Softmax probabilities (..., 2) of [normal, abnormal]."""
    logits = scale * np.stack([unit(features) @ unit(normal), unit(features) @ unit(abnormal)], -1)
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def slow_map_loss(maps: np.ndarray, masks: np.ndarray) -> float:
    """Focal + dice of both classes, (B, h, w, 2) on the patch grid against (B, H, W), upsampled class by class."""
    size = masks.shape[1:]

    def enlarge(side: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(side)[None, None]
        return torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()

    focal, dice = [], {0: [], 1: []}
    for both, mask in zip(maps, masks, strict=True):
        large = [enlarge(both[..., side]) for side in (0, 1)]
        p = sum(np.where(mask == side, 1 - 1e-5, 1e-5) * large[side] for side in (0, 1)) + 1e-5
        focal.append((-((1 - p) ** 2) * np.log(p)).mean())
        for side in (0, 1):
            truth = mask == side
            dice[side].append((2 * large[side][truth].sum() + 1) / (large[side].sum() + truth.sum() + 1))
    return float(np.mean(focal) + sum(1 - np.mean(dice[side]) for side in (0, 1)))


def reached(method: ObjectAgnostic, batch: Batch) -> dict[str, Tensor | None]:
    """Gradients of the loss by parameter name."""
    method.module.zero_grad()
    method.loss(batch).backward()
    assert all(p.grad is None for tower in (method.backbone.text, method.backbone.vision) for p in tower.parameters())
    return {name: parameter.grad for name, parameter in method.module.named_parameters()}


def alive(gradient: Tensor | None) -> bool:
    """Every token (last axis) of it gets some gradient."""
    return gradient is not None and bool((gradient.abs().amax(dim=-1) > 0).all())
