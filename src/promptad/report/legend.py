"""The legend of a heat map: a strip below the picture with the colour bar and its numbers. It hides nothing of the photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from promptad.report.colours import OUTLINE, ramp

SMALLEST = 96
"""A picture narrower than this gets no legend: the numbers could not be read."""

_HATCHED = "not inspected"
_BACK, _TEXT, _UNSEEN = (18, 20, 24), (255, 255, 255), ((150, 150, 150), (80, 80, 80))


def _font_size(width: int, height: int) -> int:
    """Of the photo's size, within bounds: 9 to 64 pixels."""
    return int(min(64, max(9, round(min(width, height * 1.5) / 38), round(width / 90))))


def _texts(low: float, high: float) -> tuple[str, str]:
    return f"{low:.3g}", f"{high:.3g} or more"


def legend_height(width: int, height: int, low: float, high: float) -> int:
    """Height in pixels of the legend of a picture of ``width`` x ``height``; 0 where its numbers would not fit."""
    if width < SMALLEST:
        return 0
    size = _font_size(width, height)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    font = ImageFont.load_default(size)
    needed = sum(draw.textlength(text, font=font) for text in _texts(low, high)) + 3 * size
    return round(3.2 * size) if needed <= width else 0


def draw_legend(
    width: int,
    height: int,
    low: float,
    high: float,
    map_threshold: float | None = None,
    *,
    hatched: bool = False,
) -> NDArray[np.uint8]:
    """The legend of a picture of ``width`` x ``height``.

    Args:
        low, high: the ends of the colour scale, in units of the map.
        map_threshold: marked on the bar when it lies on the scale.
        hatched: say what hatching means.

    Returns:
        (:func:`legend_height`, width, 3) uint8 RGB.
    """
    size = _font_size(width, height)
    font = ImageFont.load_default(size)
    pad, bar_height = max(3, size // 2), max(4, round(size * 0.7))
    canvas = Image.new("RGB", (width, legend_height(width, height, low, high)), _BACK)
    draw = ImageDraw.Draw(canvas)
    low_text, high_text = _texts(low, high)
    bar_width = min(width - 2 * pad, max(size * 28, round(width * 0.5)))
    if hatched:  # leave room for its words, where the numbers of the bar can spare it
        words = 6 * size + draw.textlength(_HATCHED, font=font)
        numbers = draw.textlength(low_text + high_text, font=font) + 2 * size
        bar_width = min(bar_width, max(round(numbers), round(width - 2 * pad - words)))
    left, right = pad, pad + bar_width

    colours = ramp(np.linspace(0, 1, bar_width)).astype(np.uint8)
    bar = np.broadcast_to(colours[None], (bar_height, bar_width, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, pad))
    text_top = pad + bar_height + max(1, size // 4)
    draw.text((left, text_top), low_text, font=font, fill=_TEXT)
    draw.text((right, text_top), high_text, font=font, fill=_TEXT, anchor="ra")

    if map_threshold is not None and low <= map_threshold <= high:
        x = left + round((map_threshold - low) / (high - low) * bar_width)
        line = max(2, size // 6)
        ends = (x, pad - pad // 2, x, pad + bar_height + pad // 2)
        draw.line(ends, fill=_TEXT, width=line + 2)
        draw.line(ends, fill=OUTLINE, width=line)
        label = f"outline {map_threshold:.3g}"
        start = left + draw.textlength(low_text, font=font) + size
        end = right - draw.textlength(high_text, font=font) - size
        length = draw.textlength(label, font=font)
        if end - start >= length:
            draw.text((min(max(x - length / 2, start), end - length), text_top), label, font=font, fill=_TEXT)
    if hatched:
        _say_hatched(draw, font, size, right + 2 * size, pad, bar_height, width)
    return np.array(canvas)


def _say_hatched(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
    left: int,
    top: int,
    height: int,
    width: int,
) -> None:
    """A hatched swatch with its words, right of the bar, where there is room."""
    swatch = 3 * size
    if left + swatch + size / 2 + draw.textlength(_HATCHED, font=font) > width:
        return
    pale, dark = _UNSEEN
    draw.rectangle((left, top, left + swatch, top + height), fill=pale)
    step = max(4, size // 2)
    for x in range(left, left + swatch, step):
        draw.line(
            (x, top + height, min(x + height, left + swatch), top + max(0, x + height - left - swatch)), fill=dark
        )
    draw.text((left + swatch + size / 2, top - size // 6), _HATCHED, font=font, fill=_TEXT)
