"""`tools/practice_photos.py` without a network: its table, its products, and a whole set in miniature."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.data.damage_kinds import KINDS
from promptad.data.datasets import load_dataset
from promptad.data.duplicates import find_copies
from promptad.requests.datasets import CheckRequest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
NAMES = ("practice_photos", "practice_sources", "practice_more", "practice_render")


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("practice_photos")
    finally:
        sys.path.remove(str(TOOLS))
        for name in NAMES:
            sys.modules.pop(name, None)


def material(seed: int, side: int = 160) -> bytes:
    """A PNG of coloured grain."""
    draw = np.random.default_rng(seed)
    picture = draw.normal(128, 40, (side // 4, side // 4, 3)).repeat(4, 0).repeat(4, 1)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def stored(tool, store: Path, content: bytes, **more):
    """A source whose package lies unpacked in the store already."""
    (store / "pack").mkdir(parents=True, exist_ok=True)
    (store / "pack" / "grain.png").write_bytes(content)
    (store / "pack" / "complete").touch()
    given = {"sha256": hashlib.sha256(content).hexdigest(), "licence": "CC0", **more}
    return tool.Source(package="pack==1", member="grain.png", **given)


def test_the_table_names_free_licences_and_no_set_that_is_tested_on(tool):
    table = tool.sources()
    for name, source in table.items():
        assert source.licence.startswith(("CC0", "MIT", "public domain", "CC-BY-3.0", "CC-BY-4.0")), name
        assert len(source.sha256) == 64 and source.turn in ("none", "quarter", "any")
        assert 0 < source.share[0] < source.share[1] <= 1
    now, first = tool.products(Path("x"), table), {n for n, source in table.items() if source.first}
    assert len(now) >= 60 and len(first) == 8 and first < set(now)
    assert not {"cookie", "cookies", "bottle", "magnetic_tile", "solar_cell", "woven_textile"} & set(now)
    cut = {material for material, *_ in (*tool.FORMED.values(), *tool.DRESSED.values())}
    assert cut <= set(table) and set(table) == {name for name in table if name in now} | tool.ONLY_CUT


def test_products_are_photos_that_differ(tool):
    view = np.asarray(Image.open(io.BytesIO(material(3, 400))).convert("RGB"), np.float32)
    made = {name: [render(np.random.default_rng(seed)) for seed in (0, 1)] for name, render in tool.MORE.items()}
    for name, (_, form, ground) in tool.FORMED.items():
        made[name] = [tool.of_material(view, np.random.default_rng(seed), form, ground) for seed in (0, 1)]
    for name, (_, dress) in tool.DRESSED.items():
        made[name] = [tool.camera(dress(view, draw), draw) for draw in map(np.random.default_rng, (0, 1))]
    for name, (first, second) in made.items():
        assert first.shape == (400, 400, 3) and first.dtype == np.uint8, name
        assert np.abs(first.astype(int) - second).mean() > 3, name
        assert first.std() > 8, name


def test_a_set_in_miniature_is_complete_clean_and_the_same_again(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "COUNT", 4)

    def build(folder: Path) -> dict[str, bytes]:
        source = stored(tool, folder / ".packages", material(0), share=(0.3, 0.5), turn="any")
        chosen = {
            "grain": tool._material(folder, "grain", source),
            "die": tool._rendered("die", tool.MORE["die"], "practice_more.py"),
        }
        painted = tool.Painted(count=12, kinds=len(KINDS), largest=0.25, light=True, foreign=True, turning=True)
        tool.build(folder, chosen, painted)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.*g"))}

    first = build(tmp_path / "a")
    assert build(tmp_path / "b") == first
    licences = (tmp_path / "a" / "LICENCES.md").read_text("utf-8")
    assert "| grain | crops of `grain.png` in the package pack==1 | CC0 |" in licences
    assert "| die | rendered by `tools/practice_more.py` | MIT, as promptad |" in licences

    for category in ("grain", "die"):
        records = load_dataset(tmp_path / "a" / category)
        damaged = [record for record in records if record.label]
        assert len(damaged) == 12 and all(record.mask is not None for record in damaged)
        assert len(records) == 12 + 6 + 4  # damaged, good ones of the test, good ones to learn from
        checked = CheckRequest(dataset=tmp_path / "a" / category).run()
        assert not checked.unreadable
    kinds = {path.name for path in (tmp_path / "a").glob("*/test/*")} - {"good"}
    assert kinds == set(KINDS), "each category starts with another kind, so that together they show all"
    photos = [*(tmp_path / "a" / "photos").glob("*/*.jpg")]
    copies = find_copies(np.asarray(Image.open(photo)) for photo in photos)
    assert len(photos) == 8 and not copies.exact and not copies.near


def test_the_first_set_keeps_its_kinds_and_sizes(tool):
    assert tool.Painted(count=24, kinds=12, largest=0.1, light=False, foreign=False, turning=False) == tool.FIRST
    assert list(KINDS)[:12] == [
        *("scratch", "crack", "hole", "dent", "stain", "missing_piece", "foreign_texture", "misplaced"),
        *("rough", "discolouration", "thread", "debris"),
    ]


def test_another_picture_than_the_table_names_is_refused(tool, tmp_path):
    source = stored(tool, tmp_path, material(0), sha256="0" * 64)
    with pytest.raises(SystemExit, match=r"pack==1: grain\.png is another picture than practice_sources\.toml names"):
        tool.picture(tmp_path, source)
    (tmp_path / "pack" / "grain.png").unlink()
    with pytest.raises(SystemExit, match=r"pack==1: holds no grain\.png"):
        tool.picture(tmp_path, source)
