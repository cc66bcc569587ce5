"""Heat maps: a photo with its anomaly map drawn over it on one fixed colour scale.

The scale comes from the caller and is the same for every photo of a run. A scale stretched for each photo
would show the small unevenness of a good part in the colour of a defect.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, PngImagePlugin

from promptad.data.files import one_line, shown, write_atomic
from promptad.errors import ConfigError, DataError
from promptad.report.colours import OUTLINE, ramp
from promptad.report.legend import draw_legend, legend_height

_ROWS = 512  # rows blended at a time, which bounds the memory for very large photos
JPEG_EDGE = 65500
"""Longest edge that the common JPEG library writes, in pixels; the format itself ends at 65535."""

_LOW, _HIGH = "promptad-map-value-at-0", "promptad-map-value-at-65535"


def overlay(
    photo: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    low: float,
    high: float,
    *,
    map_threshold: float | None = None,
    inspected: NDArray[np.bool_] | None = None,
    mask: NDArray[np.bool_] | None = None,
    alpha: float = 0.8,
    desaturate: float = 0.0,
    legend: bool = False,
) -> NDArray[np.uint8]:
    """Draw an anomaly map over its photo.

    Args:
        photo: (H, W, 3) uint8 RGB; not changed.
        anomaly_map: (H, W) float, larger = more anomalous.
        low: map value up to which the photo stays as it is.
        high: map value from which the colour is the last of the ramp.
        map_threshold: when given, a line of 1 to 3 pixels (by photo size) goes around each region above it.
        inspected: (H, W) bool, True where the photo was looked at; elsewhere it is drawn grey and hatched, whatever the
            map says. None means everywhere.
        mask: (H, W) bool, the regions that get the line, where that is not all above ``map_threshold``.
        alpha: opacity at ``high``, 0 to 1; it grows with the square root of the position on the scale.
        desaturate: 0 keeps the colours of the photo, 1 shows the photo in grey under the map.
        legend: put the colour bar with its numbers below the photo (see :mod:`promptad.report.legend`).

    Returns:
        (H, W, 3) uint8 RGB; with a legend (H + its height, W, 3), the photo at the top. Without desaturation and outline,
        pixels up to ``low`` equal the photo.

    Raises:
        ConfigError: shapes or types do not fit, the map is not finite, or ``low`` is not below ``high``.
    """
    _check(photo, anomaly_map, low, high, alpha, desaturate)
    if inspected is not None and inspected.shape != photo.shape[:2]:
        raise ConfigError(f"heat map: inspected of shape {inspected.shape} for a photo of {photo.shape[:2]}")
    height, width = photo.shape[:2]
    band = legend_height(width, height, low, high) if legend else 0
    # The legend's place is there from the start: a second picture of a large photo would double the memory.
    picture = np.empty((height + band, width, 3), np.uint8)
    out = picture[:height]
    out[:] = photo
    _blend(out, photo, anomaly_map, (low, high), inspected, alpha, desaturate)
    if map_threshold is not None:
        above = np.asarray(anomaly_map > map_threshold) if mask is None else mask
        line = outline(above if inspected is None else above & inspected)
        out[line if inspected is None else line & inspected] = OUTLINE
    if band:
        picture[height:] = draw_legend(width, height, low, high, map_threshold, hatched=inspected is not None)
    return picture


def _blend(
    out: NDArray[np.uint8],
    photo: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    scale: tuple[float, float],
    inspected: NDArray[np.bool_] | None,
    alpha: float,
    desaturate: float,
) -> None:
    """Draws the colours of the map, and hatching, into ``out``, which holds the photo."""
    low, high = scale
    for start in range(0, photo.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        if desaturate > 0:
            out[rows] = np.rint(photo[rows] + desaturate * (_grey(photo[rows]) - photo[rows])).astype(np.uint8)
        hot = anomaly_map[rows] > low
        if hot.any():
            position = np.clip((anomaly_map[rows][hot].astype(np.float64) - low) / (high - low), 0, 1)
            opacity = (alpha * np.sqrt(position))[:, None].astype(np.float32)
            below = out[rows][hot]
            out[rows][hot] = np.rint(below * (1 - opacity) + ramp(position) * opacity).astype(np.uint8)
        if inspected is not None and not inspected[rows].all():
            unseen = ~inspected[rows]
            out[rows][unseen] = _hatched(photo[rows], start, max(photo.shape[:2]))[unseen]


def _grey(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w, 1) luma of (h, w, 3) RGB."""
    return (photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def _hatched(photo: NDArray[np.uint8], first_row: int, long_edge: int) -> NDArray[np.uint8]:
    """The photo as it looks where nobody looked: pale grey with diagonal lines, (h, w, 3) uint8."""
    grey = 150 + 0.35 * (_grey(photo) - 128)
    rows, columns = np.arange(first_row, first_row + photo.shape[0])[:, None], np.arange(photo.shape[1])[None]
    step = max(8, long_edge // 60)
    dark = (rows + columns) % step < max(2, step // 5)
    return (
        np.rint(np.broadcast_to(np.where(dark[..., None], grey - 70, grey), photo.shape)).clip(0, 255).astype(np.uint8)
    )


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The line around the regions of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool, True on the pixels just outside the regions, 1 to 3 pixels wide (1/500 of the long edge).
        A region that touches the border of the photo has no line there.
    """
    if not mask.any():
        return np.zeros_like(mask)
    width = min(3, max(1, round(max(mask.shape) / 500)))
    grown = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * width + 1))
    return (np.asarray(grown) > 0) & ~mask


def save_heatmap(path: Path | str, picture: NDArray[np.uint8], *, quality: int = 90) -> Path:
    """Write what :func:`overlay` drew as PNG or JPEG, chosen by the ending of ``path``, complete or not at all.

    Args:
        picture: (H, W, 3) uint8 RGB. quality: of the JPEG, 1 to 95.

    Returns:
        The file: ``path``, or the same name with ``.png`` where the picture has an edge that no JPEG can have (more than
        :data:`JPEG_EDGE` pixels).

    Raises:
        ConfigError: the ending is neither .png, .jpg nor .jpeg. DataError: the file cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in {".png", ".jpg", ".jpeg"}:
        raise ConfigError(
            f"{shown(path)}: heat map with the ending {ending!r}, expected .png, .jpg or .jpeg; rename it"
        )
    if max(picture.shape[:2]) > JPEG_EDGE:
        path, ending = path.with_suffix(".png"), ".png"
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    try:
        if ending == ".png":
            image.save(buffer, "PNG", compress_level=4)
        else:  # no chroma subsampling: it would blur the coloured edges
            image.save(buffer, "JPEG", quality=quality, subsampling=0)
    except (OSError, ValueError) as error:
        height, width = picture.shape[:2]
        raise DataError(
            f"{shown(path)}: a heat map of {width}x{height} cannot be written as {ending} ({one_line(error)}); "
            "try the other format, or scale the photo down"
        ) from error
    write_atomic(path, buffer.getvalue())
    return path


def save_map(
    path: Path | str, anomaly_map: NDArray[np.floating], low: float | None = None, high: float | None = None
) -> None:
    """Write the values of an anomaly map for further work, complete or not at all.

    ``.npy`` keeps (H, W) float32 exactly. ``.png`` is 16-bit grey: pixel 0 stands for ``low``, 65535 for
    ``high``, linear between, and both numbers stand in the text entries ``promptad-map-value-at-0`` and
    ``promptad-map-value-at-65535``; :func:`read_map` brings the values back to within half a step of
    (high - low) / 65535.

    Args:
        path: ends in .npy or .png.
        anomaly_map: (H, W) float, finite.
        low, high: ends of the 16-bit scale; by default the smallest and largest value of this map. Give both
            to compare PNG files by eye. Values outside are clipped. Not used for .npy.

    Raises:
        ConfigError: another ending, a map that is not two-dimensional and finite, or ``low`` above ``high``.
        DataError: the file cannot be written.
    """
    path = Path(path)
    if anomaly_map.ndim != 2 or anomaly_map.size == 0 or not np.isfinite(anomaly_map).all():
        raise ConfigError(
            f"{shown(path)}: map of shape {anomaly_map.shape}, expected (height, width) with finite values"
        )
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, anomaly_map.astype(np.float32), allow_pickle=False)
    elif path.suffix.lower() == ".png":
        bottom = float(anomaly_map.min()) if low is None else float(low)
        top = float(anomaly_map.max()) if high is None else float(high)
        if not bottom <= top:
            raise ConfigError(
                f"{shown(path)}: map scale from {bottom:g} to {top:g}, expected low up to high; swap them"
            )
        share = (anomaly_map.astype(np.float64) - bottom) / (top - bottom) if top > bottom else anomaly_map * 0.0
        steps = np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16)
        info = PngImagePlugin.PngInfo()
        info.add_text(_LOW, repr(bottom))
        info.add_text(_HIGH, repr(top))
        try:
            Image.fromarray(steps).save(buffer, "PNG", pnginfo=info)
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(path)}: map cannot be written ({one_line(error)}); try .npy") from error
    else:
        raise ConfigError(f"{shown(path)}: map with the ending {path.suffix!r}, expected .npy or .png; rename it")
    write_atomic(path, buffer.getvalue())


