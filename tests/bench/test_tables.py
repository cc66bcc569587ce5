"""Rows and tables from finished units."""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import Any

import pytest

from promptad.bench.files import scores_csv, summary_csv, write_report
from promptad.bench.protocol import Protocol
from promptad.bench.published import published
from promptad.bench.run import Failure, Outcome
from promptad.bench.summary import by_class, summarise
from promptad.bench.tables import Report, make_report, markdown, tables, text
from promptad.bench.variants import make_variants
from promptad.methods.registry import find_method
from promptad.methods.settings import config_dict
from promptad.metrics.accumulator import METRICS

MVTEC, VISA = published()[:2]
BACKBONE = "ViT-B-16-plus-240/laion400m_e32"


def row(
    parts: str = "fused",
    selection: str = "last",
    alarms: tuple[int, int] | None = None,
    **values: float | None,
) -> dict:
    threshold = None
    if alarms:
        threshold = {
            "threshold": 0.5,
            "false_alarms": alarms[0],
            "normal": 4,
            "found": alarms[1],
            "anomalous": 5,
        }
    return {
        "parts": parts,
        "selection": selection,
        "epochs": None,
        "metrics": dict.fromkeys(METRICS, 0.5) | values,
        "threshold": threshold,
        "skipped": {},
        "notes": [],
        "scores": [0.1, 0.4, 0.35, 0.8],
    }


def unit(
    name: str = "cup",
    shots: int = 2,
    run: int = 0,
    method: str = "promptad",
    rows: list | None = None,
    preset: str = "paper",
    settings: dict[str, Any] | None = None,
    seen: int = 0,
    **values: Any,
) -> dict:
    counts = MVTEC.classes.get(name, VISA.classes.get(name, (4, 4, 5)))
    return {
        "method": method,
        "preset": preset,
        "name": "",
        "trained": None,
        "seen_in_training": seen,
        "seed": 111 + run,
        "config": config_dict(find_method(method).make_config(preset, **(settings or {}))),
        "test": [{"file": f"{name}/{i}.png", "label": i % 2} for i in range(4)],
        "learned_from": [],
        "class": name,
        "shots": shots,
        "run": run,
        "rows": rows or [row(**values)],
        "photos": dict(zip(("training", "normal", "anomalous"), counts, strict=True)),
        "problems": [],
    }


def report(units: list[dict], runs: int = 2, backbone: str = BACKBONE, **more: Any) -> Report:
    chosen = Protocol(make_variants(["promptad"]), runs=runs)
    return make_report("parts", chosen, (backbone, f"{backbone} (sha256 12345678, fp32)"), Outcome(units, **more))


def cells(table: str, title: str) -> list[list[str]]:
    """The rows of a Markdown table, its header first."""
    lines = table[table.index(f"## {title}") :].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def test_the_spread_is_the_sample_deviation_of_class_means_over_runs() -> None:
    values = {"cup": [0.9, 0.7, 0.8], "mug": [0.5, 0.9, 0.4]}
    units = [unit(name, run=run, image_auroc=value) for name, all_ in values.items() for run, value in enumerate(all_)]
    [line] = summarise(units)
    means = [0.7, 0.8, 0.6]
    cell = line.cells["image_auroc"]
    assert cell.mean == pytest.approx(0.7) and cell.std == pytest.approx(statistics.stdev(means)) == pytest.approx(0.1)
    assert cell.runs == 3 and cell.classes == ("cup", "mug") == line.classes
    first, second = by_class(units)
    assert (first.class_name, second.class_name) == ("cup", "mug")
    assert first.cells["image_auroc"].std == pytest.approx(0.1)
    assert "| 70.0 ± 10.0 |" in markdown(report(units, runs=3))


def test_one_run_has_no_spread() -> None:
    [line] = summarise([unit(image_auroc=0.7)])
    assert line.cells["image_auroc"].std is None
    shown = markdown(report([unit(image_auroc=0.7)], runs=1))
    assert "| 70.0 |" in shown and " ± " not in shown.split("## Notes")[0].split("## image level")[1]


def test_rates_are_shares_of_normal_and_of_anomalous_photos() -> None:
    units = [unit(run=run, alarms=alarms) for run, alarms in enumerate([(1, 5), (3, 3)])]
    [line] = summarise(units)
    assert line.cells["false_alarms"].mean == 0.5 and line.cells["found"].mean == pytest.approx(0.8)
    assert summarise([unit(shots=1)])[0].cells["found"] is None


