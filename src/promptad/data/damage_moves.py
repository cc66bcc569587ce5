"""Kinds of damage that move, tear or cover what is there; their form is that of :mod:`promptad.data.damage_kinds`.

Pasted rectangles and long thin scars follow CutPaste (Li et al., CVPR 2021, section 2.2), here with material of another
photo too.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from promptad.data.damage_drawing import finish, mix, on_object, paint, span_of
from promptad.data.damage_shapes import Plane, blob, edge_light, fractal, path, pick, soft, stroke
from promptad.data.pixels import Mask, Rgb


def cut(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A slit that gapes in its middle: dark inside, one lip lit and the other in shade."""
    side = min(photo.shape[:2])
    length = min(generator.uniform(1.5, 3.0) * span_of(photo, area), 0.8 * side)
    gape = max(2.0, length * generator.uniform(0.03, 0.09))
    points = path(generator, pick(region, generator), generator.uniform(0, np.pi), length, 0.02)
    shape, steps = photo.shape[:2], len(points)
    slit = np.zeros(shape, np.float32)
    for first in range(steps - 1):
        wide = gape * np.sin(np.pi * (first + 0.5) / (steps - 1)) ** 0.7
        slit = np.maximum(slit, stroke(shape, points[first : first + 2], max(1.0, wide)))
    lips = ndimage.gaussian_filter(slit, 0.35 * gape + 0.6)
    slope_y, slope_x = np.gradient(lips)
    angle = generator.uniform(0, 2 * np.pi)
    light = generator.uniform(90, 160) * (np.sin(angle) * slope_y + np.cos(angle) * slope_x) * gape
    within = generator.uniform(0.08, 0.35) * ndimage.gaussian_filter(photo.astype(np.float32), (2, 2, 0))
    return finish(photo, mix(photo + light[..., None], within, slit), keep=on_object(region))


