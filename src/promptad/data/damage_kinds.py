"""Kinds of damage, each a small pure function from a good photo to a damaged one and its mask.

Every kind takes ``(photo, generator, area, region, donor)`` and gives ``(damaged, mask)``:

* ``photo`` (H, W, 3) uint8 RGB, 0..255, left as it is;
* ``area`` 0..1, the share of the photo that the damage covers or, for lines, about spans;
* ``region`` (H, W) bool, where the object is; all True on a texture;
* ``donor`` (H, W, 3) uint8 RGB, another photo to take foreign texture from, of any size.

The mask is made from the pixels, not from the drawing: True where a channel changed visibly. Outside it the photo
comes back bit by bit, so no mask can be wrong; a change that nobody would see gives an empty mask, and the caller
draws again. Foreign textures under noise masks follow DRAEM (Zavrtanik et al., ICCV 2021), misplaced pieces
CutPaste (Li et al., CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from promptad.data.damage_drawing import finish, mix, on_object, paint, span_of
from promptad.data.damage_moves import (
    corrosion,
    crease,
    cut,
    erased,
    foreign_body,
    pasted,
    shifted,
    smear,
    specks,
    twisted,
)
from promptad.data.damage_shapes import blob, edge_light, fractal, path, pick, soft, stroke
from promptad.data.pixels import Mask, Rgb

Plane = npt.NDArray[np.float32]  # (H, W), or (H, W, 3) where it says so
Kind = Callable[[Rgb, np.random.Generator, float, Mask, Rgb], tuple[Rgb, Mask]]

# Coffee, oil, rust, ink, lime, grease, mould: what spills on products, in RGB.
_SPILLS = ((92, 58, 30), (28, 26, 30), (150, 72, 28), (30, 44, 110), (236, 236, 228), (190, 160, 60), (70, 98, 62))


def scratch(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """One to three thin, slightly curved lines with a lit and a shaded flank."""
    shape, side = photo.shape[:2], min(photo.shape[:2])
    span = min(generator.uniform(1.5, 3.5) * span_of(photo, area), 0.9 * side)
    width = max(1.2, side * generator.uniform(0.003, 0.008))
    centre, angle = pick(region, generator), generator.uniform(0, np.pi)
    line = np.zeros(shape, np.float32)
    for _ in range(generator.choice([1, 1, 2, 3])):
        start = centre + generator.normal(0, 2.5 * width, 2)
        points = path(generator, start, angle + generator.normal(0, 0.08), span * generator.uniform(0.6, 1), 0.02)
        line = np.maximum(line, stroke(shape, points, width, taper=True))
    line *= on_object(region)
    # Real scratches skip: the tool did not press evenly.
    line *= np.clip(0.85 + 0.25 * fractal(shape, generator, max(6.0, span / 4)), 0.3, 1)
    sign = _contrast(photo, line, generator)
    change = generator.uniform(60, 120) * sign * line
    shift = (max(1.0, width * 0.7) * np.array([0.7, 0.7])).tolist()
    change -= 35 * sign * ndimage.shift(line, shift, order=1) * (1 - line)
    return finish(photo, photo + change[..., None])


def crack(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A jagged dark line that branches and thins out, with one lit edge."""
    shape, side = photo.shape[:2], min(photo.shape[:2])
    span = min(generator.uniform(1.2, 2.5) * span_of(photo, area), 0.9 * side)
    width = max(1.5, span * generator.uniform(0.015, 0.035))
    line = np.zeros(shape, np.float32)
    branches = [(pick(region, generator), generator.uniform(0, 2 * np.pi), span, width)]
    for _ in range(generator.integers(3, 8)):
        start, angle, length, thick = branches.pop(0) if branches else (pick(region, generator), 0.0, span, width)
        points = path(generator, start, angle, length, 0.35, both_ways=False)
        line = np.maximum(line, stroke(shape, points, thick, taper=True))
        for at in generator.integers(len(points) // 5, len(points), 2):
            turn = generator.choice([-1, 1]) * generator.uniform(0.4, 1.1)
            branches.append((points[at], angle + turn, length * generator.uniform(0.3, 0.6), max(1.0, thick * 0.65)))
    line *= on_object(region)
    lit = np.clip(ndimage.shift(line, (1.2, 1.2), order=1) - line, 0, 1)
    depth = generator.uniform(0.7, 0.92)
    return finish(photo, photo * (1 - depth * line[..., None]) + generator.uniform(20, 50) * lit[..., None])


def hole(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A pit: dark irregular blob, deeper on the side away from the light, with a broken rim."""
    area = min(area, 0.04)
    depth = blob(region.shape, generator, pick(region, generator), area, 0.25)
    radius = span_of(photo, area) / 2
    inside = soft(depth, 1.0) * on_object(region)
    light = edge_light(depth, max(1.5, radius / 3), generator)
    floor = generator.uniform(0.1, 0.45) + 0.06 * fractal(region.shape, generator, max(4.0, radius / 2))
    pit = photo * np.clip(floor - 0.25 * light, 0.03, 0.75)[..., None] * generator.uniform(0.85, 1, 3)
    rim = np.exp(-((depth / max(1.2, radius * 0.12)) ** 2)) * (depth < 0) * on_object(region)
    result = mix(photo + (generator.uniform(25, 60) * light * rim)[..., None], pit, inside)
    return finish(photo, result, fill=True)


def dent(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A pushed-in or bulged place: the pattern is displaced and the slopes catch light and shade."""
    area = max(area, 0.004)
    radius = span_of(photo, area) / 2
    depth = blob(region.shape, generator, pick(region, generator), area, 0.15)
    height = ndimage.gaussian_filter(np.clip(depth, 0, 0.6 * radius), radius / 5) / radius
    slope_y, slope_x = (s * radius for s in np.gradient(height))
    push = generator.choice([-1, 1]) * generator.uniform(0.25, 0.6) * radius
    rows, columns = np.indices(region.shape, np.float32)
    where = [rows + push * slope_y, columns + push * slope_x]
    warped = np.stack([ndimage.map_coordinates(photo[..., c], where, np.float32, 1, "reflect") for c in range(3)], -1)
    angle = generator.uniform(0, 2 * np.pi)
    shade = generator.uniform(70, 130) * (np.sin(angle) * slope_y + np.cos(angle) * slope_x)
    return finish(photo, mix(photo, warped + shade[..., None], on_object(region) * soft(depth + 2, 2.0)), fill=True)


def stain(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A translucent spill with a darker rim, sometimes with drops beside it."""
    centre, span = pick(region, generator), span_of(photo, area)
    depth = blob(region.shape, generator, centre, area, 0.3)
    for _ in range(generator.choice([0, 0, 1, 3])):
        drop = centre + generator.normal(0, 0.7 * span, 2)
        depth = np.maximum(depth, blob(region.shape, generator, drop, area * generator.uniform(0.02, 0.15), 0.2))
    rim = np.exp(-(((depth - 0.06 * span) / max(1.5, 0.06 * span)) ** 2))
    cloud = 1 + 0.15 * fractal(region.shape, generator, max(8.0, span / 2))
    alpha = soft(depth, max(1.0, 0.02 * span)) * np.clip(cloud + generator.uniform(0, 0.5) * rim, 0, 1.6)
    alpha *= generator.uniform(0.35, 0.65) * on_object(region)
    colour = np.array(_SPILLS[generator.integers(len(_SPILLS))]) + generator.normal(0, 12, 3)
    # Half filter, half paint: a spill tints what shines through it.
    layer = 0.5 * colour + 0.5 * photo * (colour / max(colour.max(), 1.0))
    return finish(photo, mix(photo, layer, np.clip(alpha * 1.3, 0, 0.95)), fill=True)


def missing_piece(
    photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb
) -> tuple[Rgb, Mask]:
    """A bite out of the object's edge, filled with what lies behind; in a texture a torn-out patch."""
    radius = span_of(photo, area) / 2
    ground = ~ndimage.binary_dilation(region, iterations=max(2, min(photo.shape[:2]) // 100))
    if ground.mean() > 0.02:
        edge = region & ~ndimage.binary_erosion(region, iterations=2)
        depth = blob(region.shape, generator, pick(edge, generator), area, 0.3)
        behind = _ground(photo, ground, generator)
        # A little beyond the object too, or a thin line of its old edge would stay behind.
        keep = on_object(ndimage.binary_dilation(region, iterations=max(3, min(photo.shape[:2]) // 60)), 2)
    else:
        depth = blob(region.shape, generator, pick(region, generator), area, 0.3)
        tone = np.median(photo[depth > 0], 0) * generator.choice([0.15, 0.3, 1.5]) + generator.uniform(0, 25, 3)
        behind = tone + 5 * fractal(region.shape, generator, max(8.0, radius))[..., None]
        behind = behind - 30 * np.clip(edge_light(depth, max(2.0, radius / 4), generator), -1, 1)[..., None]
        keep = np.ones(region.shape, np.float32)
    band = max(1.5, radius * generator.uniform(0.08, 0.25))
    torn = np.exp(-((depth / band) ** 2)) * (1 + 0.4 * fractal(region.shape, generator, max(3.0, band * 2)))
    broken = photo * (1 + generator.choice([-0.45, 0.35]) * np.clip(torn, 0, 1) * on_object(region))[..., None]
    return finish(photo, mix(broken, behind, soft(depth, 1.0) * keep), fill=True)


def foreign_texture(
    photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb
) -> tuple[Rgb, Mask]:
    """A patch under an irregular noise mask that shows another material, more or less opaque."""
    depth = blob(region.shape, generator, pick(region, generator), area, 0.7)
    layer = _texture(region.shape, generator, donor, span_of(photo, area))
    opacity = generator.uniform(0.55, 1.0)
    return finish(photo, mix(photo, layer, soft(depth, 1.2) * opacity * on_object(region)), fill=True)


def misplaced(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A piece of the same photo, turned, a little lighter or darker, lying where it does not belong."""
    target = pick(region, generator)
    source = pick(region, generator)
    depth = blob(region.shape, generator, target, area, generator.choice([0.05, 0.3]))
    turn = generator.uniform(0.3, np.pi)
    rows, columns = np.indices(region.shape, np.float32)
    y, x = rows - target[0], columns - target[1]
    where = [source[0] + np.cos(turn) * y - np.sin(turn) * x, source[1] + np.sin(turn) * y + np.cos(turn) * x]
    piece = np.stack([ndimage.map_coordinates(photo[..., c], where, np.float32, 1, "mirror") for c in range(3)], -1)
    piece *= generator.uniform(0.75, 1.25) * generator.uniform(0.94, 1.06, 3)
    shadow = np.clip(ndimage.shift(soft(depth, 3.0), (2, 2), order=1) - soft(depth, 0.8), 0, 1)
    return finish(photo, mix(photo * (1 - 0.4 * shadow[..., None]), piece, soft(depth, 0.8)), fill=True)


def rough(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A place that was rubbed smooth, or one with a grainy, sanded surface."""
    span = span_of(photo, area)
    depth = blob(region.shape, generator, pick(region, generator), area, 0.4)
    alpha = soft(depth, max(1.5, 0.05 * span)) * on_object(region)
    smooth = ndimage.gaussian_filter(photo.astype(np.float32), (*(max(2.5, 0.08 * span),) * 2, 0))
    if generator.random() < 0.4:
        layer = smooth * generator.uniform(0.9, 1.12)
    else:
        grain = fractal(region.shape, generator, generator.uniform(2.0, 6.0))
        layer = 0.4 * smooth + 0.6 * photo + generator.uniform(22, 45) * grain[..., None]
    return finish(photo, mix(photo, layer, alpha), fill=True)


def discolouration(
    photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb
) -> tuple[Rgb, Mask]:
    """A place of another colour with a soft edge: faded, burnt, or of another hue."""
    span = span_of(photo, area)
    depth = blob(region.shape, generator, pick(region, generator), area, 0.3)
    alpha = soft(depth, max(2.0, 0.12 * span)) * on_object(region)
    gain = generator.choice([0.55, 0.7, 1.4]) * generator.uniform(0.7, 1.3, 3)
    grey = photo.mean(2, keepdims=True)
    colourful = generator.uniform(0.3, 1.4)
    return finish(photo, mix(photo, (grey + colourful * (photo - grey)) * gain, alpha), fill=True)


def thread(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """A hair or fibre that lies on the object, rounded by light, with its shadow."""
    shape, side = photo.shape[:2], min(photo.shape[:2])
    span = min(generator.uniform(2.0, 4.0) * span_of(photo, area), 1.5 * side)
    width = max(1.4, side * generator.uniform(0.003, 0.009))
    points = path(generator, pick(region, generator), generator.uniform(0, np.pi), span, 0.05, curl=2.5)
    body = stroke(shape, points, width)
    shine = stroke(shape, points - 0.2 * width, 0.4 * width)
    shadow = ndimage.gaussian_filter(ndimage.shift(body, (width * 0.8, width * 0.8), order=1), 0.5 * width)
    colour = paint(generator)
    if np.abs(colour - photo[body > 0.5].mean(0) if (body > 0.5).any() else 255).max() < 60:
        colour = 255 - colour
    result = mix(photo * (1 - 0.35 * shadow[..., None]), np.broadcast_to(colour, photo.shape), body)
    return finish(photo, result + 45 * (shine * body)[..., None])


def debris(photo: Rgb, generator: np.random.Generator, area: float, region: Mask, donor: Rgb) -> tuple[Rgb, Mask]:
    """Crumbs, chips or a foreign body lying on the object: shaded lumps with a shadow."""
    count = int(generator.choice([1, 1, 2, 5]))
    centre, area = pick(region, generator), min(area, 0.02)
    result = photo.astype(np.float32)
    colour = paint(generator) if generator.random() < 0.6 else photo.mean((0, 1)) * 0.5
    for _ in range(count):
        part = area / count * generator.uniform(0.5, 1.5)
        radius = span_of(photo, part) / 2
        place = centre + generator.normal(0, 2.5 * radius if count > 1 else 0, 2)
        depth = blob(region.shape, generator, place, part, 0.3)
        light = edge_light(depth, max(1.5, radius / 2), generator, fixed=True)
        grain = 0.08 * fractal(region.shape, generator, max(3.0, radius))
        shadow = ndimage.shift(soft(depth, max(1.0, radius / 4)), (radius * 0.35, radius * 0.35), order=1)
        lump = np.clip(0.85 + 0.5 * light + grain, 0.2, 1.5)[..., None] * colour
        result = mix(result * (1 - 0.5 * shadow[..., None]), lump, soft(depth, 0.8))
    return finish(photo, result, fill=True)


KINDS: dict[str, Kind] = {
    "scratch": scratch,
    "crack": crack,
    "hole": hole,
    "dent": dent,
    "stain": stain,
    "missing_piece": missing_piece,
    "foreign_texture": foreign_texture,
    "misplaced": misplaced,
    "rough": rough,
    "discolouration": discolouration,
    "thread": thread,
    "debris": debris,
    "cut": cut,
    "smear": smear,
    "shifted": shifted,
    "erased": erased,
    "pasted": pasted,
    "foreign_body": foreign_body,
    "corrosion": corrosion,
    "specks": specks,
    "crease": crease,
    "twisted": twisted,
}


def _contrast(photo: Rgb, line: Plane, generator: np.random.Generator) -> int:
    """Bright (1) or dark (-1), so that the line stands out from what it lies on."""
    under = photo[line > 0.3].mean() if (line > 0.3).any() else 128.0
    return int(generator.choice([-1, 1])) if 100 < under < 155 else (1 if under <= 100 else -1)


def _ground(photo: Rgb, ground: Mask, generator: np.random.Generator) -> Plane:
    """(H, W, 3): the background carried on under the object, with its own grain."""
    side = min(photo.shape[:2])
    seen = ground[..., None] * photo.astype(np.float32)
    smooth = np.zeros(photo.shape, np.float32)
    weight = np.full(ground.shape, 1e-6, np.float32)
    for sigma in (side / 60, side / 15, side / 4):  # the nearest background counts most
        share = 0.02 if weight.max() > 1 else 1.0
        smooth += share * ndimage.gaussian_filter(seen, (sigma, sigma, 0))
        weight += share * ndimage.gaussian_filter(ground.astype(np.float32), sigma)
    smooth /= weight[..., None]
    grain = float((photo - ndimage.gaussian_filter(photo.astype(np.float32), (2, 2, 0)))[ground].std())
    return smooth + grain * ndimage.gaussian_filter(generator.standard_normal(ground.shape), 0.7)[..., None] * 1.5


def _texture(shape: tuple[int, int], generator: np.random.Generator, donor: Rgb, span: float) -> Plane:
    """(H, W, 3) float: another material, from a donor photo with changed colours or from noise and stripes."""
    if generator.random() < 0.5:
        height, width = shape
        turned = Image.fromarray(donor).rotate(float(generator.integers(4) * 90), expand=True)
        layer = np.asarray(turned.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        layer = layer[..., generator.permutation(3)]
        return 255 - layer if generator.random() < 0.3 else layer * generator.uniform(0.6, 1.3)
    first, second = paint(generator), paint(generator)
    pattern = fractal(shape, generator, max(4.0, span / generator.uniform(2, 12)))
    if generator.random() < 0.4:
        rows, columns = np.indices(shape, np.float32)
        angle, period = generator.uniform(0, np.pi), generator.uniform(4, max(6.0, span / 4))
        pattern = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / period) + 0.4 * pattern
    amount = np.clip(0.5 + 0.4 * pattern, 0, 1)[..., None]
    return np.asarray(first * amount + second * (1 - amount) + generator.normal(0, 5, (*shape, 1)), np.float32)
