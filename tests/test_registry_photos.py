"""`tools/registry_photos.py`: which photo goes where, on drawn packages and, where they are installed, on the real ones."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from promptad.data.datasets import load_dataset

TOOL = Path(__file__).resolve().parents[1] / "tools" / "registry_photos.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("registry_photos", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_elpv_labels_decide_the_folder_and_unsure_cells_are_left_out(tool, tmp_path):
    rows = [
        (i, ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")[i % 4], "mono" if i < 20 else "poly")
        for i in range(40)
    ]
    (tmp_path / "data").mkdir()
    lines = [f"images/cell{i:04d}.png  {probability}                 {kind}" for i, probability, kind in reversed(rows)]
    (tmp_path / "data/labels.csv").write_text("\n".join(lines) + "\n")
    split = {place: [photo.name for photo in photos] for place, photos in tool.elpv_split(tmp_path).items()}
    good = [f"cell{i:04d}.png" for i, probability, _ in rows if probability == "0.0"]
    assert split["test/good"] == [good[0], good[4], good[8]]
    assert split["train/good"] == [name for name in good if name not in split["test/good"]]
    assert split["test/mono"] == [f"cell{i:04d}.png" for i in range(3, 20, 4)]
    assert split["test/poly"] == [f"cell{i:04d}.png" for i in range(23, 40, 4)]


def test_textile_folders_become_splits(tool, tmp_path):
    for kind, count in (("nominal", 6), ("local", 2), ("global", 3)):
        folder = tmp_path / "data/textile_images/simulated" / kind
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"textile_{i:04d}.jpg").touch()
    split = {place: [photo.stem[-1] for photo in photos] for place, photos in tool.textile_split(tmp_path).items()}
    assert split == {
        "train/good": list("1235"),
        "test/good": list("04"),
        "test/local": list("01"),
        "test/global": list("012"),
    }


@pytest.mark.parametrize(
    ("count", "places"), [(None, range(7)), (9, range(7)), (7, range(7)), (3, (0, 2, 4)), (1, (0,)), (0, ())]
)
def test_evenly_spaced_is_the_documented_formula(tool, count, places):
    assert tool.evenly_spaced(list(map(str, range(7))), count) == [str(place) for place in places]


@pytest.mark.parametrize(
    ("name", "module", "expected"),
    [
        ("elpv", "elpv_dataset", {"train/good": 1131, "test/good": 377, "test/mono": 313, "test/poly": 402}),
        (
            "textile",
            "conformal_clip_data",
            {"train/good": 750, "test/good": 250, "test/local": 500, "test/global": 500},
        ),
    ],
)
def test_the_real_packages(tool, tmp_path, name, module, expected):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{tool.PACKAGES[name].distribution} is not installed")
    with tool.package_root(tool.PACKAGES[name]) as (root, _):
        whole = tool.elpv_split(root) if name == "elpv" else tool.textile_split(root)
    assert {place: len(photos) for place, photos in whole.items()} == expected
    assert len({photo for photos in whole.values() for photo in photos}) == sum(expected.values())
    folder = tool.write_set(name, tmp_path, train=3, test=2)
    records = load_dataset(folder)
    kinds = sorted({record.defect_type for record in records if record.label == 1})
    assert kinds == sorted(place.split("/")[1] for place in expected if not place.endswith("good"))
    assert sum(record.split == "train" for record in records) == 3
    assert sum(record.split == "test" for record in records) == 2 * (len(expected) - 1)
    assert json.loads((folder / "source.json").read_text())["licence"]
    assert tool.write_set(name, tmp_path, train=3, test=2) == folder, "the same command again is no error"
    with pytest.raises(SystemExit, match="choose another folder"):
        tool.write_set(name, tmp_path, train=4, test=2)
