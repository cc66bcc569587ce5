"""Trans-MM: its map against a slow version on whole matrices, its switches, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.architecture import ClipSizes, ResNetSizes
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import Features
from promptad.clip.tokenizer import clip_tokenizer
from promptad.detector import Detector
from promptad.errors import ConfigError
from promptad.methods.baselines.transmm import TransMM
from promptad.methods.registry import find_method
from promptad.prompts.words import ensemble
from promptad.report.rows import Scale
from promptad.run.judging import color_scale
from tiny import SIZES, tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> Iterator[Backbone]:
    made = tiny_backbone()
    generator = torch.Generator().manual_seed(5)
    for parameter in made.vision.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    yield made


def build(backbone: Backbone, preset: str = "clean", **settings: object) -> TransMM:
    entry = find_method("transmm")
    method = entry.build(backbone, entry.make_config(preset, **settings), "cup")
    assert isinstance(method, TransMM)
    return method


def look(backbone: Backbone, method: TransMM, height: int = 48, width: int = 48, count: int = 2) -> Features:
    images = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return backbone.vision(images, method.request)


def sides(backbone: Backbone) -> tuple[Tensor, Tensor]:
    normal, anomalous = (
        F.normalize(F.normalize(backbone.encode_texts(sentences), dim=-1).mean(0), dim=-1)
        for sentences in ensemble("winclip", "cup")
    )
    return normal, anomalous


def slow_relevance(backbone: Backbone, photo: Tensor, side: Tensor, start: int) -> Tensor:
    """(T,): each attention has an offset of zeros, whose gradients are those of the attention; R is a whole matrix."""
    tower = backbone.vision
    x, offsets, weights = tower.ln_pre(tower.embed(photo[None])), [], []
    with torch.enable_grad():
        for block in tower.blocks:
            q, k, v = block.attention.project(block.ln_1(x))
            plain = torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5, dim=-1)
            offsets.append(torch.zeros_like(plain, requires_grad=True))
            weights.append(plain.detach()[0].double())
            x = x + block.attention.merge(torch.einsum("bhij,bhjd->bhid", plain + offsets[-1], v))
            x = x + block.mlp(x)
        feature = tower.projection(tower.ln_post(x[:, 0]))[0]
        logit = 100 * (feature @ side) / feature.norm()
        logit.backward()
    relevance = torch.eye(x.shape[1], dtype=torch.double)
    for offset, attention in list(zip(offsets, weights, strict=True))[start - 1 :]:
        assert offset.grad is not None
        mean = torch.stack(
            [(g * a).clamp(min=0) for g, a in zip(offset.grad[0].double(), attention, strict=True)]
        ).mean(0)
        relevance = relevance + mean @ relevance
    return relevance[0, 1:]


@pytest.mark.parametrize(("start", "first"), [(1, 1), (3, 3), (4, 4), (0, 4)])
def test_the_map_is_that_of_the_recursion(backbone: Backbone, start: int, first: int):
    method = build(backbone, start=start)
    features = look(backbone, method)
    made = method.score(features).map
    assert made is not None and made.shape == (2, 6, 6) and features.inputs is not None
    _, anomalous = sides(backbone)
    for photo, ours in zip(features.inputs, made, strict=True):
        expected = slow_relevance(backbone, photo, anomalous, first)
        assert torch.allclose(ours.flatten().double(), expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_the_difference_is_that_of_both_sides_and_min_max_is_of_each_photo(backbone: Backbone):
    method = build(backbone, relevance="difference")
    features = look(backbone, method)
    made = method.score(features).map
    assert made is not None and features.inputs is not None
    rows = [slow_relevance(backbone, features.inputs[0], side, 1) for side in sides(backbone)]
    scale = float(rows[1].max())
    assert torch.allclose(made[0].flatten().double(), rows[1] - rows[0], rtol=1e-3, atol=1e-5 * scale)
    shown = build(backbone, relevance="difference", min_max=True).score(features).map
    assert shown is not None
    for plain, scaled in zip(made, shown, strict=True):
        assert torch.allclose(scaled, (plain - plain.min()) / (plain.max() - plain.min()), atol=1e-4)


@pytest.mark.parametrize("preset", ["clean", "paper", "release"])
def test_the_image_score_is_the_softmax_of_two_prototypes(backbone: Backbone, preset: str):
    method = build(backbone, preset)
    features = look(backbone, method)
    scores = method.score(features)
    logits = 100 * F.normalize(features.image, dim=-1) @ torch.stack(sides(backbone), dim=1)
    assert torch.allclose(scores.image, logits.softmax(dim=1)[:, 1], atol=1e-5)
    assert scores.map is not None and not scores.map.requires_grad and not scores.image.requires_grad
    assert not any(p.requires_grad or p.grad is not None for p in backbone.vision.parameters())


def test_a_photo_depends_on_no_other_and_grids_need_not_be_square(backbone: Backbone):
    method = build(backbone)
    features = look(backbone, method, 32, 56, 3)
    with torch.no_grad():  # as evaluations score
        together = method.score(features).map
    assert together is not None and together.shape == (3, 4, 7)
    for place in (2, 0, 1):
        alone = method.score(features[place : place + 1]).map
        assert alone is not None and torch.allclose(alone[0], together[place], rtol=1e-4)


def test_a_resnet_and_blocks_that_are_not_there_are_refused_in_one_line(backbone: Backbone):
    towers = ClipSizes(24, "quick_gelu", ResNetSizes(8, (1, 1, 1, 1), 4, 64), SIZES.text)
    with pytest.raises(ConfigError, match=r"^Trans-MM needs a ViT image tower.*take another backbone$"):
        build(random_backbone(towers, clip_tokenizer()))
    with pytest.raises(ConfigError, match=r"start=5 is no block of this image tower, which has 1\.\.4"):
        build(backbone, start=5)


def test_a_detector_inspects_with_it_and_good_photos_set_its_threshold(backbone: Backbone):
    pixels = [
        torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n)).numpy()
        for n in range(3)
    ]
    detector = Detector("transmm", object="cup", backbone=backbone, input_size=48)
    prediction = detector.predict(pixels[0])
    assert prediction.map is not None and prediction.map.shape == (60, 80) and prediction.verdict == "no threshold"
    shown = Detector("transmm", object="cup", backbone=backbone, input_size=48, min_max=True)
    assert detector.entry.map_range_of(detector.config) == (0.0, 0.05)
    assert color_scale(shown) == Scale(0.0, 1.0, None) and shown.set_threshold(0.5).calibration.map_high == 1.0
    assert detector.fit(pixels).predict(pixels[0]).verdict != "no threshold"
