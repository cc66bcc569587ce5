"""WinCLIP against a plain version that looks at one window after the other, in NumPy loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad import Detector
from promptad.clip.features import FeatureRequest, Features
from promptad.errors import ConfigError
from promptad.methods.baselines.winclip import WinCLIP
from promptad.methods.registry import find_method
from promptad.prompts.words import ensemble
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def made(backbone, **settings) -> WinCLIP:
    entry = find_method("winclip")
    return entry.build(backbone, entry.make_config("clean", **settings), "metal nut")


@torch.no_grad()
def seen(backbone, count: int = 1, seed: int = 0, size: tuple[int, int] = (48, 64), windows=(2, 3)) -> Features:
    photos = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return backbone.vision(photos, FeatureRequest((4,), windows=windows, inputs=True))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Plain:
    """One window at a time: its own run of the tower, its own score, and the patches that it covers."""

    def __init__(self, backbone, scale: float = 100.0, raw: bool = False, turned: bool = False, whole: bool = True):
        self.backbone, self.scale, self.turned, self.whole = backbone, scale, turned, whole
        self.sides = []
        for sentences in ensemble("winclip", "metal nut"):
            rows = backbone.encode_texts(sentences).double().numpy()
            self.sides.append(unit((rows if raw else unit(rows)).mean(axis=0)))

    def probability(self, row: np.ndarray) -> float:
        normal, anomalous = (self.scale * float(unit(row) @ side) for side in self.sides)
        return 1 / (1 + np.exp(normal - anomalous))

    @torch.no_grad()
    def windows(self, photo: torch.Tensor, grid: tuple[int, int], side: int):
        """(patches, feature) of every window."""
        for top in range(grid[0] - side + 1):
            for left in range(grid[1] - side + 1):
                patches = [(top + i) * grid[1] + left + j for i in range(side) for j in range(side)]
                yield (
                    patches,
                    self.backbone.vision.encode_windows(photo, torch.tensor([patches]))[0, 0].double().numpy(),
                )

    def text_map(self, features: Features, sides=(2, 3)) -> tuple[float, np.ndarray]:
        count = features.grid[0] * features.grid[1]
        image = self.probability(features.image[0].double().numpy())
        scales = []
        for side in sides:
            covering: list[list[float]] = [[] for _ in range(count)]
            for patches, row in self.windows(features.inputs, features.grid, side):
                value = self.probability(row)
                for patch in patches:
                    covering[patch].append(1 - value if self.turned else value)
            scales.append([len(values) / sum(1 / value for value in values) for values in covering])
        if self.whole:
            scales.append([1 - image if self.turned else image] * count)
        joined = np.array([len(scales) / sum(1 / scale[patch] for scale in scales) for patch in range(count)])
        return image, (1 - joined if self.turned else joined).reshape(features.grid)

    def distances(
        self, features: Features, references: list[Features], mean: bool = False, patches: bool = True
    ) -> np.ndarray:
        count = features.grid[0] * features.grid[1]
        maps = []
        for side in (2, 3):
            known = np.stack(
                [unit(row) for other in references for _, row in self.windows(other.inputs, other.grid, side)]
            )
            covering: list[list[float]] = [[] for _ in range(count)]
            for covered, row in self.windows(features.inputs, features.grid, side):
                for patch in covered:
                    covering[patch].append((1 - (known @ unit(row)).max()) / 2)
            maps.append([np.mean(values) if mean else len(values) / sum(1 / v for v in values) for values in covering])
        if patches:
            known = unit(torch.cat([other.taps[4][0] for other in references]).double().numpy())
            maps.append([(1 - (known @ row).max()) / 2 for row in unit(features.taps[4][0].double().numpy())])
        return np.mean(maps, axis=0).reshape(features.grid)


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, {}),
        ({"prototype": "raw", "scale": 1 / 0.07}, {"raw": True, "scale": 1 / 0.07}),
        ({"aggregation": "normality"}, {"turned": True}),
        ({"image_in_map": False}, {"whole": False}),
    ],
)
def test_zero_shot_equals_the_plain_version(backbone, settings, plain):
    features = seen(backbone)
    scores = made(backbone, **settings).score(features)
    image, values = Plain(backbone, **plain).text_map(features)
    assert float(scores.image[0]) == pytest.approx(image, abs=1e-5)
    np.testing.assert_allclose(scores.map[0].numpy(), values, atol=1e-5)
    assert values.std() > 1e-6


@pytest.mark.parametrize("mean", [False, True])
def test_few_shot_equals_the_plain_version(backbone, mean):
    features, references = seen(backbone), [seen(backbone, seed=1), seen(backbone, seed=2)]
    how = "mean" if mean else "harmonic"
    method = made(backbone, memory_precision="fp32", visual_windows=how)
    method.fit([[reference] for reference in references])
    plain = Plain(backbone)
    image, text = plain.text_map(features)
    distance = plain.distances(features, references, mean)
    scores = method.score(features)
    np.testing.assert_allclose(scores.map[0].numpy(), (text + distance) / 2, atol=1e-5)
    assert float(scores.image[0]) == pytest.approx((image + distance.max()) / 2, abs=1e-5)
    assert float(scores.parts["memory"][0]) == pytest.approx(distance.max(), abs=1e-5)
    other = made(backbone, memory_precision="fp32", visual_windows=how, map_fusion="harmonic", image_fusion="map")
    other.fit([[reference] for reference in references])
    joined = 1 / (1 / text + 1 / distance)
    np.testing.assert_allclose(other.score(features).map[0].numpy(), joined, atol=1e-5)
    assert float(other.score(features).image[0]) == pytest.approx(joined.max(), abs=1e-5)


def test_the_largest_value_of_the_map_and_windows_alone_as_a_reimplementation_has_them(backbone):
    features, references = seen(backbone), [seen(backbone, seed=1), seen(backbone, seed=2)]
    how = {"image_fusion": "map", "patch_memory": False, "aggregation": "normality", "visual_windows": "mean"}
    method = made(backbone, memory_precision="fp32", map_fusion="harmonic", image_in_map=False, **how)
    assert method.request.taps == ()
    plain = Plain(backbone, turned=True, whole=False)
    _, text = plain.text_map(features)
    assert float(method.score(features).image[0]) == pytest.approx(text.max(), abs=1e-5)  # zero-shot
    method.fit([[reference] for reference in references])
    joined = 1 / (1 / text + 1 / plain.distances(features, references, mean=True, patches=False))
    np.testing.assert_allclose(method.score(features).map[0].numpy(), joined, atol=1e-5)
    assert float(method.score(features).image[0]) == pytest.approx(joined.max(), abs=1e-5)
    again = made(backbone, memory_precision="fp32", map_fusion="harmonic", image_in_map=False, **how)
    again.load_state(method.state())
    assert torch.equal(again.score(features).map, method.score(features).map)


def test_a_photo_that_is_left_out_is_compared_with_the_others(backbone):
    references = [seen(backbone, seed=seed) for seed in (1, 2)]
    method, alone = made(backbone), made(backbone)
    method.fit([[reference] for reference in references])
    alone.fit([[references[1]]])
    assert torch.equal(method.score(references[0], leave_out=0).map, alone.score(references[0]).map)
    assert float(method.score(references[0]).parts["memory"][0]) < 1e-3  # it is among them


@pytest.mark.parametrize(("sides", "counts"), [((2, 3), (196, 169)), ((1,), (225,)), ((15,), (1,))])
def test_counts(sides, counts):
    from promptad.clip.features import window_patches

    assert tuple(len(window_patches((15, 15), side)) for side in sides) == counts
    assert [len(sentences) for sentences in ensemble("winclip", "metal nut")] == [154, 88]


def test_constant_windows_give_their_constant_with_either_aggregation(backbone, monkeypatch):
    features = seen(backbone, count=2)
    for aggregation in ("anomaly", "normality"):
        method = made(backbone, aggregation=aggregation)
        monkeypatch.setattr(method, "_probability", lambda rows: torch.full(rows.shape[:-1], 0.3))
        torch.testing.assert_close(method.score(features).map, torch.full((2, *features.grid), 0.3))


@pytest.mark.parametrize("windows", [(), (2, 2), (0,)])
def test_windows_that_cannot_be_are_refused(windows):
    with pytest.raises(ConfigError, match="windows"):
        find_method("winclip").make_config("clean", windows=windows)


@pytest.mark.parametrize("shots", [0, 2])
def test_a_detector_judges_and_comes_back_from_its_file(backbone, tmp_path, shots):
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 255, (60, 90, 3), dtype=np.uint8) for _ in range(3)]
    detector = Detector("winclip", object="nut", backbone=backbone, input_size=48)
    if shots:
        detector.fit(photos[:shots])
        assert detector.calibration is not None and detector.calibration.how == "leave-one-out"
    first = detector.predict(photos[2])
    assert first.map is not None and first.map.shape == (60, 90) and 0 <= first.score <= 1 and first.defects
    if shots:
        again = Detector.load(detector.save(tmp_path / "nut.safetensors"), backbone=backbone).predict(photos[2])
        assert again.score == first.score and np.array_equal(again.map, first.map)
