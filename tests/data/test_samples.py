"""Depths and polarities of files: the same picture however it is stored, checked with tifffile's files and NumPy."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odd_photos import png_chunk
from promptad.data.photos import as_photo, photo_size, read_mask, read_photo
from promptad.data.samples import samples_of, significant_white
from promptad.errors import ConfigError, PhotoError
from promptad.notices import PromptadNotice, collected_notices

tifffile = pytest.importorskip("tifffile")

RAMP = np.linspace(0, 1, 24 * 40).reshape(24, 40)
EIGHT = np.rint(RAMP * 255).astype(np.uint8)


def silent(read: Callable[..., np.ndarray], *given: object, **options: object) -> np.ndarray:
    """What `read` gives, if it says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PromptadNotice)
        return read(*given, **options)


def notices_of(read: Callable[..., np.ndarray], *given: object, **options: object) -> list[str]:
    with collected_notices() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptadNotice)
        read(*given, **options)
    return lines


def stored(dtype: str, order: str) -> tuple[np.ndarray, float]:
    """The ramp in a dtype and byte order, and its white."""
    kind = np.dtype(dtype)
    white = 1.0 if kind.kind == "f" else {1: 255.0}.get(kind.itemsize, 65535.0)
    values = RAMP * white
    return (values if kind.kind == "f" else np.rint(values)).astype(kind.newbyteorder(order)), white


