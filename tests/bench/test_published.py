"""Published numbers: what is there, for which data sets, and when it may be compared."""

from __future__ import annotations

import json
import statistics

import pytest

from promptad.bench.comparison import published_rows, stand
from promptad.bench.conventions import conventions_of
from promptad.bench.published import costs, published, recognise
from promptad.bench.summary import COLUMNS as COLUMNS_HERE
from promptad.bench.summary import Cell, Line
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
        (MVTEC, "image_aupr", [(97.1, 1.0), (97.9, 0.7), (98.5, 0.5)]),
        (VISA, "pixel_pro", [(85.1, 2.5), (85.8, 2.1), (86.2, 1.7)]),
    ],
)
def test_promptads_own_numbers(dataset, metric, numbers) -> None:
    rows = dataset.lookup(metric, method="PromptAD")
    assert [row.shots for row in rows] == [1, 2, 4]
    assert [(row.mean, row.std) for row in rows] == numbers


def test_methods_without_a_number_have_none() -> None:
    assert {row.method for row in MVTEC.lookup("image_auroc", 1)} >= {
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
    def published_means(data_set, method: str, parts: str, shots: int, metric: str, **settings) -> list[float]:
        config = config_dict(find_method(method).make_config("paper", **settings))
        numbers = data_set.counterparts(method, parts, shots, config)
        return [number.mean for number in numbers if number.metric == metric]

    assert published_means(MVTEC, "promptad", "fused", 4, "pixel_auroc") == [96.5]
    assert published_means(MVTEC, "promptad", "text", 1, "image_auroc") == [91.3]
    assert published_means(VISA, "promptad", "memory", 1, "pixel_auroc") == [95.2]
    assert published_means(VISA, "clip", "", 0, "image_auroc", local="vv", smoothing=4.0) == [77.2]
    assert published_means(VISA, "clip", "", 0, "image_auroc") == []
    assert published_means(MVTEC, "promptad", "text", 4, "image_auroc") == []
    assert published_means(MVTEC, "clip", "", 1, "image_auroc", local="vv", smoothing=4.0) == []
    assert published_means(MVTEC, "coop-oneclass", "", 1, "pixel_auroc") == [87.8]
    assert published_means(VISA, "cocoop-oneclass", "", 1, "image_auroc") == [61.6]
    assert published_means(VISA, "cocoop-oneclass", "", 1, "image_auroc", reading="R2") == []
    assert published_means(MVTEC, "maple", "", 1, "pixel_auroc") == [64.9]
    assert published_means(MVTEC, "maple", "", 1, "pixel_auroc", local="vv") == []
    assert published_means(MVTEC, "coop", "", 0, "pixel_auroc") == [33.3]
    assert published_means(MVTEC, "coop", "", 0, "pixel_auroc", local="vv") == []
    assert (
        published_means(MVTEC, "cocoop", "", 0, "pixel_auroc")
        == published_means(MVTEC, "cocoop", "", 0, "pixel_auroc", local="vv")
        == [86.7]
    )
    medical = next(data_set for data_set in published() if data_set.key == "medical")
    assert published_means(medical, "tcp", "", 0, "image_auroc") == [56.4]
    assert published_means(medical, "tcp", "", 0, "image_auroc", sentences="v2") == [53.3]


@pytest.mark.parametrize("data_set", published(), ids=lambda data_set: data_set.key)
def test_the_settings_that_a_number_belongs_to_exist_and_name_one_number(data_set) -> None:
    seen: dict[tuple, float] = {}
    for number in data_set.numbers:
        if number.ours is None:
            continue
        assert number.ours.parts in (find_method(number.ours.method).parts or ("",))
        configs = {json.dumps(config, sort_keys=True) for config in number.ours.configs()}
        row = {(number.ours.method, number.ours.parts, config, number.metric, number.shots) for config in configs}
        row = {(*entry, number.source, number.backbone) for entry in row}
        # An ablation may print the main row again under another name.
        assert all(seen.get(entry, number.mean) == number.mean for entry in row), number
        assert not number.listed or not row & set(seen), number
        seen |= dict.fromkeys(row, number.mean)


# -- what is printed ------------------------------------------------------------------------------------


COLUMNS = [column for data_set in published() for column in data_set.class_numbers]
# (table, method, shots) of means that are not those of the classes printed above them, and the mean of these.
CONTRARY = {
    ("PromptAD, CVPR 2024", "Table 11", "PatchCore", 4): 86.31,
    ("PromptAD, CVPR 2024", "Table 15", "SPADE", 1): 90.37,
    ("PromptAD, CVPR 2024", "Table 15", "SPADE", 2): 91.55,
    ("PromptAD, CVPR 2024", "Table 15", "SPADE", 4): 92.35,
    ("PromptAD, CVPR 2024", "Table 15", "PaDiM", 1): 87.82,
    ("PromptAD, CVPR 2024", "Table 15", "PaDiM", 2): 89.09,
    ("PromptAD, CVPR 2024", "Table 15", "PaDiM", 4): 90.33,
    ("PromptAD, CVPR 2024", "Table 15", "PatchCore", 1): 92.07,
    ("PromptAD, CVPR 2024", "Table 17", "SPADE", 1): 81.76,
    ("PromptAD, CVPR 2024", "Table 17", "SPADE", 2): 82.08,
    ("PromptAD, CVPR 2024", "Table 17", "SPADE", 4): 83.25,
    ("PromptAD, CVPR 2024", "Table 17", "PaDiM", 1): 67.94,
    ("PromptAD, CVPR 2024", "Table 17", "PaDiM", 2): 71.27,
    ("PromptAD, CVPR 2024", "Table 17", "PaDiM", 4): 75.37,
    ("PromptAD, CVPR 2024", "Table 17", "PatchCore", 1): 82.67,
    ("PromptAD, CVPR 2024", "Table 17", "PatchCore", 2): 84.66,
    ("PromptAD, CVPR 2024", "Table 17", "WinCLIP+", 1): 84.98,
    ("PromptAD, CVPR 2024", "Table 17", "WinCLIP+", 2): 85.63,
    ("PromptAD, CVPR 2024", "Table 17", "WinCLIP+", 4): 88.68,
    ("RWDA, BMVC 2023", "Table 8", "RWDA, CLIP + ours", 1): 83.98,
    ("RWDA, BMVC 2023", "Table 9", "WinCLIP, zero-shot", 0): 80.5,
    ("RWDA, BMVC 2023", "Table 9", "WinCLIP+", 1): 84.98,
    ("RWDA, BMVC 2023", "Table 9", "WinCLIP+", 2): 85.63,
    ("RWDA, BMVC 2023", "Table 9", "WinCLIP+", 4): 88.68,
    ("PromptAD zero-shot, WACV 2024", "Table 1", "PromptAD zero-shot, 1 anomaly", 0): 90.64,
    ("PromptAD zero-shot, WACV 2024", "Table 1", "PromptAD zero-shot, 10 anomalies", 0): 91.98,
}


def test_printed_means_are_those_of_the_printed_classes_or_the_reader_is_told() -> None:
    """Values rounded to a tenth, and their mean once more, can differ by a tenth at most."""
    contrary = {}
    for column in COLUMNS:
        if column.mean is None:
            continue
        classes = next(data_set.classes for data_set in published() if data_set.key == column.data_set)
        assert set(column.values) == set(classes), (column.table, column.method)
        mean = statistics.fmean(value for value, _ in column.values.values())
        if abs(mean - column.mean) > 0.1001:
            contrary[column.source, column.table, column.method, column.shots] = round(mean, 2)
            data_set = next(known for known in published() if known.key == column.data_set)
            told = [entry.words for entry in data_set.contradictions if column.method in entry.methods]
            assert any(column.table in words for words in told), (column.table, column.method)
    assert contrary == CONTRARY
    assert len(COLUMNS) == 256


@pytest.mark.parametrize("data_set", [MVTEC, VISA], ids=lambda data_set: data_set.key)
def test_columns_of_classes_and_rows_of_means_agree(data_set) -> None:
    compared = 0
    for column in data_set.class_numbers:
        rows = data_set.lookup(column.metric, column.shots, column.method)
        means = {row.mean for row in rows if row.source == column.source and row.backbone != "not named"}
        if column.mean is not None and means:
            assert column.mean in means, (column.table, column.method)
            compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    ("method", "numbers", "contrary"),
    [
        ("FAPrompt", [(88.5, 87.5), (95.0, 85.6), (91.0, 93.0), (85.7, 66.2)], ()),
        ("AnomalyCLIP", [(85.0, 83.6), (94.4, 84.8), (87.7, 90.6), (83.2, 62.9)], (87.7, 90.6)),
    ],
)
def test_faprompts_groups_are_means_of_its_sets_without_mvtec(method, numbers, contrary) -> None:
    by_key = {data_set.key: data_set for data_set in published()}
    industrial = ["visa", "btad", "mpdd", "sdd", "aitex", "dagm", "dtd_synthetic", "elpv"]
    groups = [
        (industrial, "image_auroc", "image_aupr", "industrial"),
        (industrial[:-1], "pixel_auroc", "pixel_pro", "industrial"),
        (["brainmri", "headct", "lag", "br35h"], "image_auroc", "image_aupr", "medical"),
        (["colondb", "clinicdb", "kvasir", "endo", "isic", "tn3k"], "pixel_auroc", "pixel_pro", "medical"),
    ]
    for (keys, *metrics, group), printed in zip(groups, numbers, strict=True):
        for metric, wanted in zip(metrics, printed, strict=True):
            own = [row for row in by_key[group].lookup(metric, 0, method) if row.table == "Table 5"]
            assert [row.mean for row in own] == [wanted]
            mean = statistics.fmean(by_key[key].lookup(metric, 0, method)[0].mean for key in keys)
            assert (abs(mean - wanted) > 0.1) is (wanted in contrary), (metric, mean)
    told = [entry.words for entry in by_key["medical"].contradictions]
    assert len(told) == 1 and "88.15 and 90.85" in told[0]


