"""Fixtures of the tests of methods: labelled photos that methods are trained on once."""

from __future__ import annotations

import pytest

from drawn_data import make_class, photo, save
from promptad.data.datasets import load_dataset
from promptad.data.records import Record


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    """Two classes; "tile" with two anomaly types and photos of two shapes."""
    root = tmp_path_factory.mktemp("photos")
    make_class(root, "tile", train=5, bad=3, masks=False)
    make_class(root, "nut", train=4, bad=2, masks=False)
    for number in range(4):
        save(root / "tile/test/deep_hole", f"{number}.png", photo(number, True, (48, 32)))
    return load_dataset(root)
