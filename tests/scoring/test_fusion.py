"""Fusion of two scores: its formula, monotony and zeros."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptad.scoring.fusion import harmonic

score = st.floats(0, 1, width=32)


@settings(deadline=None)
@given(st.floats(1e-6, 1), st.floats(1e-6, 1))
def test_it_is_one_over_the_sum_of_inverses(a, b):
    ours = float(harmonic(torch.tensor(a), torch.tensor(b)))
    assert ours == pytest.approx(1 / (1 / a + 1 / b), rel=1e-5)


@settings(deadline=None)
@given(score, score, st.floats(0, 1, width=32))
def test_it_never_falls_when_either_input_rises(a, b, more):
    low = harmonic(torch.tensor(a), torch.tensor(b))
    for high in (
        harmonic(torch.tensor(a + more), torch.tensor(b)),
        harmonic(torch.tensor(a), torch.tensor(b + more)),
    ):
        assert high >= low * (1 - 3e-7)  # a few roundings of float32
    assert low == harmonic(torch.tensor(b), torch.tensor(a))
    assert 0 <= low <= min(a, b) + 1e-11


@settings(deadline=None)
@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.floats(0.01, 0.1))
def test_it_rises_truly_when_either_input_rises_truly(a, b, more):
    low = harmonic(torch.tensor(a), torch.tensor(b))
    assert harmonic(torch.tensor(a + more), torch.tensor(b)) > low
    assert harmonic(torch.tensor(a), torch.tensor(b + more)) > low


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.0, 0.7), (0.7, 0.0), (0.0, 1e-30)])
def test_zero_gives_zero_and_never_nan(a, b):
    assert 0 <= float(harmonic(torch.tensor(a), torch.tensor(b))) < 1e-11


def test_shapes_broadcast_as_an_image_score_over_a_map():
    image, patches = torch.rand(3, 1, 1), torch.rand(3, 4, 5)
    fused = harmonic(image, patches)
    assert fused.shape == (3, 4, 5)
    torch.testing.assert_close(fused[2, 1, 3], 1 / (1 / image[2, 0, 0] + 1 / patches[2, 1, 3]))
