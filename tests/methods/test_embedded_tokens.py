"""Which layers the memories of good photos tap on which tower, and the released codes' adaptive pooling against loops."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from promptad import Detector
from promptad.clip.architecture import ResNetSizes
from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.methods.baselines.tapped import usual_layers
from promptad.methods.registry import find_method
from promptad.run.judging import map_ends
from promptad.scoring.tokens import embedded_tokens, joined_tokens, share_inside
from tiny import SIZES, tiny_backbone

MEMORIES = ("patchcore", "padim", "spade", "fastrecon", "simplenet")


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


# Layers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "layers"),
    [(12, (3, 8)), (24, (6, 12, 18, 24)), (32, (8, 16, 24, 32)), (4, (1, 3)), (6, (2, 4)), (1, (1,))],
)
def test_a_vit_has_the_layers_of_its_depth(depth, layers):
    tower = SimpleNamespace(memory=None, sizes=replace(SIZES, vision=replace(SIZES.vision, layers=depth)))
    assert usual_layers(tower) == layers


def test_a_resnet_has_stages_2_and_3():
    tower = SimpleNamespace(memory=None, sizes=replace(SIZES, vision=ResNetSizes(64, (3, 4, 6, 3), 32, 224)))
    assert usual_layers(tower) == (2, 3)


@pytest.mark.parametrize("name", MEMORIES)
def test_methods_tap_the_usual_layers_or_those_that_are_named(backbone, name):
    entry = find_method(name)
    assert entry.build(backbone, entry.make_config(), "nut").request.taps == (1, 3)
    assert entry.build(backbone, entry.make_config(layers="2,4"), "nut").request.taps == (2, 4)


# Pooling ------------------------------------------------------------------------------------------------------------


def drawn(grid: tuple[int, int] = (4, 5), widths: tuple[int, ...] = (6, 8), count: int = 2) -> Features:
    generator = torch.Generator().manual_seed(1)
    taps = {
        number: torch.randn(count, grid[0] * grid[1], width, generator=generator)
        for number, width in enumerate(widths, start=1)
    }
    return Features(torch.randn(count, 24, generator=generator), None, taps, grid)


def adaptive(values: np.ndarray, width: int) -> np.ndarray:
    """Window i is from floor(i L / width) to ceil((i + 1) L / width)."""
    share = len(values) / width
    return np.array([values[floor(i * share) : ceil((i + 1) * share)].mean() for i in range(width)])


def around(plane: np.ndarray, row: int, column: int, side: int) -> np.ndarray:
    """(D * side * side,) of the tokens around a place, channel by channel, zeros beyond the edge."""
    half = side // 2
    out = np.zeros((plane.shape[2], side, side))
    for y in range(side):
        for x in range(side):
            r, c = row + y - half, column + x - half
            if 0 <= r < plane.shape[0] and 0 <= c < plane.shape[1]:
                out[:, y, x] = plane[r, c]
    return out.reshape(-1)


def slow(features: Features, width: int, side: int, zeros: bool, normalise: bool) -> np.ndarray:
    rows, columns = features.grid
    out = np.zeros((len(features), rows * columns, width))
    for photo in range(len(features)):
        planes = [tap[photo].double().numpy().reshape(rows, columns, -1) for tap in features.taps.values()]
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            half = side // 2
            high = min(rows, row + half + 1) - max(0, row - half)
            wide = min(columns, column + half + 1) - max(0, column - half)
            parts = []
            for plane in planes:
                part = adaptive(around(plane, row, column, side), width)
                part = part if zeros else part * side * side / (high * wide)
                parts.append(part / np.linalg.norm(part) if normalise else part)
            out[photo, place] = adaptive(np.concatenate(parts), width)
    return out


@pytest.mark.parametrize("width", [5, 6, 8, 11])
@pytest.mark.parametrize(("zeros", "normalise"), [(True, False), (False, True), (False, False)])
def test_the_embedding_is_that_of_loops_over_windows(width, zeros, normalise):
    features = drawn()
    ours = embedded_tokens(features, (1, 2), width, side=3, zeros=zeros, normalise=normalise)
    np.testing.assert_allclose(ours.numpy(), slow(features, width, 3, zeros, normalise), atol=1e-5)


def test_a_layer_of_the_width_asked_for_gives_the_mean_of_nine_with_zeros_at_the_border():
    # As layer 3 of WideResNet-50-2 does: 9 x 1024 values to 1024.
    features = drawn(widths=(8, 8))
    planes = features.taps[1].transpose(1, 2).unflatten(2, features.grid)
    expected = torch.nn.functional.avg_pool2d(planes, 3, 1, 1).flatten(2).transpose(1, 2)
    single = embedded_tokens(features, (1,), 8, side=3, zeros=True, normalise=False)
    torch.testing.assert_close(single, expected)
    both = embedded_tokens(features, (1, 2), 8, side=3, zeros=True, normalise=False)
    torch.testing.assert_close(both[..., :4], expected.unflatten(-1, (4, 2)).mean(-1))  # neighbouring pairs


def test_windows_of_layer_2_of_the_papers_tower_are_five_values_long():
    # 9 x 512 values to 1024: starts floor(4.5 i), 5 values each.
    values = np.random.default_rng(0).normal(size=9 * 512)
    expected = [values[floor(4.5 * i) : floor(4.5 * i) + 5].mean() for i in range(1024)]
    np.testing.assert_allclose(adaptive(values, 1024), expected)
    tap = torch.from_numpy(values).float().view(512, 9).T[None]  # one window: the 3 x 3 grid around its middle
    features = Features(torch.zeros(1, 4), None, {2: tap}, (3, 3))
    middle = embedded_tokens(features, (2,), 1024, side=3, zeros=True, normalise=False)[0, 4]
    np.testing.assert_allclose(middle.numpy(), expected, atol=1e-5)


def test_joined_tokens_may_count_zeros_at_the_border():
    share = share_inside((3, 4), 3).view(3, 4)
    assert (
        float(share[1, 1]) == 1
        and share[0, 0].item() == pytest.approx(4 / 9)
        and share[0, 1].item() == pytest.approx(6 / 9)
    )


# Methods ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def seen(backbone, method, seed: int) -> Features:
    return backbone.vision(torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(seed)), method.request)


def test_patchcore_as_released_is_the_squared_distance_of_such_embeddings(backbone):
    entry = find_method("patchcore")
    method = entry.build(backbone, entry.make_config("release", embedding_width=20, coreset=1.0), "nut")
    references = [seen(backbone, method, seed) for seed in (1, 2)]
    method.fit([[reference] for reference in references])
    query = seen(backbone, method, 9)
    rows = np.concatenate([slow(reference, 20, 3, True, False)[0] for reference in references])
    near, _ = (
        NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows).kneighbors(slow(query, 20, 3, True, False)[0])
    )
    scores = method.score(query)
    np.testing.assert_allclose(scores.map[0].flatten().numpy(), near[:, 0] ** 2, rtol=1e-3, atol=1e-4)
    assert float(scores.image[0]) == pytest.approx(float(near.max()) ** 2, rel=1e-3)


def test_fastrecon_as_released_counts_zeros_at_the_border(backbone):
    entry = find_method("fastrecon")
    zeros, plain = (
        entry.build(backbone, entry.make_config("clean", normalise=False, edges=edges), "nut")
        for edges in ("zeros", "present")
    )
    query = seen(backbone, zeros, 3)
    expected = joined_tokens(query, (1, 3), normalise=False) * share_inside((6, 6), 3)
    torch.testing.assert_close(zeros.tokens(query), expected)
    assert not torch.equal(zeros.tokens(query)[:, 0], plain.tokens(query)[:, 0])
    assert torch.equal(zeros.tokens(query)[:, 7], plain.tokens(query)[:, 7])  # not at the border


@pytest.mark.parametrize("name", ["patchcore", "simplenet", "fastrecon"])
def test_zeros_that_lengths_of_one_undo_are_refused(name):
    with pytest.raises(ConfigError, match="edges=zeros") as caught:
        find_method(name).make_config("clean", edges="zeros")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MEMORIES)
@pytest.mark.parametrize("preset", ["paper", "release"])
def test_presets_of_papers_run_on_any_tower_and_come_back_from_their_file(backbone, tmp_path, name, preset):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (60, 90, 3), dtype=np.uint8) for _ in range(3)]
    settings = {"steps": 2} if name == "simplenet" else {}
    detector = Detector(name, object="nut", backbone=backbone, preset=preset, input_size=48, **settings)
    detector.fit(photos[:2])
    first = detector.predict(photos[2])
    again = Detector.load(detector.save(tmp_path / "nut.safetensors"), backbone=backbone).predict(photos[2])
    assert again.score == first.score and np.array_equal(again.map, first.map)


def test_map_files_hold_values_beyond_the_usual_ends(backbone):
    detector = Detector("patchcore", object="nut", backbone=backbone)
    assert map_ends(detector, np.array([[0.5, 3.0]])) == detector.entry.map_bounds
    assert map_ends(detector, np.array([[-1.0, 500.0]])) == (-1.0, 500.0)
