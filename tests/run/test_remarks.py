from __future__ import annotations

import pytest

from promptad.run.remarks import SIZE_REMARK, size_remark

GOOD = [(3024, 4032), (480, 640)]


@pytest.mark.parametrize(
    ("size", "word"),
    [
        ((3024, 4032), ""),
        ((3000, 4100), ""),  # nearly the same shape
        ((2100, 2800), ""),  # the same shape, 1.44 times smaller
        ((3024, 3024), "another shape, 3024x3024 here, 4032x3024 there"),
        ((4032, 3024), "another shape"),  # turned
        ((480, 480), "another shape, 480x480 here, 640x480 there"),
        ((1200, 1600), "another size"),
        ((120, 160), "another size, 160x120 here, 640x480 there"),
        ((1, 9000), "another shape"),
    ],
)
def test_a_photo_that_clearly_differs_from_all_good_ones_is_said(size: tuple[int, int], word: str) -> None:
    text = size_remark(size, GOOD)
    assert (word in text and text.startswith(SIZE_REMARK)) if word else text == ""


def test_without_known_sizes_nothing_is_said() -> None:
    assert size_remark((10, 10), []) == "" and size_remark((0, 0), GOOD) == ""
