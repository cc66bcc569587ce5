"""The two decoders of PromptAD zero-shot against a slow float64 re-computation in NumPy, switch by switch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from promptad.methods.promptad_zs.config import PromptADZeroShotConfig
from promptad.methods.promptad_zs.dual_branch import Decoder, DualBranch, interaction_mask

SMALL = {"width": 8, "heads": 2, "feedforward": 12}
DEPTH, TOKEN, EMBED = 3, 10, 6
# Every switch of the network, away from its default.
SWITCHES: list[dict[str, Any]] = [
    {},
    {"film": "every"},
    {"score_heads": "shared"},
    {"scale_products": False},
    {"cmi": "one_way"},
    {"cmi": "off"},
    {"mask_last": False},
    {"ccl": False},
    {"branches": "abnormal"},
    {"branches": "normal"},
    {"film": "every", "score_heads": "shared", "cmi": "one_way", "mask_last": False},
]


def build(**values: Any) -> tuple[DualBranch, PromptADZeroShotConfig]:
    config = PromptADZeroShotConfig(**(SMALL | values))
    torch.manual_seed(3)
    net = DualBranch(config, DEPTH, TOKEN, EMBED).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in net.parameters():  # biases and norms start at trivial values
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        net.tap_mean.normal_(generator=generator)
        net.tap_scale.uniform_(0.5, 2, generator=generator)
    return net, config


def inputs(batch: int = 2, places: int = 6, seed: int = 0) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    taps = [2 * torch.randn(batch, 1 + places, TOKEN, generator=generator) for _ in range(DEPTH)]
    texts = 2 * torch.randn(2, batch, EMBED, generator=generator)
    return taps, texts[0], texts[1]


def array(value: Tensor) -> np.ndarray:
    return value.detach().double().numpy()


def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ array(layer.weight).T + array(layer.bias)


def norm(layer: torch.nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + layer.eps)
    return x * array(layer.weight) + array(layer.bias)


def block(layer: torch.nn.TransformerEncoderLayer, x: np.ndarray) -> np.ndarray:
    """One photo (N, W) through a post-norm block, head by head."""
    weight, bias = array(layer.self_attn.in_proj_weight), array(layer.self_attn.in_proj_bias)
    q, k, v = np.split(x @ weight.T + bias, 3, axis=-1)
    heads, size = [], x.shape[1] // 2
    for h in range(2):
        span = slice(h * size, (h + 1) * size)
        logits = q[:, span] @ k[:, span].T / np.sqrt(size)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, span])
    x = norm(layer.norm1, x + linear(layer.self_attn.out_proj, np.concatenate(heads, -1)))
    return norm(layer.norm2, x + linear(layer.linear2, np.maximum(0, linear(layer.linear1, x))))


def slow(net: DualBranch, config: PromptADZeroShotConfig, photo: int, taps, normal, abnormal, prototype=None):
    """Maps of one photo, layer by layer, as the equations are written."""
    own = {"normal": array(normal[photo]), "abnormal": array(abnormal[photo])}
    cross = {"normal": own["abnormal"], "abnormal": array((normal if prototype is None else prototype)[photo])}
    state: dict[str, np.ndarray] = {}
    levels = []
    both = config.branches == "both" and config.cmi != "off"

    def mask(side: str, scores: np.ndarray) -> None:
        for place, score in enumerate(scores):
            state[side][1 + place] *= 1 / (1 + np.exp(-max(0.0, score - 0.5)))

    def scores(side: str, level: int) -> np.ndarray:
        branch = net.branches[side]
        head = branch.heads[0 if config.score_heads == "shared" else level]
        intra = linear(head, state[side][1:])[:, 0]
        product = np.zeros(len(intra))
        if config.ccl:
            vector = linear(branch.prototype, cross[side])
            product = np.array([q @ vector for q in state[side][1:]])
            product /= np.sqrt(config.width) if config.scale_products else 1
        return product - intra if side == "normal" else intra - product

    for level in range(DEPTH):
        tap = (array(taps[DEPTH - 1 - level][photo]) - array(net.tap_mean[DEPTH - 1 - level])) / array(
            net.tap_scale[DEPTH - 1 - level]
        )
        for side in net.branches:
            branch = net.branches[side]
            x = linear(branch.reduce[level], tap)
            if level:
                x = x + state[side]
            if level == 0 or config.film == "every":
                x = linear(branch.film_scale[level], own[side]) * x + linear(branch.film_shift[level], own[side])
            state[side] = block(branch.blocks[level], x)
        maps = {side: scores(side, level) for side in net.branches}
        if level == DEPTH - 1 and both and config.mask_last:
            mask("abnormal", maps["normal"])
            maps["abnormal"] = scores("abnormal", level)
        elif both:
            mask("abnormal", maps["normal"])
            if config.cmi == "mutual":
                mask("normal", maps["abnormal"])
        levels.append(maps)
    return levels


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
@pytest.mark.parametrize("gradients", [True, False], ids=["training", "inference"])
def test_maps_are_those_of_the_equations(switch, gradients):
    net, config = build(**switch)
    taps, normal, abnormal = inputs()
    with torch.set_grad_enabled(gradients):  # torch takes another way through its blocks without gradients
        levels = net(taps, normal, abnormal)
    assert len(levels) == DEPTH
    for photo in range(2):
        expected = slow(net, config, photo, taps, normal, abnormal)
        for level in range(DEPTH):
            assert set(levels[level]) == set(expected[level])
            for side, values in levels[level].items():
                assert np.allclose(array(values[photo]), expected[level][side], atol=2e-4), (side, level)


def test_every_switch_makes_other_maps():
    taps, normal, abnormal = inputs()
    outcomes = []
    for switch in SWITCHES:
        net, _ = build(**switch)
        outcomes.append(torch.cat([m for maps in net(taps, normal, abnormal) for m in maps.values()]))
    for i, first in enumerate(outcomes):
        for j, second in enumerate(outcomes[:i]):
            assert first.shape != second.shape or not torch.allclose(first, second), (SWITCHES[i], SWITCHES[j])


def test_a_switch_changes_only_what_it_names():
    """The same weights under another switch: maps before the switch's first effect stay as they are."""
    taps, normal, abnormal = inputs()
    base, _ = build()

    def other(**switch: Any) -> list[dict[str, Tensor]]:
        net, _ = build(**switch)
        net.load_state_dict(base.state_dict())
        return net(taps, normal, abnormal)

    def same(a, b) -> list[dict[str, bool]]:
        return [{s: torch.equal(x[s], y[s]) for s in x} for x, y in zip(a, b, strict=True)]

    usual = base(taps, normal, abnormal)
    both = {"normal": True, "abnormal": True}
    none = {"normal": False, "abnormal": False}
    assert same(usual, other(mask_last=False)) == [both, both, {"normal": True, "abnormal": False}]
    one_way = same(usual, other(cmi="one_way"))
    assert one_way[:2] == [both, {"normal": False, "abnormal": True}] and not one_way[2]["normal"]
    assert same(usual, other(cmi="off")) == [both, none, none]
    assert same(usual, other(scale_products=False)) == [none, none, none]


