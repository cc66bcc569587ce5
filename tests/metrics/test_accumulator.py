"""The accumulator against the pure functions, its reasons in words, and merging."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from promptad.errors import DataError, PhotoError
from promptad.metrics.accumulator import IMAGE_METRICS, METRICS, PIXEL_METRICS, Accumulator
from promptad.metrics.aupro import aupro, aupro_200
from promptad.metrics.ranking import auroc, average_precision, f1_max


def photos(seed=0, number=8, decimals=None):
    """(label, score, map, mask) of small photos of several sizes; every second one has a defect."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(number):
        height, width = 16 + 3 * (index % 3), 20 + 5 * (index % 2)
        mask = np.zeros((height, width), np.uint8)
        if index % 2:
            mask[3:8, 4:9] = mask[10:13, 12:14] = 255
        scores = rng.normal(size=mask.shape) + 1.2 * (mask > 0)
        scores = scores if decimals is None else scores.round(decimals)
        made.append((index % 2, float(rng.normal() + index % 2), scores.astype(np.float32), mask))
    return made


def accumulate(made):
    accumulator = Accumulator()
    for label, score, anomaly_map, mask in made:
        accumulator.add(label, score, anomaly_map, mask)
    return accumulator


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_equals_the_pure_functions(decimals):
    made = photos(decimals=decimals)
    labels, scores, maps, masks = zip(*made, strict=True)
    result = accumulate(made).compute()
    truth = np.concatenate([m.ravel() for m in masks]) > 0
    pixels = np.concatenate([m.ravel() for m in maps])
    assert result.image_auroc == auroc(labels, scores)
    assert result.image_ap == average_precision(labels, scores)
    assert (result.image_f1_max, result.image_f1_threshold) == f1_max(labels, scores)
    assert result.pixel_auroc == auroc(truth, pixels)
    assert result.pixel_ap == pytest.approx(average_precision(truth, pixels), abs=1e-12)
    assert (result.pixel_f1_max, result.pixel_f1_threshold) == f1_max(truth, pixels)
    exact = aupro(maps, masks)
    assert result.aupro_30 == pytest.approx(exact[0.3], abs=1e-12)
    assert result.aupro_05 == pytest.approx(exact[0.05], abs=1e-12)
    assert result.aupro_200 == pytest.approx(aupro_200(maps, masks), abs=1e-12)
    assert result.skipped == {}
    assert result.notes == ()
    assert (result.n_normal, result.n_anomalous, result.n_maps, result.n_regions) == (4, 4, 8, 8)
    assert result.n_pixels == pixels.size
    assert result.map_sizes == ((16, 20), (16, 25), (19, 20), (19, 25), (22, 20), (22, 25))
    assert list(result.values()) == list(METRICS)
    assert result.values()["aupro_05"] == result.aupro_05


def test_merge_equals_single_pass_also_through_pickle():
    made = photos(3, 11)
    single = accumulate(made).compute()
    left, right = accumulate(made[:4]), accumulate(made[4:])
    left.compute()  # pools the pixels inside; merging after that must not matter
    left.merge(pickle.loads(pickle.dumps(right)))
    merged = left.compute()
    for name, value in single.values().items():
        assert merged.values()[name] == pytest.approx(value, abs=1e-12), name
    assert (merged.n_maps, merged.n_regions, merged.n_pixels) == (
        single.n_maps,
        single.n_regions,
        single.n_pixels,
    )
    assert merged.map_sizes == single.map_sizes
    assert right.compute().n_maps == 7  # the merged one stays as it was


def test_more_photos_after_compute():
    made = photos(4)
    accumulator = accumulate(made[:5])
    accumulator.compute()
    for label, score, anomaly_map, mask in made[5:]:
        accumulator.add(label, score, anomaly_map, mask)
    for name, value in accumulate(made).compute().values().items():
        assert accumulator.compute().values()[name] == pytest.approx(value, abs=1e-12), name


def test_normal_photo_without_mask_counts_as_all_normal():
    made = photos(5)
    without = [(label, score, m, mask if label else None) for label, score, m, mask in made]
    assert accumulate(without).compute().values() == accumulate(made).compute().values()


def test_the_given_arrays_are_copied_and_kept():
    made = photos(6)
    accumulator = Accumulator()
    for label, score, anomaly_map, mask in made:
        buffer = anomaly_map.copy()
        accumulator.add(label, score, buffer, mask if label else None)
        buffer[:] = 0  # a caller may reuse its buffer
    assert accumulator.compute().values() == accumulate(made).compute().values()
    kept = [m.copy() for _, _, m, _ in made]
    accumulate(made).compute()
    assert all((m == k).all() for (_, _, m, _), k in zip(made, kept, strict=True))


def reasons(*added):
    accumulator = Accumulator()
    for photo in added:
        accumulator.add(*photo)
    result = accumulator.compute()
    for name in METRICS:  # a metric has either a value or a reason, never both
        assert (result.values()[name] is None) == (name in result.skipped), name
    return result


MAP, EMPTY, SOME = np.arange(12.0).reshape(3, 4), np.zeros((3, 4)), np.eye(3, 4)