def test_rows_come_by_shots_then_as_they_were_asked_for() -> None:
    both = [row(parts, selection) for selection in ("last", "oracle_test") for parts in ("text", "fused")]
    units = [unit(shots=4, rows=both), unit(shots=1, rows=both), unit(shots=0, method="clip", parts="")]
    rows = [(line.shots, line.method, line.parts, line.oracle) for line in summarise(units)]
    assert rows == [
        (0, "clip", "", False),
        *((k, "promptad", parts, oracle) for k in (1, 4) for parts in ("text", "fused") for oracle in (False, True)),
    ]


def test_a_class_that_lacks_a_run_or_a_metric_is_left_out_of_that_mean_and_named() -> None:
    units = [unit(name, run=run, image_auroc=0.8) for name in ("cup", "mug") for run in (0, 1)]
    units[3]["rows"][0]["metrics"]["image_auroc"] = None
    units[2]["rows"][0]["metrics"]["image_auroc"] = 0.1
    [line] = summarise(units)
    assert line.cells["image_auroc"].mean == pytest.approx(0.8) and line.cells["image_auroc"].classes == ("cup",)
    assert line.cells["image_ap"].classes == ("cup", "mug")
    wanted = "promptad paper, prompts + memory, 2 shots: image AUROC: mean over 1 of 2 classes (without mug)"
    assert wanted in report(units).footer


# -- forms ----------------------------------------------------------------------------------------------


def test_all_columns_are_there() -> None:
    shown = markdown(report([unit(alarms=(1, 4))]))
    key = ["method", "shots", "runs", "selection"]
    f1 = "F1-max (oracle threshold)"
    assert cells(shown, "image level")[0] == [*key, "AUROC", "95 %", "AP", f1, "false alarms", "found"]
    assert cells(shown, "pixel level")[0] == [*key, "AUROC", "AP", f1, "AUPRO@0.3", "AUPRO@0.05", "AUPRO-200"]
    assert cells(shown, "image level")[1] == [
        "promptad paper, prompts + memory",
        *("2", "1", "last", "50.0", "15.8 to 100.0", "50.0", "50.0", "25.0", "80.0"),
    ]
    assert len(cells(shown, "every class")[0]) == 16
    plain = text(report([unit()]))
    assert "F1-max*" in plain and "* F1-max: at an oracle threshold" in plain


def test_the_header_says_how_it_was_measured() -> None:
    header = dict(report([unit()]).header)
    assert header["backbone"].endswith("(sha256 12345678, fp32)") and header["selection"] == "last epoch"
    assert header["evaluated"] == "maps and masks at 400 x 400, masks by nearest neighbour"
    assert header["seeds"].startswith("run r has seed 111 + r - 1")
    chosen = Protocol(make_variants(["promptad"], settings={"epochs": 7}), runs=1, conventions={"eval_size": "photo"})
    header = dict(make_report("parts", chosen, ("x", "x"), Outcome([unit()])).header)
    assert header["evaluated"] == "maps and masks at each photo's own size" and header["settings"] == "epochs=7"


def test_oracle_rows_are_marked_everywhere_and_their_gain_is_said() -> None:
    rows = [
        row(image_auroc=0.80, pixel_auroc=0.90),
        row(selection="oracle_test", image_auroc=0.85, pixel_auroc=0.91),
    ]
    made = report([unit(name, rows=rows) for name in ("cup", "mug")])
    for table in tables(made, full=True)[:3]:
        marks = [line[table.columns.index("selection")] for line in table.rows]
        assert marks == ["last", "oracle"] if table.title != "every class" else ["last", "last", "oracle", "oracle"]
    plain = [line for line in text(made).splitlines() if " 85.0" in line or " 91.0" in line]
    assert plain and all(" oracle " in line for line in plain)
    for lines in (made.lines, made.class_lines):
        for entry in csv.DictReader(io.StringIO(summary_csv(lines))):
            assert (entry["selection"] == "oracle") == (entry["image_auroc"] == "0.850000")
    gap = "oracle minus last epoch of the same runs: image AUROC +5.0, pixel AUROC +1.0"
    assert f"promptad paper, prompts + memory, 2 shots: {gap}" in made.footer
    assert "oracle" in dict(made.header)["selection"]


