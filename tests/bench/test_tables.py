"""Rows and tables from finished units."""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import Any

import pytest

from promptad.bench.protocol import Protocol, make_variants
from promptad.bench.published import published
from promptad.bench.run import Failure, Outcome
from promptad.bench.summary import by_class, summarise
from promptad.bench.tables import Report, csv_text, make_report, markdown, tables, text, write_report
from promptad.metrics.accumulator import METRICS

MVTEC, VISA = published()


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
    }


def unit(
    name: str = "cup",
    shots: int = 2,
    run: int = 0,
    method: str = "promptad",
    rows: list | None = None,
    **values: Any,
) -> dict:
    counts = MVTEC.classes.get(name, VISA.classes.get(name, (4, 4, 5)))
    return {
        "method": method,
        "preset": "clean",
        "name": "",
        "trained": None,
        "seen_in_training": 0,
        "class": name,
        "shots": shots,
        "run": run,
        "rows": rows or [row(**values)],
        "photos": dict(zip(("training", "normal", "anomalous"), counts, strict=True)),
        "problems": [],
    }


def report(units: list[dict], runs: int = 2, backbone: str = MVTEC.backbone, **more: Any) -> Report:
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
    assert "| 70.0 |" in shown and "±" not in shown


def test_rates_are_shares_of_normal_and_of_anomalous_photos() -> None:
    units = [unit(run=run, alarms=alarms) for run, alarms in enumerate([(1, 5), (3, 3)])]
    [line] = summarise(units)
    assert line.cells["false_alarms"].mean == 0.5 and line.cells["found"].mean == pytest.approx(0.8)
    assert summarise([unit(shots=1)])[0].cells["found"] is None


