"""The legend on a heat map: the colour bar with its numbers, inside the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from promptad.report.colours import OUTLINE, ramp

SMALLEST = 96
"""A picture with an edge shorter than this gets no legend: the numbers could not be read."""


def add_legend(
    picture: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    low: float,
    high: float,
    map_threshold: float | None = None,
) -> NDArray[np.uint8]:
    """Draw the colour bar with its numbers at the bottom edge of a picture.

    The bar goes to the top edge instead when it would cover values above ``low`` at the bottom and none at
    the top, so that no finding is hidden behind it. The size of the picture does not change.

    Args:
        picture: (H, W, 3) uint8 RGB, not changed. With an edge under 96 pixels it comes back as it is.
        anomaly_map: (H, W), larger = more anomalous.
        low, high: the ends of the colour scale, in units of the map.
        map_threshold: marked on the bar when it lies on the scale.

    Returns:
        (H, W, 3) uint8 RGB, a new array (or ``picture`` itself when it is too small).
    """
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        return picture
    size = max(9, round(min(width, height * 1.5) / 38))
    font = ImageFont.load_default(size)
    pad = max(3, size // 2)
    bar_height = max(4, round(size * 0.55))
    band = pad + bar_height + pad // 2 + round(size * 1.2) + pad // 2
    box_width = min(width, max(round(width * 0.5), size * 16))

    hot = anomaly_map > low
    on_top = bool(hot[height - band :, :box_width].any()) and not bool(hot[:band, :box_width].any())
    top = 0 if on_top else height - band

    canvas = Image.fromarray(picture).convert("RGB")
    shade = Image.new("RGB", (box_width, band), (18, 20, 24))
    area = (0, top, box_width, top + band)
    canvas.paste(Image.blend(canvas.crop(area), shade, 0.82), area)

    left, right = pad, box_width - pad
    colours = ramp(np.linspace(0, 1, right - left)).astype(np.uint8)
    bar = np.broadcast_to(colours[None], (bar_height, right - left, 3))
    canvas.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, top + pad))

    draw = ImageDraw.Draw(canvas)
    text_top = top + pad + bar_height + pad // 2
    white = (255, 255, 255)
    draw.text((left, text_top), f"{low:.3g}", font=font, fill=white)
    draw.text((right, text_top), f"{high:.3g} or more", font=font, fill=white, anchor="ra")
    if map_threshold is not None and low <= map_threshold <= high:
        x = left + round((map_threshold - low) / (high - low) * (right - left))
        line = max(2, size // 6)
        draw.line((x, top + pad // 2, x, top + pad + bar_height + pad // 2), fill=white, width=line + 2)
        draw.line((x, top + pad // 2, x, top + pad + bar_height + pad // 2), fill=OUTLINE, width=line)
        label = f"limit {map_threshold:.3g}"
        start = left + draw.textlength(f"{low:.3g}", font=font) + size
        end = right - draw.textlength(f"{high:.3g} or more", font=font) - size
        length = draw.textlength(label, font=font)
        if end - start >= length:
            draw.text((min(max(x - length / 2, start), end - length), text_top), label, font=font, fill=white)
    return np.array(canvas)
