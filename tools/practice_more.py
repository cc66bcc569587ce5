"""Further products of the practice set, rendered: spots, holes and prints that belong to them differ from photo to photo.

On these a dark blob is no defect as such, so what is trained on them has to tell what belongs from what does not. The
rules are those of :mod:`practice_render`, whose light and camera they share.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from practice_render import _SHAPE, SIDE, Generator, Photo, Plane, camera, grid, inside, lit, on_ground, tinted
from scipy import ndimage

from promptad.data.damage_shapes import fractal


def scattered(generator: Generator, where: Plane, count: int, size: tuple[float, float], apart: float) -> list[Plane]:
    """Signed distances (H, W) in units of `grid`, negative inside, of lumps that lie apart in `where` (H, W) bool."""
    y, x = np.indices(_SHAPE, np.float32) / (SIDE / 2) - 1
    ragged = 0.012 * fractal(_SHAPE, generator, 14)
    places: list[tuple[float, float]] = []
    spots = np.argwhere(where)
    for row, column in spots[generator.permutation(len(spots))[: 40 * count]]:
        place = (float(y[row, column]), float(x[row, column]))
        if all(np.hypot(place[0] - a, place[1] - b) > apart for a, b in places):
            places.append(place)
        if len(places) == count:
            break
    out = []
    for down, right in places:
        angle, aspect = generator.uniform(0, np.pi), generator.uniform(1, 1.5)
        u = np.cos(angle) * (x - right) + np.sin(angle) * (y - down)
        v = np.cos(angle) * (y - down) - np.sin(angle) * (x - right)
        out.append(np.hypot(u / aspect, v * aspect) - generator.uniform(*size) + ragged)
    return out


def speckled_egg(generator: Generator) -> Photo:
    x, y = grid(generator, 0.08)
    radius = np.hypot(x * (1 - 0.12 * y), y * 0.8)
    distance = radius - 0.6
    height = 150 * np.sqrt(np.clip(0.36 - radius**2, 0, None))
    shell = tinted((214, 206, 182), generator)
    for colour, size, share in (((92, 72, 52), 26, 0.1), ((70, 54, 42), 7, 0.06)):
        noise = fractal(_SHAPE, generator, size)
        cover = np.clip((noise - np.quantile(noise, 1 - share)) * 3, 0, 1)[..., None]
        shell = shell * (1 - cover) + np.array(colour) * cover
    return camera(on_ground(lit(height, shell, generator, 0.1), inside(distance), generator, (92, 104, 84)), generator)


def die(generator: Generator) -> Photo:
    x, y = grid(generator, 0.08)
    outer = np.maximum(np.abs(x), np.abs(y)) - 0.44
    corner = np.hypot(np.clip(np.abs(x) - 0.44, 0, None), np.clip(np.abs(y) - 0.44, 0, None))
    distance = np.where(outer > 0, corner, outer) - 0.14
    height = 26 * np.clip(-distance / 0.16, 0, 1) ** 0.5
    body = tinted((232, 228, 218), generator)
    layouts = ("c", "ab", "abc", "abde", "abcde", "abdefg")
    spots = {"a": (-1, -1), "b": (1, 1), "c": (0, 0), "d": (-1, 1), "e": (1, -1), "f": (-1, 0), "g": (1, 0)}
    for name in layouts[generator.integers(6)]:
        pip = np.hypot(x - 0.3 * spots[name][0], y - 0.3 * spots[name][1]) - 0.085
        cover = inside(pip)[..., None]
        body = body * (1 - cover) + np.array((40, 38, 44)) * cover
        height = height - 14 * np.sqrt(np.clip(-pip / 0.085, 0, 1))
    return camera(on_ground(lit(height, body, generator, 0.35), inside(distance), generator, (46, 108, 78)), generator)


def polka_cloth(generator: Generator) -> Photo:
    x, y = grid(generator, 1.0, 0.1)
    bend = 0.02 * fractal(_SHAPE, generator, 200)
    u, v = (x + bend) * 4, (y + 0.02 * fractal(_SHAPE, generator, 200)) * 4
    u = u + 0.5 * (np.floor(v) % 2)
    dots = inside((np.hypot(u % 1 - 0.5, v % 1 - 0.5) - 0.24) / 4)[..., None]
    weave = np.sin(x * 190) * np.sin(y * 190)
    cloth = tinted((184, 62, 70), generator) * (1 - dots) + tinted((238, 234, 226), generator) * dots
    folds = 9 * fractal(_SHAPE, generator, 240)
    return camera(lit(0.5 * weave + folds, cloth, generator, 0.0), generator)


def perforated_plate(generator: Generator) -> Photo:
    x, y = grid(generator, 0.4, 0.08)
    v = y * 4.5
    u = x * 4.5 / 1.1 + 0.5 * (np.floor(v) % 2)
    hole = (np.hypot((u % 1 - 0.5) * 1.1, v % 1 - 0.5) - 0.27) / 4.5
    height = 5 * np.clip(hole / 0.02, 0, 1) ** 0.5
    metal = tinted((172, 174, 178), generator) + (5 * fractal(_SHAPE, generator, 120))[..., None]
    return camera(on_ground(lit(height, metal, generator, 0.3), 1 - inside(hole), generator, (28, 28, 32)), generator)


def shirt_button(generator: Generator) -> Photo:
    x, y = grid(generator, 0.08)
    radius = np.hypot(x, y)
    holes = np.minimum.reduce([np.hypot(x - 0.15 * a, y - 0.15 * b) for a in (-1, 1) for b in (-1, 1)]) - 0.07
    distance = np.maximum(radius - 0.66, -holes)
    rim = np.exp(-(((radius - 0.57) / 0.06) ** 2))
    height = 10 * np.clip((0.66 - radius) / 0.05, 0, 1) ** 0.5 + 9 * rim + 4 * np.clip(holes / 0.03, 0, 1)
    pearl = tinted((62, 92, 120), generator) + 9 * fractal(_SHAPE, generator, 90)[..., None]
    return camera(
        on_ground(lit(height, pearl, generator, 0.5), inside(distance), generator, (222, 214, 200)), generator
    )


def gear(generator: Generator) -> Photo:
    x, y = grid(generator, 0.06)
    radius, turns = np.hypot(x, y), np.arctan2(y, x)
    teeth = np.clip(2.2 * np.sin(18 * turns), -1, 1)
    windows = np.minimum.reduce(
        [np.hypot(x - 0.37 * np.cos(a), y - 0.37 * np.sin(a)) for a in np.arange(5) * 2 * np.pi / 5]
    )
    distance = np.maximum.reduce([radius - 0.68 - 0.07 * teeth, 0.13 - radius, 0.11 - windows])
    height = 7 * np.clip(-distance / 0.025, 0, 1) ** 0.5 + 4 * (np.abs(radius - 0.17) < 0.05)
    metal = (
        tinted((132, 136, 144), generator) + (4 * np.sin(radius * 200) + 4 * fractal(_SHAPE, generator, 50))[..., None]
    )
    return camera(
        on_ground(lit(height, metal, generator, 0.4), inside(distance), generator, (212, 204, 190)), generator
    )


def o_ring(generator: Generator) -> Photo:
    x, y = grid(generator, 0.1)
    radius = np.hypot(x, y * generator.uniform(1.0, 1.04))
    distance = np.abs(radius - 0.55) - 0.1
    height = 90 * np.sqrt(np.clip(0.01 - (radius - 0.55) ** 2, 0, None)) + 0.3 * fractal(_SHAPE, generator, 8)
    return camera(
        on_ground(
            lit(height, tinted((46, 46, 50), generator), generator, 0.5), inside(distance), generator, (200, 206, 210)
        ),
        generator,
    )


def printed_label(generator: Generator) -> Photo:
    design = np.random.default_rng(5)  # one layout; words, stamps and bars differ as lots and dates do
    big = SIDE * 2
    label = Image.new("RGB", (big, big), (238, 234, 222))
    draw = ImageDraw.Draw(label)
    draw.rectangle((90, 90, big - 90, 190), fill=(34, 74, 130))
    for line in range(7):
        left, ink = 100, (40, 40, 44)
        while left < big - 140:
            wide = int(generator.integers(14, 70) if line > 2 else design.integers(14, 70))
            draw.rectangle((left, 230 + 38 * line, min(left + wide, big - 100), 248 + 38 * line), fill=ink)
            left += wide + 12
    for dot in range(int(generator.integers(3, 9))):
        draw.ellipse((120 + 52 * dot, 122, 152 + 52 * dot, 154), fill=(240, 236, 226))
    left = 110
    while left < big - 330:
        wide = int(generator.integers(3, 13))
        draw.rectangle((left, 540, left + wide, 690), fill=(24, 24, 28))
        left += wide + int(generator.integers(4, 12))
    draw.ellipse((big - 260, 545, big - 110, 695), outline=(176, 40, 44), width=14)
    turned = label.rotate(generator.normal(0, 3), Image.Resampling.BICUBIC, fillcolor=(176, 142, 104))
    photo = np.asarray(turned.resize(_SHAPE, Image.Resampling.LANCZOS), np.float32)
    return camera(
        lit(0.5 * fractal(_SHAPE, generator, 5) + 6 * fractal(_SHAPE, generator, 220), photo, generator, 0.05),
        generator,
    )


def terrazzo(generator: Generator) -> Photo:
    photo = tinted((218, 212, 204), generator) + 3 * fractal(_SHAPE, generator, 80)[..., None]
    whole = np.ones(_SHAPE, bool)
    chips = scattered(generator, whole, 46, (0.03, 0.085), 0.16) + scattered(generator, whole, 60, (0.012, 0.03), 0.1)
    for chip in chips:
        colour = ((92, 60, 52), (60, 66, 72), (170, 120, 84), (120, 136, 124))[generator.integers(4)]
        cover = inside(chip)[..., None]
        photo = photo * (1 - cover) + (np.array(colour) + generator.normal(0, 10, 3)) * cover
    return camera(photo, generator)


MORE: dict[str, Callable[[Generator], Photo]] = {
    "speckled_egg": speckled_egg,
    "die": die,
    "polka_cloth": polka_cloth,
    "perforated_plate": perforated_plate,
    "shirt_button": shirt_button,
    "gear": gear,
    "o_ring": o_ring,
    "printed_label": printed_label,
    "terrazzo": terrazzo,
}


# --------------------------------------------------------------------------------------- products of a real material


def of_material(view: Plane, generator: Generator, form: Callable[[Plane, Plane], tuple[Plane, Plane]], ground: tuple[float, ...]) -> Photo:  # fmt: skip
    """A product of this form, cut from a photo of its material, on a plain ground.

    Args:
        view: (SIDE, SIDE, 3), 0..255, the material; it turns with the product.
        form: gives the signed distance and the height (H, W) in pixels, from coordinates x and y.
    """
    x, y = grid(generator, 0.07)
    columns, rows = (np.clip((axis + 1.42) / 2.84, 0, 1) * (SIDE - 1) for axis in (x, y))
    skin = np.stack(
        [ndimage.map_coordinates(view[..., c], [rows, columns], order=1, mode="mirror") for c in range(3)], -1
    )
    distance, height = form(x, y)
    return camera(on_ground(lit(height, 1.12 * skin, generator, 0.12), inside(distance), generator, ground), generator)


def _bread_slice(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    loaf = np.hypot(np.clip(np.abs(x) - 0.38, 0, None), np.clip(np.abs(y - 0.1) - 0.4, 0, None)) - 0.12
    top = np.hypot(np.clip(np.abs(x) - 0.34, 0, None), (y + 0.4) * 1.1) - 0.22
    distance = np.minimum(loaf, top)
    return distance, 10 * np.clip(-distance / 0.05, 0, 1) ** 0.5


def _coaster(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    radius = np.hypot(x, y)
    groove = np.exp(-(((radius - 0.56) / 0.02) ** 2))
    return radius - 0.7, 8 * np.clip((0.7 - radius) / 0.04, 0, 1) ** 0.5 - 5 * groove


def _block(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    body = np.hypot(np.clip(np.abs(x) - 0.6, 0, None), np.clip(np.abs(y) - 0.34, 0, None)) - 0.08
    holes = 0.09 - np.hypot(np.abs(x) - 0.42, y)
    return np.maximum(body, holes), 12 * np.clip(-body / 0.04, 0, 1) ** 0.5


def _bracket(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    first = np.maximum(np.abs(x + 0.42) - 0.22, np.abs(y) - 0.66)
    second = np.maximum(np.abs(x) - 0.64, np.abs(y - 0.44) - 0.22)
    holes = [np.hypot(x + 0.42, y + 0.4), np.hypot(x + 0.42, y - 0.44), np.hypot(x - 0.4, y - 0.44)]
    distance = np.maximum(np.minimum(first, second), 0.1 - np.minimum.reduce(holes))
    return distance, 6 * np.clip(-distance / 0.02, 0, 1) ** 0.5


def _token(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    radius, turns = np.hypot(x, y), np.arctan2(y, x)
    star = inside(radius - 0.3 - 0.1 * np.cos(6 * turns))
    rim = np.clip((radius - 0.56) / 0.03, 0, 1)
    return radius - 0.68, 8 * np.clip((0.68 - radius) / 0.03, 0, 1) ** 0.5 + 4 * ndimage.gaussian_filter(
        star + rim, 1.2
    )


def _hexagon(x: Plane, y: Plane) -> tuple[Plane, Plane]:
    sector = (np.arctan2(y, x) + np.pi) % (np.pi / 3) - np.pi / 6
    distance = np.hypot(x, y) * np.cos(sector) - 0.62
    return distance, 14 * np.clip(-distance / 0.06, 0, 1) ** 0.5


FORMED: dict[str, tuple[str, Callable[[Plane, Plane], tuple[Plane, Plane]], tuple[float, ...]]] = {
    "bread_slice": ("bread_crust", _bread_slice, (206, 210, 216)),
    "cork_coaster": ("cork", _coaster, (64, 66, 70)),
    "wood_block": ("wood", _block, (72, 84, 96)),
    "steel_bracket": ("steel", _bracket, (60, 52, 46)),
    "brass_token": ("brass_sheet", _token, (44, 48, 66)),
    "felt_pad": ("grey_felt", _coaster, (206, 196, 176)),
    "clay_hexagon": ("clay", _hexagon, (222, 220, 214)),
}
"""Products of a real material: the source in practice_sources.toml, the form, and the colour of the ground."""


def with_inlays(view: Plane, generator: Generator) -> Plane:
    """The material with dark and pale pebbles in it, (SIDE, SIDE, 3) 0..255."""
    lumps = scattered(generator, np.ones(_SHAPE, bool), int(generator.integers(14, 30)), (0.04, 0.11), 0.25)
    height = np.zeros(_SHAPE)
    for lump in lumps:
        cover = inside(lump)[..., None]
        tone = np.array(((62, 40, 32), (44, 44, 50), (226, 214, 190))[generator.choice(3, p=(0.5, 0.3, 0.2))])
        view = view * (1 - cover) + (tone + generator.normal(0, 6, 3)) * cover
        height = height + 6 * np.sqrt(np.clip(-lump / 0.08, 0, 1))
    return lit(height, view, generator, 0.1)


def with_stamp(view: Plane, generator: Generator) -> Plane:
    """The material with a row of burnt-in letters and a ring, their text another each time, (SIDE, SIDE, 3) 0..255."""
    mask = Image.new("L", _SHAPE, 0)
    draw = ImageDraw.Draw(mask)
    top, left = (int(v) for v in generator.integers(60, 120, 2))
    for letter in range(6):
        box = left + 34 * letter
        for _ in range(3):
            (x0, x1), (y0, y1) = generator.choice(3, 2) * 11, generator.choice(3, 2) * 20
            draw.line((box + x0, top + y0, box + x1, top + y1), fill=255, width=6)
    draw.ellipse((left + 30, top + 80, left + 150, top + 200), outline=255, width=8)
    draw.line((left + 60, top + 140, left + 120, top + 140), fill=255, width=8)
    burnt = ndimage.gaussian_filter(np.asarray(mask, np.float32) / 255, 1.0)[..., None] * generator.uniform(0.65, 0.85)
    return view * (1 - burnt) + np.array((42, 26, 18)) * burnt


def with_holes(view: Plane, generator: Generator) -> Plane:
    """The material with punched holes in rows, (SIDE, SIDE, 3) 0..255."""
    x, y = grid(generator, 0.2, 0.06)
    u, v = x * 3.2, y * 3.2
    hole = (np.hypot(u % 1 - 0.5, v % 1 - 0.5) - 0.17) / 3.2
    cover = inside(hole)[..., None]
    edge = 3 * np.clip(hole / 0.03, 0, 1) ** 0.5
    return lit(edge, view, generator, 0.0) * (1 - cover) + np.array((24, 22, 24)) * cover


DRESSED: dict[str, tuple[str, Callable[[Plane, Generator], Plane]]] = {
    "pebbled_clay": ("clay", with_inlays),
    "studded_plaster": ("plaster", with_inlays),
    "stamped_wood": ("wood", with_stamp),
    "stamped_cork": ("cork", with_stamp),
    "punched_felt": ("grey_felt", with_holes),
    "punched_board": ("dark_wood", with_holes),
}
"""Real materials with spots, letters or holes that belong to them: the source, and what adds them."""
