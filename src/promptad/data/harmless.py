"""Differences that make no photo a bad one: how a good product may look under other light and another camera."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptad.data.damage_shapes import fractal
from promptad.data.pixels import Rgb


def relit(photo: Rgb, generator: np.random.Generator) -> Rgb:
    """The photo under other light: brighter to one side, in soft shade, warmer or colder, softer or noisier.

    (H, W, 3) uint8 RGB -> the same. Each difference is drawn for itself and may be none.
    """
    rows, columns = photo.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    out = photo.astype(np.float32)
    if generator.random() < 0.6:  # a lamp at one side, or a lens that darkens the corners
        angle = generator.uniform(0, 2 * np.pi)
        slope = generator.uniform(0, 0.25) * (np.sin(angle) * y + np.cos(angle) * x)
        out *= (1 + slope - generator.uniform(0, 0.15) * (x**2 + y**2))[..., None]
    if generator.random() < 0.3:  # something out of sight throws a wide, soft shadow
        angle, edge = generator.uniform(0, 2 * np.pi), generator.uniform(-0.6, 0.6)
        across = np.sin(angle) * y + np.cos(angle) * x - edge
        out *= (1 - generator.uniform(0.1, 0.3) / (1 + np.exp(-across / generator.uniform(0.15, 0.5))))[..., None]
    if generator.random() < 0.3:  # reflections of a room: clouds wider than any part
        out *= (1 + 0.05 * fractal((rows, columns), generator, 0.8 * max(rows, columns)))[..., None]
    if generator.random() < 0.5:
        out *= generator.normal(1, 0.03, 3)
    if generator.random() < 0.4:
        middle = out.mean()
        out = np.asarray(middle + (out - middle) * generator.uniform(0.8, 1.15), np.float32)
    if generator.random() < 0.4:
        out = ndimage.gaussian_filter(out, (*(generator.uniform(0.3, 0.9) * min(rows, columns) / 400,) * 2, 0))
    if generator.random() < 0.5:
        out += generator.normal(0, generator.uniform(1, 5), out.shape)
    return np.rint(np.clip(out, 0, 255)).astype(np.uint8)
