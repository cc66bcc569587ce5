from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from promptad.prediction import DefectWord, Prediction
from promptad.report.rows import Row
from promptad.report.table import COLUMNS, write_csv


def prediction_of(path: Path | None, score: float = 0.7) -> Prediction:
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[1, 3] = 1
    words = (DefectWord("bent", np.float32(0.5), 0.75), DefectWord("rust", 0.125, 0.25))
    return Prediction(
        path,
        score,
        0.5,
        anomaly_map,
        0.4,
        words,
        (4, 6),
        {"total": 0.2},
        "ViT-B/16",
        "winclip",
        {"text": 0.25},
    )


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def test_csv_has_stable_columns_and_every_value(tmp_path: Path) -> None:
    target = tmp_path / "out" / "results.csv"
    write_csv(target, [prediction_of(Path("a.jpg")), Row.failed("b.jpg", "b.jpg: is cut off; copy it again")])
    first, second = read(target)
    assert tuple(first) == COLUMNS
    assert COLUMNS[:5] == ("photo", "verdict", "score", "threshold", "defect_1")
    assert (first["photo"], first["verdict"], float(first["score"])) == ("a.jpg", "anomalous", 0.7)
    assert (first["defect_1"], first["defect_1_photo"], first["defect_1_region"]) == ("bent", "0.5", "0.75")
    assert (first["defect_2"], first["defect_3"]) == ("rust", "")
    assert (first["hottest_x"], first["hottest_y"], first["width"], first["height"]) == ("3", "1", "6", "4")
    assert (first["parts"], first["seconds"], first["error"]) == ("text=0.25", "0.2", "")
    assert (second["verdict"], second["score"]) == ("failed", "")
    assert second["error"] == "b.jpg: is cut off; copy it again"
    assert [file.name for file in target.parent.iterdir()] == ["results.csv"]


def test_csv_with_no_rows_is_the_heading(tmp_path: Path) -> None:
    write_csv(tmp_path / "r.csv", [])
    assert (tmp_path / "r.csv").read_bytes() == b"\xef\xbb\xbf" + ",".join(COLUMNS).encode() + b"\r\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_csv_texts_cannot_be_formulas_but_numbers_stay_numbers(tmp_path: Path, start: str) -> None:
    name = start + 'cmd|" /C calc"!A0.jpg'
    words = (DefectWord(start + "1+1", 0.5, 0.5),)
    write_csv(tmp_path / "r.csv", [Row(name, "normal", -0.25, -0.1, words, error=start + "x")])
    (row,) = read(tmp_path / "r.csv")
    assert (row["photo"], row["defect_1"], row["error"]) == (
        "'" + name,
        "'" + start + "1+1",
        "'" + start + "x",
    )
    assert (row["score"], row["threshold"]) == ("-0.25", "-0.1")


def test_csv_keeps_unicode_commas_and_quotes_and_survives_odd_names(tmp_path: Path) -> None:
    names = ['写真, "ü".jpg', "two\nlines.jpg", "bytes\udcff.jpg"]
    write_csv(tmp_path / "r.csv", [Row(name, "normal", 0.1) for name in names])
    rows = read(tmp_path / "r.csv")
    assert rows[0]["photo"] == names[0]
    assert len(rows) == 3 and all(row["photo"].isprintable() for row in rows)


def test_csv_tells_where_photos_lie_and_what_was_remarked(tmp_path: Path) -> None:
    row = Row(
        "a/b.jpg", "normal", 0.1, root="../photos", map_file="maps/a/b.jpg.npy", inspected=0.5, remarks=("x.", "y.")
    )
    write_csv(tmp_path / "r.csv", [row, Row.failed("notes.txt", "suffix .txt is not a photo's", verdict="skipped")])
    first, second = read(tmp_path / "r.csv")
    assert (first["root"], first["map_file"], first["inspected"], first["remarks"]) == (
        "../photos", "maps/a/b.jpg.npy", "0.5", "x. y.",
    )  # fmt: skip
    assert (second["verdict"], second["error"]) == ("skipped", "suffix .txt is not a photo's")
