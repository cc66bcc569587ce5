from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import urllib.parse
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.prediction import DefectWord
from promptad.report.page import Metric, PageSummary, write_page
from promptad.report.rows import Row
from promptad.report.thumbnails import small, thumbnail

NASTY = "<script>alert(1)</script>\"'&.jpg"
SUMMARY = PageSummary(
    object="bolt",
    method="WinCLIP",
    backbone="ViT-B/16",
    threshold=0.5,
    threshold_note="Set from 31 good photos; at most 1 in 6 good photos is called anomalous.",
    map_low=0.2,
    map_high=0.9,
    map_threshold=0.3,
    map_note="Pixel threshold of a drawing.",
    command="promptad inspect photos --object bolt",
    created="2026-01-02 03:04",
)


class Page(HTMLParser):
    """Elements and texts of a page, read the way a browser does."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.source = path.read_text("utf-8")
        self._raw = False
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw and data.strip():
            self.texts.append(" ".join(data.split()))

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [a for t, a in self.elements if t == tag and all(a.get(n) == v for n, v in wanted.items())]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def rows_of(folder: Path, scores: list[float], threshold: float | None = 0.5) -> list[Row]:
    rows = []
    for i, score in enumerate(scores):
        path = folder / f"bolt-{i}.png"
        Image.new("RGB", (90, 60), (10 * i, 90, 120)).save(path)
        verdict = "no threshold" if threshold is None else "anomalous" if score > threshold else "normal"
        words = (DefectWord("bent thread", 0.62, 0.81),)
        rows.append(Row(str(path), verdict, score, threshold, words, (3, 7), (60, 90)))  # type: ignore[arg-type]
    return rows


def write(folder: Path, rows: list[Row], summary: PageSummary = SUMMARY, **options: int) -> Page:
    target = folder / "out" / "report.html"
    write_page(target, rows, title="Bolts", summary=summary, **options)
    assert [file.name for file in target.parent.iterdir()] == ["report.html"]
    return Page(target)


def test_rows_are_worst_first_with_their_place(tmp_path: Path) -> None:
    page = write(tmp_path, rows_of(tmp_path, [0.1, 0.9, 0.4, 0.7]))
    order = [Path(row["data-path"] or "").name for row in page.all("tr") if "data-path" in row]
    assert order == ["bolt-1.png", "bolt-3.png", "bolt-2.png", "bolt-0.png"]
    assert [row["data-verdict"] for row in page.all("tr") if "data-path" in row] == ["anomalous"] * 2 + ["normal"] * 2
    numbers = [cell["data-value"] for cell in page.all("td", class_="score number")]
    assert numbers == ["0.9", "0.7", "0.4", "0.1"]


def test_the_head_says_what_was_done(tmp_path: Path) -> None:
    page = write(tmp_path, rows_of(tmp_path, [0.1, 0.9, 0.8]))
    for words in (
        "Bolts",
        "bolt",
        "WinCLIP",
        "ViT-B/16",
        "2026-01-02 03:04",
        "promptad inspect photos --object bolt",
        "Set from 31 good photos; at most 1 in 6 good photos is called anomalous.",
        "0.50",
        "0.9 or more",
        "surrounds regions above 0.3. Pixel threshold of a drawing. Whether a photo is anomalous, its score and the threshold decide, not its regions.",
        str(tmp_path),
    ):
        assert words in page.texts or words in page.text, words
    for count, name in (("3", "photos"), ("2", "anomalous"), ("1", "normal")):
        assert page.texts[page.texts.index(name) - 1] == count
    assert "failed" not in page.texts and "skipped" not in page.texts
    assert "62 · 81 %" in page.text


def test_nothing_from_outside_is_asked_for(tmp_path: Path) -> None:
    rows = [replace(row, heatmap=row.photo) for row in rows_of(tmp_path, [0.1, 0.9])]
    page = write(tmp_path, rows)
    assert not re.search(r"(https?:)?//[a-z]", page.source.split("<script>")[0], re.IGNORECASE)
    assert "http" not in page.source.replace("http-equiv", "")
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not {"srcset", "action", "background"} & set(attributes)
        assert (attributes.get("href") or "./").startswith("./")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in page.source and "@import" not in page.source
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"] or ""
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_everything_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = "</title></style></code><img src=x onerror=alert(1)>"
    words = (DefectWord(evil, 0.5, 0.5),)
    rows = [
        Row("folder/" + NASTY, "anomalous", 0.9, 0.5, words, parts={evil: 0.1}, label=1),
        Row.failed("folder/bad " + NASTY, evil),
    ]
    summary = PageSummary(evil, evil, evil, 0.5, evil, 0.1, 0.2, 0.1, evil, (Metric(evil, None, evil),), (evil,))
    target = tmp_path / "report.html"
    write_page(target, rows, title=evil, summary=summary)
    page = Page(target)
    assert [script.get("type") for script in page.all("script")] == ["application/json", None] and page.all("img") == []
    assert NASTY in page.text and evil in page.text
    assert NASTY in (page.all("tr", **{"data-verdict": "anomalous"})[0]["data-path"] or "")


def test_names_that_are_no_text_do_not_stop_the_page(tmp_path: Path) -> None:
    rows = [Row("d/two\nlines.jpg", "normal", 0.1), Row("d/bytes\udcff.jpg", "normal", 0.2)]
    page = write(tmp_path, rows)
    assert "'two\\nlines.jpg'" in page.text and "'bytes\\udcff.jpg'" in page.text


def test_pictures_are_small_and_only_of_the_worst(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [0.1, 0.9, 0.4, 0.7])
    big = np.random.default_rng(0).integers(0, 255, (500, 800, 3), dtype=np.uint8)
    rows = [replace(row, heatmap_picture=thumbnail(big, 200)) for row in rows]
    page = write(tmp_path, rows, max_pictures=2, edge=200)
    images = page.all("img")
    assert [image["alt"] for image in images] == [
        "Photo bolt-1.png",
        "Heat map of bolt-1.png, hottest at x 7, y 3",
        "Photo bolt-3.png",
        "Heat map of bolt-3.png, hottest at x 7, y 3",
    ]
    sizes = []
    for image in images:
        kind, code = (image["src"] or "").split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(code))) as picture:
            assert [str(n) for n in picture.size] == [image["width"], image["height"]]
            sizes.append(picture.size)
    assert sizes == [(90, 60), (200, 125)] * 2
    assert "Pictures are shown for the 2 worst of 4 photos; the others are in the table only." in page.text
    assert len(page.all("a", class_="pictures")) == 2


def page_images(page: Page) -> list[tuple[str | None, str | None]]:
    return [(image["width"], image["height"]) for image in page.all("img")]


def test_heat_maps_come_from_files_too(tmp_path: Path) -> None:
    row = rows_of(tmp_path, [0.9])[0]
    Image.new("RGB", (720, 480)).save(tmp_path / "map.png")
    page = write(tmp_path, [replace(row, heatmap=str(tmp_path / "map.png"))])
    assert [(image["width"], image["height"]) for image in page.all("img")] == [("90", "60"), ("360", "240")]
    with_legend = replace(row, size=(400, 720), heatmap=str(tmp_path / "map.png"))  # the 80 rows below are its legend
    assert page_images(write(tmp_path, [with_legend])) == [("90", "60"), ("360", "200")]
    assert "Pictures are shown" not in page.text


def test_long_tables_are_cut_and_the_page_says_so(tmp_path: Path) -> None:
    rows = [Row(f"photo-{i}.jpg", "normal", i / 100) for i in range(50)]
    page = write(tmp_path, rows, max_rows=10, max_pictures=0)
    assert len([row for row in page.all("tr") if "data-path" in row]) == 10
    assert "The table lists the 10 worst of 50 photos" in page.text
    assert page.texts[page.texts.index("photos") - 1] == "50"
    assert "Photo and heat map" not in page.text


def test_a_photo_that_is_gone_is_said_so_in_its_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [0.2, 0.9])
    Path(rows[1].photo).unlink()
    page = write(tmp_path, rows)
    assert [image["alt"] for image in page.all("img")] == ["Photo bolt-0.png"]
    assert "Picture missing:" in page.text and "there is no such file" in page.text


def test_failed_photos_and_skipped_files_have_sections_of_their_own(tmp_path: Path) -> None:
    rows = [
        *rows_of(tmp_path, [0.2]),
        Row.failed(tmp_path / "cut.jpg", "is cut off; copy it"),
        Row.failed(tmp_path / "notes.txt", "suffix .txt is not a photo's", verdict="skipped"),
    ]
    page = write(tmp_path, rows)
    assert "Photos that failed" in page.text and "Files that were skipped" in page.text
    assert page.texts[page.texts.index("is cut off; copy it") - 1] == "cut.jpg"
    assert page.texts[page.texts.index("suffix .txt is not a photo's") - 1] == "notes.txt"
    for count, word in (("2", "photos"), ("1", "failed"), ("1", "skipped"), ("1", "normal")):
        assert page.texts[page.texts.index(word) - 1] == count
    assert len([row for row in page.all("tr") if "data-path" in row]) == 1


def test_links_are_relative_and_lead_to_photo_and_heat_map_at_full_size(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for photo in ("a b#?.png", "sub/größe %.png", "bytes\udcff.png"):
        (tmp_path / "photos" / photo).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (900, 600)).save(out.parent / "photos" / photo, "PNG")
        row = Row(
            photo,
            "anomalous",
            0.9,
            root="../photos",
            size=(600, 900),
            hottest=(30, 70),
            heatmap=f"heatmaps/{photo}.jpg",
        )
        (out / "heatmaps" / photo).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (900, 640)).save(out / f"heatmaps/{photo}.jpg", "JPEG")
        page = write_in(out, [row])
        (link,) = page.all("a", class_="pictures")
        assert link["href"] == link["data-heatmap"]
        for name, target in (
            ("data-heatmap", out / "heatmaps" / f"{photo}.jpg"),
            ("data-photo", tmp_path / "photos" / photo),
        ):
            href = link[name] or ""
            assert href.startswith("./") and not re.search(r"[ #?]", href)
            assert os.path.realpath(out / os.fsdecode(urllib.parse.unquote_to_bytes(href))) == os.path.realpath(target)
        assert (link["data-width"], link["data-height"], link["data-x"], link["data-y"]) == ("900", "600", "70", "30")
        assert page_images(page) == [("360", "240"), ("360", "240")]


def write_in(folder: Path, rows: list[Row], summary: PageSummary = SUMMARY) -> Page:
    write_page(folder / "report.html", rows, title="Bolts", summary=summary)
    return Page(folder / "report.html")


def test_what_is_worth_knowing_stands_on_the_page(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [0.2, 0.9])
    rows[1] = replace(rows[1], inspected=0.5625, remarks=("Taken otherwise than the good photos: another shape.",))
    summary = replace(SUMMARY, notices=("mask.png: is soft",), words=("bent thread", "rust"))
    page = write(tmp_path, rows, summary)
    for words in (
        "Worth knowing",
        "mask.png: is soft",
        "1 of 2 photos was not looked at as a whole (down to 56 % of a photo).",
        "56 % of the photo was inspected; the rest was not looked at.",
        "was not inspected.",
        "Taken otherwise than the good photos: another shape.",
    ):
        assert words in page.text, words
    assert [page.texts[page.texts.index(word)] for word in ("rust",)] and len(page.all("q")) == 2
    plain = write(tmp_path, rows_of(tmp_path, [0.2]))
    assert "Worth knowing" not in plain.text and "not inspected" not in plain.text and plain.all("q") == []


def test_without_a_threshold_photos_are_ranked_only(tmp_path: Path) -> None:
    summary = replace(SUMMARY, threshold=None, threshold_note="No good photos were given.")
    page = write(tmp_path, rows_of(tmp_path, [0.2, 0.4], None), summary)
    assert "Photos are ranked, worst first; there is no verdict." in page.text
    assert page.texts[page.texts.index("no threshold") - 1] == "2"
    assert page.all("input", id="only") == [] and len(page.all("input", id="filter")) == 1
    assert page.all("line", class_="limit") == []


def test_labels_show_mistakes_metrics_and_skipped_reasons(tmp_path: Path) -> None:
    rows = [replace(row, label=label) for row, label in zip(rows_of(tmp_path, [0.2, 0.9]), (1, 0), strict=True)]
    metrics = (Metric("image AUROC", 0.91234), Metric("AUPRO", None, "no masks were given"))
    page = write(tmp_path, rows, replace(SUMMARY, metrics=metrics))
    for words in ("false alarm", "missed", "label: normal", "0.9123", "skipped", "no masks were given"):
        assert words in page.texts, words
    assert {bar["class"] for bar in page.all("rect")} == {"bar normal", "bar anomalous"}
    without = write(tmp_path, rows_of(tmp_path, [0.2, 0.9]))
    assert "missed" not in without.text and {bar["class"] for bar in without.all("rect")} == {"bar all"}


@pytest.mark.parametrize("rows", [[], [Row.failed("only.jpg", "is empty")]])
def test_a_run_without_any_score_has_a_page(tmp_path: Path, rows: list[Row]) -> None:
    page = write(tmp_path, rows)
    assert "No photo was scored." in page.text
    assert page.all("table") == []


def test_page_is_accessible_in_its_bones(tmp_path: Path) -> None:
    page = write(tmp_path, rows_of(tmp_path, [0.2, 0.9]))
    assert page.all("html", lang="en") and len(page.all("h1")) == 1
    assert all(head.get("scope") == "col" for head in page.all("th"))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(link.get("title") for link in page.all("a", class_="pictures"))
    assert page.all("dialog")[0].get("aria-label")
    assert (page.all("svg")[0]["aria-label"] or "").startswith("Histogram of 2 scores from 0.2 to 0.9")
    assert "prefers-color-scheme: dark" in page.source and "@media print" in page.source


def test_the_column_of_defect_words_is_there_only_with_words(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [0.2, 0.9])
    assert "Defect words" in write(tmp_path, rows).texts
    without = write(tmp_path, [replace(row, defects=()) for row in rows])
    assert "Defect words" not in without.texts
    assert len(without.all("td")) == 2 * len(without.all("th")) == 2 * 5


def test_scores_get_the_decimals_that_tell_them_apart(tmp_path: Path) -> None:
    rows = [Row(f"{i}.jpg", "normal", score) for i, score in enumerate((1e-5, 2e-5))]
    assert "0.00001000" in write(tmp_path, rows).text
    rows = [Row(f"{i}.jpg", "normal", score) for i, score in enumerate((100.0, 4200.0))]
    assert "4200" in write(tmp_path, rows).texts


def test_small_never_enlarges_and_keeps_the_aspect() -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    assert small(picture, 20) is picture
    assert small(np.zeros((1000, 500, 3), np.uint8), 360).shape == (360, 180, 3)
    assert small(np.zeros((1, 5000, 3), np.uint8), 360).shape == (1, 360, 3)


def test_thumbnail_of_a_large_jpeg_is_upright(tmp_path: Path) -> None:
    pixels = np.zeros((1600, 2400, 3), np.uint8)
    pixels[:, :1200] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right: the red left half becomes the upper half
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    made = thumbnail(tmp_path / "a.jpg", 360)
    assert (made.width, made.height) == (240, 360)
    with Image.open(io.BytesIO(base64.b64decode(made.uri.split(",")[1]))) as picture:
        upper, lower = picture.getpixel((120, 60)), picture.getpixel((120, 300))
    assert isinstance(upper, tuple) and isinstance(lower, tuple)
    assert upper[0] > 200 and lower[0] < 50
