"""The pass that holds the attentions, against the ordinary one, formulas in float64 and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes
from promptad.clip.attentions import attended, attention_maps
from promptad.clip.backbone import random_backbone
from promptad.clip.tokenizer import clip_tokenizer
from promptad.clip.vision import VisionTower
from promptad.errors import ConfigError
from tiny import tiny_backbone

TOY = ClipSizes(
    embed_dim=6,
    activation="quick_gelu",
    vision=VisionSizes(width=16, layers=2, heads=2, mlp_width=32, patch_size=8, image_size=16),
    text=TextSizes(width=16, layers=1, heads=2, mlp_width=32, context_length=77, vocab_size=49408),
)


def moved(tower: VisionTower) -> VisionTower:
    """Every weight, bias and norm moved, so that no term of a formula can be left out unseen."""
    generator = torch.Generator().manual_seed(5)
    for parameter in tower.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return tower


@pytest.fixture(scope="module")
def toy() -> VisionTower:
    tower = random_backbone(TOY, clip_tokenizer()).vision
    assert isinstance(tower, VisionTower)
    return moved(tower)


def photos(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(side))


class Slow:
    """One photo, one head at a time, in float64; attentions of blocks may be given instead of computed."""

    def __init__(self, tower: VisionTower) -> None:
        self.w = {name: value.double() for name, value in tower.state_dict().items()}
        self.heads, self.blocks = tower.sizes.heads, len(tower.blocks)
        self.first = tower.embed

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def __call__(self, photo: Tensor, given: dict[int, Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(3, H, W) -> the feature (E,), and the attention (heads, N, N) of each block."""
        x, used = self.norm("ln_pre", self.first(photo[None])[0].double()), []
        for number in range(self.blocks):
            name = f"blocks.{number}"
            q, k, v = self.linear(f"{name}.attention.qkv", self.norm(f"{name}.ln_1", x)).chunk(3, dim=-1)
            size = q.shape[-1] // self.heads
            parts = [slice(head * size, (head + 1) * size) for head in range(self.heads)]
            weights = torch.stack([torch.softmax(q[:, part] @ k[:, part].T / size**0.5, dim=-1) for part in parts])
            weights = (given or {}).get(number, weights)
            used.append(weights)
            heads = torch.cat([weights[head] @ v[:, part] for head, part in enumerate(parts)], dim=-1)
            x = x + self.linear(f"{name}.attention.out", heads)
            inner = self.linear(f"{name}.mlp_in", self.norm(f"{name}.ln_2", x))
            x = x + self.linear(f"{name}.mlp_out", inner * torch.sigmoid(1.702 * inner))
        return self.norm("ln_post", x[0]) @ self.w["projection.weight"].T, used


@pytest.mark.parametrize("start", [1, 2, 4])
def test_the_feature_is_that_of_the_ordinary_pass(start: int):
    tower = tiny_backbone().vision
    assert isinstance(tower, VisionTower)
    moved(tower)
    run = attended(tower, photos(48), start)
    assert torch.allclose(run.image, tower(photos(48)).image, atol=1e-5)
    assert [tuple(a.shape) for a in run.attentions] == [(2, 2, 37, 37)] * (4 - start + 1)


def test_attentions_are_those_of_the_formula(toy: VisionTower):
    images, slow = photos(16), Slow(toy)
    run = attended(toy, images)
    for row, photo in enumerate(images):
        feature, expected = slow(photo)
        assert torch.allclose(run.image[row].double(), feature, atol=1e-4)
        for ours, weights in zip(run.attentions, expected, strict=True):
            assert torch.allclose(ours[row].double(), weights, atol=1e-5)


def test_gradients_are_finite_differences_through_all_later_blocks(toy: VisionTower):
    images, slow, direction = photos(16, 1), Slow(toy), torch.randn(6, generator=torch.Generator().manual_seed(1))
    run = attended(toy, images)
    with torch.enable_grad():
        score = torch.nn.functional.normalize(run.image, dim=-1) @ direction
    gradients = torch.autograd.grad(score.sum(), run.attentions)
    _, weights = slow(images[0])

    def value(block: int, place: tuple[int, ...], step: float) -> float:
        changed = weights[block].clone()
        changed[place] += step
        feature, _ = slow(images[0], {block: changed})
        return float(feature @ direction.double() / feature.norm())

    for block, gradient in enumerate(gradients):
        for place in torch.cartesian_prod(*(torch.arange(n) for n in weights[block].shape)).tolist():
            slope = (value(block, tuple(place), 1e-5) - value(block, tuple(place), -1e-5)) / 2e-5
            assert abs(float(gradient[(0, *place)]) - slope) < 1e-4 * (1 + abs(slope)), (block, place)
    assert max(float(g.abs().max()) for g in gradients) > 0.01


def test_later_starts_have_the_same_gradients_and_nothing_is_learned(toy: VisionTower):
    images = photos(16)
    gradients = []
    for start in (1, 2):
        run = attended(toy, images, start)
        gradients += torch.autograd.grad(run.image.sum(), [run.attentions[-1]])
    assert torch.allclose(*gradients, atol=1e-6)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in toy.parameters())


@pytest.mark.parametrize("start", [0, 3])
def test_blocks_that_are_not_there_are_refused(toy: VisionTower, start: int):
    with pytest.raises(ConfigError, match=f"start at block {start}; this image tower has blocks 1..2"):
        attended(toy, photos(16), start)


def test_maps_for_the_eye_are_means_over_heads_of_the_same_attentions(toy: VisionTower):
    images = photos(24)
    seen = attention_maps(toy, images, "qk")
    for own, weights in zip(seen, attended(toy, images).attentions, strict=True):
        torch.testing.assert_close(own, weights.mean(dim=1), atol=1e-6, rtol=1e-5)


def test_vv_maps_are_symmetric_before_softmax_and_follow_the_towers_own_stream(toy: VisionTower):
    images = photos(24)
    x, slow = toy.ln_pre(toy.embed(images)), []
    for block in toy.blocks:
        values = block.attention.project(block.ln_1(x))[2].double()
        logits = torch.einsum("bhid,bhjd->bhij", values, values) / values.shape[-1] ** 0.5
        torch.testing.assert_close(logits, logits.transpose(-2, -1))
        slow.append((logits.exp() / logits.exp().sum(-1, keepdim=True)).mean(dim=1))
        x = block(x)
    for own, expected in zip(attention_maps(toy, images, "vv"), slow, strict=True):
        torch.testing.assert_close(own.double(), expected, atol=1e-5, rtol=1e-4)
