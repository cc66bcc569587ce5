"""The log of a run: what it gives back, what it survives, and what it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from promptad.errors import DataError
from promptad.notices import PromptadNotice
from promptad.prediction import DefectWord
from promptad.report.log import ResultLog, read_results, run_key
from promptad.report.rows import Row
from promptad.report.schema import check_result

KEY, OTHER = "1" * 16, "2" * 16
A, B, C = "a" * 64, "b" * 64, "c" * 64


def row_of(photo: str, sha256: str | None = A, score: float | None = 0.1, run: str = KEY, **known: Any) -> Row:
    return Row(photo, "failed" if score is None else "normal", score, sha256=sha256, run=run, **known)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """All results of a file; every line must be whole and valid."""
    header, *lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(header) == {"promptad": "results", "version": 2}
    values = [json.loads(line) for line in lines]
    for result, line in zip(values, lines, strict=True):
        check_result(result)
        assert line.endswith(b"\n")
    return values


def test_run_key_depends_on_values_not_on_their_order() -> None:
    assert run_key({"method": "winclip", "scale": 2}) == run_key({"scale": 2, "method": "winclip"})
    assert run_key({"method": "winclip", "scale": 2}) != run_key({"method": "winclip", "scale": 3})
    assert len(run_key({"path": Path("x")})) == 16


def test_log_gives_back_what_an_earlier_run_did(tmp_path: Path) -> None:
    words = tuple(DefectWord(f"w{i}", 0.1 * i, None) for i in range(5))
    row = row_of("bolt ü.jpg", defects=words, label=1, heatmap="heatmaps/x.jpg", remarks=("x",))
    with ResultLog(tmp_path / "out" / "log.jsonl", KEY) as log:
        assert log.find("bolt ü.jpg", A) is None
        log.append(row)
    with ResultLog(tmp_path / "out" / "log.jsonl", KEY) as log:
        assert len(log) == 1 and log.find("bolt ü.jpg", A) == row
        assert log.find("other name.jpg", A) == row  # the content counts
        assert log.find("bolt ü.jpg", B) is None
    assert read_results(tmp_path / "out" / "log.jsonl") == [row]


def test_of_two_photos_with_one_content_each_finds_its_own(tmp_path: Path) -> None:
    with ResultLog(tmp_path / "log.jsonl", KEY) as log:
        log.append(row_of("a.jpg", heatmap="a"))
        log.append(row_of("copy of a.jpg", heatmap="b"))
    with ResultLog(tmp_path / "log.jsonl", KEY) as log:
        assert [log.find(name, A).heatmap for name in ("a.jpg", "copy of a.jpg")] == ["a", "b"]


def test_each_result_is_on_disk_at_once_and_not_kept_in_memory(tmp_path: Path) -> None:
    with ResultLog(tmp_path / "log.jsonl", KEY) as log:
        log.append(row_of("a.jpg"))
        assert [values["score"] for values in lines_of(tmp_path / "log.jsonl")] == [0.1]
        assert len(log) == 0


def test_failed_photos_and_those_of_other_detectors_are_scored_again(tmp_path: Path) -> None:
    with ResultLog(tmp_path / "log.jsonl", KEY) as log:
        log.append(row_of("a.jpg", A, None))
        log.append(row_of("b.jpg", B, run=OTHER))
    with ResultLog(tmp_path / "log.jsonl", KEY) as log:
        assert log.find("a.jpg", A) is log.find("b.jpg", B) is None
    with ResultLog(tmp_path / "log.jsonl", OTHER) as log:
        assert log.find("b.jpg", B) is not None


def test_the_newest_line_counts_and_one_that_stands_there_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, KEY) as log:
        log.append(row_of("a.jpg", score=0.1))
    with ResultLog(path, KEY) as log:
        known = log.find("a.jpg", A)
        log.append(known)
        assert len(lines_of(path)) == 1
        log.append(replace(known, threshold=0.05, verdict="anomalous"))
        log.settle([known], complete=True)
    assert [values["verdict"] for values in lines_of(path)] == ["anomalous"]


def test_an_ended_run_leaves_one_line_a_photo_and_keeps_the_others_beside(tmp_path: Path) -> None:
    path, earlier = tmp_path / "log.jsonl", tmp_path / "earlier.jsonl"
    monday, tuesday = row_of("monday.jpg", A), row_of("tuesday.jpg", B)
    with ResultLog(path, KEY, earlier=earlier) as log:
        log.append(monday)
        log.append(row_of("broken.jpg", C, None))
        log.settle([monday, row_of("broken.jpg", C, None)], complete=True)
    with ResultLog(path, KEY, earlier=earlier) as log:
        log.append(tuesday)
        log.settle([tuesday], complete=True)
    assert read_results(path) == [tuesday] and read_results(earlier) == [monday]
    with ResultLog(path, KEY, earlier=earlier) as log:
        row = log.find("monday.jpg", A)
        assert row == monday
        log.append(row)
        log.settle([row], complete=True)
    assert read_results(path) == [monday]
    assert {row.photo for row in read_results(earlier)} == {"tuesday.jpg"}


def test_an_interrupted_run_keeps_the_lines_of_photos_that_it_did_not_reach(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, KEY) as log:
        for name, content in (("a", A), ("b", B), ("c", None)):
            log.append(row_of(name, content, None if content is None else 0.5))
    with ResultLog(path, KEY) as log:
        first = replace(log.find("a", A), threshold=0.6)
        log.append(first)
        log.settle([first], complete=False)
    assert sorted((row.photo, row.threshold) for row in read_results(path) if row.score) == [("a", 0.6), ("b", None)]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_dropped_and_the_next_line_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, KEY) as log:
        log.append(row_of("a.jpg", A))
        log.append(row_of("b.jpg", B))
    path.write_bytes(path.read_bytes()[:-cut])
    with ResultLog(path, KEY) as log:
        assert log.find("a.jpg", A) is not None and log.find("b.jpg", B) is None
        log.append(row_of("b.jpg", B, 0.3))
    assert [row.score for row in read_results(path)] == [0.1, 0.3]


@pytest.mark.parametrize("length", [0, 1, 17, 37])
def test_a_torn_first_line_is_written_anew(tmp_path: Path, length: int) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, KEY):
        pass
    path.write_bytes(path.read_bytes()[:length])
    with ResultLog(path, KEY) as log:
        log.append(row_of("a.jpg"))
    assert len(lines_of(path)) == 1


@pytest.mark.parametrize(
    "content", [b"my notes without line end", b"\x00" * 200_000, b"{}\n", b"[1]\n", b'{"promptad": 3}\n']
)
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no result log"):
        ResultLog(path, KEY)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "header", [b'{"promptad": "result log", "version": 1}\n', b'{"promptad": "results", "version": 3}\n']
)
def test_a_log_of_another_version_is_refused_with_the_way_out(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "log.jsonl").write_bytes(header)
    with pytest.raises(DataError, match=r"in version [13] of their form, expected 2; .*fresh=True"):
        ResultLog(tmp_path / "log.jsonl", KEY)
    assert (tmp_path / "log.jsonl").read_bytes() == header


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"\x00\x00", b'{"row": {"photo": 1}}', b"[" * 100_000, b"", b'{"score": NaN}']
)
def test_a_damaged_line_is_said_with_its_number_and_only_its_photo_is_judged_again(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, KEY) as log:
        log.append(row_of("a.jpg", A))
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.warns(PromptadNotice, match=r"log\.jsonl: line 3 is damaged"), ResultLog(path, KEY) as log:
        log.append(row_of("b.jpg", B))
    with pytest.warns(PromptadNotice), ResultLog(path, KEY, earlier=tmp_path / "none") as log:
        assert log.find("a.jpg", A) is not None and log.find("b.jpg", B) is not None
        log.settle([row_of("a.jpg", A), row_of("b.jpg", B)], complete=True)
    assert len(lines_of(path)) == 2


def test_a_failed_write_leaves_only_whole_lines(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "log.jsonl", KEY)
    log.append(row_of("a.jpg"))
    before = (tmp_path / "log.jsonl").read_bytes()
    real = log._file._file

    class Full:
        """A disk with room for ten more bytes."""

        def write(self, data: bytes) -> int:
            return real.write(data[:10])

        def truncate(self, size: int) -> int:
            return real.truncate(size)

    log._file._file = Full()  # type: ignore[assignment]
    with pytest.raises(DataError, match="check the disk"):
        log.append(row_of("b.jpg", B))
    real.close()
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_a_log_that_cannot_be_settled_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    with ResultLog(path, KEY) as log:
        log.append(row_of("a.jpg", A))
        log.append(row_of("a.jpg", A, 0.2))
        before = path.read_bytes()

        def full(source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(DataError, match="No space left"):
            log.settle([row_of("a.jpg", A)], complete=True)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_closed_log_and_a_folder_in_its_place_are_one_line_errors(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "log.jsonl", KEY)
    log.close()
    log.close()
    with pytest.raises(DataError, match="cannot be written"):
        log.append(row_of("a.jpg"))
    with pytest.raises(DataError, match="cannot be opened"):
        ResultLog(tmp_path, KEY)
    with pytest.raises(DataError, match="no such result log"):
        read_results(tmp_path / "none.jsonl")
