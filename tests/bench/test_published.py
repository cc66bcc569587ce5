"""Published numbers: what is there, for which data sets, and when it may be compared."""

from __future__ import annotations

import pytest

from promptad.bench.published import published, recognise

MVTEC, VISA = published()


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
    assert MVTEC.counterpart("promptad", "fused", 4, "pixel_auroc").mean == 96.5
    assert MVTEC.counterpart("promptad", "text", 1, "image_auroc").mean == 91.3
    assert VISA.counterpart("promptad", "memory", 1, "pixel_auroc").mean == 95.2
    assert VISA.counterpart("clip", "", 0, "image_auroc").mean == 77.2
    assert MVTEC.counterpart("promptad", "text", 4, "image_auroc") is None
    assert MVTEC.counterpart("clip", "", 1, "image_auroc") is None


def test_a_mean_over_some_classes_is_said_not_to_be_comparable() -> None:
    assert MVTEC.scope(list(MVTEC.classes)) == "published, mean of all 15 classes"
    assert MVTEC.scope(["bottle"]) == "published, mean of all 15 classes; not comparable with one of them (bottle)"
    assert VISA.scope(["pcb1", "pcb2"]) == "published, mean of all 12 classes; not comparable with 2 of them"


def test_other_numbers_of_photos_are_named() -> None:
    assert MVTEC.differing_counts({"bottle": (209, 20, 63)}) == []
    [line] = MVTEC.differing_counts({"bottle": (40, 20, 62), "tile": (230, 33, 84)})
    assert line == "bottle: photos differ from the full MVTec AD: training 40 of 209, anomalous test 62 of 63"


def test_the_note_on_the_papers_tables_is_there() -> None:
    assert "(F-13)" in MVTEC.note and "86.9" in MVTEC.note and "\n" not in MVTEC.note