def test_csv_files_hold_fractions_and_the_number_of_classes(tmp_path: Path) -> None:
    units = [unit(name, run=run, image_auroc=0.6 + run / 10) for name in ("cup", "mug") for run in (0, 1)]
    files = write_report(report(units), tmp_path)
    assert [path.name for path in files] == [
        "table.md",
        "summary.csv",
        "per-class.csv",
        "scores.csv",
        "comparisons.csv",
    ]
    [mean] = csv.DictReader(files[1].open(encoding="utf-8"))
    assert (mean["class"], mean["image_auroc"], mean["image_auroc_classes"], mean["runs"]) == (
        "mean",
        "0.650000",
        "2",
        "2",
    )
    assert float(mean["image_auroc_std"]) == pytest.approx(0.5**0.5 / 10, abs=1e-6)
    assert mean["false_alarms"] == "" and "image_f1_max_oracle_threshold" in mean
    assert [entry["class"] for entry in csv.DictReader(files[2].open(encoding="utf-8"))] == ["cup", "mug"]


def test_names_with_marks_do_not_break_the_page() -> None:
    shown = markdown(report([unit("odd|name")]))
    assert "odd\\|name" in shown and len(cells(shown.replace("\\|", "/"), "every class")[1]) == 16


def test_what_was_left_out_is_in_the_footer() -> None:
    skipping = unit("mug")
    skipping["rows"][0]["skipped"] = dict.fromkeys(METRICS[3:], "no masks (5 photos not labelled normal left out)")
    skipping["rows"][0]["notes"] = ["2 photos without label left out of the image metrics"]
    failures = [Failure("jug", "jug: no normal training photos; add some")]
    footer = report([unit(), skipping], failures=failures, problems=["a.png: is cut off"]).footer
    assert "mug: pixel metrics skipped: no masks (5 photos not labelled normal left out)" in footer
    assert "mug: 2 photos without label left out of the image metrics" in footer
    assert "not evaluated: jug: no normal training photos; add some" in footer
    assert "left out: a.png: is cut off" in footer


# -- published ------------------------------------------------------------------------------------------


def whole(data_set=MVTEC, shots: int = 1, **values: Any) -> list[dict]:
    """Units of all classes of a public set, with its numbers of photos."""
    return [unit(name, shots=shots, **values) for name in data_set.classes]


def beside(made: Report) -> list[tuple[str, ...]]:
    """(metric, here, published, difference) of every row beside a published number."""
    beside = [table for table in tables(made, full=True) if table.title == "beside the published numbers"]
    return [row[4:8] for row in beside[0].rows] if beside else []


def test_a_whole_data_set_stands_beside_every_metric_that_is_published() -> None:
    made = report(whole(image_auroc=0.95, pixel_auroc=0.95, image_ap=0.9, aupro_30=0.9))
    assert beside(made) == [
        ("image AUROC (image AUROC)", "95.0", "94.6 ± 1.7", "+0.4"),
        ("image AUPR (image AP)", "90.0", "97.1 ± 1.0", "-7.1"),
        ("pixel AUROC (pixel AUROC)", "95.0", "95.9 ± 0.5", "-0.9"),
        ("PRO (AUPRO@0.3)", "90.0", "87.9 ± 1.0", "+2.1"),
    ]
    shown = cells(markdown(made), "published, mean of all 15 classes")
    assert shown[0] == ["method", "shots", "image AUROC", "image AUPR", "image F1-max", "pixel AUROC", "PRO", "source"]
    rows = {(line[0], line[-1].split(";")[0]): line[2:4] for line in shown[1:]}
    assert rows["SPADE", "PromptAD, CVPR 2024"][0] == "81.0 ± 2.0"
    assert rows["PromptAD", "PromptAD, CVPR 2024"] == ["94.6 ± 1.7", "97.1 ± 1.0"]
    assert any("F-13" in line for line in made.footer) and any("F-7" in line for line in made.footer)


def test_with_another_backbone_the_number_is_shown_and_no_difference() -> None:
    made = report(whole(), backbone="starter")
    assert beside(made) and {row[3] for row in beside(made)} == {"other backbone"}
    assert any(line.endswith("backbone stand beside it, here it is starter") for line in made.footer)


