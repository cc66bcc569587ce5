"""Whatever a photo is, or is called: its row says what came of it, and the run goes on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_cases import SHARED_CASES, draw, fitted, pixels, results, run, table, tiles

from odd_photos import make_odd_photos, make_odder_photos
from promptad.detector import Detector
from promptad.errors import DataError, PhotoError
from promptad.report import heatmap
from promptad.run import judging


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted()


def test_a_hundred_kinds_of_odd_and_broken_photos(detector, tmp_path):
    expected = {**make_odd_photos(tmp_path / "photos"), **make_odder_photos(tmp_path / "photos")}
    draw(tmp_path / "photos", ["good 1.png", "good 2.png"])
    expected |= {"good 1.png": "ok", "good 2.png": "ok"}
    assert len(expected) >= 90
    assert sum(kind == "error" for kind in expected.values()) >= 25
    said: list[str] = []
    report = run(detector, tmp_path / "photos", tmp_path / "out", failed=said.append, maps="npy")
    rows = {row.photo: row for row in report.rows}
    judged = {"anomalous", "normal"}
    for name, kind in expected.items():
        if name in (
            "folder.jpg",
            "linked.png",
        ):  # an empty folder holds no photo, a second way to one is not a second one
            assert name not in rows
            continue
        row = rows[name]
        assert (row.verdict in judged) == (kind == "ok"), (name, row.verdict, row.error)
        if kind == "ok":
            assert (tmp_path / "out" / row.heatmap).is_file() and (tmp_path / "out" / row.map_file).is_file()
            assert not row.remarks or row.size != (60, 80)
        else:
            assert row.error and "\n" not in row.error
    good = sum(kind == "ok" for kind in expected.values()) - 1
    assert len(rows) == len(expected) - 2 and report.unwritten == 0
    assert len({row.heatmap.lower() for row in report.rows if row.heatmap}) == good
    assert len(said) + sum(row.verdict == "skipped" for row in report.rows) >= 20
    assert set(results(tmp_path / "out")) == set(rows)
    assert sum(tiles(tmp_path / "out")[word] for word in ("photos", "skipped")) == len(rows)
    with (tmp_path / "out/results.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    (tmp_path / "out/report.html").read_text(encoding="utf-8")
    again = run(detector, tmp_path / "photos", tmp_path / "out", maps="npy")
    assert again.reused == good, "none is judged again"


@pytest.mark.skipif(not SHARED_CASES.is_dir(), reason="needs ../shared/cases")
@pytest.mark.parametrize("case", ["wide", "photos"])
@pytest.mark.parametrize("maps", ["none", "png"])
def test_the_hostile_cases(case, maps, detector, tmp_path):
    report = run(detector, SHARED_CASES / "hostile" / case, tmp_path / "out", maps=maps)
    assert len(report.rows) == len(list((SHARED_CASES / "hostile" / case).iterdir()))
    for row in report.rows:
        assert row.error or (tmp_path / "out" / row.heatmap).is_file()
    assert len(table(tmp_path / "out")) == len(report.rows) and (tmp_path / "out/report.html").is_file()


@pytest.mark.parametrize(("shape", "suffix"), [((2, 65500), ".jpg"), ((2, 65501), ".png"), ((65535, 2), ".png")])
def test_a_heat_map_too_long_for_jpeg_is_a_png_file_and_a_remark(shape, suffix, detector, tmp_path):
    draw(tmp_path / "photos", ["long.png"], size=shape)
    (row,) = run(detector, tmp_path / "photos", tmp_path / "out").rows
    assert row.heatmap == f"heatmaps/long.png{suffix}"
    assert any("too long for JPEG" in remark for remark in row.remarks) == (row.heatmap.endswith(".png"))
    assert run(detector, tmp_path / "photos", tmp_path / "out").reused == 1


@pytest.mark.parametrize("what", ["heatmap", "map_file"])
@pytest.mark.parametrize(
    "error", [DataError("b.png: cannot be written (No space left on device); check"), ValueError("odd")]
)
def test_a_file_that_cannot_be_written_is_a_remark_of_its_photo(what, error, detector, tmp_path, monkeypatch):
    draw(tmp_path / "photos", ["a.png", "b.png", "c.png"])
    name = "save_heatmap" if what == "heatmap" else "save_map"
    real = getattr(heatmap, name)

    def full(path: Path, *rest: object) -> object:
        if "b.png" in path.name:
            raise error
        return real(path, *rest)

    monkeypatch.setattr(judging, name, full)
    said: list[str] = []
    report = run(detector, tmp_path / "photos", tmp_path / "out", maps="npy", failed=said.append)
    rows = {row.photo: row for row in report.rows}
    assert all(row.verdict in ("anomalous", "normal") for row in rows.values())
    assert getattr(rows["b.png"], what) is None and rows["b.png"].remarks[-1].startswith("Not written: ")
    assert getattr(rows["a.png"], what) and getattr(rows["c.png"], what)
    assert report.unwritten == len(said) == 1 and "b.png" in said[0] and "\n" not in said[0]
    assert "Not written: " in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    monkeypatch.undo()
    again = run(detector, tmp_path / "photos", tmp_path / "out", maps="npy")
    assert (
        again.reused == 2 and again.unwritten == 0 and all((tmp_path / "out" / r.heatmap).is_file() for r in again.rows)
    )


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't allocate memory: 9 GB"), KeyError("x"), PhotoError("b: bad")]
)
@pytest.mark.parametrize("where", ["read_photo", "encode", "predict_features"])
def test_an_error_that_nobody_foresaw_is_the_row_of_its_photo(error, where, detector, tmp_path, monkeypatch):
    draw(tmp_path / "photos", ["a.png", "b.png", "c.png"])
    calls: list[int] = []
    owner = {"read_photo": judging, "encode": detector.encoder}.get(where, detector)
    real = getattr(owner, where)

    def failing(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return real(*arguments, **named)

    monkeypatch.setattr(owner, where, failing)
    report = run(detector, tmp_path / "photos", tmp_path / "out")
    (failed,) = report.failed
    assert failed.photo == "b.png" and len(report.rows) == 3 and "\n" not in failed.error
    memory = isinstance(error, MemoryError | RuntimeError)
    assert ("not enough memory" in failed.error) == memory and ("please report" in failed.error) == isinstance(
        error, KeyError
    )


def test_a_place_that_is_taken_by_a_folder_or_a_file_is_a_remark(detector, tmp_path):
    draw(tmp_path / "photos", ["a.png", "sub/b.png", "c.png"])
    (tmp_path / "out/heatmaps/a.png.jpg").mkdir(parents=True)
    (tmp_path / "out/heatmaps/sub").write_text("a file")
    report = run(detector, tmp_path / "photos", tmp_path / "out")
    assert {row.photo for row in report.rows if row.heatmap} == {"c.png"} and report.unwritten == 2


def test_the_log_that_cannot_be_written_ends_the_run_with_what_to_do(detector, tmp_path, monkeypatch):
    draw(tmp_path / "photos", ["a.png", "b.png"])

    class Full:
        def append(self, row: object) -> None:
            raise DataError(
                "results.jsonl: result cannot be written (No space left on device); finished photos are kept"
            )

    monkeypatch.setattr("promptad.report.log.ResultLog.append", Full.append)
    with pytest.raises(DataError, match="finished photos are kept"):
        run(detector, tmp_path / "photos", tmp_path / "out")


def test_photos_of_all_shapes_are_drawn(detector, tmp_path):
    for index, size in enumerate([(1, 1), (1, 700), (700, 1), (95, 96), (97, 96), (2000, 30)]):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels(index, size))).save(tmp_path / f"photos/{index}.png")
    report = run(detector, tmp_path / "photos", tmp_path / "out", maps="png")
    assert len(report.rows) == 6 and not report.failed and report.unwritten == 0
