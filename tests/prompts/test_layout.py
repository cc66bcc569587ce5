"""Prompt layouts: positions, shared slots, gradients, and equality with plain sentences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.errors import ConfigError, TextError
from promptad.prompts.layout import PromptSet, Slot
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone(2)


def embeddings(backbone: Backbone, words: str) -> Tensor:
    return backbone.text.token_embedding.weight[backbone.tokenizer.words(words)].detach()


def random_parameters(**shapes: tuple[int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {k: torch.randn(*s, 32, generator=generator).requires_grad_() for k, s in shapes.items()}


@pytest.mark.parametrize(
    ("layout", "shapes", "eot"),
    [
        # AnomalyCLIP: twelve context tokens, then one-token words.
        ((Slot("ctx"), "object", "."), {"ctx": (1, 12)}, 15),
        ((Slot("ctx"), "damaged object", "."), {"ctx": (1, 12)}, 16),
        # FAPrompt's normal prompt: five context tokens.
        ((Slot("ctx"), "object", "."), {"ctx": (1, 5)}, 8),
        # PromptAD: normal, manual anomaly, learnable anomaly (as printed, as released).
        ((Slot("p"), "metal nut", "."), {"p": (1, 4)}, 8),
        ((Slot("p"), "damaged metal nut", "."), {"p": (1, 4)}, 9),
        ((Slot("p"), "metal nut", Slot("a"), "."), {"p": (1, 4), "a": (2, 1)}, 9),
        ((Slot("p"), Slot("a"), "metal nut", "."), {"p": (1, 4), "a": (2, 1)}, 9),
        (("nut",), {}, 2),
        ((), {}, 1),
    ],
)
def test_end_positions(backbone, layout, shapes, eot):
    prompts = PromptSet([layout], shapes, backbone)
    assert prompts.eot.tolist() == [eot] and len(prompts) == 1
    assembled = prompts.assemble(random_parameters(**shapes))
    assert assembled.shape == (1, eot + 1, 32) and assembled.dtype == torch.float32
    table = backbone.text.token_embedding.weight
    assert torch.equal(assembled[0, 0], table[backbone.tokenizer.start])
    assert torch.equal(assembled[0, eot], table[backbone.tokenizer.end])


def test_every_token_stands_where_the_layout_says(backbone):
    values = random_parameters(prefix=(2, 3), suffix=(4, 2))
    layouts = [
        (Slot("prefix", 1), "metal nut", Slot("suffix", 3), "."),
        (Slot("suffix", 0), "bent cable with scratch", Slot("prefix", 0)),
        ("cable",),
    ]
    prompts = PromptSet(layouts, {"prefix": (2, 3), "suffix": (4, 2)}, backbone)
    ours, table = prompts.assemble(values), backbone.text.token_embedding.weight
    start, end = table[backbone.tokenizer.start][None], table[backbone.tokenizer.end][None]
    for row, layout in enumerate(layouts):
        parts = [values[p.name][p.row] if isinstance(p, Slot) else embeddings(backbone, p) for p in layout]
        expected = torch.cat([start, *parts, end])
        assert prompts.eot[row] == len(expected) - 1
        assert torch.equal(ours[row, : len(expected)], expected)


def test_slots_that_hold_the_embeddings_of_words_give_the_features_of_the_plain_sentence(backbone):
    prefix = embeddings(backbone, "a photo of a")[None]
    suffix = embeddings(backbone, "scratched")[None]
    layouts = [
        (Slot("prefix"), "metal nut", "."),
        (Slot("prefix"), "metal nut", Slot("suffix"), "."),
        ("a nut",),
    ]
    prompts = PromptSet(layouts, {"prefix": (1, 4), "suffix": tuple(suffix.shape[:2])}, backbone)
    assembled = prompts.assemble({"prefix": prefix, "suffix": suffix})
    ours = backbone.text.encode_embeddings(assembled, prompts.eot)
    sentences = ["a photo of a metal nut.", "a photo of a metal nut scratched.", "a nut"]
    torch.testing.assert_close(ours, backbone.encode_texts(sentences), atol=1e-6, rtol=0)


def test_prompts_without_slots_need_no_parameters(backbone):
    prompts = PromptSet([("damaged cable",), ("a good cable.",)], {}, backbone)
    ours = backbone.text.encode_embeddings(prompts.assemble({}), prompts.eot)
    expected = backbone.encode_texts(["damaged cable", "a good cable."])
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_a_shared_slot_is_the_same_tensor_and_gathers_the_gradients_of_all_its_prompts(backbone):
    values = random_parameters(p=(1, 2))
    layouts = [(Slot("p"), "nut"), ("a", Slot("p"), "cable", Slot("p"))]
    assembled = PromptSet(layouts, {"p": (1, 2)}, backbone).assemble(values)
    assert torch.equal(assembled[0, 1:3], assembled[1, 2:4])
    assert torch.equal(assembled[1, 2:4], assembled[1, 5:7])
    weights = torch.randn(assembled.shape)
    (assembled * weights).sum().backward()
    expected = weights[0, 1:3] + weights[1, 2:4] + weights[1, 5:7]
    torch.testing.assert_close(values["p"].grad[0], expected)


def test_gradients_reach_exactly_the_rows_that_a_loss_reads(backbone):
    values = random_parameters(prefix=(2, 4), suffix=(3, 1))
    layouts = [(Slot("prefix", n), "nut", Slot("suffix", s)) for n in range(2) for s in range(3)]
    prompts = PromptSet(layouts, {"prefix": (2, 4), "suffix": (3, 1)}, backbone)
    features = backbone.text.encode_embeddings(prompts.assemble(values), prompts.eot)
    features[5].square().sum().backward()  # prefix 1, suffix 2
    assert values["prefix"].grad[0].abs().max() == 0 and (values["prefix"].grad[1].abs().amax(-1) > 0).all()
    assert values["suffix"].grad[:2].abs().max() == 0 and values["suffix"].grad[2].abs().max() > 0
    assert backbone.text.token_embedding.weight.grad is None


def test_half_precision_parameters_are_used_and_get_gradients(backbone):
    values = {"p": torch.randn(1, 4, 32).half().requires_grad_()}
    assembled = PromptSet([(Slot("p"), "nut")], {"p": (1, 4)}, backbone).assemble(values)
    assert assembled.dtype == torch.float32 and torch.equal(assembled[0, 1:5], values["p"][0].float())
    assembled.sum().backward()
    assert values["p"].grad.dtype == torch.float16


def test_slots_that_do_not_exist_are_config_errors(backbone):
    for slot in (Slot("p", 1), Slot("p", -1), Slot("q")):
        with pytest.raises(ConfigError, match=rf"{slot.name}\[{slot.row}\] does not exist"):
            PromptSet([(slot, "nut")], {"p": (1, 4)}, backbone)


@pytest.mark.parametrize(
    "values", [{}, {"p": torch.zeros(1, 3, 32)}, {"p": torch.zeros(4, 32)}, {"q": torch.zeros(1, 4, 32)}]
)
def test_missing_and_misshapen_parameters_are_config_errors(backbone, values):
    prompts = PromptSet([(Slot("p"), "nut")], {"p": (1, 4)}, backbone)
    with pytest.raises(ConfigError, match=r"'p' must have shape \(1, 4, 32\)"):
        prompts.assemble(values)


def test_a_prompt_too_long_with_its_learnable_tokens_is_a_text_error_that_shows_the_words(backbone):
    fits = PromptSet([(Slot("p"), "nut " * 71)], {"p": (1, 4)}, backbone)
    assert fits.eot.tolist() == [76]
    with pytest.raises(TextError) as caught:
        PromptSet([("fine",), (Slot("p"), "nut " * 72)], {"p": (1, 4)}, backbone)
    message = str(caught.value)
    assert "78 tokens" in message and "at most 77" in message and "nut nut" in message and "\n" not in message


def test_a_shift_is_added_to_every_token_of_its_parameter_and_to_nothing_else(backbone):
    layouts = [(Slot("p"), "nut", "."), (Slot("p"), Slot("a", 1), "nut"), (Slot("a", 0), Slot("p"), "metal nut", ".")]
    prompts = PromptSet(layouts, {"p": (1, 3), "a": (2, 2)}, backbone)
    parameters = random_parameters(p=(1, 3), a=(2, 2))
    shift = torch.randn(4, 32, requires_grad=True)
    plain, shifted = prompts.assemble(parameters), prompts.assemble(parameters, {"a": shift})
    assert shifted.shape == (4, *plain.shape)
    expected = plain[None].repeat(4, 1, 1, 1).detach()
    for image in range(4):
        expected[image, 1, 4:6] += shift[image].detach()
        expected[image, 2, 1:3] += shift[image].detach()
    assert torch.equal(shifted, expected)
    (gradient,) = torch.autograd.grad(shifted.sum(), shift)
    assert torch.equal(gradient, torch.full((4, 32), 4.0))  # two prompts of two tokens
    with pytest.raises(ConfigError, match="'b' does not exist"):
        prompts.assemble(parameters, {"b": shift})