def test_zero_shot_rows_stand_beside_the_papers_they_come_from() -> None:
    rows = [row(parts="", image_auroc=0.9, pixel_auroc=0.9, aupro_200=0.8)]
    made = report(whole(method="faprompt", shots=0, rows=rows), backbone="ViT-L-14-336/openai")
    rows = beside(made)
    assert rows[0] == ("image AUROC (image AUROC)", "90.0", "91.9", "-1.9")
    assert ("PRO (AUPRO-200)", "80.0", "83.3", "-3.3") in rows  # its script's own PRO
    assert not any("F-7" in line for line in made.footer)


# Settings on top of a preset, and whether a number was published for them.
SETTINGS_OF_ROWS = [
    ("promptad", "fused", 1, "paper", {}, True),
    ("promptad", "fused", 1, "release", {}, True),
    ("promptad", "fused", 1, "clean", {}, False),
    ("promptad", "fused", 1, "paper", {"epochs": 7}, False),
    ("promptad", "fused", 3, "paper", {}, False),
    ("promptad", "text", 1, "paper", {"manual_prompts": False}, True),
    ("promptad", "fused", 1, "paper", {"manual_prompts": False}, False),
    ("promptad", "text", 1, "paper", {"semantic_concatenation": False, "margin": False}, True),
    ("promptad", "text", 1, "paper", {"semantic_concatenation": False}, False),
    ("rwda", "sum", 0, "paper", {}, True),
    ("rwda", "sum", 1, "paper", {"fit": "squash"}, False),
    ("rwda", "sum", 0, "paper-good-broken", {"name_object": False}, True),
    ("rwda", "sum", 0, "paper", {"fit": "letterbox"}, False),
    ("rwda", "sum", 0, "paper-good-broken", {}, False),
    ("rwda", "sum", 0, "clean", {}, False),
    ("promptad-zs", "", 0, "paper", {}, True),
    ("promptad-zs", "", 0, "paper", {"anomalies": 1}, True),
    ("promptad-zs", "", 0, "paper", {"anomalies": 3}, False),
]


@pytest.mark.parametrize(("method", "parts", "shots", "preset", "settings", "published_for"), SETTINGS_OF_ROWS)
def test_a_number_stands_beside_the_settings_that_it_belongs_to(
    method, parts, shots, preset, settings, published_for
) -> None:
    units = whole(method=method, shots=shots, preset=preset, settings=settings, rows=[row(parts=parts)])
    made = report(units)
    assert bool(beside(made)) is published_for
    said = any(line.startswith("no published number belongs to: ") for line in made.footer)
    assert said is not published_for


def test_known_and_unknown_objects_have_their_own_numbers() -> None:
    cases = (
        ({}, ("93.0 ± 0.3", "92.6")),
        ({"name_object": False}, ("92.2 ± 0.3", "91.5")),
        ({"fit": "squash"}, ("91.0 ± 0.3", "89.8")),  # one view has its own numbers, not those of the crops
    )
    for settings, wanted in cases:
        rows = [row(parts="sum"), row(parts="guided")]
        made = report(whole(method="rwda", shots=0, settings=settings, rows=rows))
        assert tuple(line[2] for line in beside(made) if line[0].startswith("image AUROC")) == wanted


def one_class_less(units: list[dict]) -> list[dict]:
    return units[:-1]


def fewer_training_photos(units: list[dict]) -> list[dict]:
    units[3]["photos"]["training"] = 40
    return units


def fewer_test_photos(units: list[dict]) -> list[dict]:
    units[0]["photos"]["anomalous"] = 5
    return units


@pytest.mark.parametrize("change", [one_class_less, fewer_training_photos, fewer_test_photos])
def test_published_numbers_stand_beside_the_whole_public_set_alone(change) -> None:
    made = report(change(whole()))
    assert not beside(made) and not any("published" in table.title for table in tables(made, full=True))
    [line] = [line for line in made.footer if "published" in line]
    assert line.startswith("no published numbers: ")


def test_a_failed_class_makes_the_mean_incomparable_too() -> None:
    units = whole(VISA)
    units[-1]["rows"][0]["metrics"]["image_auroc"] = None
    metrics = [line[0] for line in beside(report(units))]
    assert "image AUROC (image AUROC)" not in metrics and "pixel AUROC (pixel AUROC)" in metrics


