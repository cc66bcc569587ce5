"""A run over a folder: resuming, moving, thresholds, locks, and what stays in memory."""

from __future__ import annotations

import os
import re
import shutil
import urllib.parse
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_cases import BACKBONE, QUICK, draw, fitted, pixels, results, run, table, tiles

from promptad.data.lock import only_one
from promptad.detector import Detector
from promptad.errors import DataError
from promptad.notices import PromptadNotice
from promptad.requests.inspecting import InspectRequest
from promptad.run import judging

NAMES = ["a.png", "b.png", "sub/c.png", "sub/d.png", "e.png"]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw(tmp_path / "photos", NAMES)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Photos that are judged from here on, with those that are only taken over left out."""
    judged: list[Path] = []
    real = judging.read_photo

    def noted(path: Path, *rest: object, **options: object) -> np.ndarray:
        judged.append(path)
        return real(path, *rest, **options)

    monkeypatch.setattr(judging, "read_photo", noted)
    return judged


def test_a_second_run_judges_nothing_again_and_says_the_same(detector, photos, tmp_path, unread):
    first = run(detector, photos, tmp_path / "out")
    assert len(unread) == 5 and first.reused == 0
    before = results(tmp_path / "out")
    again = run(detector, photos, tmp_path / "out")
    assert len(unread) == 5 and again.reused == 5
    assert results(tmp_path / "out") == before and first.rows == again.rows
    draw(photos, ["new.png"], first=99)
    assert run(detector, photos, tmp_path / "out").reused == 5 and len(unread) == 6


def test_results_moved_with_their_photos_are_gone_on_with_and_their_links_lead_there(
    detector, photos, tmp_path, unread
):
    home = tmp_path / "old place"
    home.mkdir()
    shutil.move(photos, home / "photos")
    run(detector, home / "photos", home / "out" / "monday")
    before = results(home / "out/monday")
    for name in ("results.jsonl", "results.csv", "report.html"):
        assert str(tmp_path) not in (home / "out/monday" / name).read_text(encoding="utf-8"), name
    shutil.copytree(home, tmp_path / "new place")  # other times of change, too
    shutil.rmtree(home)
    assert len(unread) == 5
    out = tmp_path / "new place/out/monday"
    page = (out / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:href|data-photo|data-heatmap)="([^"]+)"', page)
    assert len(links) >= 5 * 3
    for link in links:
        assert (out / urllib.parse.unquote(link)).is_file(), link
    assert run(detector, tmp_path / "new place/photos", out).reused == 5
    assert len(unread) == 5 and results(out) == before
    assert set(table(out)) == {*NAMES} and {row["root"] for row in table(out).values()} == {"../../photos"}


def test_only_a_changed_photo_is_judged_again_whatever_its_time_says(detector, photos, tmp_path, unread):
    run(detector, photos, tmp_path / "out")
    before = os.stat(photos / "b.png")
    draw(photos, ["b.png"], first=77)
    os.utime(photos / "b.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(photos / "a.png", ns=(1, 1))
    del unread[:]
    assert run(detector, photos, tmp_path / "out").reused == 4
    assert unread == [photos / "b.png"]


def test_pictures_are_always_those_of_their_photo(detector, photos, tmp_path, unread):
    """Photos that change names, and sets with equal names, overwrite each other's heat maps."""
    out = tmp_path / "out"
    fresh = run(detector, photos, tmp_path / "fresh").rows
    wanted = {row.sha256: (tmp_path / "fresh" / row.heatmap).read_bytes() for row in fresh}
    run(detector, photos, out)
    (photos / "a.png").rename(photos / "x.png")
    (photos / "b.png").rename(photos / "a.png")
    (photos / "x.png").rename(photos / "b.png")
    other = draw(tmp_path / "other", NAMES, first=50)
    for folder, count in ((photos, 3), (other, 0), (photos, 0), (photos, 5)):
        report = run(detector, folder, out)
        assert report.reused == count, folder
        if folder == photos:
            assert {row.sha256: (out / row.heatmap).read_bytes() for row in report.rows} == wanted


