"""A region of interest in a detector: what lies outside changes no score, map, word or threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from promptad.clip.preprocess import Preprocess
from promptad.data.inspected_area import InspectedArea
from promptad.detector import Detector
from promptad.errors import PhotoError, PromptadError, WeightsError
from promptad.learning.inside import views_inside
from tiny import tiny_backbone

BACKBONE = tiny_backbone()
QUICK = {"epochs": 2, "input_size": 48, "memory_layers": (1, 3)}
SIZE = (60, 80)
ROI = np.zeros(SIZE, bool)
ROI[10:50, 0:50] = True


def pixels(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(90, 130, (15, 20, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(SIZE[::-1], Image.Resampling.BILINEAR))


def spoiled(photo: np.ndarray, seed: int = 9) -> np.ndarray:
    """The same with anything outside."""
    out = photo.copy()
    out[~ROI] = np.random.default_rng(seed).integers(0, 255, ((~ROI).sum(), 3))
    return out


def fitted(photos: list[np.ndarray], method: str = "promptad", **options: object) -> Detector:
    settings = QUICK if method == "promptad" else {"input_size": 48}
    options = {"roi": ROI, **settings, **options}
    return Detector(method, object="nut", backbone=BACKBONE, **options).fit(photos)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["promptad", "clip", "patchcore", "winclip"])
def test_nothing_outside_changes_anything(method: str) -> None:
    good = [pixels(seed) for seed in range(3)]
    extra = {"layers": (1, 3)} if method == "patchcore" else {}
    first = fitted(good, method, **extra)
    second = fitted([spoiled(photo, seed) for seed, photo in enumerate(good)], method, **extra)
    assert first.calibration is not None and second.calibration is not None
    assert first.calibration.scores == second.calibration.scores
    assert first.calibration.map_peaks == second.calibration.map_peaks
    plain, other = first.predict(pixels(20)), second.predict(spoiled(pixels(20)))
    assert plain.score == other.score and plain.defects == other.defects
    assert plain.map is not None and other.map is not None and np.array_equal(plain.map, other.map)


def test_maps_say_nothing_outside_and_no_region_lies_there() -> None:
    detector = fitted([pixels(seed) for seed in range(3)])
    result = detector.predict(pixels(20))
    assert result.inspected is not None and np.array_equal(result.inspected, ROI)
    assert result.map is not None and (result.map[~ROI] == result.map[ROI].min()).all()
    detector.set_map_threshold(float(result.map.min()) - 1)
    (whole,) = detector.predict(pixels(20)).regions or ()
    assert whole.area == ROI.sum() and np.array_equal(whole.mask(SIZE), ROI)
    assert detector.calibration is not None and result.hottest is not None and ROI[result.hottest]
    assert "a region of interest" in detector.calibration.unlike


def test_a_spot_inside_still_raises_the_score_and_one_outside_does_not() -> None:
    detector = fitted([pixels(seed) for seed in range(4)])
    inside, outside = pixels(20).copy(), pixels(20).copy()
    inside[25:33, 20:28] = (255, 0, 0)
    outside[25:33, 65:73] = (255, 0, 0)
    assert detector.predict(outside).score == detector.predict(pixels(20)).score < detector.predict(inside).score


def test_the_detector_keeps_it_and_other_detectors_differ_in_it(tmp_path: Path) -> None:
    good = [pixels(seed) for seed in range(3)]
    detector = fitted(good)
    loaded = Detector.load(detector.save(tmp_path / "nut.safetensors"), backbone=BACKBONE)
    assert loaded.area == InspectedArea.of(ROI) and loaded.identity()["area"] == detector.identity()["area"]
    assert loaded.predict(pixels(20)).score == detector.predict(pixels(20)).score
    assert fitted(good, roi=None).identity() != detector.identity() != fitted(good, roi=~ROI).identity()
    assert "area" not in fitted(good, roi=None).identity()


def test_photos_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    detector = fitted([pixels(seed) for seed in range(3)])
    Image.fromarray(pixels(1)[:, :60]).save(tmp_path / "square.png")
    with pytest.raises(PhotoError, match=r"square\.png.*60x60.*drawn for 80x60"):
        detector.predict(tmp_path / "square.png")
    larger = np.asarray(Image.fromarray(pixels(1)).resize((160, 120)))
    assert detector.predict(larger).inspected is not None
    with pytest.raises(PromptadError):
        fitted([pixels(1)[:, :60]])


def test_a_damaged_area_in_a_file_is_refused(tmp_path: Path) -> None:
    path = fitted([pixels(seed) for seed in range(3)]).save(tmp_path / "nut.safetensors")
    content = path.read_bytes()
    digest = InspectedArea.of(ROI).digest.encode()
    assert digest in content
    path.write_bytes(content.replace(digest, digest[::-1]))
    with pytest.raises(WeightsError, match="damaged"):
        Detector.load(path, backbone=BACKBONE)


def test_views_without_anything_to_look_at_are_left_out() -> None:
    wide = np.zeros((40, 400), bool)
    wide[:, 300:] = True
    views = Preprocess(48, 8, fit="tiles").views(40, 400)
    kept = views_inside(views, InspectedArea.of(wide), (40, 400), 8)
    assert kept == [view for view in views if view.region[2] > 300 + 4] and len(kept) < len(views)
    thin = np.zeros((40, 400), bool)
    thin[20, 5] = True
    assert len(views_inside(views, InspectedArea.of(thin), (40, 400), 8)) == 1


def test_a_thin_area_leaves_one_patch() -> None:
    thin = np.zeros(SIZE, bool)
    thin[31, 33] = True
    detector = fitted([pixels(seed) for seed in range(3)], roi=thin)
    features = detector.encode(pixels(20)).features[0]
    tokens = features.taps[1][0]
    assert torch.equal(tokens, tokens[:1].expand_as(tokens))
    assert np.isfinite(detector.predict(pixels(20)).score)
