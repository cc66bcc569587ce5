"""The page of a benchmark: photos beside their maps, however the set is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from promptad.data.datasets import open_dataset
from promptad.suite import plots
from promptad.suite.files import write_suite
from promptad.suite.overview import overview_tables
from promptad.suite.plan import Plan, RowPlan, SetPlan
from promptad.suite.run import Options, run_suite

pytestmark = pytest.mark.filterwarnings("ignore")


def linked(sets: Path, tmp_path: Path) -> Path:
    """The folder behind a link."""
    place = tmp_path / "linked"
    place.symlink_to(sets / "garden", target_is_directory=True)
    return place


def listed(sets: Path, tmp_path: Path) -> Path:
    """The interchange list of the folder, in another folder."""
    records = open_dataset(sets / "garden").records
    content: dict[str, dict[str, list[dict[str, object]]]] = {"train": {}, "test": {}}
    for record in records:
        entry = {
            "img_path": str(record.photo),
            "mask_path": str(record.mask) if record.mask else "",
            "cls_name": record.class_name,
            "specie_name": record.defect_type,
            "anomaly": record.label,
        }
        content[record.split].setdefault(record.class_name, []).append(entry)
    (tmp_path / "list").mkdir()
    place = tmp_path / "list" / "meta.json"
    place.write_text(json.dumps(content))
    return place


def relative(sets: Path, tmp_path: Path) -> Path:
    """A path with a detour."""
    return sets / "kitchen" / ".." / "garden"


@pytest.mark.parametrize("named", [linked, listed, relative])
def test_photos_stand_beside_their_maps(named, sets: Path, weights: Path, tmp_path: Path):
    settings = {"map_size": 48, "smoothing": 1.0}
    plan = Plan(
        "pages",
        (SetPlan(named(sets, tmp_path), "garden"),),
        (RowPlan("clip", settings=settings),),
        shots=(0,),
        seeds=1,
        limit=2,
        backbone="tiny",
    )
    out = tmp_path / "out"
    result = run_suite(plan, Options(out, activation="quick_gelu", weights={"tiny": str(weights)}))
    write_suite(result, overview_tables(result), out)
    [of_set] = result.sets
    files = [photo["file"] for unit in of_set.outcome.units for photo in unit["test"]]
    assert files and set(files) <= set(of_set.photos)
    page = (out / "report.html").read_text("utf-8")
    strips = page.split('<div class="strip">')[1:]
    assert len(strips) == 3  # two anomalous ones, a good one
    captions = [re.findall(r"<figcaption>(.*?)</figcaption>", strip) for strip in strips]
    assert [len(own) for own in captions] == [3, 3, 3]  # photo, mask, map: columns stand below each other
    assert sorted(own[1] for own in captions) == ["mask", "mask", "no defect"]


def test_a_row_has_one_colour_in_all_curves(monkeypatch: pytest.MonkeyPatch):
    matplotlib = pytest.importorskip("matplotlib")
    points = [(0.0, 0.0), (1.0, 1.0)]
    names = [f"row {number}" for number in range(12)]
    alone = plots.lines_svg({names[1]: points}, "x", "y", "t", limits=(0, 1), colours=names)
    second = matplotlib.colors.to_hex("C1")
    assert second in alone and matplotlib.colors.to_hex("C0") not in alone
    # An eleventh row has the first one's colour and its own dashes.
    assert "stroke-dasharray" in plots.lines_svg({names[10]: points}, "x", "y", "t", limits=(0, 1), colours=names)
