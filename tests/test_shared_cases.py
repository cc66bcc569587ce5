"""Every input in ``../shared/cases``, as its README asks. A new input there fails the last test until it has one here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label

from promptad.data.datasets import load_dataset
from promptad.data.duplicates import find_copies
from promptad.data.folder import find_photos
from promptad.data.photos import photo_size, read_mask, read_photo
from promptad.data.records import Record
from promptad.errors import PhotoError
from promptad.notices import PromptadNotice, collected_notices

LOSSY = ("mask.jpg", "mask_jpg_resaved.png", "mask_jpg_resaved.bmp", "mask_lossy.webp", "mask_jpeg_in_tiff.tif")
RAMPS = ("ramp16_whiteiszero.tif", "ramp8_whiteiszero.tif")
LAYOUTS = ("nested_half", "nested_all_bad", "orphan_masks", "loco_one_mask", "loco_two_masks", "good_called_pass")

# Inputs that a test here looks at, files and folders. Other rooms add theirs: hostile/words_toml, and runs over hostile.
COVERED = {
    *LOSSY,
    *RAMPS,
    *LAYOUTS,
    *("README.md", "ramp16_blackiszero.tif", "mask16_whiteiszero.tif", "mask_true.png", "mask_soft_edge.png"),
    *("mask_black_on_transparent.png", "good_duplicates", "hostile/wide", "hostile/photos"),
    "hostile/words_toml",  # tests/prompts
}


@pytest.fixture(scope="module")
def cases(shared: Path) -> Path:
    """The folder of inputs; skips where it is absent."""
    if not (shared / "cases").is_dir():
        pytest.skip(f"no inputs here: {shared / 'cases'} is absent")
    return shared / "cases"


@contextmanager
def lines() -> Iterator[list[str]]:
    """What is said inside."""
    with collected_notices() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptadNotice)
        yield said


# -- photos -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAMPS)
def test_ramps_in_which_zero_is_white(cases: Path, name: str) -> None:
    expected = read_photo(cases / "ramp16_blackiszero.tif").astype(int)
    photo = read_photo(cases / name).astype(int)
    assert np.abs(photo - expected).max() <= 1
    assert photo[:, 0].mean() < photo[:, -1].mean()


def test_hostile_photos_get_a_row_with_its_reason(cases: Path) -> None:
    for path in find_photos(cases / "hostile" / "photos").photos:
        for limit in (100_000_000, 300_000_000):
            with pytest.raises(PhotoError) as caught:
                read_photo(path, max_pixels=limit)
            assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_wide_photos_are_read(cases: Path) -> None:
    for path in find_photos(cases / "hostile" / "wide").photos:
        assert read_photo(path).shape[:2] == photo_size(path)


# -- masks ----------------------------------------------------------------------------------------------------------


def regions(mask: np.ndarray) -> int:
    return int(label(mask, np.ones((3, 3)))[1])


def test_a_mask_in_which_zero_is_white(cases: Path) -> None:
    mask = read_mask(cases / "mask16_whiteiszero.tif")
    assert (int(mask.sum()), mask.size) == (600, 6144)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_masks_give_the_ellipse(cases: Path, name: str) -> None:
    truth, mask = read_mask(cases / "mask_true.png"), read_mask(cases / name)
    assert (mask != truth).sum() <= 0.01 * truth.sum() and regions(mask) == 1


def test_a_soft_mask_gives_the_ellipse_and_a_line(cases: Path) -> None:
    truth = read_mask(cases / "mask_true.png")
    with lines() as said:
        mask = read_mask(cases / "mask_soft_edge.png")
    assert abs(int(mask.sum()) - int(truth.sum())) <= 0.05 * truth.sum() and regions(mask) == 1
    assert len(said) == 1 and "masks are soft" in said[0]


def test_a_black_mask_on_transparent_is_empty_and_said(cases: Path) -> None:
    with lines() as said:
        mask = read_mask(cases / "mask_black_on_transparent.png")
    assert not mask.any()
    assert len(said) == 1 and "the mask is empty" in said[0]


# -- layouts ----------------------------------------------------------------------------------------------------------


def load(cases: Path, name: str) -> tuple[list[Record], list[str]]:
    with lines() as said:
        records = load_dataset(cases / name)
    return records, said


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_read_whole(cases: Path, name: str) -> None:
    records, said = load(cases, name)
    on_disk = [path for path in (cases / name).rglob("*.png") if "ground_truth" not in path.parts]
    assert sorted(record.path for record in records) == sorted(on_disk)
    masks = [path for path in (cases / name).rglob("*.png") if "ground_truth" in path.parts]
    assert sorted(mask for record in records for mask in record.masks) == sorted(masks)
    assert said == []
    assert [record.label for record in records if record.split == "test"].count(0) == 2
    for record in records:
        if record.mask is not None:
            assert read_mask(record.mask, photo_size(record.path)).any()


def test_two_masks_of_one_photo_are_united(cases: Path) -> None:
    record = next(record for record in load(cases, "loco_two_masks")[0] if record.label == 1)
    parts = [read_mask(mask) for mask in record.masks]
    assert len(parts) == 2 and record.mask is not None
    np.testing.assert_array_equal(read_mask(record.mask), parts[0] | parts[1])


def test_copies_count_once(cases: Path) -> None:
    paths = find_photos(cases / "good_duplicates").photos
    copies = find_copies(read_photo(path) for path in paths)
    assert len(paths) == 4 and len(copies.repeated) == 2


# -- all of it ----------------------------------------------------------------------------------------------------------


def test_every_input_has_a_test(cases: Path) -> None:
    present = {path.name for path in cases.iterdir() if path.name != "hostile"}
    present |= {f"hostile/{path.name}" for path in (cases / "hostile").iterdir()}
    assert present == COVERED
