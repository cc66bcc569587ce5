"""Copies among the good photos count once, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.cli.console import show_notices
from promptad.detector import Detector
from promptad.errors import ConfigError, DataError, PhotoError
from promptad.notices import collected_notices
from tiny import tiny_backbone

CASE = Path(__file__).parents[2].parent / "shared" / "cases" / "good_duplicates"
QUICK = {"epochs": 2, "input_size": 48, "memory_layers": (1, 3)}
ROLES = {"promptad": QUICK, "clip": {"input_size": 48}}


def photo(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def jpeg(folder: Path, name: str, array: np.ndarray) -> Path:
    Image.fromarray(array).save(folder / name, quality=92)
    return folder / name


@pytest.mark.parametrize("method", ROLES)
def test_copies_change_neither_threshold_nor_scores_and_are_said(method, backbone, tmp_path):
    def fit(good):
        return Detector(method, object="nut", backbone=backbone, **ROLES[method]).fit(good)

    apart, other = fit([photo(0), photo(1)]), photo(9)
    with collected_notices() as lines:
        copied = fit([photo(0), photo(1), photo(0), jpeg(tmp_path, "again.jpg", photo(1)), photo(0)])
    assert copied.calibration == apart.calibration and copied.calibration.good == 2
    assert copied.predict(other).score == apart.predict(other).score
    assert [entry.get("copy_of") for entry in copied.good] == [None, None, "photo 1", "photo 2", "photo 1"]
    said = " ".join(lines)
    assert "2 of 5 good photos have the same pixels" in said and "1 of 5 good photos show the same" in said
    assert "which leaves 2 good photos" in said


@pytest.mark.parametrize("method", ROLES)
def test_copies_prove_no_rate(method, backbone, tmp_path):
    detector = Detector(method, object="nut", backbone=backbone, **ROLES[method])
    held = [photo(5), *[jpeg(tmp_path, f"{i}.jpg", photo(5)) for i in range(8)]]
    with collected_notices() as lines:
        calibration = detector.fit([photo(0), photo(1)], held_out=held).calibration
    assert calibration.good == {"promptad": 1, "clip": 3}[method] and "at most" not in calibration.note
    assert [line.split(" good photos")[0] for line in lines] == ["7 of 11", "1 of 11"]  # the first JPEG is a near copy


def test_resized_and_turned_copies_prove_no_rate(backbone):
    def large(seed, size=(320, 240)):
        return np.asarray(Image.fromarray(photo(seed)).resize(size, Image.Resampling.BICUBIC))

    turned = [np.ascontiguousarray(other) for other in (large(0)[::-1], large(0)[:, ::-1], np.rot90(large(0)))]
    detector = Detector("clip", object="nut", backbone=backbone, input_size=48)
    with collected_notices() as lines:
        calibration = detector.fit([large(0), large(1), large(0, (160, 120)), *turned]).calibration
    assert calibration.good == 2 and "4 of 6 good photos show the same, saved again, resized or turned," in lines[0]


def test_a_photo_cannot_be_learned_from_and_held_out_whatever_its_file(backbone, tmp_path):
    Image.fromarray(photo(0)).save(tmp_path / "a.png")
    Image.fromarray(photo(0)).save(tmp_path / "b.bmp")
    detector = Detector(object="nut", backbone=backbone, **QUICK)
    with pytest.raises(
        ConfigError, match=r"held_out: 1 good photo is learned from too, .*/b\.bmp as .*/a\.png\); leave it out"
    ):
        detector.fit([tmp_path / "a.png"], held_out=[tmp_path / "b.bmp"])
    for number in range(1, 6):
        Image.fromarray(photo(number)).save(tmp_path / f"{number}.png")
    learned = [tmp_path / f"{number}.png" for number in range(1, 6)]
    with (
        show_notices(),
        pytest.raises(ConfigError, match=r"^--held-out: 4 good photos are learned from too, .*and 1 more\)"),
    ):
        detector.fit(learned, held_out=[photo(9), *learned[:4]])
    assert detector.good == [] and detector.calibration is None
    # Saved again with losses it is left out, with a line; where nothing is learned it is merely a copy.
    with collected_notices() as lines:
        held = detector.fit([tmp_path / "a.png"], held_out=[jpeg(tmp_path, "c.jpg", photo(0)), photo(3)]).calibration
    assert (held.how, held.good) == ("held-out", 1) and "c.jpg as a.png" in " ".join(lines)
    clip = Detector("clip", object="nut", backbone=backbone, input_size=48)
    assert clip.fit([tmp_path / "a.png"], held_out=[tmp_path / "b.bmp"]).calibration.good == 1


@pytest.mark.skipif(not CASE.is_dir(), reason=f"{CASE} is not there")
def test_the_case_of_four_files_and_two_photos(backbone):
    with collected_notices() as lines:
        calibration = Detector(object="nut", backbone=backbone, **QUICK).fit(CASE).calibration
    assert (calibration.good, calibration.how, calibration.bound) == (2, "leave-one-out", pytest.approx(1 / 3))
    assert any("2 of 4 good photos have the same pixels" in line for line in lines)


def test_only_copies_of_one_photo_are_one_photo(backbone):
    calibration = Detector(object="nut", backbone=backbone, **QUICK).fit([photo(0)] * 4).calibration
    assert (calibration.how, calibration.good, calibration.bound) == ("altered copies", 1, 0.5)


@pytest.mark.parametrize("rate", [1e-20, float("nan"), 0.0, 1.0, -1.0])
def test_impossible_rates_are_refused_before_a_photo_is_read(rate, backbone):
    detector = Detector(object="nut", backbone=backbone, **QUICK)
    with pytest.raises(ConfigError, match=r"rate of false alarms|must be a number"):
        detector.fit(["absent.png", "absent-too.png"], false_alarms=rate)
    fitted = detector.fit([photo(0), photo(1)])
    before = fitted.calibration
    with pytest.raises(ConfigError, match=r"rate of false alarms|must be a number"):
        fitted.set_false_alarms(rate)
    assert fitted.calibration == before


def test_moving_the_threshold_scores_no_photo_again(backbone, monkeypatch):
    detector = Detector(object="nut", backbone=backbone, **QUICK).fit([photo(0), photo(1), photo(2)])
    result = detector.predict(photo(9))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("scored or encoded again")

    monkeypatch.setattr(detector.method, "score", never)
    monkeypatch.setattr(detector.encoder, "encode", never)
    strict, loose = detector.set_false_alarms(0.02).calibration, detector.set_false_alarms(0.3).calibration
    assert strict.threshold > loose.threshold
    moved = result.judged_by(strict)
    assert (moved.threshold, moved.score) == (strict.threshold, result.score) and moved.map is result.map
    detector.set_threshold(result.score - 1e-6)
    assert result.judged_by(detector.calibration).verdict == "anomalous"
    assert detector.calibration.with_threshold(result.score).scores == strict.scores  # a rate can still be asked for
    assert result.judged_by(None).verdict == "no threshold"
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="threshold must be a number"):
            detector.set_threshold(wrong)


def test_without_good_photos_a_threshold_can_be_set_by_hand(backbone):
    detector = Detector("clip", object="nut", backbone=backbone, input_size=48)
    with pytest.raises(ConfigError, match="no threshold to move"):
        detector.set_false_alarms(0.1)
    assert detector.set_threshold(0.4).calibration.how == "by hand"
    assert detector.predict(photo(1)).threshold == 0.4


@pytest.mark.parametrize("role", ["good", "held out"])
def test_a_photo_that_would_need_too_many_tiles_is_named_and_left_out(backbone, tmp_path, role):
    """It can be read; only the layout of the views cannot be made."""
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(tmp_path / "large.png")
    detector = Detector(object="nut", backbone=backbone, finest_defect=4, **QUICK)
    good, held = [photo(0), photo(1)], [photo(2)]
    (good if role == "good" else held).append(tmp_path / "large.png")
    lines: list[str] = []
    detector.fit(good, held_out=held, unreadable=lines.append)
    assert len(lines) == 1 and "large.png: a photo of 2000x2000 pixels needs" in lines[0]
    assert len(detector.good) == 2 and detector.calibration.good == 1
    with pytest.raises(PhotoError, match=r"large\.png: a photo of 2000x2000"):
        detector.fit(good, held_out=held)
    with pytest.raises(PhotoError, match=r"large\.png: a photo of 2000x2000"):
        detector.predict(tmp_path / "large.png")
    with pytest.raises(DataError, match="none of the good photos"):
        detector.fit([tmp_path / "large.png"], unreadable=lines.append)