@pytest.mark.parametrize(
    ("data_set", "metric", "shots", "method", "mean", "std"),
    [
        ("mvtec", "image_aupr", 1, "PromptAD", 97.1, 1.0),
        ("visa", "pixel_pro", 4, "PromptAD", 86.2, 1.7),
        ("mvtec", "pixel_auroc", 2, "PaDiM", 91.3, 0.7),
        ("visa", "image_auroc", 1, "SPADE", 79.5, 4.0),
        ("mvtec", "image_auroc", -1, "SimpleNet", 99.6, None),
        ("mvtec", "pixel_auroc", 1, "PromptAD, prompts only, MaskCLIP", 91.6, None),
        ("loco", "pixel_auroc", 4, "PromptAD", 74.5, None),
        ("mvtec", "image_f1", 0, "RWDA, CLIP + ours, known object", 93.1, 0.2),
        ("visa", "image_aupr", 2, "RWDA, CLIP + ours", 87.5, 1.6),
        ("mvtec", "image_auroc", 0, "RWDA, CLIP + ours, one view", 91.0, 0.3),
        (
            "mvtec",
            "image_auroc",
            0,
            "RWDA, CLIP + ours, unknown object, words 'a flawless' and 'an anomalous'",
            75.8,
            0.5,
        ),
        ("sewerml", "image_f1", 0, "RWDA, ours, unknown object", 77.4, 0.9),
        ("isic", "pixel_pro", 0, "FAPrompt", 81.6, None),
        ("aitex", "image_aupr", 0, "FAPrompt, CAP alone, without L_oc", 75.4, None),
        ("medical", "pixel_auroc", 0, "FAPrompt, 8 learnable tokens", 85.0, None),
        ("dagm", "image_aupr", -1, "RD4AD", 79.1, None),
        ("mvtec", "pixel_f1", 0, "PromptAD zero-shot, 10 anomalies", 36.2, None),
        ("mvtec", "image_auroc", 8, "PromptAD zero-shot", 93.1, None),
        ("mvtec", "image_auroc", 0, "PromptAD zero-shot, both branches and CCL, 1 anomaly", 83.8, None),
    ],
)
def test_numbers_as_they_are_printed(data_set, metric, shots, method, mean, std) -> None:
    numbers = next(known for known in published() if known.key == data_set).lookup(metric, shots, method)
    assert (mean, std) in [(number.mean, number.std) for number in numbers]