def smear(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A place that was wiped while wet: what lies there is drawn out in one direction and fades."""
    span, centre = span_of(photo, max(area, 0.002)), pick(region, generator)
    depth = blob(region.shape, generator, centre, max(area, 0.002), 0.25)
    angle, drag = generator.uniform(0, 2 * np.pi), generator.uniform(0.6, 1.4) * span
    rows, columns = np.indices(region.shape, np.float32)
    layer = np.zeros(photo.shape, np.float32)
    steps = 12
    source: Plane = photo.astype(np.float32)
    if generator.random() < 0.5:  # something else was wiped over it
        lump = soft(blob(region.shape, generator, centre, 0.3 * area, 0.3), 1.5)
        source = mix(source, np.broadcast_to(paint(generator), photo.shape), lump)
    for step in range(steps):
        back = drag * step / steps
        layer += _seen_from(source, [rows - back * np.sin(angle), columns - back * np.cos(angle)])
    wiped = 0.3 * fractal(region.shape, generator, max(4.0, span / 6))
    drawn = np.asarray(layer / steps * (1 + 0.15 * wiped)[..., None] * generator.uniform(0.8, 1.15), np.float32)
    cover = soft(depth, max(1.5, 0.08 * span)) * on_object(region)
    return finish(photo, mix(photo, _told_apart(photo, drawn, cover, generator), cover), fill=True)


def shifted(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A strip or patch of the pattern that slipped sideways: a misprint, a wrong thread, a loose part."""
    span, centre = span_of(photo, max(area, 0.003)), pick(region, generator)
    angle = generator.choice([0.0, np.pi / 2, generator.uniform(0, np.pi)])
    along, across = _axes(region.shape, centre, angle)
    if generator.random() < 0.5:
        alpha = (np.abs(across) < 0.3 * span) & (np.abs(along) < generator.uniform(0.8, 2.0) * span)
    else:
        alpha = blob(region.shape, generator, centre, max(area, 0.003), 0.15) > 0
    step = generator.choice([-1, 1]) * generator.uniform(0.25, 0.7) * span
    rows, columns = np.indices(region.shape, np.float32)
    where = [rows + step * np.sin(angle), columns + step * np.cos(angle)]
    moved = _seen_from(photo, where)
    edge = ndimage.gaussian_filter(alpha.astype(np.float32), 0.7)
    moved = _told_apart(photo, moved, edge * on_object(region), generator)
    seam = 4 * edge * (1 - edge) * generator.uniform(0, 0.5)
    return finish(photo, mix(photo, moved, edge) * (1 - seam[..., None]), fill=True, keep=on_object(region))


def erased(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A part, print or relief that is not there: the surroundings close over it, smooth or with another grain."""
    centre, span = pick(_busy(photo, region), generator), span_of(photo, area)
    depth = blob(region.shape, generator, centre, area, generator.choice([0.05, 0.25]))
    around = np.exp(-((np.clip(-depth, 0, None) / (0.35 * span + 2)) ** 2)) * (depth < 0)
    weight = np.where(region, around, 0).astype(np.float32) + 1e-6
    sigma = 0.5 * span + 2
    light = np.stack([ndimage.gaussian_filter(photo[..., c] * weight, sigma) for c in range(3)], -1)
    layer = light / ndimage.gaussian_filter(weight, sigma)[..., None]
    grain = generator.uniform(0, 6) * generator.standard_normal(region.shape)
    cover = soft(depth, generator.uniform(0.8, 3.0)) * on_object(region)
    layer = _told_apart(photo, np.asarray(layer + grain[..., None], np.float32), cover, generator)
    return finish(photo, mix(photo, layer, cover), fill=True)


def pasted(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A straight-edged piece or a long thin scar, of another product or another place of this one, hard at its edges."""
    span, centre = span_of(photo, area), pick(region, generator)
    long = np.exp(generator.uniform(-0.8, 0.8)) if generator.random() < 0.5 else generator.uniform(4, 10)
    along, across = _axes(region.shape, centre, generator.uniform(0, np.pi))
    half = 0.5 * span
    alpha = (np.abs(along) < half * np.sqrt(long)) & (np.abs(across) < max(1.5, half / np.sqrt(long)))
    taken = _resized(donor if generator.random() < 0.6 else photo[::-1, ::-1], region.shape, generator)
    layer = np.asarray(taken * generator.uniform(0.7, 1.25) * generator.uniform(0.9, 1.1, 3), np.float32)
    cover = ndimage.gaussian_filter(alpha.astype(np.float32), generator.choice([0.4, 0.8, 2.0])) * on_object(region)
    return finish(photo, mix(photo, _told_apart(photo, layer, cover, generator), cover), fill=True)


def foreign_body(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A thing that does not belong there: a rounded piece of another product with its own light and shadow."""
    area = min(max(area, 0.0015), 0.08)
    span = span_of(photo, area)
    centre = pick(region, generator)
    depth = blob(region.shape, generator, centre, area, generator.choice([0.03, 0.12, 0.3]))
    light = edge_light(depth, max(2.0, span / generator.uniform(3, 8)), generator, fixed=True)
    layer: Plane = _resized(donor, region.shape, generator)
    if generator.random() < 0.4:
        layer = np.asarray(0.35 * layer + 0.65 * paint(generator), np.float32)
    layer = _told_apart(photo, layer, soft(depth, 0.8), generator)
    fall = span * generator.uniform(0.03, 0.12)
    shadow = ndimage.gaussian_filter(ndimage.shift(soft(depth, 1.0), (fall, fall), order=1), max(0.8, 0.5 * fall))
    body = layer * np.clip(0.95 + 0.6 * light, 0.3, 1.5)[..., None]
    return finish(photo, mix(photo * (1 - 0.5 * shadow[..., None]), body, soft(depth, 0.8)), fill=True)


def corrosion(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """Mottled patches that eat into the surface: rust, mould, verdigris or lime, of several tones and sizes."""
    span, centre = span_of(photo, max(area, 0.002)), pick(region, generator)
    depth = blob(region.shape, generator, centre, max(area, 0.002), 0.5)
    clouds = fractal(region.shape, generator, max(4.0, span / generator.uniform(2, 6)))
    cover = soft(clouds * 2 + 1.2, 1.5) * soft(depth, max(2.0, 0.1 * span))
    tones = np.array(_CORRODED[generator.integers(len(_CORRODED))], np.float32) + generator.normal(0, 8, (2, 3))
    share = np.clip(0.5 + 0.35 * fractal(region.shape, generator, max(2.0, span / 10)), 0, 1)[..., None]
    crust = tones[0] * share + tones[1] * (1 - share)
    relief = 18 * np.gradient(ndimage.gaussian_filter(clouds, 1.0))[0]
    layer = 0.25 * photo + 0.75 * crust + relief[..., None]
    return finish(photo, mix(photo, layer, cover * generator.uniform(0.6, 0.95) * on_object(region)), fill=True)


def specks(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """Many small spots close together: splashes, pores, soot, a spray of paint."""
    span, centre = span_of(photo, max(area, 0.003)), pick(region, generator)
    colour, dark = paint(generator), generator.random() < 0.5
    cover = np.zeros(region.shape, np.float32)
    for _ in range(int(generator.integers(6, 28))):
        place = centre + generator.normal(0, 0.4 * span, 2)
        size = max(0.9, 0.035 * span * np.exp(generator.normal(0, 0.5)))
        near = _near(region.shape, place, size)
        cover = np.maximum(cover, np.clip(size - near + 0.5, 0, 1))
    under = photo[cover > 0.5].mean(0) if (cover > 0.5).any() else photo.mean((0, 1))
    if np.abs(colour - under).max() < 70:
        colour = under * 0.3 if dark or under.mean() > 150 else under * 0.3 + 170
    spots = mix(photo, np.broadcast_to(colour, photo.shape), cover * generator.uniform(0.7, 1) * on_object(region))
    return finish(photo, spots)


def crease(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A fold or kink: a soft ridge, light on one side and dark on the other, that pulls the pattern along."""
    side = min(photo.shape[:2])
    length = min(generator.uniform(2.0, 4.0) * span_of(photo, area), 1.1 * side)
    width = max(2.0, length * generator.uniform(0.03, 0.07))
    ridge = np.zeros(photo.shape[:2], np.float32)
    start, angle = pick(region, generator), generator.uniform(0, np.pi)
    for _ in range(int(generator.choice([1, 1, 2]))):
        points = path(generator, start, angle, length, 0.06)
        ridge = np.maximum(ridge, stroke(photo.shape[:2], points, width, taper=True))
        start, angle = points[len(points) // 3], angle + generator.uniform(0.5, 1.2)
    height = ndimage.gaussian_filter(ridge, 0.5 * width + 0.5)
    slope_y, slope_x = np.gradient(height)
    turn = generator.uniform(0, 2 * np.pi)
    light = generator.uniform(90, 170) * (np.sin(turn) * slope_y + np.cos(turn) * slope_x) * width
    rows, columns = np.indices(region.shape, np.float32)
    where = [rows + 1.2 * width * width * slope_y, columns + 1.2 * width * width * slope_x]
    bent = _seen_from(photo, where)
    cover = np.clip(3 * height, 0, 1) * on_object(region)
    return finish(photo, mix(photo, bent + light[..., None], cover), fill=True)


def twisted(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A place where the form or the pattern is twisted; where there is neither, its light differs."""
    area = max(area, 0.006)
    span = span_of(photo, area)
    centre = pick(_busy(photo, region), generator)
    rows, columns = np.indices(region.shape, np.float32)
    y, x = rows - np.float32(centre[0]), columns - np.float32(centre[1])
    far = np.hypot(y, x) / (0.6 * span)
    turn = generator.choice([-1, 1]) * generator.uniform(0.8, 1.8) * np.clip(1 - far, 0, 1) ** 1.5
    where = [centre[0] + np.cos(turn) * y - np.sin(turn) * x, centre[1] + np.sin(turn) * y + np.cos(turn) * x]
    moved = _seen_from(photo, where)
    cover = (far < 1).astype(np.float32)
    return finish(photo, mix(photo, _told_apart(photo, moved, cover, generator), cover), fill=True)


# Pairs of tones in RGB: rust, verdigris, mould, lime, char.
_CORRODED = (
    ((120, 62, 28), (176, 104, 52)),
    ((84, 128, 108), (132, 168, 140)),
    ((70, 84, 62), (40, 44, 40)),
    ((226, 224, 214), (190, 186, 176)),
    ((38, 32, 30), (74, 62, 54)),
)


def _axes(shape: tuple[int, ...], centre: npt.NDArray[np.float64], angle: float) -> tuple[Plane, Plane]:
    """Distances (H, W) in pixels along and across a direction through the centre (2,) y, x."""
    rows, columns = np.indices(shape[:2], np.float32)
    y, x = rows - np.float32(centre[0]), columns - np.float32(centre[1])
    along = np.float32(np.sin(angle)) * y + np.float32(np.cos(angle)) * x
    return along, np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x


def _near(shape: tuple[int, ...], place: npt.NDArray[np.float64], size: float) -> Plane:
    """Distance (H, W) in pixels from a place; far away, where it does not matter, `size` + 9."""
    out = np.full(shape[:2], size + 9, np.float32)
    low = np.clip(np.floor(place - size - 2).astype(int), 0, shape[:2])
    high = np.clip(np.ceil(place + size + 3).astype(int), 0, shape[:2])
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
    out[low[0] : high[0], low[1] : high[1]] = np.hypot(rows - place[0], columns - place[1])
    return out


def _seen_from(photo: npt.NDArray[np.generic], where: list[Plane]) -> Plane:
    """(H, W, 3) float: the photo read at other rows and columns (each (H, W), in pixels), mirrored beyond its edges."""
    read = [ndimage.map_coordinates(photo[..., c], where, np.float32, 1, "reflect") for c in range(3)]
    return np.asarray(np.stack(read, -1), np.float32)


def _told_apart(photo: Rgb, layer: Plane, cover: Plane, generator: np.random.Generator) -> Plane:
    """The layer (H, W, 3), lighter or darker where moving alone changes too little to be seen, as on a plain surface."""
    change = np.abs(layer - photo).max(2)[cover > 0.5]
    if change.size and change.mean() > 20:
        return layer
    under = float(photo[cover > 0.5].mean()) if change.size else 128.0
    tone = generator.uniform(18, 40) * (-1 if under > 140 or (under > 90 and generator.random() < 0.5) else 1)
    return np.asarray(layer + tone, np.float32)


def _busy(photo: Rgb, region: Mask) -> Mask:
    """Where there is something to lose: the half of the region with the most structure."""
    grey = photo.mean(2, dtype=np.float32)
    scale = min(photo.shape[:2]) / 40
    rough = ndimage.gaussian_filter(np.abs(grey - ndimage.gaussian_filter(grey, scale)), scale)
    return np.asarray(region & (rough >= np.median(rough[region])))


def _resized(donor: Rgb, shape: tuple[int, ...], generator: np.random.Generator) -> Plane:
    """(H, W, 3) float: a random part of the donor at the photo's size, turned by quarters."""
    turned = np.rot90(donor, int(generator.integers(4)))
    height, width = turned.shape[:2]
    share = generator.uniform(0.5, 1.0)
    top, left = generator.uniform(0, 1 - share, 2)
    rows = np.clip((top + share * np.linspace(0, 1, shape[0])) * (height - 1), 0, height - 1).astype(int)
    columns = np.clip((left + share * np.linspace(0, 1, shape[1])) * (width - 1), 0, width - 1).astype(int)
    return np.asarray(turned[rows][:, columns], np.float32)
