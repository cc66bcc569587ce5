"""Renders photos of made-up products: surfaces and objects with varying place, light, colour and grain.

Every renderer takes a generator and gives a photo (SIDE, SIDE, 3) uint8 RGB. What makes the product (its layout, its
proportions) is fixed; what differs from photo to photo (place, turn, light, grain) is drawn. Nothing here comes from
anybody's photo, so the results carry no licence but this repository's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from promptad.data.damage_shapes import fractal

SIDE = 400

Plane = npt.NDArray[np.floating]  # (H, W), or (H, W, 3) where it says so
Photo = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Generator = np.random.Generator
_SHAPE = (SIDE, SIDE)


# ---------------------------------------------------------------------------------------------------- light and camera


def grid(generator: Generator, shift: float = 0.0, turn: float = np.pi) -> tuple[Plane, Plane]:
    """Coordinates x, y (H, W) of a product that lies a little shifted and turned; -1..1 spans the photo."""
    y, x = np.indices(_SHAPE, np.float32) / (SIDE / 2) - 1
    x, y = x - generator.uniform(-shift, shift), y - generator.uniform(-shift, shift)
    angle = generator.uniform(-turn, turn)
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def inside(distance: Plane) -> Plane:
    """Coverage 0..1 (H, W) of the shape with this signed distance (negative inside, units of `grid`)."""
    return np.clip(0.5 - distance * SIDE / 2 / 1.5, 0, 1)


def lit(height: Plane, albedo: Plane, generator: Generator, gloss: float = 0.2) -> Plane:
    """(H, W, 3) 0..255: a surface of this height (in pixels) and colour under a lamp from the upper left."""
    slope_y, slope_x = np.gradient(height)
    angle, lift = np.pi / 4 + generator.normal(0, 0.25), generator.uniform(0.9, 1.3)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    facing = (slope_x * np.cos(angle) + slope_y * np.sin(angle) + lift) / length / np.hypot(1, lift)
    shade = 0.35 + 0.75 * np.clip(facing, 0, 1)
    shine = gloss * np.clip(facing, 0, 1) ** 24
    return albedo * shade[..., None] + 200 * shine[..., None]


def on_ground(body: Plane, cover: Plane, generator: Generator, ground: tuple[float, ...]) -> Plane:
    """(H, W, 3): the body on a plain ground that varies a little, with its soft shadow."""
    tone = np.array(ground) + generator.normal(0, 5) + 3 * fractal(_SHAPE, generator, 200)[..., None]
    tone = tone + generator.normal(0, 2.5, (*_SHAPE, 1))
    offset = generator.uniform(3, 7)
    shadow = ndimage.gaussian_filter(ndimage.shift(cover, (offset, offset), order=1), 5)
    return tone * (1 - 0.45 * shadow[..., None]) * (1 - cover[..., None]) + body * cover[..., None]


def camera(scene: Plane, generator: Generator) -> Photo:
    """What a camera makes of it: exposure, colour cast, vignette, a little blur and noise."""
    y, x = np.indices(_SHAPE) / (SIDE / 2) - 1
    fall = 1 - generator.uniform(0, 0.12) * (x**2 + y**2) + generator.uniform(-0.05, 0.05) * x
    photo = scene * generator.uniform(0.9, 1.1) * generator.normal(1, 0.015, 3) * fall[..., None]
    photo = ndimage.gaussian_filter(photo, (*(generator.uniform(0.4, 0.8),) * 2, 0))
    photo = photo + generator.normal(0, generator.uniform(1.5, 3.5), photo.shape)
    return np.rint(np.clip(photo, 0, 255)).astype(np.uint8)


def tinted(colour: tuple[float, ...], generator: Generator, by: float = 4.0) -> Plane:
    """(H, W, 3): one colour, a little different from product to product."""
    return np.broadcast_to(np.array(colour) + generator.normal(0, by, 3), (*_SHAPE, 3)).copy()


# ------------------------------------------------------------------------------------------------------------- surfaces


def woven_fabric(generator: Generator) -> Photo:
    x, y = grid(generator, 1.0, 0.06)
    bend = 0.004 * fractal(_SHAPE, generator, 60)
    warp, weft = (x + bend) * 34, (y + 0.004 * fractal(_SHAPE, generator, 60)) * 34
    over = (np.floor(warp) + np.floor(weft)) % 2 == 0
    round_x, round_y = np.abs(np.sin(np.pi * warp)), np.abs(np.sin(np.pi * weft))
    height = 2.2 * np.where(over, round_x**0.7 * (0.6 + 0.4 * round_y), round_y**0.7 * (0.6 + 0.4 * round_x))
    yarn = np.where(over, np.sin(warp * 3 + weft * 14), np.sin(weft * 3 + warp * 14))
    albedo = np.where(over[..., None], tinted((88, 108, 150), generator), tinted((120, 138, 172), generator))
    return camera(
        lit(height + 0.15 * yarn, albedo * (1 + 0.05 * fractal(_SHAPE, generator, 20))[..., None], generator, 0.0),
        generator,
    )


def brushed_metal(generator: Generator) -> Photo:
    streaks = ndimage.gaussian_filter(generator.standard_normal((SIDE * 2, SIDE * 2)), (0.6, 40), mode="wrap") * 8
    turned = ndimage.rotate(streaks, generator.normal(0, 2), reshape=False, order=1)[200:600, 200:600]
    x, _ = grid(generator, 0.5, 0.5)
    sheen = 25 * np.exp(-((x / 0.6) ** 2))
    return camera(tinted((150, 152, 156), generator) + (14 * turned + sheen)[..., None], generator)


def speckled_stone(generator: Generator) -> Photo:
    photo = tinted((196, 190, 182), generator) + 4 * fractal(_SHAPE, generator, 100)[..., None]
    for colour, size, share in (((70, 66, 66), 5, 0.06), ((150, 118, 96), 8, 0.08), ((236, 232, 228), 6, 0.08)):
        noise = fractal(_SHAPE, generator, size)
        cover = np.clip((noise - np.quantile(noise, 1 - share)) * 4, 0, 1)[..., None]
        photo = photo * (1 - cover) + np.array(colour) * cover
    return camera(photo, generator)


def wood_grain(generator: Generator) -> Photo:
    x, y = grid(generator, 1.0, 0.04)
    slow = Image.fromarray(fractal((40, SIDE), generator, 50)).resize(
        _SHAPE, Image.Resampling.BICUBIC
    )  # along the grain
    rings = (x * 2.2 + 0.3 * np.asarray(slow) + 0.1 * y) * 5
    fine = ndimage.gaussian_filter(generator.standard_normal(_SHAPE), (14, 0.7)) * 4
    early = (rings % 1.0) ** 2
    light, dark = np.array((205, 160, 105)), np.array((150, 100, 58))
    mix = np.clip(0.15 + 0.6 * early + 0.12 * fine, 0, 1)[..., None]
    return camera((light * (1 - mix) + dark * mix) * (1 + generator.normal(0, 0.03, 3)), generator)


def leather(generator: Generator) -> Photo:
    count = 2600
    seeds = generator.uniform(-12, SIDE + 12, (count, 2))
    y, x = np.indices(_SHAPE)
    near, _ = cKDTree(seeds).query(np.stack([y.ravel(), x.ravel()], 1), k=2)
    ridge = (near[:, 1] - near[:, 0]).reshape(_SHAPE)
    height = (
        2.0 * (1 - np.exp(-ridge / 1.6)) + 0.25 * fractal(_SHAPE, generator, 4) + 2 * fractal(_SHAPE, generator, 150)
    )
    albedo = tinted((126, 74, 44), generator) * (0.8 + 0.2 * (1 - np.exp(-ridge / 1.5)))[..., None]
    return camera(lit(height, albedo, generator, 0.15), generator)


def tiles(generator: Generator) -> Photo:
    x, y = grid(generator, 0.3, 0.03)
    u, v = x * 2.5, y * 2.5
    edge = np.minimum(np.abs(u - np.round(u) + 0.0), np.abs(v - np.round(v))) / 2.5
    tone = np.random.default_rng(7).normal(0, 5, (41, 41))  # the same tiles in every photo
    shade = tone[(np.floor(u) % 3 + 20).astype(int), (np.floor(v) % 3 + 20).astype(int)]
    height = 5 * np.clip(edge / 0.03, 0, 1) ** 0.5 + 0.3 * fractal(_SHAPE, generator, 80)
    body = tinted((178, 196, 204), generator, 2) + shade[..., None] + 3 * fractal(_SHAPE, generator, 60)[..., None]
    grout = tinted((120, 116, 110), generator) + generator.normal(0, 7, (*_SHAPE, 1))
    cover = np.clip((edge - 0.012) / 0.006, 0, 1)[..., None]
    return camera(lit(height, body * cover + grout * (1 - cover), generator, 0.1), generator)


def wire_mesh(generator: Generator) -> Photo:
    x, y = grid(generator, 0.5, 0.05)
    u, v = (x + y) * 8, (x - y) * 8
    across, along = np.abs(u - np.round(u)), np.abs(v - np.round(v))
    width = 0.17
    over = (np.round(u) + np.round(v)) % 2 == 0
    first, second = np.sqrt(np.clip(1 - (across / width) ** 2, 0, 1)), np.sqrt(np.clip(1 - (along / width) ** 2, 0, 1))
    height = 6 * np.where(over, np.maximum(first * 1.2, second), np.maximum(first, second * 1.2))
    cover = np.clip((width - np.minimum(across, along)) * 24, 0, 1)
    return camera(
        on_ground(lit(height, tinted((160, 162, 166), generator), generator, 0.5), cover, generator, (44, 44, 48)),
        generator,
    )


# -------------------------------------------------------------------------------------------------------------- objects


def washer(generator: Generator) -> Photo:
    x, y = grid(generator, 0.08)
    radius = np.hypot(x, y)
    distance = np.maximum(radius - 0.66, 0.3 - radius)
    turning = np.sin(radius * 260 + generator.uniform(0, 6)) + 0.5 * fractal(_SHAPE, generator, 40)
    sheen = 30 * np.cos(2 * (np.arctan2(y, x) - generator.uniform(0, 3)))
    height = 5 * np.clip(-distance / 0.03, 0, 1) ** 0.5 + 0.15 * turning
    metal = tinted((158, 158, 160), generator) + (sheen + 4 * turning)[..., None]
    return camera(on_ground(lit(height, metal, generator, 0.3), inside(distance), generator, (58, 60, 66)), generator)


def hex_nut(generator: Generator) -> Photo:
    x, y = grid(generator, 0.08)
    turns = np.arctan2(y, x)
    radius = np.hypot(x, y)
    sector = (turns + np.pi) % (np.pi / 3) - np.pi / 6
    flat = radius * np.cos(sector) - 0.56
    distance = np.maximum(flat, 0.3 - radius)
    thread = 0.8 * np.sin(radius * 170 + turns)
    bevel = np.clip((0.6 - radius) / 0.08, 0, 1)
    height = (
        14 * np.clip(-flat / 0.03, 0, 1) ** 0.5
        + 6 * bevel
        + np.where(radius < 0.38, 3 * thread - 40 * (0.38 - radius), 0)
    )
    metal = tinted((186, 160, 96), generator) + 5 * fractal(_SHAPE, generator, 30)[..., None]
    return camera(
        on_ground(lit(height, metal, generator, 0.4), inside(distance), generator, (206, 208, 210)), generator
    )


def bottle_cap(generator: Generator) -> Photo:
    x, y = grid(generator, 0.08)
    radius, turns = np.hypot(x, y), np.arctan2(y, x)
    wave = np.cos(21 * turns)
    distance = radius - 0.7 - 0.025 * wave
    height = 22 * np.clip((0.72 - radius) / 0.2, 0, 1) ** 0.5 + 3 * wave * np.clip((radius - 0.56) / 0.1, 0, 1)
    paint = tinted((176, 36, 40), generator)
    star = np.abs(radius - 0.36 - 0.1 * np.cos(5 * turns)) - 0.03
    ring = np.abs(radius - 0.54) - 0.014
    print_ = np.maximum(inside(star), inside(ring))[..., None]
    paint = paint * (1 - print_) + np.array((232, 222, 196)) * print_
    return camera(
        on_ground(lit(height, paint, generator, 0.35), inside(distance), generator, (128, 134, 130)), generator
    )


def capsule(generator: Generator) -> Photo:
    x, y = grid(generator, 0.1)
    along = np.clip(np.abs(x) - 0.42, 0, None)
    distance = np.hypot(along, y) - 0.28 - np.where(x > 0.02, 0.012, 0)
    height = 80 * np.sqrt(np.clip(-distance * 0.9, 0, None) * (0.56 + np.clip(distance, -0.28, 0)))
    halves = inside(x - 0.02)[..., None]
    colour = tinted((228, 222, 206), generator) * halves + tinted((40, 92, 140), generator) * (1 - halves)
    return camera(
        on_ground(lit(height, colour, generator, 0.5), inside(distance), generator, (150, 116, 96)), generator
    )


def tablet(generator: Generator) -> Photo:
    x, y = grid(generator, 0.1)
    radius = np.hypot(x, y)
    distance = radius - 0.6
    groove = np.exp(-((x / 0.025) ** 2)) * (radius < 0.52)
    height = 26 * np.clip(-distance / 0.22, 0, 1) ** 0.6 - 7 * groove + 0.5 * fractal(_SHAPE, generator, 5)
    speck = fractal(_SHAPE, generator, 3) > 2.2
    chalk = tinted((226, 208, 176), generator) - 40 * ndimage.gaussian_filter(speck.astype(float), 0.8)[..., None]
    return camera(on_ground(lit(height, chalk, generator, 0.02), inside(distance), generator, (36, 62, 58)), generator)


def screw(generator: Generator) -> Photo:
    x, y = grid(generator, 0.05, 0.5)
    width = np.where(x < -0.5, 0.24, 0.105 - 0.09 * np.clip((x - 0.62) / 0.2, 0, 1))
    ridge = np.where((x > -0.3) & (x < 0.8), 0.02 * np.abs(np.sin((x + 0.12 * y) * 48)), 0)
    distance = np.maximum(np.maximum(np.abs(y) - width - ridge, x - 0.82), -0.68 - x)
    height = 45 * np.sqrt(np.clip((width + ridge) ** 2 - y**2, 0, None)) * 2 + 120 * ridge
    metal = tinted((150, 150, 154), generator) + 4 * fractal(_SHAPE, generator, 30)[..., None]
    return camera(
        on_ground(lit(height, metal, generator, 0.5), inside(distance), generator, (214, 214, 212)), generator
    )


def circuit_board(generator: Generator) -> Photo:
    design = np.random.default_rng(11)  # one layout for all photos
    big, cells = SIDE * 2, 25
    board = Image.new("RGB", (big, big), (22, 84, 56))
    draw = ImageDraw.Draw(board)
    step = big / cells
    for _ in range(46):
        spot = design.integers(1, cells, 2)
        line = [tuple(float(v) for v in spot * step)]
        for _ in range(3):
            way = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1))[design.integers(6)]
            spot = np.clip(spot + np.array(way) * design.integers(1, 6), 1, cells - 1)
            line.append(tuple(float(v) for v in spot * step))
        draw.line(line, fill=(44, 122, 80), width=9, joint="curve")
        for px, py in (line[0], line[-1]):
            draw.ellipse((px - 11, py - 11, px + 11, py + 11), fill=(196, 170, 96))
            draw.ellipse((px - 5, py - 5, px + 5, py + 5), fill=(24, 28, 26))
    for cx, cy, w, h in ((5, 6, 5, 6), (16, 5, 7, 4), (18, 17, 4, 6), (7, 18, 6, 3)):
        left, top, right, bottom = (v * step for v in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
        for pin in np.arange(top + 8, bottom - 8, 20):
            draw.rectangle((left - 12, pin, right + 12, pin + 9), fill=(198, 198, 202))
        draw.rectangle((left, top, right, bottom), fill=(36, 36, 40))
        draw.ellipse((left + 8, top + 8, left + 20, top + 20), fill=(70, 70, 74))
    for cx, cy in ((11, 10), (12, 14), (13, 20), (22, 11), (3, 13), (11, 22)):
        px, py = cx * step, cy * step
        draw.rectangle((px - 24, py - 11, px + 24, py + 11), fill=(206, 206, 208))
        draw.rectangle((px - 14, py - 11, px + 14, py + 11), fill=(150, 110, 74))
    turned = board.rotate(
        generator.normal(0, 1.2), Image.Resampling.BICUBIC, translate=tuple(generator.integers(-14, 15, 2))
    )
    photo = np.asarray(turned.crop((60, 60, big - 60, big - 60)).resize(_SHAPE, Image.Resampling.LANCZOS), np.float32)
    height = 3 * ndimage.gaussian_filter(photo.mean(2) / 60, 0.8) + 0.1 * fractal(_SHAPE, generator, 3)
    return camera(lit(height, photo * 1.1, generator, 0.12), generator)


RENDERERS: dict[str, Callable[[Generator], Photo]] = {
    "woven_fabric": woven_fabric,
    "brushed_metal": brushed_metal,
    "speckled_stone": speckled_stone,
    "wood_grain": wood_grain,
    "leather": leather,
    "tiles": tiles,
    "wire_mesh": wire_mesh,
    "washer": washer,
    "hex_nut": hex_nut,
    "bottle_cap": bottle_cap,
    "capsule": capsule,
    "tablet": tablet,
    "screw": screw,
    "circuit_board": circuit_board,
}