def read_map(path: Path | str) -> NDArray[np.float32]:
    """Read a map that :func:`save_map` wrote: (H, W) float32.

    Raises:
        DataError: the file is missing, damaged, or a picture without the two numbers of the scale.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), np.float32)
        with Image.open(path) as picture:
            bottom, top = float(picture.info[_LOW]), float(picture.info[_HIGH])
            steps = np.asarray(picture, np.float64)
    except KeyError:
        raise DataError(f"{shown(path)}: picture without a map scale, expected a file that save_map wrote") from None
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{shown(path)}: no readable map ({one_line(error)}); write it again with save_map") from None
    return (bottom + steps / 65535 * (top - bottom)).astype(np.float32)


def _check(
    photo: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    low: float,
    high: float,
    alpha: float,
    desaturate: float,
) -> None:
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ConfigError(f"heat map: photo of {photo.dtype} {photo.shape}, expected uint8 (height, width, 3) RGB")
    if anomaly_map.shape != photo.shape[:2]:
        raise ConfigError(
            f"heat map: map of shape {anomaly_map.shape} for a photo of {photo.shape[:2]}; resize the map to the photo"
        )
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"heat map: colour scale from {low:g} to {high:g}, expected finite numbers with low < high")
    if not (0 <= alpha <= 1 and 0 <= desaturate <= 1):
        raise ConfigError(f"heat map: alpha {alpha:g} and desaturate {desaturate:g}, expected 0 to 1")
    if not np.isfinite(anomaly_map).all():
        raise ConfigError("heat map: the map holds values that are not finite; score the photo again")
