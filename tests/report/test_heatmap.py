from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptad.errors import ConfigError, DataError
from promptad.report.colours import OUTLINE, css_gradient, ramp
from promptad.report.heatmap import JPEG_EDGE, outline, overlay, read_map, save_heatmap, save_map
from promptad.report.legend import draw_legend, legend_height


def photo_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE L* of sRGB 0 to 255."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def test_lightness_of_the_ramp_falls_evenly() -> None:
    steps = np.diff(lightness(ramp(np.linspace(0, 1, 33))))
    assert (steps < 0).all()
    assert steps.min() > 2.2 * steps.mean()  # no step is much larger than the others


def test_ramp_is_clipped_and_keeps_shape() -> None:
    assert ramp(np.zeros((2, 5))).shape == (2, 5, 3)
    np.testing.assert_array_equal(ramp(np.array([-3.0, 7.0])), ramp(np.array([0.0, 1.0])))
    assert css_gradient().startswith("linear-gradient(90deg, rgb(255 236 110) 0%")


def test_pixels_up_to_low_are_the_photo_and_others_change() -> None:
    photo = photo_of(40, 30)
    anomaly_map = np.linspace(0, 1, 40 * 30, dtype=np.float32).reshape(40, 30)
    before = photo.copy()
    out = overlay(photo, anomaly_map, 0.5, 0.9)
    np.testing.assert_array_equal(photo, before)
    assert out.shape == photo.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(out[anomaly_map <= 0.5], photo[anomaly_map <= 0.5])
    hot = anomaly_map > 0.6
    assert (out[hot] != photo[hot]).any(axis=1).mean() > 0.95


def test_a_good_photo_stays_plain_however_its_map_is_spread() -> None:
    photo = photo_of(20, 20)
    faint = np.random.default_rng(1).uniform(0, 0.2, (20, 20)).astype(np.float32)
    np.testing.assert_array_equal(overlay(photo, faint, 0.2, 0.9), photo)


def test_the_scale_is_the_same_for_every_photo() -> None:
    photo = np.full((8, 8, 3), 120, np.uint8)
    mild, strong = np.zeros((8, 8)), np.zeros((8, 8))
    mild[3, 3] = strong[3, 3] = 0.6
    strong[0, 0] = 5.0
    np.testing.assert_array_equal(overlay(photo, mild, 0.2, 1.0)[3, 3], overlay(photo, strong, 0.2, 1.0)[3, 3])


def test_the_blend_is_the_photo_and_the_ramp_by_opacity() -> None:
    photo = np.full((1, 3, 3), 100, np.uint8)
    out = overlay(photo, np.array([[0.25, 1.0, 9.0]]), 0.0, 1.0, alpha=0.8)
    expected = 100 * (1 - 0.4) + ramp(np.array(0.25)) * 0.4  # opacity 0.8 * sqrt(0.25)
    np.testing.assert_allclose(out[0, 0], expected, atol=0.51)
    np.testing.assert_allclose(out[0, 1], 100 * 0.2 + ramp(np.array(1.0)) * 0.8, atol=0.51)
    np.testing.assert_array_equal(out[0, 1], out[0, 2])


def test_a_tall_photo_is_blended_alike_in_every_slice() -> None:
    photo = np.full((1100, 3, 3), 90, np.uint8)
    out = overlay(photo, np.full((1100, 3), 0.5), 0.0, 1.0, desaturate=0.5)
    assert (out == out[0, 0]).all() and (out[0, 0] != 90).any()


def test_desaturate_greys_the_photo_also_below_low() -> None:
    photo = photo_of(6, 6)
    out = overlay(photo, np.zeros((6, 6)), 0.5, 1.0, desaturate=1.0)
    assert (np.ptp(out.astype(int), axis=2) == 0).all()


@pytest.mark.parametrize(("shape", "width"), [((60, 60), 1), ((60, 1000), 2), ((3000, 60), 3)])
def test_outline_lies_outside_and_scales_with_the_photo(shape: tuple[int, int], width: int) -> None:
    mask = np.zeros(shape, bool)
    mask[20:40, 20:40] = True
    line = outline(mask)
    assert not (line & mask).any()
    expected = np.zeros(shape, bool)
    expected[20 - width : 40 + width, 20 - width : 40 + width] = True
    np.testing.assert_array_equal(line, expected & ~mask)
    assert not outline(np.zeros(shape, bool)).any()


