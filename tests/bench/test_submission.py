"""The archive for MVTec AD 2's server: what lies in it, read by other programs, and what is refused."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import miniature_sets as sets
from promptad import SubmitRequest
from promptad.bench.submission import Scale, archive_at, private_photos, scale_of
from promptad.bench.tiff import float16_tiff
from promptad.clip import backbone
from promptad.data.datasets import load_dataset
from promptad.detector import Detector
from promptad.errors import ConfigError, DataError, PhotoError
from promptad.notices import PromptadNotice
from tiny import tiny_backbone

BACKBONE = tiny_backbone()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "load_backbone", lambda *_, **__: BACKBONE)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_tifffile_reads_what_is_written(height: int, width: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(scale=1000, size=(height, width)).astype(np.float16)
    read = tifffile.imread(io.BytesIO(float16_tiff(values)))
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read.reshape(height, width), values)


def test_only_maps_become_files() -> None:
    for shape in ((3,), (0, 4), (2, 2, 3)):
        with pytest.raises(ValueError, match="height, width"):
            float16_tiff(np.zeros(shape, np.float16))


def test_the_scale_is_mean_and_deviation_of_all_pixels() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(3, 2, size=size).astype(np.float32) for size in ((4, 9), (30, 20), (7, 7))]
    pixels = np.concatenate([values.ravel() for values in maps]).astype(np.float64)
    scale = scale_of(iter(maps), "can")
    assert (scale.mean, scale.deviation) == (pytest.approx(pixels.mean()), pytest.approx(pixels.std()))
    with pytest.raises(DataError, match="all pixels of its validation maps are equal"):
        scale_of(iter([np.ones((2, 2), np.float32)]), "can")
    with pytest.raises(DataError, match="no validation photos"):
        scale_of(iter([]), "can")


def test_values_beyond_16_bits_are_said() -> None:
    values = np.array([[0.0, 1e9, -5.0]], np.float32)
    with pytest.warns(PromptadNotice, match="beyond 65504 deviations"):
        stored = Scale(0.0, 1.0).stored(values, "x.png")
    np.testing.assert_array_equal(stored, np.array([[0, 65504, -5]], np.float16))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:gz") as archive:
        assert all(member.isfile() for member in archive.getmembers())
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


def expected_names(folder: str, kinds: dict[str, str], private: int = 2) -> set[str]:
    """By the publisher's rules, spelled out."""
    splits = {"test_private": "regular", "test_private_mixed": "mixed"}
    return {
        f"{folder}/{kind}/{name}/{split}/{number:03}_{splits[split]}{suffix}"
        for (kind, suffix), name, split, number in itertools.product(
            kinds.items(), sets.AD2_OBJECTS, splits, range(private)
        )
    }


def test_the_archive_holds_every_map_and_nothing_else(tmp_path: Path) -> None:
    root, out = sets.ad2(tmp_path / "ad2"), tmp_path / "new" / "mine.tar.gz"
    steps: list[tuple[int, int]] = []
    request = SubmitRequest(dataset=root, output=out, method="spade", deviations=1.0, settings={"layers": (1, 3)})
    file, maps = request.run(progress=lambda *both: steps.append(both))
    assert (file, maps) == (out, 32) and steps[-1] == (40, 40)
    held = members(out)
    kinds = {"anomaly_images": ".tiff", "anomaly_images_thresholded": ".png"}
    assert set(held) == expected_names("mine", kinds)
    detector = Detector("spade", object="vial", backbone=BACKBONE, layers=(1, 3))
    places = sorted((root / "vial/train/good").iterdir())
    detector.fit_features([detector.encode(place, reference=True) for place in places], set_threshold=False)
    looked = detector.predict(root / "vial/validation/good/000_regular.png").map.astype(np.float64)
    values = detector.predict(root / "vial/test_private/001_regular.png").map
    stored = tifffile.imread(io.BytesIO(held["mine/anomaly_images/vial/test_private/001_regular.tiff"]))
    assert stored.dtype == np.float16 and stored.shape == (16, 24)
    np.testing.assert_allclose(stored, (values - looked.mean()) / looked.std(), rtol=2e-3, atol=2e-3)
    binary = Image.open(io.BytesIO(held["mine/anomaly_images_thresholded/vial/test_private/001_regular.png"]))
    assert binary.mode == "L"
    np.testing.assert_array_equal(np.asarray(binary), np.where(stored >= 1.0, 255, 0))
    again = SubmitRequest(
        dataset=root, output=tmp_path / "mine.tar.gz", method="spade", deviations=1.0, settings={"layers": (1, 3)}
    )
    assert again.run()[0].read_bytes() == out.read_bytes()


def test_without_binary_maps(tmp_path: Path) -> None:
    root = sets.ad2(tmp_path / "ad2", private=1)
    file, maps = SubmitRequest(dataset=root, output=tmp_path / "b.tar.gz", method="clip", no_masks=True).run()
    assert maps == 16 and set(members(file)) == expected_names("b", {"anomaly_images": ".tiff"}, private=1)


def test_what_the_server_would_refuse_is_refused_first(tmp_path: Path) -> None:
    root = sets.ad2(tmp_path / "ad2", private=3)
    (root / "rice/test_private/001_regular.png").unlink()
    with pytest.raises(DataError, match="expected 001_regular"):
        private_photos(load_dataset(root, "ad2"))
    for photo in (root / "rice/test_private").iterdir():
        photo.unlink()
    with pytest.raises(DataError, match="rice/test_private: no photos"):
        private_photos(load_dataset(root, "ad2"))


def test_a_photo_that_cannot_be_read_leaves_no_archive(tmp_path: Path) -> None:
    root = sets.ad2(tmp_path / "ad2", private=1)
    (root / "can/can/test_private/000_regular.png").write_bytes(b"no photo")
    with pytest.raises(PhotoError, match=r"000_regular\.png"):
        SubmitRequest(dataset=root, output=tmp_path / "out/a.tar.gz", method="clip").run()
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), archive_at(tmp_path / "file/a.tar.gz"):
        raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"output": "a.zip"}, "NAME.tar.gz"),
        ({"method": "rwda"}, "gives no anomaly maps"),
        ({"method": "clip", "shots": 2}, "learns from no good photo"),
        ({"method": "spade", "shots": 0}, "at least 1"),
        ({"method": "spade", "weights": "a.safetensors"}, "takes no trained prompts"),
        ({"method": "promptad", "seed": 3}, "no photo is drawn"),
        ({"no_masks": True, "deviations": 2.0}, "left out"),
    ],
)
def test_inputs_that_cannot_be(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SubmitRequest(**{"dataset": "ad2", "output": "a.tar.gz", **values})
