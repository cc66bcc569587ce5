"""Parts of files are read, hashed, drawn and compared as photos of their own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.data.duplicates import say_copies
from promptad.data.files import sha256_file, shown
from promptad.data.parts import FilePart
from promptad.data.photos import as_photo, photo_size, read_mask, read_photo
from promptad.data.records import Record
from promptad.data.shots import draw_shots, read_manifest, write_manifest
from promptad.errors import PhotoError
from promptad.notices import PromptadNotice, collected_notices


@pytest.fixture
def strip(tmp_path: Path) -> Path:
    """64 x 16, every pixel of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "strip.png")
    return tmp_path / "strip.png"


def test_a_part_is_read_as_its_pixels(strip: Path) -> None:
    part = FilePart(strip, (16, 4, 32, 12))
    whole = np.asarray(Image.open(strip))
    assert np.array_equal(read_photo(part), whole[4:12, 16:32])
    assert np.array_equal(as_photo(part), whole[4:12, 16:32])
    assert photo_size(part) == (8, 16) and photo_size(FilePart(strip)) == (16, 64)
    assert np.array_equal(read_photo(FilePart(strip)), whole)


def test_a_part_is_of_the_upright_photo(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: stored 40 x 20, seen 20 x 40
    Image.fromarray(pixels).save(tmp_path / "t.png", exif=exif)
    part = FilePart(tmp_path / "t.png", (0, 30, 20, 40))
    assert photo_size(part) == (10, 20)
    assert np.array_equal(read_photo(part), np.rot90(pixels, -1)[30:40])


def test_a_part_outside_its_file_is_one_line(strip: Path) -> None:
    for crop in ((48, 0, 80, 16), (0, 0, 16, 17), (-1, 0, 8, 8), (8, 0, 8, 16)):
        for read in (read_photo, photo_size, read_mask):
            with pytest.raises(PhotoError, match="the part lies outside the file's 64x16"):
                read(FilePart(strip, crop))


def test_identity_is_content_and_place(strip: Path) -> None:
    first, second = FilePart(strip, (0, 0, 16, 16)), FilePart(strip, (16, 0, 32, 16))
    content = hashlib.sha256(strip.read_bytes()).hexdigest()
    assert sha256_file(first) == hashlib.sha256(f"{content} part 0,0,16,16".encode()).hexdigest()
    assert len({sha256_file(strip), sha256_file(first), sha256_file(second)}) == 3
    assert len({first, second, FilePart(strip, (0, 0, 16, 16))}) == 2
    assert shown(second) == f"{strip} (part 16,0,32,16)"


def test_the_part_of_a_mask_and_its_limit(tmp_path: Path) -> None:
    values = np.zeros((8, 32), np.uint8)
    values[2:4, 4:8], values[2:4, 8:11] = 255, (110, 70, 30)  # a soft edge
    Image.fromarray(values).save(tmp_path / "m.png")
    default = read_mask(FilePart(tmp_path / "m.png", (0, 0, 16, 8)))
    every = read_mask(FilePart(tmp_path / "m.png", (0, 0, 16, 8), above=0), (8, 16))
    assert every.shape == (8, 16) and np.array_equal(every, values[:, :16] > 0)
    assert np.array_equal(default, values[:, :16] > 127)
    # What counts as full is decided on the whole mask: a tile that holds only the edge is not read on its own.
    assert not read_mask(FilePart(tmp_path / "m.png", (8, 0, 16, 8))).any()


def test_masks_of_another_size_and_the_same_shape_are_brought_to_the_photo(tmp_path: Path) -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[2:5, 4:9] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.warns(PromptadNotice, match=r"of another size than their photos .first: 20x10 for 40x20."):
        scaled = read_mask(tmp_path / "m.png", (20, 40))
    assert np.array_equal(scaled, np.kron(mask > 0, np.ones((2, 2), bool)))
    with pytest.warns(PromptadNotice):
        assert read_mask(tmp_path / "m.png", (5, 10)).sum() > 0
    with pytest.raises(PhotoError, match=r"the photo is 40x30 .width x height., its mask 20x10"):
        read_mask(tmp_path / "m.png", (30, 40))


def tiles(strip: Path, **values: object) -> list[Record]:
    plain = [
        Record(strip, 0, None, "cloth", "good", "train", "strip", crop=(x, 0, x + 16, 16)) for x in range(0, 64, 16)
    ]
    return [replace(record, **values) for record in plain]


def test_tiles_are_drawn_one_by_one(strip: Path, tmp_path: Path) -> None:
    records = tiles(strip)
    drawn = draw_shots(records, 4, seed=3)
    assert sorted(record.crop for record in drawn) == [record.crop for record in records]
    assert draw_shots(list(reversed(records)), 2, seed=3) == drawn[:2]
    write_manifest(tmp_path / "shots.json", drawn[:2], seed=3, k=2)
    assert [shot.photo for shot in read_manifest(tmp_path / "shots.json").shots] == [r.photo for r in drawn[:2]]


def test_tiles_of_one_file_are_no_copies(strip: Path) -> None:
    records = tiles(strip)
    with collected_notices() as lines:
        say_copies(records, strip.parent)
        assert lines == []
        with pytest.warns(PromptadNotice, match="in both training and test split"):
            say_copies([*records, replace(records[0], split="test")], strip.parent)
    assert len(lines) == 1 and "1 photo, equal byte for byte" in lines[0]