@pytest.mark.parametrize(
    ("added", "image", "pixel"),
    [
        ([], "no photos", "no photos"),
        ([(0, 0.1), (1, 0.9)], None, "no anomaly maps"),
        ([(0, 0.1, MAP), (0, 0.2, MAP)], "only normal photos (2)", "only normal photos (2)"),
        ([(0, 0.1, MAP, EMPTY)], "only normal photos (1)", "only normal photos (1)"),
        ([(1, 0.1, MAP, SOME)], "only anomalous photos (1)", None),
        ([(None, 0.1, MAP, SOME)], "no labels (1 photo of unknown label)", None),
        ([(0, 0.1, MAP), (1, 0.9, MAP)], None, "no masks (1 photo not labelled normal left out)"),
        (
            [(1, 0.1, MAP), (1, 0.9, MAP)],
            "only anomalous photos (2)",
            "no masks (2 photos not labelled normal left out)",
        ),
        ([(0, 0.1, MAP), (1, 0.9, MAP, EMPTY)], None, "no defect pixels in 1 mask"),
        ([(0, 0.1, MAP), (1, 0.9)], None, "no anomaly map of a photo with a mask"),
        (
            [(1, 0.1, MAP, EMPTY + 1)],
            "only anomalous photos (1)",
            "no normal pixels: the masks mark every pixel as defect",
        ),
    ],
)
def test_reasons_in_words(added, image, pixel):
    skipped = reasons(*added).skipped
    expected = dict.fromkeys(IMAGE_METRICS, image) | dict.fromkeys(PIXEL_METRICS, pixel)
    assert skipped == {name: reason for name, reason in expected.items() if reason}


def test_aupro_200_alone_may_be_undefined():
    result = reasons((0, 0.1, EMPTY), (1, 0.9, 10 * SOME, SOME))
    assert list(result.skipped) == ["aupro_200"]
    assert "200" in result.skipped["aupro_200"]
    assert result.aupro_30 == 1.0


def test_photos_left_out_are_counted_in_words():
    result = reasons(
        (0, 0.1, MAP),
        (1, 0.9, MAP, SOME),
        (1, 0.8, MAP),
        (1, 0.7, MAP),
        (None, 0.5, MAP),
        (1, 0.6),
        (1, 0.5, MAP, EMPTY),
    )
    assert result.notes == (
        "1 photo without label left out of the image metrics",
        "1 photo without anomaly map left out of the pixel metrics",
        "2 photos labelled anomalous without mask left out of the pixel metrics",
        "1 photo without label and mask left out of the pixel metrics",
        "1 photo labelled anomalous with an empty mask: all pixels count as normal",
    )
    assert (result.n_normal, result.n_anomalous, result.n_maps) == (1, 5, 3)
    assert result.skipped == {}


@pytest.mark.parametrize(
    ("photo", "kind", "words"),
    [
        ((0, float("nan"), MAP), PhotoError, "image score is nan"),
        ((0, float("inf")), PhotoError, "image score is inf"),
        ((1, 0.5, np.where(MAP > 9, np.nan, MAP), SOME), PhotoError, "2 of 12 scores are NaN or infinite"),
        ((1, 0.5, np.where(MAP > 0, np.inf, MAP)), PhotoError, "11 of 12 scores are NaN or infinite"),
        ((1, 0.5, MAP, np.ones((4, 3))), PhotoError, "mask is 4 x 3 and its anomaly map 3 x 4"),
        ((1, 0.5, np.ones(4)), PhotoError, r"shape \(4,\)"),
        ((0, 0.5, np.ones((0, 4))), PhotoError, "not empty"),
        ((0, 0.5, MAP, SOME), PhotoError, "labelled normal but its mask marks 3 defect pixels"),
        ((2, 0.5), DataError, "label is 2"),
    ],
)
def test_a_bad_photo_is_one_clear_line_and_leaves_no_trace(photo, kind, words):
    made = photos(8)
    accumulator = accumulate(made)
    with pytest.raises(kind, match=words) as error:
        accumulator.add(*photo, name="part-7.png")
    assert str(error.value).startswith("part-7.png: ")
    assert "\n" not in str(error.value)
    assert accumulator.compute() == accumulate(made).compute()


def test_a_photo_without_name_is_named_by_its_number():
    accumulator = Accumulator()
    accumulator.add(0, 0.1)
    with pytest.raises(PhotoError, match=r"^photo 2: "):
        accumulator.add(0, float("nan"))


def test_kept_memory_is_four_bytes_a_normal_pixel_and_eight_a_defect_pixel():
    accumulator = Accumulator()
    mask = np.zeros((50, 60), bool)
    mask[:10, :10] = True
    for _ in range(3):
        accumulator.add(1, 0.5, np.random.default_rng(0).normal(size=mask.shape).astype(np.float32), mask)
    accumulator.compute()
    held = sum(part.nbytes for part in accumulator._normal + accumulator._defect + accumulator._area)
    assert held == 3 * (4 * 2900 + 8 * 100)


def test_metrics_do_not_import_torch():
    code = "import sys, promptad.metrics.accumulator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("offset", [0, 1_000_000])
def test_pixels_are_ranked_in_the_precision_they_come_in(kind, offset):
    """A spread that float32 cannot hold on top of an offset: ties that are none would halve the area."""
    from sklearn.metrics import roc_auc_score

    steps = 0.01 if kind is np.float64 else 1
    made = [
        (label, score, (offset * (kind is not np.float16) + steps * (4 * values).round()).astype(kind), mask)
        for label, score, values, mask in photos(3)
    ]
    truth = np.concatenate([mask.ravel() for *_, mask in made]) > 0
    pixels = np.concatenate([values.astype(np.float64).ravel() for _, _, values, _ in made])
    result = accumulate(made).compute()
    assert result.pixel_auroc == pytest.approx(roc_auc_score(truth, pixels), abs=1e-12)
    assert result.aupro_30 == pytest.approx(aupro([m for _, _, m, _ in made], [m for *_, m in made])[0.3], abs=1e-12)


def test_maps_of_two_precisions_are_ranked_together_in_the_finer_one():
    offset, accumulator = 1e6, Accumulator()
    accumulator.add(0, 0.1, np.full((2, 2), offset, np.float32))
    accumulator.add(1, 0.9, np.full((2, 2), offset) + 0.01, np.ones((2, 2)))
    assert accumulator.compute().pixel_auroc == 1.0
