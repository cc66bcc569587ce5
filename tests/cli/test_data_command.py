"""``promptad data`` as a person runs it: on every miniature, on the photos beside the repository and in two packages."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from miniature_sets import SETS
from promptad import CheckRequest, WriteRequest
from promptad.cli import build
from promptad.clip import backbone
from promptad.data.datasets import load_dataset
from promptad.data.datasets.facts import all_facts
from promptad.errors import ConfigError, DataError
from promptad.notices import PromptadNotice
from tiny import tiny_backbone

run = functools.partial(CliRunner().invoke, build())


@pytest.mark.parametrize("name", SETS)
def test_check_says_of_every_miniature_what_it_is(name: str, tmp_path: Path) -> None:
    make, layout, key = SETS[name]
    root = make(tmp_path / "set")
    result = run(["data", "check", str(root)])
    assert result.exit_code == 0, result.output
    facts, records = all_facts()[key], load_dataset(root)
    assert f"layout     {layout} (" in result.stdout
    assert f"set        {facts.title}; had from: {facts.where}\n" in result.stdout
    assert f"licence    {facts.stated_licence}\n" in result.stdout
    classes = list(dict.fromkeys(record.class_name for record in records))
    assert f"classes    {len(classes)}, {len(records)} photos\n" in result.stdout
    assert all(f"           {name}: " in result.stdout for name in classes)
    if facts.counts:
        assert f"numbers    not those of the whole {facts.title}:\n" in result.stdout
    assert "Traceback" not in result.output


def test_check_says_what_was_left_out_and_why(tmp_path: Path) -> None:
    root = SETS["kolektor2"][0](tmp_path)
    result = run(["data", "check", str(root)])
    assert "2 files are called a copy of the file beside it and not used" in result.stdout
    assert "surface test: 2 normal of 894, 2 anomalous of 110\n" in result.stdout
    assert "masks      3 of 3 anomalous photos have one\n" in result.stdout
    assert "photos     9 files of 24x16, by their headers\n" in result.stdout
    assert "other numbers of photos" not in result.output, "the table says it"


def test_what_cannot_be_read_is_named_and_ends_with_3(tmp_path: Path) -> None:
    root = SETS["mvtec"][0](tmp_path)
    (root / "bottle/test/good/000.png").write_bytes(b"no photo")
    damaged = root / "bottle/train/good/001.png"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    (root / "bottle/ground_truth/contamination/000_mask.png").write_bytes(b"no mask")
    result = run(["data", "check", str(root)])
    assert result.exit_code == 3
    lines = sorted(line for line in result.stderr.splitlines() if line.startswith("warning:"))[::-1]
    assert len(lines) == 2 and "test/good/000.png" in lines[0] and "000_mask.png" in lines[1]
    whole = run(["data", "check", str(root), "--whole"])
    assert "train/good/001.png" in whole.stderr and "by their headers" not in whole.stdout


def test_a_layout_by_name(tmp_path: Path) -> None:
    root = SETS["aitex"][0](tmp_path)
    result = run(["data", "check", str(root), "--layout", "aitex-all"])
    assert "layout     aitex-all (asked for)\n" in result.stdout
    assert "fabric test: 6 normal of 564, 7 anomalous of 185\n" in result.stdout
    unknown = run(["data", "check", str(root), "--layout", "cocoa"])
    assert unknown.exit_code == 2 and "--layout cocoa: is not known; expected one of auto, " in unknown.stderr
    other = run(["data", "check", str(root), "--layout", "dagm"])
    assert other.exit_code == 2 and "not DAGM" in other.stderr and "--layout dagm" in other.stderr


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    result = run(["data", "check", str(tmp_path)])
    assert result.exit_code == 2 and "no known data set layout; looked for" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", SETS)
def test_write_lists_every_photo_that_has_a_label(name: str, tmp_path: Path) -> None:
    root = SETS[name][0](tmp_path / "set")
    result = run(["data", "write", str(root), str(root / "list.json")])
    assert result.exit_code == 0, result.output
    records = [record for record in load_dataset(root) if record.label is not None]
    content = json.loads((root / "list.json").read_text("utf-8"))
    assert list(content)[:2] == ["train", "test"]
    entries = [entry for split in content.values() for photos in split.values() for entry in photos]
    assert len(entries) == len(records)
    assert not [entry for entry in entries if entry["img_path"].startswith("/") or "\\" in entry["img_path"]]
    again = load_dataset(root / "list.json")
    assert {(r.photo, r.split, r.label, r.masks, r.class_name, r.group, r.condition) for r in again} == {
        (r.photo, r.split, r.label, r.masks, r.class_name, r.group, r.condition) for r in records
    }


def test_write_of_some_classes_and_of_photos_without_labels(tmp_path: Path) -> None:
    root = SETS["ad2"][0](tmp_path / "set")
    with pytest.warns(PromptadNotice, match="8 photos have no label, so the list leaves them out"):
        run(["data", "write", str(root), str(tmp_path / "out.json"), "--classes", "can,vial"])
    assert set(json.loads((tmp_path / "out.json").read_text())["validation"]) == {"can", "vial"}
    file, photos = WriteRequest(dataset=root, output=tmp_path, classes="can").run()
    assert (file, photos) == (tmp_path / "meta.json", 9)
    with pytest.raises(DataError, match="no such class"):
        WriteRequest(dataset=root, output=tmp_path, classes="cane").run()


def test_python_calls_the_option_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layout=.cocoa.: is not known"):
        CheckRequest(dataset=tmp_path, layout="cocoa")


def test_the_photos_beside_the_repository(shared_data: Path) -> None:
    expected = {"cookies": (85, 32, 40, None), "magnetic_tile": (1344, 392, 392, None), "mvtec": (123, 63, 63, "mvtec")}
    for name, (photos, masked, anomalous, key) in expected.items():
        checked = CheckRequest(dataset=shared_data / name).run()
        facts = checked.data.facts
        assert (len(checked.data.records), checked.masks.masked, checked.masks.anomalous) == (photos, masked, anomalous)
        assert (facts.key if facts else None, checked.unreadable) == (key, ())
    assert checked.data.differences[1:] == ["bottle train: 40 normal of 209"]


@pytest.mark.parametrize(
    ("module", "key", "photos"), [("elpv_dataset", "elpv", 2223), ("conformal_clip_data", "conformal_clip", 2000)]
)
def test_the_packages_of_the_registry_as_they_are_installed(module: str, key: str, photos: int) -> None:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {module} is not installed")
    checked = CheckRequest(dataset=Path(next(iter(spec.submodule_search_locations)))).run()
    assert checked.data.facts is not None and checked.data.facts.key == key
    assert (len(checked.data.records), checked.unreadable, checked.data.differences) == (photos, (), [])


@pytest.mark.parametrize("job", [("check",), ("write", "list.json")])
def test_data_runs_without_torch(job: tuple[str, ...], tmp_path: Path) -> None:
    SETS["btad"][0](tmp_path)
    code = (
        "import sys; sys.modules['torch'] = None; from promptad.cli import main; "
        f"sys.argv = ['promptad', 'data', {job[0]!r}, 'BTech_Dataset_transformed', *{job[1:]!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_submit_writes_the_archive_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "load_backbone", lambda *_, **__: tiny_backbone())
    root = SETS["ad2"][0](tmp_path / "ad2")
    result = run(["data", "submit", str(root), str(tmp_path / "mine.tar.gz"), "--method", "clip"])
    assert result.exit_code == 0, result.output
    assert "maps       32\n" in result.stdout and (tmp_path / "mine.tar.gz").stat().st_size > 0
    refused = run(["data", "submit", str(root), str(tmp_path / "mine.zip"), "--method", "clip"])
    assert refused.exit_code == 2 and "NAME.tar.gz" in refused.output and "Traceback" not in refused.output