@pytest.mark.parametrize(
    ("table", "method", "shots", "class_name", "value"),
    [
        ("Table 11", "PromptAD", 1, "screw", (65.0, 2.9)),
        ("Table 12", "WinCLIP+", 4, "zipper", (94.2, 0.4)),
        ("Table 18", "PromptAD", 1, "pcb1", (89.2, 13.1)),
        ("Table 10", "FAPrompt", 0, "transistor", (59.0, None)),
        ("Table 14", "CoOp", 0, "macaroni1", (18.1, None)),
        ("Table 5", "RWDA, CLIP + ours", 1, "capsule", (76.8, 6.4)),
        ("Table 7", "RWDA, CLIP + ours, unknown object", 0, "transistor", (79.6, 1.8)),
        ("Table 8", "WinCLIP+", 1, "pcb1", (75.6, 23.0)),
        ("Table 1", "PromptAD zero-shot, 10 anomalies", 0, "metal_nut", (84.5, None)),
    ],
)
def test_classes_as_they_are_printed(table, method, shots, class_name, value) -> None:
    columns = [c for c in COLUMNS if (c.table, c.method, c.shots) == (table, method, shots)]
    assert value in [column.values[class_name] for column in columns]


def test_every_contradiction_is_about_numbers_that_are_there() -> None:
    for data_set in published():
        known = {number.method for number in data_set.numbers} | {c.method for c in data_set.class_numbers}
        for entry in data_set.contradictions:
            assert set(entry.methods) <= known and "\n" not in entry.words, entry