def test_the_mask_lies_between_a_half_and_one():
    scores = torch.tensor([-9.0, 0.0, 0.5, 1.5, 3.0])
    expected = [0.5, 0.5, 0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2.5))]
    assert np.allclose(interaction_mask(scores).numpy(), expected)


@pytest.mark.parametrize("places", [1, 9, 35])
def test_any_number_of_patches_and_photos_independent_of_each_other(places):
    net, _ = build()
    taps, normal, abnormal = inputs(3, places)
    whole = net(taps, normal, abnormal)
    assert all(values.shape == (3, places) for maps in whole for values in maps.values())
    alone = net([tap[1:2] for tap in taps], normal[1:2], abnormal[1:2])
    for maps, single in zip(whole, alone, strict=True):
        for side in maps:
            assert torch.allclose(maps[side][1:2], single[side], atol=1e-4)


def test_a_prototype_replaces_the_normality_prompt_in_the_cross_score_alone():
    net, config = build()
    taps, normal, abnormal = inputs()
    prototype = torch.randn(2, EMBED, generator=torch.Generator().manual_seed(8))
    levels = net(taps, normal, abnormal, prototype)
    expected = slow(net, config, 0, taps, normal, abnormal, prototype)
    assert all(
        np.allclose(array(levels[level][s][0]), expected[level][s], atol=2e-4)
        for level in range(3)
        for s in expected[0]
    )
    assert torch.equal(net(taps, normal, abnormal, normal)[-1]["abnormal"], net(taps, normal, abnormal)[-1]["abnormal"])
    # Without interaction the normality branch does not see it at all, and without CCL nobody does.
    quiet, _ = build(cmi="off")
    plain, replaced = quiet(taps, normal, abnormal), quiet(taps, normal, abnormal, prototype)
    assert all(torch.equal(a["normal"], b["normal"]) for a, b in zip(plain, replaced, strict=True))
    assert not torch.allclose(plain[0]["abnormal"], replaced[0]["abnormal"])
    blind, _ = build(ccl=False)
    assert torch.equal(
        blind(taps, normal, abnormal)[-1]["abnormal"], blind(taps, normal, abnormal, prototype)[-1]["abnormal"]
    )


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_gradients_reach_every_parameter_there_is(switch):
    net, config = build(**switch)
    levels = net(*inputs())
    sum(values.sum() for maps in levels for values in maps.values()).backward()
    silent = [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []
    names = {name.split(".")[2] for name, _ in net.named_parameters()}
    expected = {"reduce", "film_scale", "film_shift", "blocks", "heads"} | ({"prototype"} if config.ccl else set())
    assert names == expected


def test_gradients_pass_through_the_masks():
    """The normality branch learns from the abnormality score, through the mask."""
    for switch, reached in (({}, True), ({"mask_last": False, "cmi": "off"}, False)):
        net, _ = build(**switch)
        net(*inputs())[-1]["abnormal"].sum().backward()
        gradients = [p.grad for p in net.branches["normal"].parameters()]
        assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients) is reached


def test_sizes_of_the_proposed_decoder():
    """Three reductions 768 -> 128, FiLM and prototype 512 -> 128, three blocks of width 128 with 2048, three heads."""
    config = PromptADZeroShotConfig()
    decoder = Decoder(config, 3, 768, 512)
    attention = 4 * (128 * 128 + 128)
    feedforward = 128 * 2048 + 2048 + 2048 * 128 + 128
    expected = 3 * (768 * 128 + 128) + 3 * (512 * 128 + 128) + 3 * (attention + feedforward + 4 * 128) + 3 * (128 + 1)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == expected
    assert not decoder.blocks[0].norm_first and decoder.blocks[0].dropout.p == 0.1
    shared = Decoder(PromptADZeroShotConfig(score_heads="shared", film="every", ccl=False), 3, 768, 512)
    assert [len(shared.heads), len(shared.film_scale), shared.prototype] == [1, 3, None]


def test_dropout_acts_in_training_only():
    net, _ = build()
    taps, normal, abnormal = inputs()
    assert torch.equal(net(taps, normal, abnormal)[-1]["normal"], net(taps, normal, abnormal)[-1]["normal"])
    net.train()
    assert not torch.equal(net(taps, normal, abnormal)[-1]["normal"], net(taps, normal, abnormal)[-1]["normal"])