def test_outline_is_drawn_only_with_a_pixel_threshold() -> None:
    photo, anomaly_map = photo_of(50, 50), np.zeros((50, 50))
    anomaly_map[10:20, 10:20] = 0.4
    marked = overlay(photo, anomaly_map, 0.5, 1.0, map_threshold=0.3)
    line = outline(anomaly_map > 0.3)
    assert (marked[line] == OUTLINE).all()
    np.testing.assert_array_equal(marked[~line], photo[~line])


def test_the_legend_lies_below_the_photo_and_hides_nothing_of_it() -> None:
    photo, anomaly_map = photo_of(300, 400), np.zeros((300, 400))
    anomaly_map[290:, :50] = 1.0
    plain = overlay(photo, anomaly_map, 0.2, 0.9, map_threshold=0.4)
    out = overlay(photo, anomaly_map, 0.2, 0.9, map_threshold=0.4, legend=True)
    assert out.shape[1:] == photo.shape[1:] and 320 < out.shape[0] < 360
    np.testing.assert_array_equal(out[:300], plain)
    for share in (0.0, 1.0):
        near = np.abs(out[300:].astype(int) - ramp(np.array(share))).max(axis=2) < 4
        assert near.any(), "an end of the colour bar is missing"


def test_legend_numbers_change_with_the_scale() -> None:
    photo, anomaly_map = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400))
    first, second = (overlay(photo, anomaly_map, 0.2, high, legend=True) for high in (0.9, 0.7))
    assert (first[300:] != second[300:]).any()


@pytest.mark.parametrize("shape", [(1, 1), (4000, 5), (200, 95)])
def test_a_picture_too_narrow_for_a_legend_gets_none(shape: tuple[int, int]) -> None:
    photo = photo_of(*shape)
    np.testing.assert_array_equal(overlay(photo, np.zeros(shape), 0.0, 1.0, legend=True), photo)


@pytest.mark.parametrize("shape", [(1, 200), (96, 3000), (3000, 300), (2000, 3000), (5, 66000)])
@pytest.mark.parametrize("hatched", [False, True])
def test_legend_fits_below_every_other_shape(shape: tuple[int, int], hatched: bool) -> None:
    height = legend_height(shape[1], shape[0], -1234.5, 0.000123)
    assert 20 < height < 300
    drawn = draw_legend(shape[1], shape[0], -1234.5, 0.000123, -3.0, hatched=hatched)
    assert drawn.shape == (height, shape[1], 3) and np.ptp(drawn) > 200


def test_what_was_not_looked_at_is_grey_and_hatched_whatever_the_map_says() -> None:
    photo, anomaly_map = photo_of(600, 200), np.ones((600, 200))
    looked = np.zeros((600, 200), np.bool_)
    looked[200:400] = True
    out = overlay(photo, anomaly_map, 0.2, 0.9, map_threshold=0.5, inspected=looked)
    np.testing.assert_array_equal(out[looked], overlay(photo, anomaly_map, 0.2, 0.9)[looked])
    outside = out[~looked].astype(int)
    assert (np.ptp(outside, axis=1) == 0).all(), "it is grey"
    flat = overlay(np.full((600, 200, 3), 128, np.uint8), anomaly_map, 0.2, 0.9, inspected=looked)
    greys = set(np.unique(flat[~looked]))
    assert len(greys) == 2 and max(greys) - min(greys) > 50, "it is hatched"
    assert not (out == OUTLINE).all(axis=2)[:190].any(), "no outline where nobody looked"
    assert (overlay(photo, anomaly_map, 0.2, 0.9, inspected=looked, legend=True).shape[0]) > 600
    with pytest.raises(ConfigError, match="inspected of shape"):
        overlay(photo, anomaly_map, 0.2, 0.9, inspected=looked.T)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"photo": np.zeros((4, 4, 3))}, "uint8"),
        ({"photo": np.zeros((4, 4), np.uint8)}, "uint8"),
        ({"anomaly_map": np.zeros((2, 2))}, "resize the map"),
        ({"anomaly_map": np.full((4, 4), np.nan)}, "not finite"),
        ({"low": 1.0, "high": 1.0}, "low < high"),
        ({"high": float("nan")}, "low < high"),
        ({"alpha": 1.5}, "alpha"),
    ],
)
def test_bad_input_is_one_line(changes: dict[str, object], said: str) -> None:
    values: dict[str, object] = {
        "photo": np.zeros((4, 4, 3), np.uint8),
        "anomaly_map": np.zeros((4, 4)),
        "low": 0.0,
        "high": 1.0,
    }
    with pytest.raises(ConfigError, match=said) as caught:
        overlay(**{**values, **changes})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["map.png", "map.jpg", "MAP.JPEG"])
