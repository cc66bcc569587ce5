"""MuSc on tiny towers against a slow version, photo by photo and patch by patch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad.errors import ConfigError
from promptad.methods.musc.method import drawn_references
from promptad.methods.registry import find_method
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@torch.no_grad()
def seen(backbone, method, seed: int):
    photo = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(seed))
    return backbone.vision(photo, method.request)


def fitted(backbone, preset="clean", count=5, **settings):
    entry = find_method("musc")
    method = entry.build(backbone, entry.make_config(preset, **settings), "nut")
    photos = [seen(backbone, method, seed) for seed in range(count)]
    method.fit([[photo] for photo in photos])
    return method, photos


def slow_tokens(view, layer, degree, joint_norm):
    tokens = view.taps[layer][0].numpy().astype(np.float64)
    if joint_norm:
        tokens = (tokens - tokens.mean()) / np.sqrt(tokens.var() + 1e-5)
    grid = tokens.reshape(6, 6, -1)
    reach = degree // 2
    means = np.zeros_like(grid)
    for row in range(6):
        for column in range(6):
            part = grid[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
            means[row, column] = part.sum(axis=(0, 1)) / degree**2
    flat = means.reshape(36, -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def slow_map(view, others, layers, config):
    maps = []
    for layer in layers:
        for degree in config.degrees:
            own = slow_tokens(view, layer, degree, config.joint_norm)
            nearest = []
            for other in others:
                cosine = (own @ slow_tokens(other, layer, degree, config.joint_norm).T).max(axis=1).clip(-1, 1)
                nearest.append((1 - cosine) / 2 if config.distance == "cosine" else np.sqrt(2 - 2 * cosine))
            kept = max(1, int(config.share * len(others)))
            maps.append(np.sort(nearest, axis=0)[:kept].mean(axis=0))
    return np.mean(maps, axis=0)


@pytest.mark.parametrize(
    ("preset", "settings"), [("clean", {}), ("clean", {"share": 0.7, "degrees": (1, 3)}), ("paper", {})]
)
def test_scores_and_maps_equal_the_slow_version(backbone, preset, settings):
    method, photos = fitted(backbone, preset, **settings)
    query, config = seen(backbone, method, 77), method.config
    scores = method.score(query)
    slow = slow_map(query, photos, method.layers, config)
    np.testing.assert_allclose(
        scores.map[0].numpy().ravel(), slow, atol=2e-3
    )  # the references are kept in half precision
    top = np.sort(slow)[::-1][: max(1, int(config.top * 36))].mean()
    assert float(scores.parts["plain"][0]) == pytest.approx(top, abs=2e-3)
    if not config.windows:
        assert float(scores.image[0]) == float(scores.parts["plain"][0])


def test_a_reference_is_not_compared_with_itself(backbone):
    method, photos = fitted(backbone)
    again = method.score(photos[2])
    np.testing.assert_allclose(again.map.numpy(), method.score(photos[2], leave_out=2).map.numpy(), atol=1e-7)
    slow = slow_map(photos[2], [*photos[:2], *photos[3:]], method.layers, method.config)
    np.testing.assert_allclose(again.map[0].numpy().ravel(), slow, atol=2e-3)
    assert float(again.image[0]) > 0.01


def test_halves_and_layers_are_parts_of_the_score(backbone):
    method, photos = fitted(backbone, count=6)
    query = seen(backbone, method, 78)
    parts = method.score(query).parts
    order = drawn_references(6, 32, 0)
    for half in (0, 1):
        others = [photos[number] for number in order[half::2]]
        slow = slow_map(query, others, method.layers, method.config).max()
        assert float(parts[f"half {half + 1}"][0]) == pytest.approx(slow, abs=2e-3)
    for layer in method.layers:
        slow = slow_map(query, photos, [layer], method.config).max()
        assert float(parts[f"layer {layer}"][0]) == pytest.approx(slow, abs=2e-3)


def test_references_are_bounded_and_follow_the_seed(backbone):
    method, _ = fitted(backbone, count=7, references=3)
    assert len(method.state()["classes"]) == 3
    assert drawn_references(100, 10, 1) == drawn_references(100, 10, 1) != drawn_references(100, 10, 2)
    assert sorted(drawn_references(5, 10, 0)) == [0, 1, 2, 3, 4]


def test_layers_follow_the_depth_of_the_tower(backbone):
    entry = find_method("musc")
    assert entry.build(backbone, entry.make_config("clean"), "nut").layers == (2, 3)
    assert entry.build(backbone, entry.make_config("paper"), "nut").layers == (1, 2, 3, 4)
    assert entry.build(backbone, entry.make_config("clean", layers=(1, 4)), "nut").layers == (1, 4)


@pytest.mark.parametrize(
    "settings", [{"degrees": (2,)}, {"degrees": ()}, {"layers": (3, 2)}, {"references": 1}, {"share": 0}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError):
        find_method("musc").make_config("clean", **settings)


def test_one_photo_or_copies_alone_score_nothing(backbone):
    method, photos = fitted(backbone, count=2)
    method.fit([[photos[0]]])
    assert float(method.score(photos[0]).image[0]) < 1e-3
