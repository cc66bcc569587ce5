"""Where photos are looked at: masks of every kind, photos of other sizes, and that nothing outside can change anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.data.inspected_area import InspectedArea, read_area
from promptad.errors import ConfigError, PhotoError
from promptad.notices import collected_notices


def disc(size: tuple[int, int] = (40, 60)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.asarray(((y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2) < (size[0] / 3) ** 2)


def saved(path: Path, mask: np.ndarray) -> Path:
    Image.fromarray(mask.astype(np.uint8) * 255 if mask.dtype == bool else mask).save(path)
    return path


def test_white_is_looked_at_and_white_is_ignored_and_the_share_is_said(tmp_path: Path) -> None:
    roi, hole = disc(), np.zeros((40, 60), bool)
    hole[18:22, 25:35] = True
    with collected_notices() as said:
        area = read_area(saved(tmp_path / "roi.png", roi), saved(tmp_path / "ignore.png", hole))
    assert area is not None and np.array_equal(area.mask, roi & ~hole)
    assert f"{area.share:.0%} of a photo is looked at" in said[0] and "roi.png" in said[0]
    alone = read_area(None, hole)
    assert alone is not None and np.array_equal(alone.mask, ~hole)
    assert read_area(None, None) is None
    assert read_area(roi.astype(float) * 9, None) == InspectedArea.of(roi)


def test_soft_masks_are_split_at_half_with_a_line(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 60).astype(np.uint8), (40, 60)).copy()
    with collected_notices() as said:
        area = read_area(saved(tmp_path / "soft.png", ramp), None)
    assert area is not None and np.array_equal(area.mask, ramp > 127.5)
    assert any("is soft" in line and "half of its largest" in line for line in said)


@pytest.mark.parametrize(
    ("roi", "ignore", "words"),
    [
        (np.zeros((4, 4)), None, "nothing of a photo is left"),
        (None, np.ones((4, 4)), "nothing of a photo is left"),
        (np.ones((4, 4)), np.ones((4, 5)), "draw both on the same photo"),
        (np.ones((4, 4, 3)), None, "expected .height, width."),
    ],
)
def test_masks_that_cannot_be(roi: np.ndarray | None, ignore: np.ndarray | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_area(roi, ignore)


def test_it_is_kept_as_data_and_a_changed_one_is_refused() -> None:
    area = InspectedArea.of(disc())
    assert InspectedArea.from_dict(area.to_dict()) == area
    for changed in ({"counts": InspectedArea.of(~disc()).counts}, {"size": [60, 40]}):
        with pytest.raises(ConfigError, match="damaged"):
            InspectedArea.from_dict({**area.to_dict(), **changed})
    assert InspectedArea.of(np.ones((3, 3), bool)).share == 1.0


def test_photos_of_the_same_shape_are_looked_at_through_the_scaled_mask_with_a_line() -> None:
    area = InspectedArea.of(disc())
    with collected_notices() as said:
        area.require((80, 120))
        area.require((40, 60))
    assert len(said) == 1 and "scaled to others (first: 120x80)" in said[0]
    twice = area.at((80, 120))
    assert np.array_equal(twice, np.kron(disc(), np.ones((2, 2))).astype(bool))
    assert area.at((1, 1)).all()  # never empty
    with pytest.raises(PhotoError, match=r"60x60.*drawn for 60x40"):
        area.require((60, 60))


def test_what_lies_outside_is_painted_with_the_mean_inside() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    area, inside = InspectedArea.of(disc()), disc()
    painted = area.painted(photo)
    assert np.array_equal(painted[inside], photo[inside])
    assert np.abs(painted[~inside].astype(float) - photo[inside].mean(axis=0)).max() <= 0.5
    other = photo.copy()
    other[~inside] = 7
    assert np.array_equal(area.painted(other), painted)


def test_patches_are_looked_at_from_half_on() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True
    patches = InspectedArea.of(mask).patches((0, 0, 8, 8), (8, 8), (2, 4))
    assert patches.tolist() == [[True, True, False, False]] * 2
    half = InspectedArea.of(mask).patches((2, 0, 6, 8), (8, 8), (1, 2))
    assert half.tolist() == [[True, False]]