def test_save_heatmap_keeps_the_size_and_leaves_no_temporary(tmp_path: Path, name: str) -> None:
    anomaly_map = np.zeros((123, 217))
    anomaly_map[30:60, 50:90] = 0.8
    expected = overlay(photo_of(123, 217), anomaly_map, 0.2, 0.9, map_threshold=0.5, legend=True)
    target = tmp_path / "heat maps" / name
    assert save_heatmap(target, expected) == target
    assert [file.name for file in target.parent.iterdir()] == [name]
    with Image.open(target) as saved:
        assert saved.size == (217, expected.shape[0])
        assert saved.format == ("PNG" if name.endswith("png") else "JPEG")
        pixels = np.asarray(saved.convert("RGB"))
    if name.endswith("png"):
        np.testing.assert_array_equal(pixels, expected)
    else:
        assert np.abs(pixels.astype(int) - expected).mean() < 12


@pytest.mark.parametrize("shape", [(1, JPEG_EDGE), (JPEG_EDGE, 1), (1, JPEG_EDGE + 1), (JPEG_EDGE + 1, 1), (1, 70000)])
def test_an_edge_that_no_jpeg_can_have_becomes_a_png_file(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = photo_of(*shape)
    written = save_heatmap(tmp_path / "a.tif.jpg", picture)
    assert written.name == ("a.tif.png" if max(shape) > JPEG_EDGE else "a.tif.jpg")
    assert list(tmp_path.iterdir()) == [written]
    with Image.open(written) as saved:
        assert saved.size == shape[::-1]


def test_save_heatmap_refuses_other_endings_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected \.png, \.jpg or \.jpeg"):
        save_heatmap(tmp_path / "map.bmp", photo_of(4, 4))
    with pytest.raises(DataError, match=r"cannot be written as \.jpg"):
        save_heatmap(tmp_path / "map.jpg", np.zeros((0, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_map_as_npy_is_exact(tmp_path: Path) -> None:
    anomaly_map = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    save_map(tmp_path / "m.npy", anomaly_map)
    np.testing.assert_array_equal(read_map(tmp_path / "m.npy"), anomaly_map)


def test_map_as_png_is_16_bit_and_comes_back_within_half_a_step(tmp_path: Path) -> None:
    anomaly_map = np.random.default_rng(0).uniform(-2, 3, (50, 40)).astype(np.float32)
    save_map(tmp_path / "m.png", anomaly_map)
    with Image.open(tmp_path / "m.png") as saved:
        assert saved.mode.startswith("I;16") and saved.size == (40, 50)
    assert np.abs(read_map(tmp_path / "m.png") - anomaly_map).max() <= 5 / 65535 / 2 * 1.01
    assert len(list(tmp_path.iterdir())) == 1


def test_map_as_png_on_a_fixed_scale_gives_equal_pixels_for_equal_values(tmp_path: Path) -> None:
    pixels = []
    for name, largest in (("a", 0.9), ("b", 7.0)):
        anomaly_map = np.array([[0.5, largest]])
        save_map(tmp_path / f"{name}.png", anomaly_map, 0.0, 1.0)
        with Image.open(tmp_path / f"{name}.png") as saved:
            pixels.append(np.asarray(saved).copy())
    assert pixels[0][0, 0] == pixels[1][0, 0] == 32768
    assert pixels[1][0, 1] == 65535
    assert read_map(tmp_path / "b.png")[0, 1] == pytest.approx(1.0)


def test_a_constant_map_comes_back(tmp_path: Path) -> None:
    save_map(tmp_path / "m.png", np.full((3, 3), 0.25))
    np.testing.assert_allclose(read_map(tmp_path / "m.png"), 0.25)


def test_bad_maps_are_refused(tmp_path: Path) -> None:
    for bad in (np.zeros(5), np.zeros((0, 3)), np.full((2, 2), np.inf)):
        with pytest.raises(ConfigError, match="finite values"):
            save_map(tmp_path / "m.npy", bad)
    with pytest.raises(ConfigError, match=r"expected \.npy or \.png"):
        save_map(tmp_path / "m.exr", np.zeros((2, 2)))
    with pytest.raises(ConfigError, match="swap them"):
        save_map(tmp_path / "m.png", np.zeros((2, 2)), 1.0, 0.0)
    Image.new("L", (3, 3)).save(tmp_path / "plain.png")
    (tmp_path / "cut.npy").write_bytes(b"")
    for name, said in (
        ("plain.png", "without a map scale"),
        ("cut.npy", "no readable"),
        ("none.png", "no readable"),
    ):
        with pytest.raises(DataError, match=said):
            read_map(tmp_path / name)
