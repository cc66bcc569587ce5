"""Copies among photos: exact ones by their pixels, near ones by what saving again leaves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from promptad.data.copies import Copy, CopyFinder, altered_copies, exact_groups, pixel_digest, thumbnail


def drawn(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A smooth random photo; two seeds differ as two products do."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (size[0] // 20, size[1] // 20, 3), dtype=np.uint8))
    return np.asarray(small.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def saved_again(photo: np.ndarray, form: str, scale: float = 1.0, **options: int) -> np.ndarray:
    image = Image.fromarray(photo)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return np.asarray(Image.open(stream).convert("RGB"))


@pytest.mark.parametrize(
    ("form", "options", "exact"),
    [
        ("PNG", {}, True),
        ("BMP", {}, True),
        ("TIFF", {}, True),
        ("JPEG", {"quality": 95}, False),
        ("JPEG", {"quality": 50}, False),
        ("WEBP", {"quality": 80}, False),
        ("PNG", {"scale": 0.5}, False),
        ("JPEG", {"scale": 2.0, "quality": 90}, False),
    ],
)
def test_a_photo_that_was_saved_again_is_a_copy_in_every_format(form, options, exact):
    finder = CopyFinder()
    assert finder.add(drawn(1)) is None and finder.add(drawn(0)) is None
    assert finder.add(saved_again(drawn(0), form, **options)) == Copy(1, exact)
    assert finder.add(drawn(2)) is None
    assert finder.add(drawn(2)) == Copy(3, True)  # copies are counted in the numbering


def test_different_photos_are_none_also_where_they_are_flat_small_or_thin():
    for size in ((120, 160), (40, 40), (2, 300)):
        finder = CopyFinder()
        rng = np.random.default_rng(3)
        for _ in range(12):  # little contrast, as of a bare surface: noise alone tells the photos apart
            assert finder.add(rng.integers(120, 124, (*size, 3), dtype=np.uint8)) is None
    finder = CopyFinder()
    assert [finder.add(np.full((50, 50, 3), level, np.uint8)) for level in (0, 1, 2, 0)] == [None] * 3 + [Copy(0, True)]


def test_block_means_leave_no_near_copy_out():
    rng = np.random.default_rng(0)
    base = drawn(5)
    for _ in range(30):
        other = np.clip(base + rng.normal(0, rng.uniform(0.5, 12), base.shape) + rng.normal(0, 1.5), 0, 255)
        other = other.astype(np.uint8)
        first, second = thumbnail(base), thumbnail(other)
        near = np.sqrt(((first - second) ** 2).mean()) <= min(2.0, 0.1 * second.std())
        finder = CopyFinder()
        finder.add(base)
        assert (finder.add(other) is not None) == near


def test_digests_are_those_of_pixels_and_shape_and_groups_keep_their_order():
    photo = drawn(0)
    assert pixel_digest(photo) == pixel_digest(photo[:, ::-1][:, ::-1]) != pixel_digest(photo[:, ::-1])
    assert pixel_digest(photo) != pixel_digest(photo.reshape(160, 120, 3))
    assert exact_groups(["b", "a", "b", "c", "a"]) == [[0, 2], [1, 4], [3]] and exact_groups([]) == []


def test_altered_copies_differ_from_each_other_and_keep_the_shape():
    photo = drawn(0)
    copies = altered_copies(photo)
    assert all(copy.shape == photo.shape and copy.dtype == np.uint8 for copy in copies)
    assert len({copy.tobytes() for copy in [photo, *copies]}) == len(copies) + 1