@pytest.mark.parametrize("zero_is_white", [False, True], ids=["black", "white"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("big", [False, True], ids=["tiff", "bigtiff"])
def test_every_depth_order_and_polarity_is_the_same_picture(
    tmp_path: Path, dtype: str, order: str, zero_is_white: bool, big: bool
) -> None:
    values, white = stored(dtype, order)
    path = tmp_path / "ramp.tif"
    tifffile.imwrite(
        path,
        (white - values).astype(values.dtype) if zero_is_white else values,
        photometric="miniswhite" if zero_is_white else "minisblack",
        byteorder=order,
        bigtiff=big,
    )
    try:
        photo = silent(read_photo, path)
    except PhotoError as error:  # refused, never a negative
        assert "a TIFF of a kind that is not read here" in str(error)
        assert dtype in ("u4", "i4", "f8") or (big and order == ">")
        return
    assert np.abs(photo[..., 0].astype(int) - EIGHT).max() <= 1
    assert photo_size(path) == (24, 40)


def test_the_common_depths_are_read_and_not_refused(tmp_path: Path) -> None:
    for order in "<>":
        for dtype in ("u1", "u2", "f4"):
            for zero_is_white in (False, True):
                values, white = stored(dtype, order)
                tifffile.imwrite(
                    tmp_path / "ramp.tif",
                    (white - values).astype(values.dtype) if zero_is_white else values,
                    photometric="miniswhite" if zero_is_white else "minisblack",
                    byteorder=order,
                )
                assert read_photo(tmp_path / "ramp.tif").shape == (24, 40, 3), (order, dtype, zero_is_white)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_white_is_zero_in_compressed_files(tmp_path: Path, compression: str | None) -> None:
    values, _ = stored("u2", "<")
    options = {"compression": compression} if compression else {}
    path = tmp_path / "ramp.tif"
    Image.fromarray(65535 - values).save(path, tiffinfo={262: 0}, **options)
    assert tifffile.TiffFile(path).pages[0].photometric == 0
    assert np.abs(read_photo(path)[..., 0].astype(int) - EIGHT).max() <= 1


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("order", "<>")
def test_masks_in_which_zero_is_white(tmp_path: Path, dtype: str, order: str) -> None:
    truth = np.zeros((24, 40), bool)
    truth[5:11, 7:20] = True
    full = 1 if dtype == "f4" else np.iinfo(dtype).max
    path = tmp_path / "mask.tif"
    values = np.where(truth, 0, full).astype(np.dtype(dtype).newbyteorder(order))
    tifffile.imwrite(path, values, photometric="miniswhite", byteorder=order)
    np.testing.assert_array_equal(silent(read_mask, path), truth)


def test_a_pillow_image_in_which_zero_is_white(tmp_path: Path) -> None:
    values, _ = stored("u2", "<")
    tifffile.imwrite(tmp_path / "ramp.tif", 65535 - values, photometric="miniswhite", byteorder="<")
    with Image.open(tmp_path / "ramp.tif") as image:
        np.testing.assert_array_equal(as_photo(image), read_photo(tmp_path / "ramp.tif"))


# -- ranges ---------------------------------------------------------------------------------------------------

TWELVE = np.rint(RAMP * 4095).astype(np.uint16)
DARK = "no value above 4095"


def twelve_bit_colour() -> np.ndarray:
    return np.dstack([TWELVE, TWELVE[:, ::-1], TWELVE[::-1]])


def png16(values: np.ndarray, significant: int | None = None) -> bytes:
    """A 16-bit PNG, which Pillow cannot write in colour, with an sBIT chunk if wanted."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    sbit = png_chunk(b"sBIT", bytes([significant]) * channels) if significant else b""
    return b"\x89PNG\r\n\x1a\n" + header + sbit + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("suffix", [".png", ".tif", "big-endian.tif", "lzw.tif"])
def test_twelve_bits_in_sixteen_are_said_and_scaled_by_a_given_range(tmp_path: Path, kind: str, suffix: str) -> None:
    values = TWELVE if kind == "grey" else twelve_bit_colour()
    path = tmp_path / f"photo{suffix}"
    if suffix == ".png":
        path.write_bytes(png16(values))
    elif suffix == "lzw.tif":
        pytest.importorskip("imagecodecs") if kind == "colour" else None
        Image.fromarray(values).save(path, compression="tiff_lzw")
    else:
        tifffile.imwrite(
            path,
            values,
            photometric="minisblack" if kind == "grey" else "rgb",
            byteorder=">" if "big" in suffix else "<",
        )
    lines = notices_of(read_photo, path)
    assert (
        len(lines) == 1
        and DARK in lines[0]
        and str(tmp_path) in lines[0]
        and "say so with input_range=4095" in lines[0]
    )
    photo = silent(read_photo, path, input_range=4095)
    expected = np.rint(values * (255 / 4095)).astype(np.uint8)
    np.testing.assert_array_equal(photo, expected if kind == "colour" else np.repeat(expected[..., None], 3, 2))
    with pytest.raises(PhotoError, match=r"4095; expected 0\.\.1023"):
        read_photo(path, input_range=1023)


def test_the_same_line_for_all_photos_of_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png16(TWELVE + number - 2 * (number > 0)))
    with collected_notices() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(3):
            read_photo(tmp_path / f"{number}.png")
    assert len(lines) == 1


@pytest.mark.parametrize("kind", ["grey", "colour"])
@pytest.mark.parametrize("tag", [281, 341])
def test_a_range_that_a_tiff_states_is_used(tmp_path: Path, kind: str, tag: int) -> None:
    values = TWELVE if kind == "grey" else twelve_bit_colour()
    path = tmp_path / "photo.tif"
    channels = 1 if kind == "grey" else 3
    tifffile.imwrite(
        path,
        values,
        photometric="minisblack" if kind == "grey" else "rgb",
        extratags=[(tag, "H", channels, 4095 if channels == 1 else (4095,) * 3, True)],
    )
    expected = np.rint(values * (255 / 4095)).astype(np.uint8)
    photo = silent(read_photo, path)
    np.testing.assert_array_equal(photo if kind == "colour" else photo[..., 0], expected)


def test_a_statistic_of_one_photo_is_no_range(tmp_path: Path) -> None:
    """TIFF 6.0 calls MaxSampleValue a statistic; only a full scale is taken for one."""
    tifffile.imwrite(tmp_path / "photo.tif", np.maximum(TWELVE, 7) - 7, extratags=[(281, "H", 1, 4088, True)])
    assert DARK in notices_of(read_photo, tmp_path / "photo.tif")[0]
    assert read_photo(tmp_path / "photo.tif").max() == 16


def test_twelve_bits_white_is_zero_with_a_stated_range(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, 4095 - TWELVE, photometric="miniswhite", extratags=[(281, "H", 1, 4095, True)])
    assert np.abs(silent(read_photo, path)[..., 0].astype(int) - EIGHT).max() <= 1


@pytest.mark.parametrize("stored_as", ["repeated", "shifted", "multiplied", "raw"])
def test_significant_bits_of_a_png(tmp_path: Path, stored_as: str) -> None:
    values = {
        "repeated": TWELVE * 16 + TWELVE // 256,
        "shifted": TWELVE * 16,
        "multiplied": np.rint(TWELVE * (65535 / 4095)).astype(np.uint16),
        "raw": TWELVE,
    }[stored_as].astype(np.uint16)
    path = tmp_path / "photo.png"
    path.write_bytes(png16(values, significant=12))
    assert np.abs(silent(read_photo, path)[..., 0].astype(int) - EIGHT).max() <= 1
    # A dark photo of the same camera is scaled by the same factor.
    path.write_bytes(png16(values // 8 if stored_as == "raw" else values // 128 * 16, significant=12))
    assert abs(int(read_photo(path).max()) - 32) <= 1
    assert significant_white(values, None) == 65535


def test_a_pgm_states_its_range(tmp_path: Path) -> None:
    (tmp_path / "photo.pgm").write_bytes(b"P5 40 24 4095\n" + TWELVE.astype(">u2").tobytes())
    photo = silent(read_photo, tmp_path / "photo.pgm")
    assert np.abs(photo[..., 0].astype(int) - EIGHT).max() <= 1


def test_a_range_for_arrays(tmp_path: Path) -> None:
    assert DARK in notices_of(as_photo, TWELVE)[0]
    np.testing.assert_array_equal(silent(as_photo, TWELVE, input_range=4095)[..., 0], np.rint(TWELVE * (255 / 4095)))
    floats = RAMP * 3000
    with pytest.raises(PhotoError, match="input_range"):
        as_photo(floats)
    np.testing.assert_array_equal(silent(as_photo, floats, input_range=3000)[..., 0], np.rint(RAMP * 255))


def test_a_range_does_not_touch_eight_bits_and_says_so(tmp_path: Path) -> None:
    Image.fromarray(EIGHT).save(tmp_path / "photo.png")
    assert "8 bits are taken as they are" in notices_of(read_photo, tmp_path / "photo.png", input_range=4095)[0]
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png", input_range=4095)[..., 0], EIGHT)
    np.testing.assert_array_equal(as_photo(EIGHT, input_range=4095)[..., 0], EIGHT)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_a_range_must_be_a_number_above_zero(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(ConfigError, match="expected the value of white"):
        read_photo(tmp_path / "any.png", input_range=wrong)


def test_floats_without_a_range(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.array([[0.0, 99.6, 255.0]], np.float32)).save(path)
    assert "taken as 0..255" in notices_of(read_photo, path)[0]
    assert read_photo(path)[0, :, 0].tolist() == [0, 100, 255]
    for values in ([-10.0, 0.0, 10.0], [1000.0, 1500.0, 3000.0]):
        Image.fromarray(np.array([values], np.float32)).save(path)
        with pytest.raises(PhotoError, match="say which value is white"):
            read_photo(path)
    assert read_photo(path, input_range=3000)[0, :, 0].tolist() == [85, 128, 255]


def test_deep_colour_with_alpha_lies_on_white(tmp_path: Path) -> None:
    for alpha_full in (4095, 65535):
        alpha = np.full(TWELVE.shape, alpha_full, np.uint16)
        alpha[:, :5] = 0
        path = tmp_path / "photo.png"
        path.write_bytes(png16(np.dstack([twelve_bit_colour(), alpha])))
        with pytest.warns(PromptadNotice, match="shown on white"):
            photo = read_photo(path, input_range=4095)
        assert (photo[:, :5] == 255).all()
        np.testing.assert_array_equal(photo[:, 5:], np.rint(twelve_bit_colour() * (255 / 4095))[:, 5:])


def test_sixteen_bit_colour_that_fills_its_range_says_nothing(tmp_path: Path) -> None:
    values = np.rint(np.dstack([RAMP, RAMP[::-1], RAMP[:, ::-1]]) * 65535).astype(np.uint16)
    (tmp_path / "photo.png").write_bytes(png16(values))
    photo = silent(read_photo, tmp_path / "photo.png")
    assert np.abs(photo - values * (255 / 65535)).max() <= 1
    np.testing.assert_array_equal(silent(read_photo, tmp_path / "photo.png", input_range=65535), photo)


def test_signed_bytes_below_zero_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", np.array([[-3, 4], [5, 6]], np.int8))
    with pytest.raises(PhotoError, match=r"below 0|of a kind that is not read"):
        read_photo(tmp_path / "photo.tif")


def test_what_headers_say(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "photo.tif", TWELVE, extratags=[(281, "H", 1, 4095, True)])
    with Image.open(tmp_path / "photo.tif") as image:
        samples = samples_of(image)
    assert (samples.bits, samples.white, samples.white_is_zero) == (16, 4095.0, False)


@pytest.mark.parametrize("zero_is_white", [False, True], ids=["black", "white"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4"])
def test_signed_and_compressed_depths_of_either_order(
    tmp_path: Path, dtype: str, order: str, compression: str | None, zero_is_white: bool
) -> None:
    white = {"i1": 127, "i2": 32767, "u2": 65535, "f4": 1}[dtype]
    ramp = 1 - RAMP if zero_is_white else RAMP
    values = (ramp * white if dtype == "f4" else np.rint(ramp * white)).astype(np.dtype(dtype).newbyteorder(order))
    photometric = "miniswhite" if zero_is_white else "minisblack"
    path = tmp_path / "ramp.tif"
    tifffile.imwrite(path, values, photometric=photometric, byteorder=order, compression=compression)
    if (dtype, zero_is_white) == ("i1", True):
        with pytest.raises(PhotoError, match="of a kind that is not read"):
            read_photo(path)
        return
    assert np.abs(silent(read_photo, path)[..., 0].astype(int) - EIGHT).max() <= 1


def test_a_compressed_float_photo_with_black_rows_is_whole(tmp_path: Path) -> None:
    values = RAMP.astype(">f4")
    values[-1] = 0
    tifffile.imwrite(tmp_path / "photo.tif", values, byteorder=">", compression="zlib")
    assert read_photo(tmp_path / "photo.tif")[-1].max() == 0


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("alpha", [False, True])
def test_channels_in_planes_of_their_own(tmp_path: Path, dtype: str, order: str, alpha: bool) -> None:
    white = np.iinfo(dtype).max
    colour = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1], *([np.ones_like(RAMP)] if alpha else [])])
    path = tmp_path / "photo.tif"
    tifffile.imwrite(
        path,
        np.rint(colour * white).astype(dtype),
        photometric="rgb",
        planarconfig="separate",
        byteorder=order,
        rowsperstrip=7,
        extrasamples=["unassalpha"] if alpha else None,
    )
    assert np.abs(silent(read_photo, path) - np.moveaxis(colour[:3], 0, 2) * 255).max() <= 1
    tifffile.imwrite(
        path,
        np.rint(colour[:3] * min(white, 4095)).astype(dtype),
        photometric="rgb",
        planarconfig="separate",
        byteorder=order,
    )
    if dtype == "u2":
        assert np.abs(silent(read_photo, path, input_range=4095) - np.moveaxis(colour[:3], 0, 2) * 255).max() <= 1


@pytest.mark.parametrize("shape", [(24, 40), (24, 40, 3)])
def test_a_pnm_of_65535_says_no_more_than_its_depth(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = TWELVE if len(shape) == 2 else twelve_bit_colour()
    kind = b"P5" if len(shape) == 2 else b"P6"
    path = tmp_path / "photo.pnm"
    path.write_bytes(kind + b" 40 24 65535\n" + values.astype(">u2").tobytes())
    assert DARK in notices_of(read_photo, path)[0]
    np.testing.assert_array_equal(
        silent(read_photo, path, input_range=4095),
        np.broadcast_to(np.rint(values * (255 / 4095)).reshape(24, 40, -1), (24, 40, 3)),
    )


def test_a_given_range_is_in_the_values_of_a_pgm(tmp_path: Path) -> None:
    (tmp_path / "photo.pgm").write_bytes(b"P5 40 24 4095\n" + (TWELVE // 4).astype(">u2").tobytes())
    photo = silent(read_photo, tmp_path / "photo.pgm", input_range=1023)
    assert np.abs(photo[..., 0].astype(int) - EIGHT).max() <= 1


# -- every way of storing more than eight bits ---------------------------------------------------------------------


def pnm(values: np.ndarray, largest: int, *, text: bool) -> bytes:
    """A PGM or PPM, binary or as text with a comment amid its values."""
    kind = {(2, False): b"P5", (2, True): b"P2", (3, False): b"P6", (3, True): b"P3"}[values.ndim, text]
    head = kind + b"\n# made by hand\n40 24\n%d\n" % largest
    if text:
        rows = [" ".join(map(str, row.ravel().tolist())) for row in values]
        return head + "\n# half of it\n".join(rows).encode()
    return head + values.astype(">u2").tobytes()


def tiff16(values: np.ndarray, order: str, compression: str | None, planes: bool) -> bytes:
    buffer = io.BytesIO()
    channels = 1 if values.ndim == 2 else values.shape[2]
    tifffile.imwrite(
        buffer,
        np.moveaxis(values, 2, 0) if planes else values,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig=None if channels == 1 else "separate" if planes else "contig",
        byteorder=order,
        compression=compression,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
    )
    return buffer.getvalue()


def stored_in_every_way(values: np.ndarray) -> dict[str, bytes]:
    """Files of 16-bit values (H, W[, C]): name -> content."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    files = {"photo.png": png16(values)}
    if channels in (1, 3):
        files |= {f"{text}.pnm": pnm(values, 65535, text=text) for text in (False, True)}
    for order in "<>":
        for compression in (None, "zlib"):
            for planes in (False, True) if channels > 1 else (False,):
                name = f"{'be' if order == '>' else 'le'}-{compression}-{planes}.tif"
                files[name] = tiff16(values, order, compression, planes)
    return files


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_dark_16_bits_are_said_and_scaled_however_they_are_stored(tmp_path: Path, channels: int) -> None:
    opaque = np.full(TWELVE.shape, 65535, np.uint16)
    colour = twelve_bit_colour()
    values = {1: TWELVE, 2: np.dstack([TWELVE, opaque]), 3: colour, 4: np.dstack([colour, opaque])}[channels]
    expected = np.rint((colour if channels > 2 else np.dstack([TWELVE] * 3)) * (255 / 4095)).astype(np.uint8)
    for name, content in stored_in_every_way(values).items():
        path = tmp_path / name
        path.write_bytes(content)
        refused = None
        if channels == 2 and path.suffix == ".tif":
            refused = "of a kind that is not read here"
        elif channels > 2 and "zlib-True" in name:  # compressed, in planes: the low bytes cannot be had
            refused = "save it as 16-bit PNG in RGB"
        if refused is not None:
            with pytest.raises(PhotoError, match=refused):
                read_photo(path, input_range=4095)
        else:
            np.testing.assert_array_equal(silent(read_photo, path, input_range=4095), expected, err_msg=name)
        if refused is None or channels > 2:
            lines = notices_of(read_photo, path)
            assert len(lines) == 1 and DARK in lines[0], name
            with Image.open(path) as image:
                lines = notices_of(as_photo, image)
            assert len(lines) == 1 and "photos of 16 bits with no value above" in lines[0], name


def test_sixteen_bit_values_that_fill_their_range_are_the_same_however_they_are_stored(tmp_path: Path) -> None:
    colour = np.rint(np.dstack([RAMP, RAMP[:, ::-1], RAMP[::-1]]) * 65535).astype(np.uint16)
    for name, content in stored_in_every_way(colour).items():
        (tmp_path / name).write_bytes(content)
        photo = silent(read_photo, tmp_path / name)
        assert np.abs(photo - colour * (255 / 65535)).max() <= 1, name
        with Image.open(tmp_path / name) as image:
            assert np.abs(silent(as_photo, image) - colour * (255 / 65535)).max() <= 1, name


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("largest", [1023, 4095])
def test_a_ppm_states_its_range(tmp_path: Path, text: bool, largest: int) -> None:
    values = np.rint(np.dstack([RAMP, RAMP[:, ::-1], RAMP[::-1]]) * largest).astype(np.uint16)
    path = tmp_path / "photo.ppm"
    path.write_bytes(pnm(values, largest, text=text))
    np.testing.assert_array_equal(silent(read_photo, path), np.rint(values * (255 / largest)))
    half = silent(read_photo, path, input_range=2 * largest)
    np.testing.assert_array_equal(half, np.rint(values * (255 / (2 * largest))))
    with Image.open(path) as image:
        assert np.abs(silent(as_photo, image) - values * (255 / largest)).max() <= 1
    with Image.open(path) as image, pytest.raises(PhotoError, match="give the path instead"):
        as_photo(image, input_range=4095)


@pytest.mark.parametrize(
    ("wrong", "says"), [("70000", r"0\.\.65535"), ("-1", r"-1\.\."), ("x", "is damaged"), ("", "is cut off")]
)
def test_wrong_values_of_a_ppm_as_text_are_refused(tmp_path: Path, wrong: str, says: str) -> None:
    words = ["300"] * (24 * 40 * 3 - 1)
    (tmp_path / "photo.ppm").write_text(f"P3 40 24 65535\n{' '.join(words)} {wrong}")
    with pytest.raises(PhotoError, match=says):
        read_photo(tmp_path / "photo.ppm")


def test_a_ppm_as_text_is_read_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptad.data.plain_pnm._BLOCK", 7)  # values and comments are cut anywhere
    values = twelve_bit_colour()
    (tmp_path / "photo.ppm").write_bytes(pnm(values, 4095, text=True))
    np.testing.assert_array_equal(silent(read_photo, tmp_path / "photo.ppm"), np.rint(values * (255 / 4095)))


def test_clear_parts_of_dark_grey_lie_on_white(tmp_path: Path) -> None:
    for full in (4095, 65535):
        alpha = np.full(TWELVE.shape, full, np.uint16)
        alpha[:, :5] = 0
        (tmp_path / "photo.png").write_bytes(png16(np.dstack([TWELVE, alpha])))
        with pytest.warns(PromptadNotice, match="shown on white"):
            photo = read_photo(tmp_path / "photo.png", input_range=4095)
        assert (photo[:, :5] == 255).all()
        np.testing.assert_array_equal(photo[:, 5:, 0], np.rint(TWELVE * (255 / 4095))[:, 5:])


@pytest.mark.parametrize("labels", [(1, 2), (1, 300), (255,), (65535,)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_masks_of_16_bits_keep_small_numbers_however_they_are_stored(
    tmp_path: Path, channels: int, labels: tuple[int, ...]
) -> None:
    marked = np.zeros((24, 40), np.uint16)
    for number, label in enumerate(labels):
        marked[3 + 8 * number : 8 + 8 * number, 4:10] = label
    opaque = [np.full(marked.shape, 65535, np.uint16)] if channels in (2, 4) else []
    values = marked if channels == 1 else np.dstack([*([marked] * (1 if channels == 2 else 3)), *opaque])
    for name, content in stored_in_every_way(values).items():
        path = tmp_path / name
        path.write_bytes(content)
        if channels > 1 and path.suffix == ".tif" and (channels == 2 or "zlib-True" in name):
            with pytest.raises(PhotoError, match="save it as"):
                read_mask(path)
        else:
            np.testing.assert_array_equal(silent(read_mask, path), marked > 0, err_msg=name)