# Systems that nothing says how to repeat: PromptAD zero-shot's "original CLIP", whose numbers grow with anomalies and good photos.
ALONE = {"CLIP", "CLIP, 1 anomaly", "CLIP, 10 anomalies"}
PUBLISHED_ONLY = {"DiffNet", "TDG", "RegAD", "MKD", "P-SVDD", "RD4AD"}


def test_every_number_has_a_row_of_ours_or_a_reason_why_not() -> None:
    numbers = [number for data_set in published() for number in data_set.numbers]
    assert {number.method for number in numbers if number.published_only} == PUBLISHED_ONLY
    assert not [number for number in numbers if number.published_only and number.ours is not None]
    without = [number for number in numbers if number.ours is None and not number.published_only]
    assert {number.method for number in without} == ALONE
    assert all(number.alone and number.source.startswith("PromptAD zero-shot") for number in without)
    assert not [number for number in numbers if number.alone and number not in without]


def test_systems_that_are_published_only_are_marked() -> None:
    _, rows = published_rows(MVTEC, [2])
    names = [name for name, *_ in rows]
    assert "RegAD, published only" in names and "PromptAD" in names
    assert sum("published only" in name for name in names) == sum("RegAD" in name for name in names)


def test_a_number_of_another_tower_stands_beside_that_tower_alone() -> None:
    cell = Cell(0.9, None, 1, tuple(MVTEC.classes))
    config = config_dict(find_method("promptad").make_config("paper"))
    line = Line("promptad", "paper", "fused", 1, "last", dict.fromkeys(COLUMNS_HERE, cell), config=config)
    units = [
        {"class": name, "photos": dict(zip(("training", "normal", "anomalous"), counts, strict=True))}
        for name, counts in MVTEC.classes.items()
    ]
    towers = {"ViT-B-16-plus-240/laion400m_e32": [94.6], "ViT-L-14/openai": [94.6, 92.4], "RN101/openai": [94.6]}
    for backbone, means in towers.items():
        beside = stand(units, [line], backbone).beside
        assert [b.number.mean for b in beside if b.number.metric == "image_auroc"] == means


@pytest.mark.parametrize(
    ("preset", "changed", "pixels"),
    [("paper", {}, True), ("release", {}, True), ("paper", {"eval_size": 256}, False), ("paper", {"masks": "bilinear"}, False),
     ("paper", {"shot_order": "directory"}, True)],
)  # fmt: skip
def test_pixel_numbers_stand_beside_rows_that_are_measured_alike(preset, changed, pixels) -> None:
    cell = Cell(0.9, None, 1, tuple(MVTEC.classes))
    conventions = conventions_of("promptad", preset).changed(changed).as_dict()
    config = config_dict(find_method("promptad").make_config(preset))
    cells = dict.fromkeys(COLUMNS_HERE, cell)
    line = Line("promptad", preset, "fused", 1, "last", cells, config=config, conventions=conventions)
    units = [
        {"class": name, "photos": dict(zip(("training", "normal", "anomalous"), counts, strict=True))}
        for name, counts in MVTEC.classes.items()
    ]
    standing = stand(units, [line], "ViT-B-16-plus-240/laion400m_e32")
    metrics = {pair.number.metric for pair in standing.beside}
    assert "image_auroc" in metrics and ("pixel_auroc" in metrics) == pixels
    assert any("no published pixel number belongs to" in note for note in standing.notes) != pixels


def test_what_the_methods_cost_is_there() -> None:
    [faprompt] = [cost for cost in costs() if cost.method == "FAPrompt"]
    assert (faprompt.parameters, faprompt.training_ms_a_batch, faprompt.inference_ms_a_photo) == (
        9612256,
        (1354.1, 1.7),
        (214.7, 0.8),
    )
    assert len(costs()) == 7 and faprompt.table == "Table 3"


def test_other_numbers_of_photos_are_named() -> None:
    assert MVTEC.differing_counts({"bottle": (209, 20, 63)}) == []
    [line] = MVTEC.differing_counts({"bottle": (40, 20, 62), "tile": (230, 33, 84)})
    assert line == "bottle: photos differ from the full MVTec AD: training 40 of 209, anomalous test 62 of 63"
