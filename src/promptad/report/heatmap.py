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
from promptad.report.legend import add_legend

_ROWS = 512  # rows blended at a time, which bounds the memory for very large photos
_LOW, _HIGH = "promptad-map-value-at-0", "promptad-map-value-at-65535"


def overlay(
    photo: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    low: float,
    high: float,
    *,
    map_threshold: float | None = None,
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
        alpha: opacity at ``high``, 0 to 1; it grows with the square root of the position on the scale.
        desaturate: 0 keeps the colours of the photo, 1 shows the photo in grey under the map.
        legend: draw the colour bar with its numbers (see :func:`promptad.report.legend.add_legend`).

    Returns:
        (H, W, 3) uint8 RGB. Without desaturation, outline and legend, pixels up to ``low`` equal the photo.

    Raises:
        ConfigError: shapes or types do not fit, the map is not finite, or ``low`` is not below ``high``.
    """
    _check(photo, anomaly_map, low, high, alpha, desaturate)
    out = photo.copy()
    for start in range(0, photo.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        if desaturate > 0:
            grey = photo[rows].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            mixed = photo[rows] + desaturate * (grey[..., None] - photo[rows])
            out[rows] = np.rint(mixed).astype(np.uint8)
        hot = anomaly_map[rows] > low
        if hot.any():
            position = np.clip((anomaly_map[rows][hot].astype(np.float64) - low) / (high - low), 0, 1)
            opacity = (alpha * np.sqrt(position))[:, None].astype(np.float32)
            below = out[rows][hot]
            out[rows][hot] = np.rint(below * (1 - opacity) + ramp(position) * opacity).astype(np.uint8)
    if map_threshold is not None:
        out[outline(anomaly_map > map_threshold)] = OUTLINE
    if legend:
        out = add_legend(out, anomaly_map, low, high, map_threshold)
    return out


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


def save_heatmap(
    path: Path | str,
    photo: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    low: float,
    high: float,
    *,
    map_threshold: float | None = None,
    alpha: float = 0.8,
    desaturate: float = 0.0,
    legend: bool = True,
    quality: int = 90,
) -> None:
    """Write :func:`overlay` at the photo's own size as PNG or JPEG, chosen by the ending of ``path``.

    The file appears complete or not at all. ``quality`` is for JPEG, 1 to 95.

    Raises:
        ConfigError: the ending is neither .png, .jpg nor .jpeg, the picture does not fit into a JPEG file
            (65535 pixels an edge), or as :func:`overlay`.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in {".png", ".jpg", ".jpeg"}:
        raise ConfigError(
            f"{shown(path)}: heat map with the ending {ending!r}, expected .png, .jpg or .jpeg; rename it"
        )
    if ending != ".png" and max(photo.shape[:2]) > 65535:
        raise ConfigError(
            f"{shown(path)}: heat map of {photo.shape[1]}x{photo.shape[0]}, a JPEG ends at 65535; use .png"
        )
    picture = Image.fromarray(
        overlay(
            photo,
            anomaly_map,
            low,
            high,
            map_threshold=map_threshold,
            alpha=alpha,
            desaturate=desaturate,
            legend=legend,
        )
    )
    buffer = io.BytesIO()
    if ending == ".png":
        picture.save(buffer, "PNG", compress_level=4)
    else:  # no chroma subsampling: it would blur the coloured edges
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    write_atomic(path, buffer.getvalue())


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
        Image.fromarray(steps).save(buffer, "PNG", pnginfo=info)
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
