"""The report as a person uses it: threshold, filters, marks and boxes in a real Chromium, from a file and without a network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from browser import opened, saved_labels
from promptad.data.labels import Box, read_labels
from promptad.prediction import DefectWord
from promptad.report.page import PageSummary, write_page
from promptad.report.rows import Row
from promptad.scoring.regions import Region, RegionRule

SUMMARY = PageSummary(
    object="bolt",
    threshold=0.5,
    map_low=0.2,
    map_high=0.9,
    command="promptad inspect photos --model bolt.safetensors --false-alarms 0.1 -o out",
    words=("bent thread", "rust"),
    good_scores=(0.2, 0.35),
    good_words="2 good photos",
)
SCORES = (0.9, 0.7, 0.45, 0.4, 0.1)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    rows = []
    for number, score in enumerate(SCORES):
        place = tmp_path / "photos" / f"line {number % 2}" / f"bolt-{number}, ä.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100), (40 * number, 90, 120)).save(place)
        heat = tmp_path / "out" / "heatmaps" / f"{number}.jpg"
        heat.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 130), (250, 90, 20)).save(heat)  # 30 rows of legend
        words = (DefectWord(("rust", "bent thread")[number % 2], 0.6, 0.8),)
        row = Row(f"line {number % 2}/{place.name}", "anomalous" if score > 0.5 else "normal", score, 0.5, words)
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        known = {"size": (100, 200), "hottest": (30, 70), "root": "../photos", "sha256": digest}
        rows.append(replace(row, heatmap=f"heatmaps/{number}.jpg", **known))
    write_page(tmp_path / "out" / "report.html", rows, title="Bolts", summary=SUMMARY)
    return tmp_path / "out" / "report.html"


def names(window) -> list[str]:
    return [text.split(",")[0] for text in window.locator("#photos .name").all_inner_texts()]


def move(window, threshold: float) -> None:
    window.locator("#exactly").fill(str(threshold))
    window.locator("#exactly").press("Enter")


def test_the_threshold_moves_verdicts_counts_and_histogram_and_names_the_command(page: Path) -> None:
    with opened(page) as window:
        assert (
            window.locator("#count-anomalous b").inner_text() == "2" and not window.locator("#permanent").is_visible()
        )
        before = window.locator("svg .limit").get_attribute("x1")
        move(window, 0.42)
        assert (
            window.locator("#count-anomalous b").inner_text() == "3"
            and window.locator("#count-normal b").inner_text() == "2"
        )
        assert window.locator("#photos .badge").all_inner_texts() == ["anomalous"] * 3 + ["normal"] * 2
        assert window.locator("#photos .times").first.inner_text() == "2.14 × threshold"
        assert float(window.locator("svg .limit").get_attribute("x1")) < float(before)
        command = "promptad inspect photos --model bolt.safetensors -o out --threshold 0.42"
        assert window.locator("#permanent code").inner_text() == command
        window.locator("#threshold").press("Home")  # the lowest score: it is not above itself
        window.wait_for_function("document.querySelector('#count-normal b').textContent === '1'")
        window.locator("#learned").click()
        assert (
            window.locator("#count-anomalous b").inner_text() == "2" and not window.locator("#permanent").is_visible()
        )


def test_filters_and_order(page: Path) -> None:
    with opened(page) as window:
        window.locator("#by-verdict").select_option("normal")
        assert names(window) == ["bolt-2", "bolt-3", "bolt-4"]
        move(window, 0.42)
        assert names(window) == ["bolt-3", "bolt-4"]
        window.locator("#by-words").select_option("bent thread")
        assert names(window) == ["bolt-3"]
        window.locator("#by-verdict").select_option("")
        window.locator("#by-words").select_option("")
        window.locator("#by-folder").select_option("line 1")
        assert names(window) == ["bolt-1", "bolt-3"]
        assert window.locator("#shown").inner_text() == "2 of 5 shown"
        window.get_by_role("button", name="File").click()
        assert names(window) == ["bolt-1", "bolt-3"]
        window.locator("#by-folder").select_option("")
        window.locator("#filter").fill("BOLT-4 rust")
        assert names(window) == ["bolt-4"]


def test_marks_by_keys_and_clicks_outlive_the_page_and_are_saved(page: Path, tmp_path: Path) -> None:
    with opened(page) as window:
        window.locator("#who").fill("=Ada, line 2")
        window.locator("#photos tbody tr").first.focus()
        for key in ("d", "ArrowDown", "g", "j", "u", "j", "g", "x"):
            window.keyboard.press(key)
        window.get_by_role("group", name="Mark bolt-4, ä.png").get_by_role("button", name="good").click()
        assert window.locator("#marked").inner_text() == "4 of 5 photos marked."
        assert "1 good above it and 0 defective not above it" in window.locator("#counted").inner_text()
        window.reload()
        assert window.locator("#marked").inner_text() == "4 of 5 photos marked."
        assert window.locator("#photos [aria-pressed=true]").all_inner_texts() == ["defect", "good", "unsure", "good"]
        window.locator("#by-label").select_option("disagrees")
        assert names(window) == ["bolt-1"]
        labels = read_labels(saved_labels(window, page.parent))
    assert [label.label for label in labels] == ["defect", "good", "unsure", "good"]
    assert {label.who for label in labels} == {"=Ada, line 2"} and all(label.when for label in labels)
    for label in labels:  # the path is that from the page, and the hash that of the photo
        assert hashlib.sha256((page.parent / label.photo).read_bytes()).hexdigest() == label.sha256


def test_a_defect_by_box_and_words(page: Path) -> None:
    with opened(page) as window:
        window.locator("a.pictures").first.click()
        window.wait_for_function("document.querySelectorAll('#zoom .pane img').length === 2")
        pane = window.locator("#zoom .pane").bounding_box()
        pixel = min(pane["width"] / 200, pane["height"] / 100)
        left, top = pane["x"] + pane["width"] / 2 - 100 * pixel, pane["y"] + pane["height"] / 2 - 50 * pixel
        window.keyboard.press("b")
        window.mouse.move(left + 140 * pixel, top + 80 * pixel)
        window.mouse.down()
        window.mouse.move(left + 20 * pixel, top + 30 * pixel, steps=4)
        window.mouse.up()
        assert window.locator("#boxes").input_value() == "20,30,120,50"
        window.locator("#said").fill("rust on the head")
        window.locator("#said").press("Tab")
        window.locator("#boxes").fill("20,30,120,50; 1,2,3,4")
        window.locator("#boxes").press("Enter")
        window.get_by_role("button", name="Next photo").click()
        assert window.locator("#boxes").input_value() == ""
        window.keyboard.press("g")
        window.get_by_role("button", name="Close").click()
        assert window.locator("#photos tbody tr:focus .name").inner_text() == "bolt-1, ä.png"
        [defect, good] = read_labels(saved_labels(window, page.parent))
    assert (defect.label, defect.boxes) == ("defect", (Box(20, 30, 120, 50), Box(1, 2, 3, 4)))
    assert defect.words == "rust on the head" and (good.label, good.boxes) == ("good", ())


def test_the_heat_map_fades_over_the_photo(page: Path) -> None:
    with opened(page, width=390) as window:
        window.locator("#photos tbody tr").first.press("Enter")
        heat = window.locator("#zoom [data-kind=heatmap]")
        window.locator("#heat").fill("30")
        assert heat.evaluate("img => img.style.opacity") == "0.3"
        window.keyboard.press("h")
        assert heat.evaluate("img => img.style.opacity") == "0"
        sizes = window.locator("#zoom img").evaluate_all("all => all.map(img => [img.clientWidth, img.clientHeight])")
        assert sizes[0][0] == sizes[1][0] and sizes[1][1] > sizes[0][1]  # by the legend
        assert window.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_ten_thousand_rows_stand_in_the_table_only_where_one_looks(tmp_path: Path) -> None:
    rows = [
        Row(f"p/{number:05}.jpg", "normal", 1 - number / 10000, 0.5, sha256=f"{number:064x}") for number in range(10000)
    ]
    write_page(tmp_path / "report.html", rows, title="Many", summary=SUMMARY, max_pictures=0)
    with opened(tmp_path / "report.html") as window:
        assert window.locator("#photos tbody tr").count() < 200
        window.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        window.wait_for_function(
            "document.querySelector('#photos tbody:last-child tr:last-child .name')?.textContent === '09999.jpg'"
        )
        assert window.locator("#photos tbody tr").count() < 300
        window.locator("#photos tbody tr").last.press("d")
        move(window, 0.25)
        assert (
            window.locator("#count-anomalous b").count() == 1
            and window.locator("#count-anomalous b").inner_text() == "7500"
        )
        window.locator("#by-label").select_option("defect")
        assert names(window) == ["09999.jpg"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_object(page: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with opened(page, scheme=scheme) as window:
        window.locator("#photos tbody tr").first.press("d")
        assert _violations(axe, window) == []
        window.locator("#photos tbody tr").first.press("Enter")
        assert _violations(axe, window) == []


def _violations(axe, window) -> list[str]:
    return [
        f"{entry['id']}: {node['html'][:120]}"
        for entry in axe.Axe().run(window).response["violations"]
        for node in entry["nodes"]
    ]


def test_regions_and_what_they_say_against_the_verdict_follow_the_threshold(tmp_path: Path) -> None:
    rule = RegionRule(1, 0.1)
    region = Region((10, 20, 30, 5), 150, 0.8, (22, 15), "0", "rust", 0.4, scale=0.1)
    rows = [
        Row(f"{number}.png", verdict, score, 0.5, size=(100, 200), map_threshold=0.6, rule=rule, regions=regions)
        for number, (verdict, score, regions) in enumerate(
            [
                ("anomalous", 0.9, (region,)),
                ("anomalous", 0.7, ()),
                ("normal", 0.4, (region, region)),
                ("normal", 0.1, ()),
            ]
        )
    ]
    for row in rows:
        Image.new("RGB", (200, 100)).save(tmp_path / row.photo)
    write_page(tmp_path / "report.html", [replace(row, root=".") for row in rows], title="Bolts", summary=SUMMARY)
    with opened(tmp_path / "report.html") as window:
        told = window.locator("#photos .counted-regions")
        assert told.all_inner_texts() == [
            "1 region",
            "no region: look at the whole photo",
            "2 regions, but the score decides",
            "no regions",
        ]
        assert window.locator("#photos .found").first.inner_text() == "1: 1.5 mm², rust"
        assert "box 10,20,30,5" in (window.locator("#photos .found li").first.get_attribute("title") or "")
        move(window, 0.3)
        assert told.all_inner_texts()[2] == "2 regions"
        window.locator("#photos .name").first.click()
        box = window.locator("#zoom rect.region")
        assert [box.get_attribute(side) for side in ("x", "y", "width", "height")] == ["10", "20", "30", "5"]
