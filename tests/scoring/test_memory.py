"""The visual memory against brute force in float64; rows may be kept in half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from promptad.scoring import memory
from promptad.scoring.memory import MemoryBank, build_memory


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute(query: np.ndarray, rows: np.ndarray) -> float:
    """Half the cosine distance to the nearest row, row by row."""
    best = -1.0
    for row in rows.astype(np.float64):
        cosine = float(query @ row) / float(np.linalg.norm(query) * np.linalg.norm(row))
        best = max(best, cosine)
    return (1 - best) / 2


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-4), ("fp32", 5e-7)])
def test_distances_equal_brute_force_for_any_leading_shape(precision, tolerance):
    photos = [features(7, 5, seed=1) * 3, features(4, 5, seed=2)]
    bank, queries = build_memory(photos, precision), features(2, 3, 5, seed=3) * 0.1
    ours, rows = bank.distance(queries), torch.cat(photos).numpy()
    assert ours.shape == (2, 3) and len(bank) == 11
    assert bank.owners.tolist() == [0] * 7 + [1] * 4 and bank.owners.dtype == torch.int64
    for i in range(2):
        for j in range(3):
            assert float(ours[i, j]) == pytest.approx(brute(queries[i, j].double().numpy(), rows), abs=tolerance)


def test_a_query_that_half_precision_moves_is_exact_in_full_precision():
    rows, queries = features(200, 32), features(50, 32, seed=1)
    distances = {name: build_memory([rows], name).distance(queries).double() for name in ("fp16", "fp32")}
    exact = torch.tensor([brute(query.double().numpy(), rows.numpy()) for query in queries])
    assert (distances["fp32"] - exact).abs().max() < 5e-7 < 2e-6 < (distances["fp16"] - exact).abs().max() < 3e-4


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_bank_from_what_was_saved_is_the_same_to_the_bit(precision):
    bank = build_memory([features(30, 24) * 7], precision)
    again, queries = MemoryBank(bank.stored.clone(), bank.owners), features(9, 24, seed=2)
    assert bank.stored.dtype == (torch.float16 if precision == "fp16" else torch.float32)
    assert torch.equal(again.stored, bank.stored) and torch.equal(again.distance(queries), bank.distance(queries))


def test_memorised_patches_are_at_zero_whatever_their_length_and_opposite_ones_at_one():
    rows = features(300, 64)
    bank = build_memory([rows])
    for scale in (1e-3, 1.0, 1e3):
        distance = bank.distance(rows * scale)
        assert distance.min() >= 0 and distance.max() < 1e-6
    single = build_memory([rows[:1]])
    assert float(single.distance(-rows[0])) == pytest.approx(1, abs=1e-6)


def test_leaving_a_photo_out_is_a_bank_without_it():
    photos = [features(5, 8, seed=s) for s in range(3)]
    bank = build_memory(photos)
    for out in range(3):
        rest = build_memory([photo for index, photo in enumerate(photos) if index != out])
        torch.testing.assert_close(
            bank.distance(photos[out], leave_out=out), rest.distance(photos[out]), atol=0, rtol=0
        )
        assert bank.distance(photos[out], leave_out=out).min() > 1e-3 > bank.distance(photos[out]).max()


def test_leaving_out_the_only_photo_gives_the_largest_distance_and_no_crash():
    bank = build_memory([features(5, 8)])
    assert bank.distance(features(2, 3, 8), leave_out=0).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("chunk", [1, 3, 10, 11, 100])
def test_chunks_do_not_change_the_result(monkeypatch, chunk):
    bank, queries = build_memory([features(11, 6)]), features(20, 6, seed=4)
    expected = bank.distance(queries)
    monkeypatch.setattr(memory, "_CHUNK", chunk)
    torch.testing.assert_close(bank.distance(queries), expected, atol=1e-6, rtol=0)


def test_half_precision_rows_and_queries_are_compared_in_float32():
    rows = features(9, 16)
    bank = MemoryBank(rows.half(), torch.zeros(9, dtype=torch.int64))
    ours = bank.distance(features(4, 16, seed=5).bfloat16())
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, build_memory([rows]).distance(features(4, 16, seed=5)), atol=1e-2, rtol=0)


def test_photos_of_different_numbers_of_patches_keep_their_owners():
    bank = build_memory([features(2, 4, seed=1), features(6, 4, seed=2), features(1, 4, seed=3)])
    assert bank.owners.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 2]