def test_sets_that_share_no_names_keep_their_results_in_one_folder(detector, photos, tmp_path, unread):
    other = draw(tmp_path / "other", ["v.png", "w.png"], first=50)
    for folder, reused in ((photos, 0), (other, 0), (photos, 5), (other, 2)):
        report = run(detector, folder, tmp_path / "out")
        assert report.reused == reused
        assert set(results(tmp_path / "out")) == {row.photo for row in report.rows}
    assert len(unread) == 7
    run(detector, other, tmp_path / "out", fresh=True)
    assert run(detector, photos, tmp_path / "out").reused == 0, "fresh forgets"


def test_two_photos_of_one_content_are_two_rows_each_time(detector, photos, tmp_path):
    shutil.copy(photos / "a.png", photos / "copy of a.png")
    for reused in (0, 6):
        report = run(detector, photos, tmp_path / "out")
        assert report.reused == reused and len(report.rows) == 6
        assert len({row.heatmap for row in report.rows}) == 6


@pytest.mark.parametrize("how", ["threshold", "rate", "none"])
def test_moving_the_threshold_reads_no_photo_and_changes_verdicts_everywhere(how, photos, tmp_path, unread):
    detector, out = fitted(), tmp_path / "out"
    run(detector, photos, out)
    assert len(unread) == 5
    middle = sorted(row["score"] for row in results(out).values())[2]
    if how == "threshold":
        detector.calibration = detector.calibration.with_threshold(middle)
    elif how == "rate":
        detector.calibration = detector.calibration.at_rate(0.7)
    else:
        detector.calibration = None
    report = run(detector, photos, out)
    assert len(unread) == 5 and report.reused == 5
    level = detector.calibration.threshold if detector.calibration else None
    for photo, row in results(out).items():
        expected = "no threshold" if level is None else "anomalous" if row["score"] > level else "normal"
        assert (row["verdict"], row["threshold"], table(out)[photo]["verdict"]) == (expected, level, expected)
    if how == "threshold":
        assert report.counts == {"anomalous": 2, "normal": 3}


def test_good_photos_that_only_set_the_threshold_do_not_decide_a_score(photos, tmp_path, unread):
    for seeds in (range(3), range(3, 9)):
        detector = Detector("clip", object="nut", backbone=BACKBONE, input_size=48).fit([pixels(i) for i in seeds])
        detector.set_map_threshold(0.5)  # else the regions are others, and the photos are judged again for them
        with pytest.warns(PromptadNotice, match="keep its colours") if unread else _nothing():
            report = run(detector, photos, tmp_path / "out")
    assert len(unread) == 5 and report.reused == 5
    assert any("fresh=True draws them anew" in line for line in report.notices)
    assert "fresh=True draws them anew" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert {row["heatmap_scale"]["low"] for row in results(tmp_path / "out").values()} != {report.rows[0].map_threshold}


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_another_detector_judges_anew(detector, photos, tmp_path, unread):
    out = tmp_path / "out"
    run(detector, photos, out)
    run(fitted(seed=5), photos, out)
    assert len(unread) == 10 and len(results(out)) == 5
    assert run(detector, photos, out).reused == 0, "its heat maps are gone"
    run(fitted(seed=5), photos, out, heatmaps="none")
    assert run(detector, photos, out, heatmaps="none").reused == 5


