"""Copies are found, and different photos of one product are not called copies."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.data.duplicates import NEAR, Copy, CopyFinder, find_copies, fine_structure, pixel_digest, same_files
from promptad.data.folder import find_photos
from promptad.data.photos import read_photo
from promptad.data.repeats import Repeat, find_repeats


def texture(seed: int, size: int = 480) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 220, (60, 60, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)).copy()


def again(photo: np.ndarray, how: str) -> np.ndarray:
    image = Image.fromarray(photo)
    if how == "jpeg":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=60)
        return np.asarray(Image.open(file))
    if how == "half":
        return np.asarray(image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS))
    return (photo * 0.8).astype(np.uint8)


def test_exact_copies_by_pixels_whatever_the_file(tmp_path: Path) -> None:
    photo = texture(0)
    for name in ("a.png", "b.bmp", "c.tif"):
        Image.fromarray(photo).save(tmp_path / name)
    photos = [read_photo(tmp_path / name) for name in ("a.png", "b.bmp", "c.tif")]
    copies = find_copies([photos[0], texture(1), photos[1], photos[2]])
    assert copies.exact == ((0, 2, 3),) and copies.near == () and copies.repeated == (2, 3)
    assert copies.related == ((0, 2, 3),)
    assert same_files([tmp_path / "a.png", tmp_path / "b.bmp"]) == []


def test_equal_pixels_in_another_shape_are_no_copy() -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    assert pixel_digest(flat) != pixel_digest(flat.reshape(6, 4, 3))
    assert find_copies([flat, flat.reshape(6, 4, 3)]).exact == ()


@pytest.mark.parametrize("how", ["jpeg", "half", "darker"])
def test_near_copies(how: str) -> None:
    photos = [texture(0), texture(1), again(texture(0), how)]
    copies = find_copies(photos)
    assert copies.exact == () and copies.near == ((0, 2),) and copies.related == ((0, 2),)
    structures = [fine_structure(photo).ravel() for photo in photos]
    slow = {
        (i, j)
        for i, j in itertools.combinations(range(3), 2)
        if structures[i] @ structures[j] / np.linalg.norm(structures[i]) / np.linalg.norm(structures[j]) > NEAR
    }
    assert slow == {(0, 2)}


@pytest.mark.parametrize("scale", [0.34, 0.5, 0.8, 2.0])
def test_copies_of_other_sizes(scale: float) -> None:
    photo = texture(0)
    size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    resized = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))
    squeezed = np.asarray(Image.fromarray(photo).resize((size[0], size[1] // 2), Image.Resampling.BICUBIC))
    assert find_copies([photo, texture(1), resized]).near == ((0, 2),)
    assert find_copies([photo, squeezed]).near in ((), ((0, 1),))  # another shape is no copy for sure


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_mirrored_and_turned_copies(turns: int, mirrored: bool) -> None:
    photo = texture(0)
    turned = np.rot90(photo[:, ::-1] if mirrored else photo, turns)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(turned)).save(file, "JPEG", quality=90)
    photos = [photo, texture(1), np.asarray(Image.open(file))]
    assert find_copies(photos).near == ((0, 2),)
    finder = CopyFinder()
    assert [finder.add(photo) for photo in photos] == [None, None, Copy(0, False)]


def test_many_photos_are_compared_across_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from promptad.data import duplicates

    monkeypatch.setattr(duplicates, "_ROWS", 2)
    photos = [texture(seed, 60) for seed in range(5)]
    photos += [again(photos[0], "darker"), again(photos[4], "darker")]
    assert find_copies(photos).near == ((0, 5), (4, 6))


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
def test_photos_with_little_structure_that_were_compressed_again_are_near_copies(quality: int) -> None:
    """A bare surface: what little structure it has is lost, its light and shade are not."""

    def surface(seed: int) -> np.ndarray:
        small = np.random.default_rng(seed).integers(90, 150, (4, 5, 3)).astype(np.uint8)
        return np.asarray(Image.fromarray(small).resize((200, 160), Image.Resampling.BICUBIC))

    file = io.BytesIO()
    Image.fromarray(surface(0)).save(file, "JPEG", quality=quality)
    photos = [surface(1), surface(0), surface(2), np.asarray(Image.open(file).convert("RGB"))]
    assert find_copies(photos).near == ((1, 3),)
    finder = CopyFinder()
    assert [finder.add(photo) for photo in photos] == [None, None, None, Copy(1, False)]


def test_noise_on_a_flat_surface_tells_photos_apart() -> None:
    rng = np.random.default_rng(3)
    for size in ((120, 160), (40, 40), (2, 300)):
        photos = [rng.integers(120, 124, (*size, 3), dtype=np.uint8) for _ in range(12)]
        assert find_copies(photos) == find_copies([])


def test_photos_that_come_one_after_the_other_are_judged_by_the_same_rules() -> None:
    photos = [texture(seed, 120) for seed in range(20)]
    photos += [photos[3], again(photos[17], "darker"), again(photos[17], "darker"), texture(99, 120), photos[0]]
    finder = CopyFinder()
    said = {place: copy for place, photo in enumerate(photos) if (copy := finder.add(photo)) is not None}
    assert said == {20: Copy(3, True), 21: Copy(17, False), 22: Copy(17, True), 24: Copy(0, True)}
    copies = find_copies(photos)
    assert copies.exact == ((0, 24), (3, 20), (21, 22)) and copies.near == ((17, 21),)


def test_photos_without_structure_and_few_photos() -> None:
    assert find_copies([]) == find_copies([texture(0)])
    flat = [np.full((10, 10, 3), level, np.uint8) for level in (0, 90, 90)]
    copies = find_copies(flat)
    assert copies.near == () and copies.exact == ((1, 2),)


def test_chains_of_copies_are_one_group() -> None:
    first = texture(0)
    copies = find_copies([first, texture(1), first, again(first, "darker"), again(first, "jpeg")])
    assert copies.related == ((0, 2, 3, 4),)


def test_same_files(tmp_path: Path) -> None:
    contents = {"a": b"x" * 50_000, "b": b"x" * 50_000, "c": b"x" * 49_999 + b"y", "d": b"", "e": b""}
    contents["f"] = b"x" * 20_000 + b"y" + b"x" * 29_999
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in contents] + [tmp_path / "gone"]
    assert same_files(paths) == [[tmp_path / "a", tmp_path / "b"]]


@pytest.mark.parametrize(
    ("folder", "pairs"),
    [
        ("mvtec/bottle/train/good", []),
        ("mvtec/bottle/test/good", []),
        ("cookies/test/good", []),
        ("cookies/train/good", [("normal-1.jpg", "normal-2.jpg")]),  # one cookie, photographed twice
    ],
)
def test_different_good_photos_of_one_product_are_no_copies(
    shared_data: Path, folder: str, pairs: list[tuple[str, str]]
) -> None:
    paths = find_photos(shared_data / folder).photos
    copies = find_copies(read_photo(path) for path in paths)
    assert copies.exact == ()
    assert [(paths[first].name, paths[second].name) for first, second in copies.near] == pairs


def test_the_copies_in_the_cases(shared: Path) -> None:
    paths = find_photos(shared / "cases" / "good_duplicates").photos
    copies = find_copies(read_photo(path) for path in paths)
    assert len(paths) - len(copies.repeated) == 2


def test_a_look_keeps_nothing_and_names_every_known_copy() -> None:
    noise = [np.random.default_rng(seed).integers(0, 256, (24, 32, 3)).astype(np.uint8) for seed in range(3)]
    first, second, other = (np.asarray(Image.fromarray(small).resize((320, 240))) for small in noise)
    brighter = np.minimum(first.astype(int) + 3, 255).astype(np.uint8)
    repeats = find_repeats([first, second, brighter], [other, other, second, first[::-1, ::-1]])
    assert repeats == [Repeat(2, (1,), exact=True), Repeat(3, (0, 2), exact=False)]
    assert find_repeats([], [first, first]) == [] == find_repeats([first], [])
