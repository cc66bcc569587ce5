"""MaPLe on a tiny random CLIP: both towers against slow versions, sizes, where its tokens are, what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from object_agnostic_cases import two_class, unit
from promptad_cases import lively_backbone
from torch import Tensor

from promptad.clip.architecture import ResNetSizes
from promptad.clip.backbone import Backbone, random_backbone
from promptad.clip.features import FeatureRequest, Features, LocalStream
from promptad.clip.tokenizer import clip_tokenizer
from promptad.errors import ConfigError
from promptad.methods.baselines.maple import CoupledContext, MaPLe
from promptad.methods.contract import TASKS
from promptad.methods.registry import find_method
from promptad.notices import collected_notices
from promptad.prompts.words import ensemble
from tiny import SIZES

READINGS = ("R1", "R2", "R3")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


def build(backbone: Backbone, stirred: float = 0.3, **values) -> MaPLe:
    """With learned values moved away from the start, so that every one of them counts."""
    entry = find_method("maple")
    quick = {"defects": ("bent [c]",), "only_defects": True, "epochs": 3, "depth": 3}
    method = entry.build(backbone, entry.make_config("clean", **(quick | values)), "metal_nut")
    generator = torch.Generator().manual_seed(5)
    state = method.state()
    method.load_state({k: v + stirred * torch.randn(v.shape, generator=generator) for k, v in state.items()})
    return method


@torch.no_grad()
def seen(method: MaPLe, count: int = 2, size: tuple[int, int] = (48, 40), seed: int = 1) -> Features:
    images = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return method.backbone.vision(images, method.request)


# Slow versions ------------------------------------------------------------------------------------


def attention(block, q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(m, D) attention of one sequence, head by head and query by query, through the output projection."""
    heads, out = block.attention.heads, np.zeros_like(v)
    width = v.shape[1] // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(q)):
            logits = np.where(visible[i], k[:, part] @ q[i, part] / np.sqrt(width), -np.inf)
            weights = np.exp(logits - logits.max())
            out[i, part] = weights / weights.sum() @ v[:, part]
    return out @ numbers(block.attention.out.weight).T + numbers(block.attention.out.bias)


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def layer_norm(x: np.ndarray, layer) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return scaled * numbers(layer.weight) + numbers(layer.bias)


