"""The text tower against a slow reference over the full context length, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.clip.text import PrefixTree, TextTower
from promptad.errors import ConfigError, TextError
from tiny import tiny_backbone

TEXTS = ["a", "metal nut", "a photo of a metal nut with scratch.", "x " * 75]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    backbone = tiny_backbone(1)
    generator = torch.Generator().manual_seed(6)
    for parameter in backbone.text.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone


def slow(tower: TextTower, embeddings: Tensor, eot: int, deep: tuple[Tensor, ...] = ()) -> Tensor:
    """One prompt of the full context length (77, t), head by head and query by query."""
    w = {name: value.double() for name, value in tower.state_dict().items()}

    def norm(name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[name + ".weight"] + w[name + ".bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    x = embeddings.double() + w["position_embedding"]
    assert len(x) == 77
    for layer in range(1, tower.sizes.layers + 1):
        name = f"blocks.{layer - 1}"
        if 2 <= layer <= len(deep) + 1:  # set i stands before block i + 2, counted from 0
            tokens = deep[layer - 2]
            x = x.clone()
            x[1 : 1 + len(tokens)] = tokens.double()
        q, k, v = linear(f"{name}.attention.qkv", norm(f"{name}.ln_1", x)).chunk(3, dim=-1)
        mixed, size = torch.zeros_like(x), x.shape[1] // tower.sizes.heads
        for head in range(tower.sizes.heads):
            columns = slice(head * size, (head + 1) * size)
            for at in range(77):
                weights = torch.softmax(k[: at + 1, columns] @ q[at, columns] / size**0.5, dim=0)
                mixed[at, columns] = weights @ v[: at + 1, columns]
        x = x + linear(f"{name}.attention.out", mixed)
        hidden = linear(f"{name}.mlp_in", norm(f"{name}.ln_2", x))
        x = x + linear(f"{name}.mlp_out", hidden * torch.sigmoid(1.702 * hidden))
    return norm("ln_final", x)[eot] @ w["projection.weight"].T


def padded(backbone: Backbone, text: str) -> tuple[Tensor, int]:
    ids = backbone.tokenizer.encode(text)
    row = torch.tensor(ids + [0] * (77 - len(ids)))
    return backbone.text.token_embedding.weight.detach()[row], len(ids) - 1


def close(ours: Tensor, expected: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(ours.double(), expected.double(), atol=atol, rtol=0)


def test_texts_of_mixed_lengths_equal_the_reference_over_all_77_positions(backbone):
    ours = backbone.encode_texts(TEXTS)
    assert ours.shape == (4, 24) and ours.dtype == torch.float32
    for row, text in enumerate(TEXTS):
        close(ours[row], slow(backbone.text, *padded(backbone, text)))


@torch.no_grad()
def test_what_stands_after_the_end_token_does_not_matter(backbone):
    full, eots = zip(*(padded(backbone, text) for text in TEXTS[:3]), strict=True)
    embeddings, eot = torch.stack(full), torch.tensor(eots)
    expected = backbone.text.encode_embeddings(embeddings, eot)
    noisy = embeddings.clone()
    for row, end in enumerate(eots):
        noisy[row, end + 1 :] = 100.0
    close(backbone.text.encode_embeddings(noisy, eot), expected, 1e-6)
    close(backbone.text.encode_embeddings(embeddings[:, : max(eots) + 1], eot), expected, 1e-6)
    for row, end in enumerate(eots):  # a prompt alone equals the same prompt in a batch of longer ones
        alone = backbone.text.encode_embeddings(embeddings[row : row + 1, : end + 1], eot[row : row + 1])
        close(alone[0], expected[row], 1e-5)


def test_gradients_reach_the_embeddings_up_to_the_end_token_and_no_weight(backbone):
    embeddings, end = padded(backbone, TEXTS[2])
    embeddings = embeddings[None].clone().requires_grad_()
    deep = torch.randn(2, 32, requires_grad=True)
    backbone.text.encode_embeddings(embeddings, torch.tensor([end]), [deep]).square().sum().backward()
    size = embeddings.grad[0].abs().amax(dim=-1)
    assert (size[: end + 1] > 0).all() and (size[end + 1 :] == 0).all()
    assert (deep.grad.abs().amax(dim=-1) > 0).all()
    assert all(parameter.grad is None for parameter in backbone.text.parameters())


@torch.no_grad()
@pytest.mark.parametrize(("sets", "tokens"), [(1, 1), (1, 4), (2, 2), (2, 4)])
def test_deep_tokens_overwrite_the_first_positions_before_the_following_blocks(backbone, sets, tokens):
    generator = torch.Generator().manual_seed(9)
    deep = tuple(torch.randn(tokens, 32, generator=generator) for _ in range(sets))
    texts = [
        "a",
        "metal nut",
        "a photo of a metal nut with scratch.",
    ]  # the first is shorter than four tokens
    full, eots = zip(*(padded(backbone, text) for text in texts), strict=True)
    ours = backbone.text.encode_embeddings(torch.stack(full), torch.tensor(eots), deep)
    plain = backbone.text.encode_embeddings(torch.stack(full), torch.tensor(eots))
    for row in range(3):
        close(ours[row], slow(backbone.text, full[row], eots[row], deep))
        assert (ours[row] - plain[row]).abs().max() > 1e-3
        alone = backbone.text.encode_embeddings(
            full[row][None, : eots[row] + 1], torch.tensor(eots[row : row + 1]), deep
        )
        close(alone[0], ours[row], 1e-5)


def test_more_deep_sets_than_blocks_after_the_first_raise(backbone):
    embeddings, end = padded(backbone, "a nut")
    with pytest.raises(ConfigError, match="3 deep token sets need 4 text blocks, found 3"):
        backbone.text.encode_embeddings(embeddings[None], torch.tensor([end]), [torch.zeros(1, 32)] * 3)


def test_prompts_longer_than_the_context_raise_and_are_not_cut(backbone):
    with pytest.raises(ConfigError, match="78 tokens exceeds the context length 77"):
        backbone.text.encode_embeddings(torch.zeros(1, 80, 32), torch.tensor([77]))
    with pytest.raises(TextError, match=r"78 tokens.*at most 77") as caught:
        backbone.encode_texts(["fine", "nut " * 76])
    assert "\n" not in str(caught.value)
    assert backbone.encode_texts(["nut " * 75]).isfinite().all()


@torch.no_grad()
def test_bfloat16_gives_float32_features_close_to_the_full_precision():
    backbone = tiny_backbone(1)
    full = backbone.encode_texts(TEXTS)
    backbone.text.to(torch.bfloat16)
    half = backbone.encode_texts(TEXTS)
    assert half.dtype == torch.float32
    assert F.cosine_similarity(half, full, dim=-1).min() > 0.999


def test_prompts_that_begin_alike_give_the_same_features_and_gradients():
    tower = tiny_backbone().text
    generator = torch.Generator().manual_seed(3)
    prefix = torch.randn(2, 4, 32, generator=generator, requires_grad=True)
    rest = torch.randn(5, 6, 32, generator=generator, requires_grad=True)
    groups, eot = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([9, 4, 7, 8, 9])
    whole = tower.encode_embeddings(torch.cat([prefix[groups], rest], dim=1), eot)
    parts = tower.encode_continued(prefix, groups, rest, eot)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    weights = torch.randn(whole.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((whole * weights).sum(), (prefix, rest)),
        torch.autograd.grad((parts * weights).sum(), (prefix, rest)),
        strict=True,
    ):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(3, 3), (2,), (1, 3), (4, 4), (3, 4)], ids=str)
def test_prompts_that_begin_alike_give_the_same_with_deep_tokens_inside_and_beyond_the_beginning(backbone, lengths):
    tower = backbone.text
    generator = torch.Generator().manual_seed(4)
    prefix = torch.randn(2, 4, 32, generator=generator, requires_grad=True)  # the start token and three others
    rest = torch.randn(5, 6, 32, generator=generator, requires_grad=True)
    deep = [torch.randn(n, 32, generator=generator, requires_grad=True) for n in lengths]
    groups, eot = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([9, 4, 7, 8, 9])
    whole = tower.encode_embeddings(torch.cat([prefix[groups], rest], dim=1), eot, deep)
    parts = tower.encode_continued(prefix, groups, rest, eot, deep)
    close(parts, whole, 1e-5)
    assert (whole - tower.encode_continued(prefix, groups, rest, eot)).abs().max() > 1e-2
    weights = torch.randn(whole.shape, generator=generator)
    expected = torch.autograd.grad((whole * weights).sum(), (prefix, rest, *deep))
    gradients = torch.autograd.grad((parts * weights).sum(), (prefix, rest, *deep))
    for ours, theirs in zip(gradients, expected, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_too_many_deep_sets_and_too_long_prompts_raise_for_prompts_that_begin_alike_too(backbone):
    first_place = torch.zeros(1, dtype=torch.long)
    for tokens in (1, 6):  # inside the beginning, and beyond it
        with pytest.raises(ConfigError, match="3 deep token sets need 4 text blocks, found 3"):
            backbone.text.encode_continued(
                torch.zeros(1, 4, 32),
                first_place,
                torch.zeros(1, 4, 32),
                first_place + 5,
                [torch.zeros(tokens, 32)] * 3,
            )
    with pytest.raises(ConfigError, match="78 tokens exceeds the context length 77"):
        backbone.text.encode_continued(torch.zeros(1, 4, 32), first_place, torch.zeros(1, 80, 32), first_place + 77)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_texts_that_begin_alike_are_encoded_as_if_alone(batch_size: int) -> None:
    backbone = tiny_backbone()
    texts = [
        "a photo of a nut.",
        "a photo of a damaged nut.",
        "a photo",
        "nut",
        "",
        "a photo of a nut.",
        "the nut, a photo",
    ]
    together = backbone.encode_texts(texts, batch_size)
    for text, ours in zip(texts, together, strict=True):
        rows, eot = backbone.tokenizer.batch([text])
        alone = backbone.text(torch.tensor(rows), torch.tensor(eot))[0]
        torch.testing.assert_close(ours, alone, rtol=1e-5, atol=1e-6)
    assert backbone.encode_texts([]).shape == (0, 24)
    with pytest.raises(TextError):
        backbone.encode_texts(["nut", "nut " * 90])


def test_a_tree_is_taken_where_it_spares_work() -> None:
    alike = [[1, 2, 3, number, 9] for number in range(10, 40)]
    apart = [[1, *range(100 * number, 100 * number + 12), 9] for number in range(1, 60)]
    tree = PrefixTree.of(alike, [4] * 30)
    assert (len(tree.tokens), tree.depth[:4], tree.ends[:2]) == (3 + 60, [0, 1, 2, 3], [4, 6])
    assert tree.spares(512) and not PrefixTree.of(apart, [13] * 59).spares(64)
