"""Test sets: batched scores equal the detector's own, masks at evaluation size, parts, thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_data import SETTINGS, SIZE, make_class, photo, save
from promptad.bench.conventions import Conventions
from promptad.bench.testset import TestSet, judge, scoring_parts, threshold_from
from promptad.data.datasets import load_dataset
from promptad.data.records import Record
from promptad.detector import Detector
from promptad.errors import DataError
from promptad.learning.features import FeatureStore
from tiny import tiny_backbone

BACKBONE = tiny_backbone()
SMALL = Conventions(eval_size=20)


def fitted(folder: Path, **settings: object) -> tuple[Detector, list]:
    detector = Detector("promptad", object="cup", backbone=BACKBONE, **{**SETTINGS, "epochs": 1, **settings})
    good = detector.encoder.encode_files(sorted((folder / "train/good").iterdir()), reference=True)
    return detector.fit_features(good), good


def records_of(folder: Path) -> list[Record]:
    return [record for record in load_dataset(folder) if record.split == "test"]


def all_scores(tests: TestSet, detector: Detector) -> tuple[list[float], list[np.ndarray]]:
    scores = list(tests.scores(detector))
    return [score for _, score, _ in scores], [anomaly_map for *_, anomaly_map in scores]


@pytest.mark.parametrize("eval_size", [20, "photo"])
@pytest.mark.parametrize("view_score", ["max", "mean"])
def test_batched_scores_and_maps_are_those_of_the_detector(tmp_path: Path, eval_size, view_score) -> None:
    folder = make_class(tmp_path, "cup", good=18, bad=2)  # more than one batch
    save(folder / "test/good", "wide.png", photo(7, size=(30, 90)))  # cut into tiles
    save(folder / "test/good", "tall.png", photo(8, size=(60, 40)))  # another grid
    detector, _ = fitted(folder, view_score=view_score)
    records = records_of(folder)
    tests = TestSet(records, detector.encoder, Conventions(eval_size=eval_size), {})
    seen = list(tests.scores(detector))
    assert [record for record, *_ in seen] == records and len(records) == 22
    for record, score, anomaly_map in seen:
        features = detector.encoder.encode_files([record.path])[0]
        size = None if eval_size == "photo" else (eval_size, eval_size)
        expected = detector.predict_features(features, map_size=size)
        assert score == pytest.approx(expected.score, abs=1e-5)
        assert anomaly_map.shape == expected.map.shape
        np.testing.assert_allclose(anomaly_map, expected.map, atol=1e-4)


def test_masks_are_brought_to_evaluation_size_by_nearest_neighbour(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup")
    detector, _ = fitted(folder)
    records = records_of(folder)
    bad = next(record for record in records if record.mask)
    whole = np.random.default_rng(0).random((SIZE, SIZE)) < 0.3
    Image.fromarray(whole.astype(np.uint8) * 255).save(bad.mask)
    half, own = (TestSet(records, detector.encoder, Conventions(eval_size=size), {}) for size in (20, "photo"))
    np.testing.assert_array_equal(own.mask(bad), whole)
    centres = ((np.arange(20) + 0.5) * SIZE / 20).astype(int)
    np.testing.assert_array_equal(half.mask(bad), whole[np.ix_(centres, centres)])
    assert half.mask(next(record for record in records if record.label == 0)) is None


def test_metrics_are_of_all_pixels_at_evaluation_size_and_aurocs_agree(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup")
    detector, _ = fitted(folder)
    tests = TestSet(records_of(folder), detector.encoder, SMALL, {})
    measured = tests.measure(detector)
    result = measured.result
    assert result.n_pixels == 6 * 400 and result.map_sizes == ((20, 20),) and result.n_maps == 6
    assert (result.n_normal, result.n_anomalous, result.n_regions) == (3, 3, 3)
    assert measured.alarms is None and len(measured.scores) == 6
    assert tests.aurocs(detector) == {"image": result.image_auroc, "pixel": result.pixel_auroc}


def test_without_masks_aurocs_are_of_images_alone(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup", masks=False)
    detector, _ = fitted(folder)
    tests = TestSet(records_of(folder), detector.encoder, SMALL, {})
    aurocs = tests.aurocs(detector)
    assert not tests.has_masks and 0 <= aurocs["image"] <= 1 and np.isnan(aurocs["pixel"])


def test_photos_beyond_memory_are_read_from_the_cache_again(tmp_path: Path) -> None:
    folder = make_class(tmp_path / "data", "cup")
    detector, _ = fitted(folder)
    detector.encoder.cache = FeatureStore(tmp_path / "store")
    records = records_of(folder)
    kept, streamed = (TestSet(records, detector.encoder, SMALL, {}, keep_bytes=room) for room in (2**30, 0))
    assert len(kept._kept) == 6 and not streamed._kept
    for first, second in zip(all_scores(kept, detector), all_scores(streamed, detector), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
    detector.encoder.cache = None
    assert len(TestSet(records, detector.encoder, SMALL, {}, keep_bytes=0)._kept) == 6  # nowhere else to put them


def test_unusable_photos_and_masks_get_their_line_and_the_rest_is_evaluated(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup")
    (folder / "test/good/001.png").write_bytes(b"this is no photo")
    Image.new("L", (9, 5), 255).save(folder / "ground_truth/stain/001_mask.png")
    detector, _ = fitted(folder)
    tests = TestSet(records_of(folder), detector.encoder, SMALL, {})
    assert len(tests) == 5 and len(tests.problems) == 2
    assert "test/good/001.png" in tests.problems[0] and "\n" not in tests.problems[0]
    assert "001_mask.png" in tests.problems[1] and "9x5" in tests.problems[1]
    result = tests.measure(detector).result
    assert (result.n_normal, result.n_anomalous, result.n_maps) == (2, 3, 4)
    assert result.notes == ("1 photo labelled anomalous without mask left out of the pixel metrics",)


def test_a_test_set_without_a_readable_photo_is_a_data_error(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup", good=1, bad=1)
    detector, _ = fitted(folder)
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"cup: none of the 2 test photos can be read \(first: .*000\.png"):
        TestSet(records_of(folder), detector.encoder, SMALL, {})


def test_parts_share_what_was_learned_and_are_put_back(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup")
    detector, good = fitted(folder)
    before = judge(detector, good)[0][0]
    with scoring_parts(detector.method, "memory"):
        assert judge(detector, good)[0][0] == pytest.approx(0, abs=1e-5)  # a memorised photo
    with pytest.raises(RuntimeError), scoring_parts(detector.method, "text"):
        raise RuntimeError
    assert detector.method.config.parts == "fused" and judge(detector, good)[0][0] == before
    with scoring_parts(detector.method, ""):
        assert judge(detector, good)[0][0] == before


def test_the_threshold_is_the_detectors_own(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup")
    detector, good = fitted(folder)
    assert detector.calibration.how == "leave-one-out"
    assert threshold_from(detector, good) == pytest.approx(detector.calibration.threshold, abs=1e-6)
    assert threshold_from(detector, good[:1]) is None


def test_false_alarms_and_found_are_counted_above_the_threshold(tmp_path: Path) -> None:
    folder = make_class(tmp_path, "cup")
    detector, _ = fitted(folder)
    tests = TestSet(records_of(folder), detector.encoder, SMALL, {})
    scores = list(tests.scores(detector, maps=False))

    def above(label: int, limit: float) -> int:
        return sum(score > limit for record, score, _ in scores if record.label == label)

    limits: Sequence[float] = sorted(score for _, score, _ in scores)
    for limit in (limits[0] - 1e-3, (limits[2] + limits[3]) / 2, limits[-1] + 1e-3):
        alarms = tests.measure(detector, limit).alarms
        assert (alarms.false_alarms, alarms.found) == (above(0, limit), above(1, limit))
        assert (alarms.normal, alarms.anomalous, alarms.threshold) == (3, 3, limit)
