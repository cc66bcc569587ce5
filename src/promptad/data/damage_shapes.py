"""Shapes that damage is drawn with: noise clouds, ragged blobs, wandering lines, and the light on their edges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from promptad.data.pixels import Mask

Plane = npt.NDArray[np.float32]  # (H, W)
Points = npt.NDArray[np.float64]  # (N, 2), y and x in pixels

_FINER = 3  # lines are drawn at this multiple of the photo's size and averaged down, which smooths their edges


def pick(region: Mask, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """A random place (2,) y, x in the region; anywhere where the region is empty."""
    places = np.flatnonzero(region)
    index = generator.choice(places) if places.size else generator.integers(region.size)
    return np.array(np.unravel_index(index, region.shape), np.float64)


def fractal(shape: tuple[int, int], generator: np.random.Generator, scale: float) -> Plane:
    """Fractal noise (H, W), mean 0 and deviation 1, whose largest clouds are about `scale` pixels wide."""
    height, width = shape
    out = np.zeros(shape, np.float32)
    amplitude, scale = 1.0, float(min(max(scale, 1.0), 2 * max(shape)))
    while True:
        rows, columns = int(np.ceil(height / scale)) + 1, int(np.ceil(width / scale)) + 1
        grid = Image.fromarray(generator.standard_normal((rows, columns)).astype(np.float32))
        size = (int(np.ceil(columns * scale)), int(np.ceil(rows * scale)))
        out += amplitude * np.asarray(grid.resize(size, Image.Resampling.BICUBIC))[:height, :width]
        amplitude, scale = 0.55 * amplitude, scale / 2
        if scale < 1:
            break
    return np.asarray((out - out.mean()) / (out.std() + 1e-6), np.float32)


def blob(
    shape: tuple[int, int],
    generator: np.random.Generator,
    centre: npt.NDArray[np.float64],
    area: float,
    ragged: float,
) -> Plane:
    """A blob as a depth map (H, W) in pixels: positive inside, negative outside, 0 on its outline.

    Args:
        centre: (2,) y, x.
        area: share of the photo with positive depth, met exactly (a pixel at least).
        ragged: how far the outline wanders, in radii: 0 is an ellipse, 0.3 a puddle, 0.8 scattered.
    """
    radius = max(1.0, float(np.sqrt(area * shape[0] * shape[1] / np.pi)))
    rows, columns = np.indices(shape, np.float32)
    y, x = rows - np.float32(centre[0]), columns - np.float32(centre[1])
    angle, aspect = generator.uniform(0, np.pi), np.exp(generator.uniform(-0.45, 0.45))
    along = (np.cos(angle) * x + np.sin(angle) * y) * aspect
    across = (np.cos(angle) * y - np.sin(angle) * x) / aspect
    reach = np.hypot(along, across) / radius + ragged * fractal(shape, generator, 1.2 * radius)
    inside = min(max(1, round(area * reach.size)), reach.size - 1)
    level = np.partition(reach.ravel(), inside)[inside]
    return np.asarray((level - reach) * radius, np.float32)


def soft(depth: Plane, edge: float) -> Plane:
    """0..1 (H, W): 1 inside, 0 outside, rising smoothly over `edge` pixels on either side of the outline."""
    rise = np.clip(0.5 + depth / (2 * edge), 0, 1)
    return np.asarray(rise * rise * (3 - 2 * rise), np.float32)


def edge_light(depth: Plane, width: float, generator: np.random.Generator, fixed: bool = False) -> Plane:
    """-1..1 (H, W): how light falls on the slopes within `width` pixels inside the outline.

    `fixed` lets it come from the upper left, so that lumps in one photo agree with their shadows.
    """
    height = ndimage.gaussian_filter(np.clip(depth, -width, width), max(0.7, width / 3)) / width
    slope_y, slope_x = np.gradient(height)
    angle = np.pi / 4 if fixed else generator.uniform(0, 2 * np.pi)
    return np.asarray(np.clip((np.sin(angle) * slope_y + np.cos(angle) * slope_x) * width, -1, 1), np.float32)


def path(
    generator: np.random.Generator,
    start: npt.NDArray[np.float64],
    angle: float,
    length: float,
    jag: float,
    both_ways: bool = True,
    curl: float = 0.4,
) -> Points:
    """A wandering line (N, 2) y, x.

    Args:
        start: (2,) where it begins, or its middle when `both_ways`.
        angle: its first direction in radians.
        length: in pixels.
        jag: deviation of the kinks, in radians a step.
        curl: how far it turns over its whole length, in radians, as a deviation.
    """
    steps = max(6, int(length / 5))
    drift = np.cumsum(generator.normal(0, 1, steps)) / steps**1.5 * curl + generator.normal(0, curl) / steps
    headings = angle + np.cumsum(drift) + generator.normal(0, jag, steps)
    points = np.cumsum(np.stack([np.sin(headings), np.cos(headings)], 1) * (length / steps), 0)
    return np.asarray(start + points - (points[steps // 2] if both_ways else points[0]))


def stroke(shape: tuple[int, int], points: Points, width: float, taper: bool = False) -> Plane:
    """A drawn line as coverage 0..1 (H, W), `width` pixels wide; `taper` thins it towards its end."""
    out = np.zeros(shape, np.float32)
    margin = int(np.ceil(width)) + 2
    low = np.maximum(np.floor(points.min(0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + margin + 1, shape)
    if (high <= low).any():
        return out
    rows, columns = (int(side) for side in high - low)
    canvas = Image.new("L", (columns * _FINER, rows * _FINER))
    draw = ImageDraw.Draw(canvas)
    spots = (points - low) * _FINER
    for index, ((y0, x0), (y1, x1)) in enumerate(pairwise(spots)):
        thick = _FINER * width * (1 - 0.7 * index / len(spots) if taper else 1)
        draw.line((x0, y0, x1, y1), fill=255, width=max(1, round(thick)))
        draw.ellipse((x1 - thick / 2, y1 - thick / 2, x1 + thick / 2, y1 + thick / 2), fill=255)
    out[low[0] : high[0], low[1] : high[1]] = np.asarray(canvas.reduce(_FINER), np.float32) / 255
    return out
