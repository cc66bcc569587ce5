from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from promptad.errors import DataError
from promptad.prediction import DefectWord, Prediction
from promptad.report.rows import Row, worst_first
from promptad.report.table import COLUMNS, ResultLog, run_key, write_csv


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


def test_row_of_a_prediction_survives_json() -> None:
    row = Row.of(prediction_of(Path("a.jpg")), label=1, heatmap=Path("maps/a.png"))
    assert (row.verdict, row.score, row.hottest, row.size, row.seconds) == (
        "anomalous",
        0.7,
        (1, 3),
        (4, 6),
        0.2,
    )
    assert Row.from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row


def test_failed_row_keeps_the_text_of_the_error_on_one_line() -> None:
    row = Row.failed(Path("b.jpg"), ValueError("cut\noff"), label=0)
    assert (row.verdict, row.score, row.error) == ("failed", None, "cut off")
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row
    assert Row.failed("c.jpg", ValueError()).error


def test_worst_first_puts_failed_photos_last_and_ties_by_path() -> None:
    rows = [
        Row("d", "failed"),
        Row("c", "normal", 0.0),
        Row("b", "normal", -1.0),
        Row("z", "anomalous", 3.0),
        Row("a", "anomalous", 3.0),
    ]
    assert [row.photo for row in worst_first(rows)] == ["a", "z", "c", "b", "d"]


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


def test_run_key_depends_on_values_not_on_their_order() -> None:
    assert run_key({"method": "winclip", "scale": 2}) == run_key({"scale": 2, "method": "winclip"})
    assert run_key({"method": "winclip", "scale": 2}) != run_key({"method": "winclip", "scale": 3})
    assert len(run_key({"path": Path("x")})) == 16


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "bolt ü.jpg"
    path.write_bytes(b"photo")
    return path


def test_log_gives_back_what_an_earlier_run_did(tmp_path: Path, photo: Path) -> None:
    row = Row.of(prediction_of(photo), label=1)
    with ResultLog(tmp_path / "out" / "log.jsonl", "k1") as log:
        assert log.finished(photo) is None
        log.append(row)
        assert log.finished(photo) == row
    with ResultLog(tmp_path / "out" / "log.jsonl", "k1") as log:
        assert len(log) == 1
        assert log.finished(photo) == row
        relative = os.path.relpath(photo)
        assert log.finished(relative) == replace(row, photo=relative)


def test_each_result_is_on_disk_at_once(tmp_path: Path, photo: Path) -> None:
    with ResultLog(tmp_path / "log.jsonl", "k") as log:
        log.append(Row(str(photo), "normal", 0.1))
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["row"]["score"] == 0.1


def test_another_run_key_size_or_time_means_to_score_again(tmp_path: Path, photo: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, "k1") as log:
        log.append(Row(str(photo), "normal", 0.1))
    with ResultLog(path, "k2") as log:
        assert log.finished(photo) is None and len(log) == 0
        log.append(Row(str(photo), "anomalous", 0.9))
    before = os.stat(photo)
    photo.write_bytes(b"other photo")
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    with ResultLog(path, "k1") as log:
        assert log.finished(photo) is None
    photo.write_bytes(b"photo")
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with ResultLog(path, "k1") as log:
        assert log.finished(photo) is None
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    for key, score in (("k1", 0.1), ("k2", 0.9)):
        with ResultLog(path, key) as log:
            done = log.finished(photo)
            assert done is not None and done.score == score


def test_a_photo_replaced_while_it_was_scored_is_scored_again(tmp_path: Path, photo: Path) -> None:
    with ResultLog(tmp_path / "log.jsonl", "k") as log:
        assert log.finished(photo) is None
        photo.write_bytes(b"a newer photo")
        log.append(Row(str(photo), "normal", 0.1))
        assert log.finished(photo) is None


def test_failed_photos_and_lost_heat_maps_are_tried_again(tmp_path: Path, photo: Path) -> None:
    heatmap = tmp_path / "map.png"
    heatmap.write_bytes(b"x")
    with ResultLog(tmp_path / "log.jsonl", "k") as log:
        log.append(Row.failed(photo, "out of memory"))
        assert log.finished(photo) is None
        log.append(Row(str(photo), "normal", 0.1, heatmap=str(heatmap)))
        assert log.finished(photo) is not None
        heatmap.unlink()
        assert log.finished(photo) is None


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_dropped_and_the_next_line_is_whole(tmp_path: Path, photo: Path, cut: int) -> None:
    path, other = tmp_path / "log.jsonl", tmp_path / "other.jpg"
    other.write_bytes(b"x")
    with ResultLog(path, "k") as log:
        log.append(Row(str(photo), "normal", 0.1))
        log.append(Row(str(other), "normal", 0.2))
    path.write_bytes(path.read_bytes()[:-cut])
    with ResultLog(path, "k") as log:
        assert log.finished(photo) is not None
        assert log.finished(other) is None
        log.append(Row(str(other), "normal", 0.3))
    with ResultLog(path, "k") as log:
        done = log.finished(other)
        assert done is not None and done.score == 0.3 and len(log) == 2


def test_a_torn_first_line_is_written_anew(tmp_path: Path, photo: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"promptad": "res')
    with ResultLog(path, "k") as log:
        log.append(Row(str(photo), "normal", 0.1))
    with ResultLog(path, "k") as log:
        assert log.finished(photo) is not None


def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"my notes without line end")
    with pytest.raises(DataError, match="no result log"):
        ResultLog(path, "k")
    assert path.read_bytes() == b"my notes without line end"


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"\x00\x00", b'{"row": {"photo": 1}}'])
def test_damage_before_the_last_line_is_said_with_its_number(tmp_path: Path, photo: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, "k") as log:
        log.append(Row(str(photo), "normal", 0.1))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError, match=r"log\.jsonl: line 3 is damaged"):
        ResultLog(path, "k")


def test_a_failed_write_leaves_only_whole_lines(tmp_path: Path, photo: Path) -> None:
    log = ResultLog(tmp_path / "log.jsonl", "k")
    log.append(Row(str(photo), "normal", 0.1))
    before = (tmp_path / "log.jsonl").read_bytes()
    real = log._file

    class Full:
        """A disk with room for ten more bytes."""

        def write(self, data: bytes) -> int:
            return real.write(data[:10])

        def truncate(self, size: int) -> int:
            return real.truncate(size)

    log._file = Full()  # type: ignore[assignment]
    with pytest.raises(DataError, match="check the disk"):
        log.append(Row(str(photo), "normal", 0.2))
    real.close()
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_a_closed_log_and_a_folder_in_its_place_are_one_line_errors(tmp_path: Path, photo: Path) -> None:
    log = ResultLog(tmp_path / "log.jsonl", "k")
    log.close()
    log.close()
    with pytest.raises(DataError, match="cannot be written"):
        log.append(Row(str(photo), "normal", 0.1))
    with pytest.raises(DataError, match="cannot be opened"):
        ResultLog(tmp_path, "k")
