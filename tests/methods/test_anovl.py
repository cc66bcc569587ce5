"""AnoVL: its sentences, its adapter and loss against loops, and its views against SciPy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.features import FeatureRequest
from promptad.detector import Detector
from promptad.methods.baselines.anovl import AnoVL, SentenceAdapter, moved, photo_views
from promptad.methods.registry import find_method
from promptad.prompts.words import ensemble
from tiny import tiny_backbone

BACKBONE = tiny_backbone()


def build(object_name: str = "cup", **settings: object) -> AnoVL:
    entry = find_method("anovl")
    method = entry.build(BACKBONE, entry.make_config("clean", **settings), object_name)
    assert isinstance(method, AnoVL)
    return method


def photos(number: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(number, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bank", ["anovl_objects", "anovl_textures"])
def test_there_are_462_sentences_a_side_without_full_stop(bank: str):
    normal, anomalous = ensemble(bank, "cup")
    assert len(set(normal)) == len(set(anomalous)) == 22 * 3 * 7
    every = [*normal, *anomalous]
    assert not any(s.endswith(".") or "a industrial" in s.replace("a industrial".upper(), "") for s in every)
    assert (
        "an industrial photo of a normal cup" in normal
        and "a cropped industrial photo of the cup with flaw" in anomalous
    )
    kinds = {"anovl_objects": "manufacturing image", "anovl_textures": "surface picture"}
    assert sum(kinds[bank] in s for s in normal) == 154 and not any(
        kinds[k] in s for k in kinds if k != bank for s in every
    )


def test_the_adapter_has_as_many_values_as_the_papers():
    assert sum(p.numel() for p in SentenceAdapter(torch.zeros(924, 640)).parameters()) == 592_284
    assert sum(p.numel() for p in build(adapter="linear").adapter().parameters()) == 24 * 24 + 24


def test_which_objects_are_textures():
    for name, kind in {"carpet": "textures", "Wood": "textures", "bottle": "objects"}.items():
        own, named = build(name), build(name, domain=kind)
        assert torch.equal(own._bank, named._bank)


def slow_loss(method: AnoVL, clean: Tensor, noisy: Tensor) -> float:
    total = 0.0
    for c, n in zip(clean.tolist(), noisy.tolist(), strict=True):
        sides = []
        for row in (c, n):
            unit = np.array(row) / np.linalg.norm(row)
            cosines = [float(unit @ side.numpy()) * method.config.scale for side in (method._normal, method._anomalous)]
            weights = np.exp(cosines)
            sides.append(weights / weights.sum())
        entropy = -sum(p * math.log(p) for p in sides[0])
        total += entropy + method.config.noise_weight * (-math.log(sides[1][1]) - math.log(sides[0][0]))
    return total / len(clean)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_the_loss_is_that_of_a_loop_over_places(scale: float):
    method, generator = build(scale=scale), torch.Generator().manual_seed(1)
    clean, noisy = torch.randn(2, 7, 24, generator=generator).unbind()
    assert float(method.loss(clean, noisy)) == pytest.approx(slow_loss(method, clean, noisy), abs=1e-5)


def test_without_noise_even_odds_cost_log_2_twice():
    method = build()
    method._anomalous = method._normal
    rows = torch.randn(5, 24, generator=torch.Generator().manual_seed(2))
    assert float(method.loss(rows, rows)) == pytest.approx(math.log(2) + 0.5 * 2 * math.log(2), abs=1e-6)


@pytest.mark.parametrize("shape", [(17, 17), (12, 20)])
@pytest.mark.parametrize(
    ("angle", "shift"), [(0.0, (0.0, 0.0)), (math.pi / 16, (0.0, 0.0)), (0.7, (0.2, -0.1)), (0.0, (0.2, 0.1))]
)
def test_views_are_those_of_scipy(shape: tuple[int, int], angle: float, shift: tuple[float, float]):
    """Where the output's pixels come from, computed in pixels; SciPy's `mirror` reflects about the centres of the last ones."""
    height, width = shape
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
    ys, xs = np.mgrid[:height, :width].astype(float)
    x, y = xs - (width - 1) / 2, ys - (height - 1) / 2
    source_x = math.cos(angle) * x - math.sin(angle) * y + shift[0] * (width - 1) / 2 + (width - 1) / 2
    source_y = math.sin(angle) * x + math.cos(angle) * y + shift[1] * (height - 1) / 2 + (height - 1) / 2
    expected = [map_coordinates(plane, [source_y, source_x], order=1, mode="mirror") for plane in image[0].numpy()]
    assert np.abs(moved(image, angle, shift)[0].numpy() - np.array(expected)).max() < 1e-4


def test_there_are_22_views_with_the_photo_itself():
    images = photos(1)
    views = list(photo_views(images))
    assert len(views) == 21 and all(view.shape == images.shape for view in views)
    assert torch.equal(views[16], images.flip(-1))
    grey = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    assert all(torch.allclose(views[17][:, c], grey, atol=1e-6) for c in range(3))
    for quarters, view in zip((1, 2, 3), views[18:], strict=True):
        turned = [torch.rot90(images, direction * quarters, (2, 3)) for direction in (1, -1)]
        assert any(torch.allclose(view, other, atol=1e-4) for other in turned)
    assert len({view.numpy().tobytes() for view in views}) == 21


def test_the_image_score_is_the_mean_over_views_and_one_view_has_the_plain_score():
    method, images = build(), photos()
    with torch.no_grad():
        features = BACKBONE.vision(images, method.request)
        every = [BACKBONE.vision(view, FeatureRequest()).image for view in [images, *photo_views(images)]]
    single = build(views="one")
    plain = [softmax_anomalous(method, rows) for rows in every]
    assert torch.allclose(single.score(replace(features, inputs=None)).image, plain[0], atol=1e-6)
    assert torch.allclose(method.score(features).image, torch.stack(plain).mean(0), atol=1e-6)


def softmax_anomalous(method: AnoVL, rows: Tensor) -> Tensor:
    sides = torch.stack([method._normal, method._anomalous])
    return (F.normalize(rows, dim=-1) @ sides.T).softmax(dim=-1)[:, 1]


@pytest.mark.parametrize("adapter", ["sentences", "linear", "none"])
def test_a_photo_depends_on_no_other_and_the_adapter_learns(adapter: str):
    method = build(adapter=adapter, views="one", lr=0.05)
    with torch.no_grad():
        features = BACKBONE.vision(photos(3), method.request)
    together = method.score(features).map
    alone = [method.score(features[n : n + 1]).map for n in (2, 0, 1)]
    assert together is not None and together.shape == (3, 48, 48)
    for place, own in zip((2, 0, 1), alone, strict=True):
        assert own is not None and torch.allclose(own[0], together[place], atol=1e-6)
    still = build(adapter=adapter, views="one", steps=0).score(features).map
    assert still is not None and torch.equal(still, together) == (adapter == "none")


def test_the_map_is_the_mean_of_nine_places_enlarged_with_its_corners():
    method = build(adapter="none", views="one")
    with torch.no_grad():
        features = BACKBONE.vision(photos(1), method.request)
    assert features.patches is not None
    plain = softmax_anomalous(method, features.patches[0]).view(6, 6).numpy()
    padded = np.pad(plain, 1, mode="edge")
    mean = np.array([[padded[y : y + 3, x : x + 3].mean() for x in range(6)] for y in range(6)])
    ys, xs = np.mgrid[:48, :48] * (5 / 47)
    expected = map_coordinates(mean, [ys, xs], order=1)
    made = method.score(features).map
    assert made is not None and np.abs(made[0].numpy() - expected).max() < 1e-5


def test_a_detector_names_defects_of_the_photo_wherever_the_map_is_largest():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels[40:, 60:] = 255
    prediction = Detector("anovl", object="cup", backbone=BACKBONE, input_size=48, views="one").predict(pixels)
    assert prediction.map is not None and prediction.map.shape == (60, 80)
    assert len(prediction.defects) > 1 and all(defect.region_probability is None for defect in prediction.defects)