def block_step(block, x: np.ndarray, causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """One sequence (m, D) after a block, and the V-V attention that a local stream adds."""
    normed = layer_norm(x, block.ln_1)
    q, k, v = np.split(normed @ numbers(block.attention.qkv.weight).T + numbers(block.attention.qkv.bias), 3, axis=1)
    visible = np.tril(np.ones((len(x), len(x)), bool)) if causal else np.ones((len(x), len(x)), bool)
    own = attention(block, v, v, v, visible)
    x = x + attention(block, q, k, v, visible)
    hidden = layer_norm(x, block.ln_2) @ numbers(block.mlp_in.weight).T + numbers(block.mlp_in.bias)
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    return x + hidden @ numbers(block.mlp_out.weight).T + numbers(block.mlp_out.bias), own


def slow_text(method: MaPLe, module: CoupledContext, row: int, words: str) -> np.ndarray:
    """Feature (E,) of "V1 V2 of a <words>.", with the deep tokens of context `row`."""
    text, tokenizer = method.backbone.text, method.backbone.tokenizer
    table = numbers(text.token_embedding.weight)
    ids = [*tokenizer.words(f"of a {words}"), *tokenizer.words("."), tokenizer.end]
    x = np.concatenate([table[[tokenizer.start]], numbers(module.context[row]), table[ids]])
    x = x + numbers(text.position_embedding)[: len(x)]
    for index, block in enumerate(text.blocks):
        if 1 <= index <= module.deep.shape[1]:
            x = np.concatenate([x[:1], numbers(module.deep[row, index - 1]), x[3:]])
        x, _ = block_step(block, x, causal=True)
    return layer_norm(x[-1], text.ln_final) @ numbers(text.projection.weight).T


def slow_view(method: MaPLe, module: CoupledContext, image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Class feature (E,) and patch features (T, E) of one view."""
    tower = method.backbone.vision
    sets = [module.context[0], *module.deep[0]]
    prompts = [numbers(s) @ numbers(f.weight).T + numbers(f.bias) for s, f in zip(sets, module.coupling, strict=True)]
    tokens = numbers(tower.embed(image[None])[0])
    count = len(tokens)
    x = layer_norm(np.concatenate([tokens, prompts[0]]), tower.ln_pre)
    z = x
    for index, block in enumerate(tower.blocks):
        if 1 <= index < len(prompts):
            x = np.concatenate([x[:count], prompts[index]])
            z = x if index == method.config.local_start - 1 else z
        x, own = block_step(block, x, causal=False)
        if index >= method.config.local_start - 1:
            z = z + own
    patches = (z if method.config.local == "vv" else x)[1:count]
    rows = layer_norm(np.concatenate([x[:1], patches]), tower.ln_post) @ numbers(tower.projection.weight).T
    return rows[0], rows[1:]


def slow_sides(method: MaPLe, module: CoupledContext) -> list[np.ndarray]:
    if method.config.reading == "R1":
        return [slow_text(method, module, row, "metal nut") for row in (0, 1)]
    if method.config.reading == "R3":
        return [slow_text(method, module, 0, f"{state} metal nut") for state in ("normal", "anomalous")]
    sentences = [numbers(method.backbone.encode_texts([s])[0]) for s in ensemble("winclip", "metal nut")[1]]
    return [slow_text(method, module, 0, "metal nut"), np.mean([unit(s) for s in sentences], axis=0)]


@pytest.mark.parametrize(
    ("reading", "values"),
    [
        ("R1", {}),
        ("R2", {"local": "vv"}),
        ("R3", {"local": "vv", "local_start": 3}),
        ("R3", {"depth": 1}),
        ("R1", {"depth": 2, "local": "vv"}),
    ],
)
def test_scores_and_loss_are_those_of_a_slow_version(backbone, reading, values):
    method = build(backbone, reading=reading, scale=10.0, **values)
    features = seen(method)
    image, pixel = [], []
    for view in features.inputs:
        sides = {task: slow_sides(method, method.modules[task]) for task in TASKS}
        image.append(two_class(slow_view(method, method.modules["image"], view)[0][None], *sides["image"], 10.0)[0, 1])
        pixel.append(two_class(slow_view(method, method.modules["pixel"], view)[1], *sides["pixel"], 10.0)[:, 1])
    scores = method.score(features)
    np.testing.assert_allclose(scores.image.numpy(), image, atol=1e-5)
    np.testing.assert_allclose(scores.map.flatten(1).numpy(), np.stack(pixel), atol=1e-5)
    terms = [float(term.detach()) for term in method._terms([features])]
    np.testing.assert_allclose(terms, [-np.log(1 - np.array(p)).mean() for p in (image, pixel)], atol=1e-4)


# Tokens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "width", "count"),
    [(512, 768, 3_555_072), (640, 896, 5_180_544), (768, 1024, 7_100_928)],
    ids=["B/16", "B/16-plus-240", "L/14"],
)
def test_parameter_counts_of_nine_blocks_with_two_tokens(text, width, count):
    module = CoupledContext(torch.zeros(1, 2, text), torch.zeros(1, 8, 2, text), width)
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    weights = [layer.weight for layer in module.coupling]
    assert all(torch.equal(weights[1], later) for later in weights[2:]) and not torch.equal(weights[0], weights[1])


def test_counts_of_a_method_follow_the_reading(backbone):
    t, d = backbone.sizes.text.width, backbone.sizes.vision.width
    single = 2 * t * 3 + 3 * (t * d + d)
    assert [build(backbone, reading=r).parameter_count("pixel") for r in READINGS] == [
        single + 2 * t * 3,
        single,
        single,
    ]


def test_text_without_learning_is_the_plain_sentence_of_one_block(backbone):
    method = build(backbone, stirred=0.0, depth=1, reading="R2")
    state = method.state()
    method.load_state(state | {key: torch.zeros_like(v) for key, v in state.items() if "coupling" in key})
    plain = backbone.encode_texts(["a photo of a metal nut."])
    torch.testing.assert_close(method.texts("image").detach(), plain, atol=1e-5, rtol=1e-4)
    deeper = build(backbone, stirred=0.0, reading="R2")
    assert (deeper.texts("image").detach() - plain).abs().max() > 1e-3


@pytest.mark.parametrize("depth", [1, 3])
def test_every_block_of_the_image_tower_sees_all_patches_and_the_prompts(backbone, depth):
    method, lengths = build(backbone, depth=depth), []
    features = seen(method, size=(48, 40))
    hooks = [
        block.register_forward_hook(lambda module, given, out: lengths.append(given[0].shape[1]))
        for block in [each.ln_1 for each in backbone.vision.blocks]
    ]
    scores = method.score(features)
    for hook in hooks:
        hook.remove()
    assert lengths == [1 + 30 + 2] * 2 * len(backbone.vision.blocks)  # once a task
    assert scores.map.shape == (2, 6, 5)


def test_prompts_that_repeat_nothing_leave_the_frozen_tower_to_the_others(backbone):
    """Zeroed layers give zero tokens: the tower still sees them, and the plain pass does not."""
    method = build(backbone)
    features, tower = seen(method), backbone.vision
    plain = tower(features.inputs, method.request)
    assert torch.equal(plain.image, features.image) and torch.equal(plain.patches, features.patches)
    prompted = tower(features.inputs, method.request, method.modules["image"].vision())
    assert prompted.patches.shape == plain.patches.shape
    assert (prompted.image - plain.image).abs().max() > 1e-3 and (prompted.patches - plain.patches).abs().max() > 1e-3
    none = tower(features.inputs, method.request, ())
    assert torch.equal(none.image, plain.image)


def test_taps_and_windows_hold_no_prompt(backbone):
    tower, images = backbone.vision, torch.randn(1, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    prompts = [torch.randn(2, SIZES.vision.width) for _ in range(2)]
    for request in (
        FeatureRequest(taps=(1, 4), tap_class=True),
        FeatureRequest(taps=(2,), tap_point="after_next_attention", local=LocalStream(2)),
        FeatureRequest(taps=(3,), tap_pool=3, windows=(2,)),
    ):
        plain, prompted = tower(images, request), tower(images, request, prompts)
        shapes = [{name: tensor.shape for name, tensor in f.tensors().items()} for f in (plain, prompted)]
        assert shapes[0] == shapes[1]
        assert all(torch.equal(plain.windows[side], prompted.windows[side]) for side in plain.windows)


# Learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", READINGS)
def test_gradients_reach_what_is_learned_and_nothing_else(backbone, reading):
    method = build(backbone, reading=reading, scale=5.0)
    sum(method._terms([seen(method)])).backward()
    for task in TASKS:
        for name, parameter in method.modules[task].named_parameters():
            assert parameter.grad is not None and bool(parameter.grad.any()), name
            if "coupling" not in name:  # every single token
                assert bool((parameter.grad.abs().amax(-1) > 0).all()), name
    assert all(p.grad is None for tower in (backbone.text, backbone.vision) for p in tower.parameters())


def test_learning_lowers_the_loss_of_photos_of_several_sizes(backbone):
    method = build(backbone, epochs=8, lr=0.05, scale=20.0)
    photos = [[seen(method, 1, (48, 48), 1)], [seen(method, 1, (48, 40), 2), seen(method, 1, (48, 48), 3)]]
    method.fit(photos)
    assert len(method.history) == 8 and method.history[-1] < 0.9 * method.history[0]


# What does not fit --------------------------------------------------------------------------------


def test_a_tower_with_fewer_blocks_is_said(backbone):
    with collected_notices() as lines:
        assert build(backbone, depth=9).depth == 3
    assert any("depth=9 is more than this backbone has blocks (text 3, image 4); 3 have" in str(x) for x in lines)
    with collected_notices() as lines:
        assert build(backbone, depth=3).depth == 3
    assert not lines


def test_what_cannot_be_gets_one_line(backbone):
    resnet = replace(SIZES, vision=ResNetSizes(8, (1, 1, 1, 1), 2, 64))
    with pytest.raises(ConfigError, match="MaPLe needs a ViT image tower"):
        build(random_backbone(resnet, clip_tokenizer()))
    with pytest.raises(ConfigError, match="5 sets of prompts need as many blocks, this image tower has 4"):
        backbone.vision(torch.zeros(1, 3, 48, 48), prompts=[torch.zeros(2, 32)] * 5)
    with pytest.raises(ConfigError, match="are 2 tokens, and 4 are to begin with them"):
        build(backbone, context_tokens=4)
    assert build(backbone, context_tokens=4, context_words="").parameter_count("image") > 0


def test_towers_of_half_precision_run():
    rounded = lively_backbone()
    method = build(rounded, scale=10.0)
    features = seen(method)
    exact = method.score(features)
    rounded.vision.to(torch.bfloat16)
    rough = method.score(features)
    assert rough.image.dtype == rough.map.dtype == torch.float32
    assert 0 < (rough.map - exact.map).abs().max() < 0.05