def test_files_that_are_asked_for_later_are_made_and_none_is_made_twice(detector, photos, tmp_path, unread):
    out, steps = tmp_path / "out", [
        ({"heatmaps": "none"}, 5), ({"heatmaps": "none"}, 0), ({}, 5), ({"heatmaps": "none"}, 0), ({"heatmaps": "png"}, 5),
        ({"heatmaps": "png", "maps": "npy"}, 5), ({"heatmaps": "png"}, 0), ({"maps": "npy", "heatmaps": "none"}, 0),
    ]  # fmt: skip
    for options, judged in steps:
        del unread[:]
        report = run(detector, photos, out, **options)
        assert len(unread) == judged, options
        if options.get("heatmaps") != "none":
            assert all((out / row.heatmap).is_file() for row in report.rows)
        if "maps" in options:
            assert all(np.load(out / row.map_file).shape == row.size for row in report.rows)
    (out / report.rows[0].map_file).unlink()
    del unread[:]
    run(detector, photos, out, maps="npy", heatmaps="none")
    assert len(unread) == 1


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_run_keeps_what_is_done_and_ends_with_the_same_results(
    detector, photos, tmp_path, unread, after
):
    def stop(done: int, total: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    whole = run(detector, photos, tmp_path / "whole")
    report = run(detector, photos, tmp_path / "out", progress=stop)
    assert report.interrupted and len(report.rows) == after == len(table(tmp_path / "out"))
    del unread[:]
    assert run(detector, photos, tmp_path / "out").reused == after and len(unread) == 5 - after
    assert results(tmp_path / "out") == results(tmp_path / "whole") and tiles(tmp_path / "out") == tiles(
        tmp_path / "whole"
    )
    again = run(detector, photos, tmp_path / "out", progress=stop)
    assert again.interrupted and len(results(tmp_path / "out")) == 5, "what lies ahead is not lost either"
    assert run(detector, photos, tmp_path / "out").reused == 5
    assert [row.photo for row in whole.rows] == [row.photo for row in report.rows + whole.rows][after:]


def test_two_runs_in_one_folder_the_second_is_refused_in_one_line(detector, photos, tmp_path):
    said: list[str] = []

    def second(done: int, total: int) -> None:
        with pytest.raises(DataError) as refused:
            run(detector, photos, tmp_path / "out")
        said.append(str(refused.value))

    report = run(detector, photos, tmp_path / "out", progress=second)
    assert len(said) == len(report.rows) == 5 and f"process {os.getpid()} on" in said[0] and "\n" not in said[0]
    assert run(detector, photos, tmp_path / "out").reused == 5, "the lock is gone with the run"


def test_a_request_for_a_folder_in_use_is_refused_before_anything_is_learned(photos, tmp_path, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a detector was made")

    monkeypatch.setattr(InspectRequest, "new_detector", never)
    (tmp_path / "out").mkdir()
    request = InspectRequest(photos=(photos,), good=(photos,), object="nut", output=tmp_path / "out")
    with only_one(tmp_path / "out"), pytest.raises(DataError, match="another run is at work here"):
        request.run()
    with pytest.raises(AssertionError, match="a detector was made"):
        request.run()

    def learning(*_: object, **__: object) -> None:
        with pytest.raises(DataError, match="another run is at work here"):
            request.run()
        raise AssertionError("a detector was made")

    monkeypatch.setattr(InspectRequest, "new_detector", learning)
    with pytest.raises(AssertionError, match="a detector was made"):
        request.run()


def test_all_tell_the_same_counts_in_the_same_words(detector, photos, tmp_path):
    (photos / "notes.txt").write_text("x")
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    (photos / "dead.jpg").symlink_to("gone.jpg")
    said: list[str] = []
    report = run(detector, photos, tmp_path / "out", failed=said.append)
    counts = report.counts
    assert counts["failed"] == 2 and counts["skipped"] == 1 and sum(counts.values()) == 8
    assert Counter(row["verdict"] for row in table(tmp_path / "out").values()) == counts
    assert Counter(row["verdict"] for row in results(tmp_path / "out").values()) == counts
    on_page = tiles(tmp_path / "out")
    assert on_page.pop("photos") == 7 and {word: n for word, n in on_page.items() if n} == counts
    assert len(said) == 1 and "cut.jpg" in said[0]
    assert [row.photo for row in report.failed] == ["cut.jpg", "dead.jpg"]


def test_pictures_are_kept_only_for_the_page_and_results_only_on_disk(detector, tmp_path, monkeypatch):
    photos = draw(tmp_path / "photos", [f"{i:02d}.png" for i in range(30)])
    drawn: list[str] = []
    monkeypatch.setattr(judging, "thumbnail", lambda picture: drawn.append("x") or _thumbnail(picture))
    report = run(detector, photos, tmp_path / "out", max_pictures=4, heatmaps="none")
    with_pictures = [row for row in report.rows if row.picture is not None]
    assert with_pictures == report.rows[:4] and all(row.heatmap_picture is not None for row in with_pictures)
    assert len(drawn) < 2 * 30, "small pictures are not even made for photos that the page will not show"
    assert all(len(row.defects) <= 3 for row in report.rows)
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 8
    assert max(len(row["defects"]) for row in results(tmp_path / "out").values()) > 3


_thumbnail = judging.thumbnail


def test_equal_scores_keep_the_pictures_of_those_that_come_first(detector, tmp_path):
    photos = draw(tmp_path / "photos", ["0.png"])
    for name in ("1.png", "2.png", "3.png"):
        shutil.copy(photos / "0.png", photos / name)
    report = run(detector, photos, tmp_path / "out", max_pictures=2, heatmaps="none")
    assert [row.picture is not None for row in report.rows] == [True, True, False, False]


def test_what_was_not_inspected_is_told_everywhere(tmp_path):
    photos = draw(tmp_path / "photos", ["wide.png", "square.png"], size=(60, 120))
    Image.fromarray(pixels(4, (60, 60))).save(photos / "square.png")
    with pytest.warns(PromptadNotice, match="fit=crop looks at the middle"):
        report = run(fitted(fit="crop"), photos, tmp_path / "out", heatmaps="png")
    assert {row.photo: row.inspected for row in report.rows} == {"wide.png": 0.5, "square.png": 1.0}
    assert table(tmp_path / "out")["wide.png"]["inspected"] == "0.5"
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "50 % of the photo was inspected" in page and "1 of 2 photos was not looked at as a whole" in page
    assert "fit=crop looks at the middle" in page
    drawn = np.asarray(Image.open(tmp_path / "out/heatmaps/wide.png.png")).astype(int)[:60]
    assert (np.ptp(drawn[:, :29], axis=2) == 0).all() and (np.ptp(drawn[:, 31:89], axis=2) > 0).any()


def test_photos_of_another_shape_or_size_get_a_remark_and_the_run_a_line(detector, photos, tmp_path):
    draw(photos, ["square.png"], size=(60, 60), first=40)
    draw(photos, ["large.png"], size=(180, 240), first=41)
    with pytest.warns(PromptadNotice, match="2 of 7 judged photos differ clearly in shape or size"):
        report = run(detector, photos, tmp_path / "out")
    remarks = {row.photo: row.remarks for row in report.rows if row.remarks}
    assert set(remarks) == {"square.png", "large.png"}
    assert "another shape, 60x60 here, 80x60 there" in remarks["square.png"][0]
    assert "another size, 240x180 here, 80x60 there" in remarks["large.png"][0]
    assert "another shape" in table(tmp_path / "out")["square.png"]["remarks"]
    with pytest.warns(PromptadNotice, match="2 of 7"):
        again = run(detector, photos, tmp_path / "out")
    assert again.reused == 7 and {row.photo: row.remarks for row in again.rows if row.remarks} == remarks


def test_the_page_names_the_words_in_use_the_threshold_and_the_notices(photos, tmp_path):
    detector = fitted(defects=("with a very special scratch",))
    report = run(detector, photos, tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<q>with a very special scratch</q>" in page
    assert detector.calibration.note.split(".")[0] in page
    assert all(len(row.defects) == 3 for row in report.rows)


@pytest.mark.parametrize("method", ["promptad", "clip"])
def test_photos_that_the_detector_learned_from_are_said_where_that_decides_scores(photos, tmp_path, method):
    settings = QUICK if method == "promptad" else {}
    detector = Detector(method, object="nut", backbone=BACKBONE, **settings).fit([photos / "a.png", photos / "b.png"])
    for reused in (0, 5):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert run(detector, photos, tmp_path / "out").reused == reused
        remarks = {name: row["remarks"] for name, row in table(tmp_path / "out").items()}
        marked = {name for name, text in remarks.items() if text.startswith("Learned from")}
        assert marked == ({"a.png", "b.png"} if method == "promptad" else set())
        lines = [str(warning.message) for warning in said if "the detector learned from" in str(warning.message)]
        assert [line.partition(" (")[0] for line in lines] == ["2 of the judged photos"] * (method == "promptad")
