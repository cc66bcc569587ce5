"""PatchCore, PaDiM and SPADE against scikit-learn, SciPy and slow greedy or looping versions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from sklearn.neighbors import NearestNeighbors

from promptad import Detector
from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.methods.baselines.padim import mahalanobis
from promptad.methods.registry import find_method
from promptad.scoring.tokens import greedy_coreset, joined_tokens
from tiny import tiny_backbone

METHODS = ("patchcore", "padim", "spade")
LAYERS = {"layers": (2, 4)}


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def made(name: str, backbone, **settings):
    entry = find_method(name)
    return entry.build(backbone, entry.make_config("clean", **LAYERS, **settings), "nut")


@torch.no_grad()
def seen(backbone, method, seed: int, size: tuple[int, int] = (48, 48), count: int = 1) -> Features:
    photos = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return backbone.vision(photos, method.request)


def fitted(name: str, backbone, seeds=(1, 2, 3), **settings):
    method = made(name, backbone, **settings)
    references = [seen(backbone, method, seed) for seed in seeds]
    method.fit([[reference] for reference in references])
    return method, references


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# PatchCore ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("neighbours", "distance"), [(1, "euclidean"), (3, "euclidean"), (2, "squared")])
def test_patchcore_is_the_distance_to_the_nearest_patches(backbone, neighbours, distance):
    method, references = fitted("patchcore", backbone, neighbours=neighbours, distance=distance)
    query = seen(backbone, method, 9)
    rows = np.concatenate(
        [np.concatenate([unit(r.taps[layer][0].numpy()) for layer in (2, 4)], axis=1) for r in references]
    )
    tokens = np.concatenate([unit(query.taps[layer][0].numpy()) for layer in (2, 4)], axis=1)
    values, _ = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(rows).kneighbors(tokens)
    expected = (values**2 if distance == "squared" else values).mean(axis=1)
    scores = method.score(query)
    np.testing.assert_allclose(scores.map[0].flatten().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert float(scores.image[0]) == pytest.approx(expected.max(), rel=1e-4)


def test_patchcore_weighs_the_image_score_by_the_neighbourhood(backbone):
    method, references = fitted("patchcore", backbone, reweight=9)
    query = seen(backbone, method, 9)
    rows = np.concatenate(
        [np.concatenate([unit(r.taps[layer][0].numpy()) for layer in (2, 4)], axis=1) for r in references]
    )
    tokens = np.concatenate([unit(query.taps[layer][0].numpy()) for layer in (2, 4)], axis=1)
    distances = np.linalg.norm(tokens[:, None] - rows[None], axis=-1)
    worst = distances.min(axis=1).argmax()
    nearest = distances[worst].argmin()
    around = np.linalg.norm(rows - rows[nearest], axis=1).argsort()[:9]
    near = np.exp(np.linalg.norm(rows[around] - tokens[worst], axis=1))
    weight = 1 - np.exp(distances[worst, nearest]) / near.sum()
    assert float(method.score(query).image[0]) == pytest.approx(weight * distances[worst, nearest], rel=1e-4)
    assert 0 < weight < 1


def test_a_memorised_photo_has_a_map_of_zeros_and_the_order_of_photos_is_nothing(backbone):
    method, references = fitted("patchcore", backbone)
    assert float(method.score(references[1]).map.abs().max()) < 1e-3
    other, _ = fitted("patchcore", backbone, seeds=(3, 1, 2))
    query = seen(backbone, method, 9)
    torch.testing.assert_close(other.score(query).image, method.score(query).image)


def slow_greedy(rows: np.ndarray, count: int) -> list[int]:
    """All pairs at once."""
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    chosen = [int(np.linalg.norm(distances, axis=1).argmax())]
    while len(chosen) < count:
        chosen.append(int(distances[chosen].min(axis=0).argmax()))
    return chosen


@torch.no_grad()
@pytest.mark.parametrize("top", [0.0, 0.01, 0.1, 0.5])
def test_patchcore_through_the_next_norm_with_turned_photos_and_the_mean_of_the_top(backbone, top):
    method = made("patchcore", backbone, point="next_norm", turns=3, mirrored=True, pooling=1, top=top)
    assert (method.request.tap_point, method.request.turns, method.request.mirrored) == ("next_norm", 3, True)
    references = []
    for seed in (1, 2):
        copies = seen(backbone, method, seed, count=6)
        turned = {layer: taps[None, 1:] for layer, taps in copies.taps.items()}
        references.append(replace(copies[0:1], turned=turned))
    method.fit([[reference] for reference in references])
    query = seen(backbone, method, 9)
    every = [
        taps for r in references for taps in zip(*[torch.cat([r.taps[n], r.turned[n][0]]) for n in (2, 4)], strict=True)
    ]
    rows = np.concatenate([np.concatenate([unit(layer.numpy()) for layer in taps], axis=1) for taps in every])
    tokens = np.concatenate([unit(query.taps[layer][0].numpy()) for layer in (2, 4)], axis=1)
    nearest = np.sort(np.linalg.norm(tokens[:, None] - rows[None], axis=2).min(axis=1))[::-1]
    assert rows.shape == (2 * 6 * 36, 64)
    assert float(method.score(query).image) == pytest.approx(nearest[: max(1, int(top * 36))].mean(), abs=1e-5)


def test_patchcore_needs_the_copies_that_it_asks_for(backbone):
    with pytest.raises(ConfigError, match=r"8 orientations .* hold 1;"):
        fitted("patchcore", backbone, turns=8)
    with pytest.raises(ConfigError, match="largest distance alone"):
        made("patchcore", backbone, reweight=2, top=0.1)


def test_a_budget_is_a_number_of_patches_below_the_share(backbone):
    rows = {name: fitted("patchcore", backbone, **values)[0].state()["rows"] for name, values in BUDGETS.items()}
    assert [len(kept) for kept in rows.values()] == [108, 27, 10, 27]
    assert torch.equal(rows["both"], rows["share"])


BUDGETS = {"all": {}, "share": {"coreset": 0.25}, "budget": {"budget": 10}, "both": {"coreset": 0.25, "budget": 50}}


@pytest.mark.parametrize("seed", range(4))
def test_the_coreset_is_that_of_a_slow_greedy_version(seed):
    rows = np.random.default_rng(seed).normal(size=(60, 12))
    assert greedy_coreset(torch.from_numpy(rows).float(), 25).tolist() == slow_greedy(rows, 25)


@pytest.mark.parametrize(("seed", "starts"), [(0, 10), (1, 10), (2, 3), (3, 99)])
def test_the_coreset_of_the_scripts_spreads_from_the_mean_of_random_rows_that_it_does_not_keep(seed, starts):
    rows = np.random.default_rng(seed).normal(size=(60, 12))
    drawn = torch.randperm(60, generator=torch.Generator().manual_seed(seed))[:starts].numpy()
    pairs = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    distance, expected = pairs[:, drawn].mean(axis=1), []
    while len(expected) < 25:
        expected.append(int(distance.argmax()))
        distance = np.minimum(distance, pairs[expected[-1]])
    assert greedy_coreset(torch.from_numpy(rows).float(), 25, seed=seed, starts=starts).tolist() == expected


def test_a_duplicate_is_never_picked_before_a_distinct_row():
    rows = np.random.default_rng(0).normal(size=(20, 6))
    chosen = greedy_coreset(torch.from_numpy(np.concatenate([rows, rows])).float(), 20).tolist()
    assert len({number % 20 for number in chosen}) == 20


def test_a_coreset_keeps_its_share_through_the_linear_map(backbone):
    method, _ = fitted("patchcore", backbone, coreset=0.25)
    assert len(method._rows) == int(0.25 * 3 * 36)
    wide = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    assert len(set(greedy_coreset(wide, 30, seed=1).tolist())) == 30


# PaDiM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 7])
def test_padim_is_scipys_mahalanobis_distance(count):
    rng = np.random.default_rng(count)
    rows, queries = rng.normal(size=(count, 5, 20)), rng.normal(size=(2, 5, 20))
    ours = mahalanobis(torch.from_numpy(queries), torch.from_numpy(rows), 0.01).numpy()
    for place in range(5):
        own = rows[:, place]
        covariance = np.cov(own, rowvar=False) + 0.01 * np.eye(20)
        for number in range(2):
            expected = scipy_mahalanobis(queries[number, place], own.mean(axis=0), np.linalg.inv(covariance))
            assert ours[number, place] == pytest.approx(expected, rel=1e-6)


def test_padim_with_one_photo_is_ten_times_euclidean():
    rng = np.random.default_rng(0)
    row, query = rng.normal(size=(1, 3, 8)), rng.normal(size=(1, 3, 8))
    ours = mahalanobis(torch.from_numpy(query), torch.from_numpy(row), 0.01)[0].numpy()
    np.testing.assert_allclose(ours, 10 * np.linalg.norm(query[0] - row[0], axis=1), rtol=1e-6)


def test_padim_keeps_the_same_random_values_for_every_object(backbone):
    first, second = (made("padim", backbone, dimensions=20) for _ in range(2))
    assert torch.equal(first._kept, second._kept) and len(set(first._kept.tolist())) == 20
    method, references = fitted("padim", backbone, dimensions=20)
    query = seen(backbone, method, 9)
    tokens = joined_tokens(query, (2, 4), normalise=True)[..., method._kept]
    rows = torch.cat([joined_tokens(r, (2, 4), normalise=True)[..., method._kept] for r in references])
    torch.testing.assert_close(method.score(query).map.flatten(1), mahalanobis(tokens, rows, 0.01 / 32))


def test_padims_diagonal_is_that_of_values_with_a_mean_square_of_1(backbone):
    method, references = fitted("padim", backbone, dimensions=20)
    query = seen(backbone, method, 9)
    taps = [[view.taps[layer][0].numpy() for layer in (2, 4)] for view in (*references, query)]
    scaled = [
        np.concatenate([unit(tap) * np.sqrt(tap.shape[1]) for tap in own], axis=1)[:, method._kept] for own in taps
    ]
    assert np.mean(np.square(scaled)) == pytest.approx(1, abs=0.2)
    for place in (0, 17, 35):
        own = np.stack([rows[place] for rows in scaled[:-1]])
        inverse = np.linalg.inv(np.cov(own, rowvar=False) + 0.01 * np.eye(20))
        expected = scipy_mahalanobis(scaled[-1][place], own.mean(axis=0), inverse)
        assert float(method.score(query).map.flatten()[place]) == pytest.approx(expected, rel=1e-3)
    plain, references = fitted("padim", backbone, dimensions=20, normalise=False)
    rows = torch.cat([plain.tokens(reference) for reference in references])
    expected = mahalanobis(plain.tokens(seen(backbone, plain, 9)), rows, 0.01)
    torch.testing.assert_close(plain.score(seen(backbone, plain, 9)).map.flatten(1), expected)


@pytest.mark.parametrize("fit", ["auto", "letterbox", "tiles", "area"])
def test_padim_needs_photos_of_one_shape(fit):
    with pytest.raises(ConfigError, match="one square view"):
        find_method("padim").make_config("clean", fit=fit)


# SPADE --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neighbours", [1, 2, 50])
def test_spade_compares_with_the_nearest_photos(backbone, neighbours):
    method, references = fitted("spade", backbone, seeds=(1, 2, 3, 4), neighbours=neighbours)
    query = seen(backbone, method, 9)
    images = np.concatenate([unit(reference.image.numpy()) for reference in references])
    near = min(neighbours, 4)
    distances, chosen = (
        NearestNeighbors(n_neighbors=near, algorithm="brute").fit(images).kneighbors(unit(query.image.numpy()))
    )
    expected = np.zeros(36)
    for layer in (2, 4):
        bank = np.concatenate([unit(references[number].taps[layer][0].numpy()) for number in chosen[0]])
        own = unit(query.taps[layer][0].numpy())
        expected += NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank).kneighbors(own)[0][:, 0] / 2
    scores = method.score(query)
    assert float(scores.image[0]) == pytest.approx(distances.mean(), rel=1e-4)
    np.testing.assert_allclose(scores.map[0].flatten().numpy(), expected, rtol=1e-4, atol=1e-5)


# All ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_photo_that_is_left_out_is_compared_with_the_others(backbone, name):
    method, references = fitted(name, backbone)
    alone, _ = fitted(name, backbone, seeds=(2, 3))
    left, other = method.score(references[0], leave_out=0), alone.score(references[0])
    torch.testing.assert_close(left.map, other.map)
    torch.testing.assert_close(left.image, other.image)


@pytest.mark.parametrize("name", METHODS)
def test_batches_are_scored_like_single_photos(backbone, name):
    method, _ = fitted(name, backbone)
    batch = seen(backbone, method, 5, count=3)
    whole = method.score(batch)
    for row in range(3):
        single = method.score(batch[row : row + 1])
        torch.testing.assert_close(single.map[0], whole.map[row])
        torch.testing.assert_close(single.image[0], whole.image[row])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["clean", "paper", "release"])
def test_a_detector_learns_judges_and_comes_back_from_its_file(backbone, tmp_path, name, preset):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (60, 90, 3), dtype=np.uint8) for _ in range(4)]
    detector = Detector(name, object="nut", backbone=backbone, preset=preset, input_size=48, **LAYERS)
    with pytest.raises(ConfigError, match="has not seen a good photo"):
        detector.predict(photos[3])
    detector.fit(photos[:3])
    first = detector.predict(photos[3])
    assert first.map is not None and first.map.shape == (60, 90) and first.score > 0 and first.defects
    assert detector.calibration is not None and detector.calibration.how == "leave-one-out"
    again = Detector.load(detector.save(tmp_path / "nut.safetensors"), backbone=backbone).predict(photos[3])
    assert again.score == first.score and np.array_equal(again.map, first.map)


def test_one_neighbour_and_one_row_have_no_weight(backbone):
    with pytest.raises(ConfigError, match="reweight=1"):
        find_method("patchcore").make_config("clean", reweight=1)
    method, _ = fitted("patchcore", backbone, reweight=9, coreset=0.001)
    assert len(method._rows) == 1 and float(method.score(seen(backbone, method, 9)).image[0]) > 0


def test_copies_are_chosen_once_each_when_nothing_else_is_left():
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    chosen = greedy_coreset(torch.cat([rows, rows]), 8).tolist()
    assert len(set(chosen)) == 8 and len({number % 5 for number in chosen[:5]}) == 5
