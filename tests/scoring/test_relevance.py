"""Relevance from attentions against its recursion on whole matrices and the product written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from promptad.scoring.relevance import class_row, mean_attention, patch_relevance


def matrices(blocks: int, batch: int = 2, tokens: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(blocks)
    return [torch.rand(batch, tokens, tokens, generator=generator) for _ in range(blocks)]


def test_the_mean_attention_is_that_of_a_loop_over_heads():
    generator = torch.Generator().manual_seed(0)
    attention, gradient = torch.rand(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    ours = mean_attention(attention, gradient)
    for photo, i, j in np.ndindex(2, 4, 4):
        products = [float(attention[photo, h, i, j] * gradient[photo, h, i, j]) for h in range(3)]
        assert float(ours[photo, i, j]) == pytest.approx(sum(max(0.0, p) for p in products) / 3, abs=1e-6)


def test_of_one_block_it_is_the_identity_and_its_mean_attention():
    (mean,) = matrices(1)
    expected = mean[:, 0].clone()
    expected[:, 0] += 1
    assert torch.equal(class_row([mean]), expected)


@pytest.mark.parametrize("blocks", [2, 3, 6])
def test_the_row_is_that_of_the_recursion_and_of_the_product(blocks: int):
    means = matrices(blocks)
    ours = class_row(means).double().numpy()
    for photo in range(2):
        every = [mean[photo].double().numpy() for mean in means]
        recursive = np.eye(5)
        for mean in every:
            recursive = recursive + mean @ recursive
        product = np.linalg.multi_dot([np.eye(5) + mean for mean in reversed(every)])
        np.testing.assert_allclose(recursive, product, rtol=1e-12)
        np.testing.assert_allclose(ours[photo], recursive[0], rtol=1e-5)
        assert not np.allclose(ours[photo], np.linalg.multi_dot([np.eye(5) + m for m in every])[0], rtol=1e-3)


def test_patches_have_no_place_for_the_class_token_and_photos_do_not_mix():
    generator = torch.Generator().manual_seed(3)
    first = torch.rand(2, 2, 4, 4, generator=generator).requires_grad_()
    weights = torch.randn(2, 2, 4, 4, generator=generator)
    second = first * 2 + first.transpose(-2, -1)
    together = patch_relevance((second * weights).sum((1, 2, 3)), [first, second])
    assert together.shape == (2, 3) and bool((together >= 0).all())
    for photo in range(2):
        alone = first[photo : photo + 1].detach().requires_grad_()
        other = alone * 2 + alone.transpose(-2, -1)
        row = patch_relevance((other * weights[photo]).sum((1, 2, 3)), [alone, other])
        assert torch.allclose(row[0], together[photo], rtol=1e-5)
    # By hand: the gradient of the second is the weights, that of the first twice them and their transpose.
    low, high = first.detach().double(), second.detach().double()
    g = weights.double()
    first, two = ((gr * at).clamp(min=0).mean(1) for gr, at in ((2 * g + g.transpose(-2, -1), low), (g, high)))
    expected = (torch.eye(4, dtype=torch.double) + two) @ (torch.eye(4, dtype=torch.double) + first)
    assert torch.allclose(together.double(), expected[:, 0, 1:], rtol=1e-5)