def test_rows_come_by_shots_then_as_they_were_asked_for() -> None:
    both = [row(parts, selection) for selection in ("last", "oracle_test") for parts in ("text", "fused")]
    units = [unit(shots=4, rows=both), unit(shots=1, rows=both), unit(shots=0, method="clip", parts="")]
    found = [(line.shots, line.method, line.parts, line.oracle) for line in summarise(units)]
    assert found == [
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
    wanted = "promptad clean, prompts + memory, 2 shots: image AUROC: mean over 1 of 2 classes (without mug)"
    assert wanted in report(units).footer


# -- forms ----------------------------------------------------------------------------------------------


def test_all_columns_are_there() -> None:
    shown = markdown(report([unit(alarms=(1, 4))]))
    key = ["method", "shots", "selection"]
    f1 = "F1-max (oracle threshold)"
    assert cells(shown, "image level")[0] == [*key, "AUROC", "AP", f1, "false alarms", "found"]
    assert cells(shown, "pixel level")[0] == [*key, "AUROC", "AP", f1, "AUPRO@0.3", "AUPRO@0.05", "AUPRO-200"]
    assert cells(shown, "image level")[1] == [
        "promptad clean, prompts + memory",
        *("2", "last", "50.0", "50.0", "50.0", "25.0", "80.0"),
    ]
    assert len(cells(shown, "every class")[0]) == 15
    plain = text(report([unit()]))
    assert "F1-max*" in plain and "* F1-max: at an oracle threshold" in plain


def test_the_header_says_how_it_was_measured() -> None:
    header = dict(report([unit()]).header)
    assert header["backbone"].endswith("(sha256 12345678, fp32)") and header["selection"] == "last epoch"
    assert header["evaluated"] == "maps and masks at 400 x 400" and header["runs"] == "2, seeds 111 to 112"
    chosen = Protocol(make_variants(["promptad"], settings={"epochs": 7}), runs=1, eval_size="photo")
    header = dict(make_report("parts", chosen, ("x", "x"), Outcome([unit()])).header)
    assert header["evaluated"] == "maps and masks at each photo's own size" and header["settings"] == "epochs=7"


def test_oracle_rows_are_marked_everywhere_and_their_gain_is_said() -> None:
    rows = [
        row(image_auroc=0.80, pixel_auroc=0.90),
        row(selection="oracle_test", image_auroc=0.85, pixel_auroc=0.91),
    ]
    made = report([unit(name, rows=rows) for name in ("cup", "mug")])
    for table in tables(made, full=True):
        marks = [line[table.columns.index("selection")] for line in table.rows]
        assert marks == ["last", "oracle"] if table.title != "every class" else ["last", "last", "oracle", "oracle"]
    plain = [line for line in text(made).splitlines() if " 85.0" in line or " 91.0" in line]
    assert plain and all(" oracle " in line for line in plain)
    for lines in (made.lines, made.class_lines):
        for entry in csv.DictReader(io.StringIO(csv_text(lines))):
            assert (entry["selection"] == "oracle") == (entry["image_auroc"] == "0.850000")
    gap = "oracle minus last epoch of the same runs: image AUROC +5.0, pixel AUROC +1.0"
    assert f"promptad clean, prompts + memory, 2 shots: {gap}" in made.footer
    assert "oracle" in dict(made.header)["selection"]


def test_csv_files_hold_fractions_and_the_number_of_classes(tmp_path: Path) -> None:
    units = [unit(name, run=run, image_auroc=0.6 + run / 10) for name in ("cup", "mug") for run in (0, 1)]
    files = write_report(report(units), tmp_path)
    assert [path.name for path in files] == ["table.md", "summary.csv", "per-class.csv"]
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
    assert "odd\\|name" in shown and len(cells(shown.replace("\\|", "/"), "every class")[1]) == 15


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


def test_a_whole_data_set_has_the_published_numbers_and_the_difference_beside() -> None:
    units = [unit(name, shots=1, image_auroc=0.95, pixel_auroc=0.95) for name in MVTEC.classes]
    made = report(units)
    image, pixel = (cells(markdown(made), f"{kind} level") for kind in ("image", "pixel"))
    assert image[0][-2:] == ["published AUROC", "difference"]
    assert image[1][-2:] == ["94.6 ± 1.7", "+0.4"] and pixel[1][-2:] == ["95.9 ± 0.5", "-0.9"]
    rows = cells(markdown(made), "published, mean of all 15 classes")
    source = "PromptAD, CVPR 2024 (AUPR and PRO: its supplement); ViT-B-16-plus-240/laion400m\\_e32"
    assert ["SPADE", "1", "81.0 ± 2.0", "91.2", "–", "–", source] in rows
    assert ["PromptAD", "1", "94.6 ± 1.7", "95.9 ± 0.5", "97.1", "87.9", source] in rows
    assert not any(line[0] == "FastRecon" for line in rows)
    assert any("F-13" in line for line in made.footer) and any("F-7" in line for line in made.footer)
    assert any(
        line.endswith("backbone stand beside it, here it is starter")
        for line in report(units, backbone="starter").footer
    )


def test_zero_shot_rows_stand_beside_the_papers_they_come_from() -> None:
    units = [
        unit(name, method="faprompt", shots=0, rows=[row(parts="", image_auroc=0.9, pixel_auroc=0.9)])
        for name in MVTEC.classes
    ]
    made = report(units)
    image, pixel = (cells(markdown(made), f"{kind} level") for kind in ("image", "pixel"))
    assert image[1][-2:] == ["91.9", "-1.9"] and pixel[1][-2:] == ["90.6", "-0.6"]
    assert image[1][2] == "trained elsewhere"
    rows = cells(markdown(made), "published, mean of all 15 classes")
    assert ["AnomalyCLIP", "0", "91.5", "91.1", "96.2", "81.4", "FAPrompt, ICCV 2025; ViT-L-14-336/openai"] in rows
    assert not any("F-7" in line for line in made.footer)


def test_a_mean_over_some_classes_is_never_set_beside_the_published_one() -> None:
    made = report([unit("bottle", shots=1)])
    shown = markdown(made)
    assert "difference" not in shown and cells(shown, "image level")[0][-1] == "found"
    assert cells(shown, "published, mean of all 15 classes; not comparable with one of them (bottle)")
    assert any(line.startswith("published, mean of all 15 classes; not comparable") for line in made.footer)


def test_a_failed_class_makes_the_mean_incomparable_too() -> None:
    units = [unit(name, shots=1) for name in VISA.classes if name != "pcb4"]
    units.append(unit("pcb4", shots=1, image_auroc=None))
    made = report(units)
    image, pixel = (cells(markdown(made), f"{kind} level") for kind in ("image", "pixel"))
    assert "difference" not in image[0] and pixel[1][-2] == "96.7 ± 0.4"


def test_other_data_sets_have_no_published_numbers() -> None:
    made = report([unit("cup"), unit("bottle")])
    assert made.published is None and "published" not in " ".join(table.title for table in tables(made, full=True))
    assert "no published numbers: these are not classes of MVTec AD or VisA" in made.footer


def test_a_data_set_with_other_photos_is_told() -> None:
    short = unit("bottle")
    short["photos"]["training"] = 40
    wanted = "bottle: photos differ from the full MVTec AD: training 40 of 209"
    assert wanted in report([short]).footer and wanted not in report([unit("bottle")]).footer
