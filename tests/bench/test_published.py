"""Published numbers: what is there, for which data sets, and when it may be compared."""

from __future__ import annotations

import pytest

from promptad.bench.published import published, recognise
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict

MVTEC, VISA = published()[:2]


def test_data_sets_have_the_official_numbers_of_photos() -> None:
    assert len(MVTEC.classes) == 15 and len(VISA.classes) == 12
    assert [sum(column) for column in zip(*MVTEC.classes.values(), strict=True)] == [3629, 467, 1258]
    assert [sum(column) for column in zip(*VISA.classes.values(), strict=True)] == [8659, 962, 1200]


def test_a_data_set_is_recognised_by_its_class_names() -> None:
    assert recognise(["bottle"]) is MVTEC
    assert recognise(list(MVTEC.classes)) is MVTEC
    assert recognise(["pcb1", "candle"]) is VISA
    for names in (["bottle", "candle"], ["cookies"], ["bottle", "cookies"], []):
        assert recognise(names) is None


@pytest.mark.parametrize(
    ("dataset", "metric", "numbers"),
    [
        (MVTEC, "image_auroc", [(94.6, 1.7), (95.7, 1.5), (96.6, 0.9)]),
        (MVTEC, "pixel_auroc", [(95.9, 0.5), (96.2, 0.3), (96.5, 0.2)]),
        (VISA, "image_auroc", [(86.9, 2.3), (88.3, 2.0), (89.1, 1.7)]),
        (VISA, "pixel_auroc", [(96.7, 0.4), (97.1, 0.3), (97.4, 0.3)]),
        (MVTEC, "image_aupr", [(97.1, None), (97.9, None), (98.5, None)]),
        (VISA, "pixel_pro", [(85.1, None), (85.8, None), (86.2, None)]),
    ],
)
def test_promptads_own_numbers(dataset, metric, numbers) -> None:
    found = dataset.lookup(metric, method="PromptAD")
    assert [one.shots for one in found] == [1, 2, 4]
    assert [(one.mean, one.std) for one in found] == numbers


def test_methods_without_a_number_have_none() -> None:
    assert {one.method for one in MVTEC.lookup("image_auroc", 1)} >= {
        "SPADE",
        "PaDiM",
        "PatchCore",
        "WinCLIP+",
        "RWDA",
    }
    assert not MVTEC.lookup("image_auroc", 1, "FastRecon") and MVTEC.lookup("image_auroc", 4, "FastRecon")
    assert not MVTEC.lookup("pixel_auroc", method="RWDA")
    assert not VISA.lookup("image_auroc", method="FastRecon")
    assert not MVTEC.lookup("image_auroc", shots=3)


def test_counterparts_of_our_rows() -> None:
    def found(data_set, method: str, parts: str, shots: int, metric: str, **settings) -> list[float]:
        config = config_dict(find_method(method).make_config("paper", **settings))
        numbers = data_set.counterparts(method, parts, shots, config)
        return [number.mean for number in numbers if number.metric == metric]

    assert found(MVTEC, "promptad", "fused", 4, "pixel_auroc") == [96.5]
    assert found(MVTEC, "promptad", "text", 1, "image_auroc") == [91.3]
    assert found(VISA, "promptad", "memory", 1, "pixel_auroc") == [95.2]
    assert found(VISA, "clip", "", 0, "image_auroc", local="vv", smoothing=4.0) == [77.2]
    assert found(VISA, "clip", "", 0, "image_auroc") == []
    assert found(MVTEC, "promptad", "text", 4, "image_auroc") == []
    assert found(MVTEC, "clip", "", 1, "image_auroc", local="vv", smoothing=4.0) == []


@pytest.mark.parametrize("data_set", published(), ids=lambda data_set: data_set.key)
def test_the_settings_that_a_number_belongs_to_exist(data_set) -> None:
    for number in data_set.numbers:
        if number.ours is not None:
            assert number.ours.configs() and number.ours.parts in (find_method(number.ours.method).parts or ("",))


def test_other_numbers_of_photos_are_named() -> None:
    assert MVTEC.differing_counts({"bottle": (209, 20, 63)}) == []
    [line] = MVTEC.differing_counts({"bottle": (40, 20, 62), "tile": (230, 33, 84)})
    assert line == "bottle: photos differ from the full MVTec AD: training 40 of 209, anomalous test 62 of 63"