@pytest.mark.parametrize("names", [("cup", "bottle"), ("cup",)])
def test_other_data_sets_have_no_published_numbers(names) -> None:
    made = report([unit(name) for name in names])
    assert "published" not in " ".join(table.title for table in tables(made, full=True))
    assert "no published numbers: these are not classes of MVTec AD or VisA" in made.footer


def test_a_persons_own_class_of_a_public_name_is_not_that_set() -> None:
    own = unit("screw")
    own["photos"] = {"training": 12, "normal": 5, "anomalous": 7}
    [line] = [line for line in report([own]).footer if "published" in line]
    assert line == "no published numbers: those of MVTec AD are means over all its 15 classes, here are 1"


def test_contradictions_in_print_reach_the_reader() -> None:
    rows = [row(parts="")]
    made = report(whole(method="promptad-zs", shots=0, settings={"anomalies": 1}, rows=rows))
    assert any(line.startswith("contradiction in print (PromptAD zero-shot") for line in made.footer)


# -- rows -----------------------------------------------------------------------------------------------


def test_every_row_says_how_many_runs_it_has() -> None:
    units = [unit(run=run) for run in range(3)] + [unit(method="clip", shots=0, rows=[row(parts="")])]
    shown = cells(markdown(report(units, runs=5)), "image level")
    assert [line[2] for line in shown[1:]] == ["1", "3"]
    assert [entry["runs"] for entry in csv.DictReader(io.StringIO(summary_csv(summarise(units))))] == ["1", "3"]
    assert [entry["seeds"] for entry in csv.DictReader(io.StringIO(summary_csv(summarise(units))))][1] == "111 112 113"


def test_no_mean_counts_a_class_that_was_trained_on() -> None:
    units = [unit("cup", image_auroc=0.6), unit("mug", image_auroc=1.0, seen=3)]
    [line] = summarise(units)
    assert line.cells["image_auroc"].mean == 0.6 and line.cells["image_auroc"].classes == ("cup",)
    assert line.trained_on == ("mug",)
    made = report(units)
    marks = {entry[0]: entry[4] for entry in cells(markdown(made), "every class")[1:]}
    assert marks == {"cup": "last", "mug": "TRAINED ON IT"}
    assert any(line.endswith("mean over 1 of 2 classes (without mug)") for line in made.footer)
    [line] = summarise([unit("cup", seen=1)])
    assert all(cell is None for cell in line.cells.values())


def test_scores_of_every_photo_and_row_are_kept() -> None:
    units = [unit(run=run, rows=[row("text"), row("fused")]) for run in (0, 1)]
    entries = list(csv.DictReader(io.StringIO(scores_csv(units))))
    assert len(entries) == 16
    assert (entries[1]["photo"], entries[1]["label"], float(entries[1]["score"])) == ("cup/1.png", "1", 0.4)
    assert {(entry["parts"], entry["run"], entry["seed"]) for entry in entries} == {
        (parts, run, seed) for parts in ("text", "fused") for run, seed in (("1", "111"), ("2", "112"))
    }


def test_photos_that_were_learned_from_are_named() -> None:
    copied = unit()
    copied["learned_from"] = [["test/good/7.png", "train/good/1.png"]]
    [line] = [line for line in report([copied]).footer if "learned from" in line]
    assert line == (
        "promptad paper, 2 shots, run 1: test/good/7.png was learned from (the same photo as train/good/1.png), so it is "
        "left out of the test"
    )


def test_a_first_look_is_marked() -> None:
    chosen = Protocol(make_variants(["promptad"]), limit=7)
    made = make_report("parts", chosen, ("x", "x"), Outcome([unit()]))
    assert "first look" in made.title and "7" in dict(made.header)["limit"]
    assert any(line.startswith("first look (limit=7)") for line in made.footer)


def test_presets_measured_in_different_ways_are_told_apart() -> None:
    chosen = Protocol(make_variants(["promptad"], ["clean", "paper", "release"]))
    words = dict(make_report("parts", chosen, ("x", "x"), Outcome([unit()])).header)["evaluated"]
    assert words == (
        "promptad clean: maps and masks at 400 x 400, masks by nearest neighbour; promptad paper: maps and masks at 400 x 400, "
        "masks by nearest neighbour, only what the layout looks at (masks cropped too); promptad release: maps and masks at "
        "400 x 400, masks by nearest neighbour over 1024 x 1024"
    )
