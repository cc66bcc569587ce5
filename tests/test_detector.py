"""The façade, on the tiny random backbone: shapes, verdicts, saving, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from promptad.detector import Detector, load
from promptad.errors import ConfigError, DataError, PhotoError, WeightsError
from promptad.notices import PromptadNotice
from tiny import tiny_backbone

QUICK = {"epochs": 3, "input_size": 48, "memory_layers": (1, 3)}


def photo(seed: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(90, 130, (size[0] // 4, size[1] // 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def detector(backbone):
    return Detector(object="metal nut", defects=["with scratch"], backbone=backbone, **QUICK).fit(
        [photo(i) for i in range(4)]
    )


def test_prediction_has_a_map_of_the_photos_size_a_verdict_and_ranked_words(detector):
    for size in ((60, 80), (40, 40), (33, 100), (300, 20)):  # the last two are cut into tiles
        result = detector.predict(photo(9, size))
        assert result.map.shape == size == result.size and result.map.dtype == np.float32
        assert result.is_anomalous == (result.score > detector.calibration.threshold)
        shares = [w.image_probability + w.region_probability for w in result.defects]
        assert shares == sorted(shares, reverse=True)
        assert "with scratch" in [w.words for w in result.defects]
        assert set(result.timings) == {"read", "encode", "score"} and set(result.parts) == {"text", "memory"}


def test_photos_may_be_paths_pillow_images_arrays_lists_or_folders(detector, tmp_path):
    array = photo(5)
    for name in ("b.png", "a.png"):
        Image.fromarray(array).save(tmp_path / name)
    expected = detector.predict(array).score
    for form in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array)):
        assert detector.predict(form).score == pytest.approx(expected)
    for many in ([array, tmp_path / "a.png"], [tmp_path], (str(tmp_path),)):
        assert [r.score for r in detector.predict(many)] == pytest.approx([expected] * 2)
    assert [r.path.name for r in detector.predict([tmp_path])] == ["a.png", "b.png"]
    with pytest.raises(ConfigError, match=r"is a folder; predict\(\[folder\]\) gives a list"):
        detector.predict(tmp_path)
    assert detector.predict(array, maps=False).map is None


def test_a_memorised_photo_has_no_memory_distance_and_a_foreign_one_scores_higher(detector):
    assert detector.predict(photo(0)).parts["memory"] == pytest.approx(0, abs=1e-3)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert detector.predict(noise).score > detector.predict(photo(0)).score


def test_saved_and_loaded_detector_gives_the_same_result(detector, backbone, tmp_path):
    path = detector.save(tmp_path / "nut.safetensors")
    again = load(path, backbone=backbone)
    assert again.calibration == detector.calibration and again.config == detector.config and again.object == "metal nut"
    first, second = detector.predict(photo(7)), again.predict(photo(7))
    assert second.score == pytest.approx(first.score, abs=2e-4)  # the memory is kept in float16
    np.testing.assert_allclose(second.map, first.map, atol=2e-4)
    assert [w.words for w in second.defects] == [w.words for w in first.defects]
    with safe_open(str(path), framework="np") as file:
        header = json.loads(file.metadata()["promptad"])
    assert header["backbone"]["sha256"] == backbone.sha256
    assert header["config"]["defects"] == ["with scratch"] and header["calibration"]["note"]


def test_a_saved_detector_refuses_other_weights_and_other_files(detector, tmp_path):
    path = detector.save(tmp_path / "nut.safetensors")
    with pytest.raises(WeightsError, match="made with backbone"):
        load(path, backbone=tiny_backbone(seed=1))
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(WeightsError, match="not a readable saved detector"):
        load(tmp_path / "text.safetensors")
    with pytest.raises(WeightsError, match="no such saved detector"):
        load(tmp_path / "absent.safetensors")
    (tmp_path / "short.safetensors").write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError):
        load(tmp_path / "short.safetensors")


def test_thresholds_leave_one_out_held_out_and_altered_copies(backbone):
    good = [photo(i) for i in range(3)]
    make = lambda: Detector(object="nut", backbone=backbone, **QUICK)  # noqa: E731
    assert make().fit(good).calibration.how == "leave-one-out"
    held = make().fit(good, held_out=[photo(i) for i in range(10, 15)], false_alarms=0.2).calibration
    assert (held.how, held.good, held.rate) == ("held-out", 5, 0.2)
    single = make().fit(good[0]).calibration
    assert single.how == "altered copies" and single.threshold > 0


def test_the_untrained_method_needs_no_good_photo_and_the_learning_one_says_so(backbone):
    result = Detector("clip", object="nut", backbone=backbone, input_size=48).predict(photo(1))
    assert result.verdict == "no threshold" and result.map.shape == (60, 80)
    with pytest.raises(ConfigError, match="call fit"):
        Detector(object="nut", backbone=backbone, **QUICK).predict(photo(1))
    with pytest.raises(ConfigError, match="call fit"):
        Detector(object="nut", backbone=backbone, **QUICK).save("never.safetensors")


def test_one_bad_photo_does_not_stop_the_others(detector, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    predictions = list(detector.predict_each([photo(1), tmp_path / "bad.jpg", photo(2)]))
    assert isinstance(predictions[1], PhotoError) and "bad.jpg" in str(predictions[1])
    assert predictions[0].score and predictions[2].score


def test_what_it_refuses(backbone, tmp_path):
    with pytest.raises(ConfigError, match="unknown"):
        Detector("patchcore9", backbone=backbone)
    with pytest.raises(ConfigError, match="epochs"):
        Detector(object="nut", backbone=backbone, epoch=3)
    with pytest.raises(ConfigError, match="at least one good photo"):
        Detector(object="nut", backbone=backbone, **QUICK).fit([])
    with pytest.raises(DataError):
        Detector(object="nut", backbone=backbone, **QUICK).fit(tmp_path)


def test_same_seed_same_detector(backbone):
    good = [photo(1), photo(2)]
    scores = [
        Detector(object="nut", backbone=backbone, seed=seed, **QUICK).fit(good).predict(photo(8)).score
        for seed in (1, 1, 2)
    ]
    assert scores[0] == scores[1] != scores[2]


def test_what_a_centre_crop_leaves_out_is_marked_and_said(backbone):
    cropped = Detector(object="nut", backbone=backbone, fit="crop", **QUICK).fit([photo(i) for i in range(3)])
    with pytest.warns(PromptadNotice, match="fit=crop looks at the middle"):
        result = cropped.predict(photo(9, (60, 90)))
    assert result.inspected.shape == (60, 90) and result.inspected_share == pytest.approx(60 / 90)
    assert result.inspected[:, 15:75].all() and not result.inspected[:, :15].any()
    assert cropped.predict(photo(9, (60, 60))).inspected is None


def test_the_sizes_of_the_good_photos_are_known_and_saved_and_no_threshold_decides_a_score(detector, tmp_path):
    assert detector.good_sizes == [(60, 80)] * 4
    again = load(detector.save(tmp_path / "d.safetensors"), backbone=detector.backbone)
    assert again.good_sizes == [(60, 80)] * 4
    before = again.identity()
    again.calibration = again.calibration.with_threshold(9.0)
    assert again.identity() == before


def test_words_in_one_text_are_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match=r"defects must be a list of texts such as \['scratch'\]"):
        Detector(defects="scratch", backbone="no such backbone")


def test_repr_is_one_short_line(detector, backbone):
    assert repr(detector).startswith(
        "<Detector: promptad, preset clean, object 'metal nut', 4 good photos, threshold 0."
    )
    assert "not fitted yet" in repr(Detector(object="nut", backbone=backbone, **QUICK))
    result = detector.predict(photo(3))
    assert len(repr(result)) < 200 and "map 60x80" in repr(result) and "array" not in repr(result)


def test_the_largest_photo_and_the_range_of_values_are_settings_that_are_saved(backbone, tmp_path):
    settings = QUICK | {"max_megapixels": 1, "input_range": 4095}
    made = Detector(object="nut", backbone=backbone, **settings).fit([photo(1), photo(2)])
    again = load(made.save(tmp_path / "nut.safetensors"), backbone=backbone)
    deep = (photo(3)[..., 0].astype(np.uint16) * 16)[:, :, None].repeat(3, 2)
    for detector in (made, again):
        with pytest.raises(PhotoError, match=r"1200000 pixels, the limit is 1000000; .*max_megapixels=200"):
            detector.predict(np.zeros((1000, 1200, 3), np.uint8))
        plain = np.rint(deep * (255 / 4095)).astype(np.uint8)
        assert detector.predict(deep).score == pytest.approx(detector.predict(plain).score, abs=1e-3)


@pytest.mark.parametrize("asked", [{"precision": "bf16"}, {"device": "meta"}, {"activation": "gelu"}], ids=str)
def test_a_loaded_backbone_is_not_asked_to_be_another(backbone, asked):
    with pytest.raises(ConfigError, match=r"is loaded with .* already; give .* to load_backbone instead"):
        Detector(object="nut", backbone=backbone, **asked)
    same = {"precision": "fp32", "device": "cpu", "activation": backbone.sizes.activation}
    assert Detector(object="nut", backbone=backbone, memory_layers=(1, 3), **same)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("promptad", {"memory_layers": (3, 8)}),
        ("patchcore", {"layers": (9,)}),
        ("anovl", {"local_start": 9}),
        ("promptad", {"local_start": 9}),
    ],
)
def test_a_layer_that_the_tower_has_not_is_refused_before_any_photo(backbone, method, settings):
    with pytest.raises(ConfigError, match=r"1\.\.4"):
        Detector(method, object="nut", backbone=backbone, **settings)


@pytest.mark.parametrize("name", ["metal\nnut", "nut\r", "nut\u2028"])
def test_an_object_is_named_on_one_line(backbone, name):
    with pytest.raises(ConfigError, match="on one line") as caught:
        Detector("clip", object=name, backbone=backbone)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("method", ["promptad", "patchcore", "clip", "coop-oneclass", "devnet", "simplenet"])
@pytest.mark.parametrize(("good", "held_out", "faulty"), [(1, 0, 0), (3, 0, 2), (2, 2, 1)])
def test_progress_of_fit_goes_through_training_and_threshold_to_its_end(backbone, method, good, held_out, faulty):
    """Every step is told once; "all done" is the last thing that is said, not what stands there through half of the work."""
    of_methods = {
        "promptad": QUICK,
        "patchcore": {"layers": (1, 3)},
        "clip": {},
        "simplenet": {"layers": (1, 3), "steps": 4},
    }
    settings = of_methods.get(method, {"epochs": 3})
    photos = [photo(seed) for seed in range(good + held_out + max(faulty, 1))]
    if method == "devnet":
        faulty = max(faulty, 1)
    told: list[tuple[int, int]] = []
    Detector(method, object="nut", backbone=backbone, **settings).fit(
        photos[:good],
        held_out=photos[good : good + held_out],
        defective=photos[good + held_out : good + held_out + faulty],
        progress=lambda done, total: told.append((done, total)),
    )
    (total,) = {total for _, total in told}
    assert [done for done, _ in told] == list(range(1, total + 1))
