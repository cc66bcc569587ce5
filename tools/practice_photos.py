"""Builds the practice set that prompts and weights are trained on, from sources that allow it.

    python tools/practice_photos.py practice              # good photos and the labelled set, 54 products
    python tools/practice_photos.py practice --photos     # the good photos only
    python tools/practice_photos.py practice --first      # the 22 products (and cookies) that the shipped prompts learned from

In the folder: ``photos/<category>/*.jpg`` good photos, ``<category>/`` the labelled set of each in the MVTec layout
(:mod:`promptad.data.damage`), ``LICENCES.md`` every source with its licence and author. A second call goes on where
the first one ended. Real photos come from packages, by their ordinary clients, and are checked by SHA-256
(``practice_sources.toml``); all else is rendered (``practice_render.py``, ``practice_more.py``). Photos of no or
non-commercial licence are not used, nor photos of any set that the documentation tests on; only ``--first`` adds the
cookies of ``../shared/data`` where they lie there, as it did.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from practice_more import DRESSED, FORMED, MORE, of_material
from practice_render import RENDERERS, SIDE, Photo, camera
from practice_sources import Source, picture, sources

from promptad.data.damage import write_damaged
from promptad.data.damage_kinds import KINDS
from promptad.data.files import write_atomic

COUNT = 20
SEED = 2026
COOKIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "cookies" / "train" / "good"
OURS = "MIT, as promptad"


@dataclass(frozen=True)
class Product:
    """A category: what its good photos are, and where they come from, in words."""

    photos: Callable[[], Iterator[Photo]]
    source: str
    licence: str


@dataclass(frozen=True)
class Painted:
    """How a set's damage is drawn."""

    count: int
    kinds: int  # of KINDS, from its start
    largest: float
    light: bool
    foreign: bool  # pieces and foreign bodies are taken from other categories
    turning: bool  # every category begins with another kind, so that all kinds are met equally often


FIRST = Painted(count=24, kinds=12, largest=0.1, light=False, foreign=False, turning=False)
NOW = Painted(count=10, kinds=len(KINDS), largest=0.25, light=True, foreign=True, turning=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", action="store_true", help="stop after the good photos")
    parser.add_argument("--first", action="store_true", help="the first set, of 22 products and cookies")
    arguments = parser.parse_args()
    table = sources()
    build(
        arguments.folder,
        first_products(arguments.folder, table) if arguments.first else products(arguments.folder, table),
        FIRST if arguments.first else NOW,
        photos_only=arguments.photos,
    )
    shutil.rmtree(arguments.folder / ".packages", ignore_errors=True)


def first_products(folder: Path, table: dict[str, Source]) -> dict[str, Product]:
    """The first set: eight materials, fourteen rendered products, and cookies where they are."""
    out = {name: _material(folder, name, source) for name, source in table.items() if source.first}
    out |= {name: _rendered(name, render, "practice_render.py") for name, render in RENDERERS.items()}
    if COOKIES.is_dir():
        out["cookie"] = Product(
            _cookies,
            "`train/good` of cookies, made smaller",
            "CC BY-SA 4.0, Amazon Web Services, sample data of amazon-lookout-for-vision; this category may be passed on "
            "under the same licence only",
        )
    else:
        print(f"{COOKIES}: not there, so the set has no cookies", file=sys.stderr)
    return out


def products(folder: Path, table: dict[str, Source]) -> dict[str, Product]:
    """All of the first set but the cookies, and what was added: materials, products cut from them, rendered ones."""
    shown = {name: source for name, source in table.items() if name not in ONLY_CUT}
    out = {name: _material(folder, name, source) for name, source in shown.items()}
    out |= {name: _rendered(name, render, "practice_render.py") for name, render in RENDERERS.items()}
    out |= {name: _rendered(name, render, "practice_more.py") for name, render in MORE.items()}
    for name, (material, form, ground) in FORMED.items():
        out[name] = _made(
            folder,
            name,
            table[material],
            lambda view, draw, f=form, g=ground: of_material(view, draw, f, g),
            "cut from",
        )
    for name, (material, dress) in DRESSED.items():
        out[name] = _made(
            folder, name, table[material], lambda view, draw, d=dress: camera(d(view, draw), draw), "marks added to"
        )
    return out


ONLY_CUT = frozenset(
    {material for material, *_ in (*FORMED.values(), *DRESSED.values())}
    & {"wood", "grey_felt", "plaster", "steel", "dark_wood"}
)
"""Materials of which the set has products, and not the plain material, which others of it resemble."""


def build(folder: Path, chosen: dict[str, Product], painted: Painted, photos_only: bool = False) -> None:
    """Writes good photos, the labelled set and the list of licences; what is there already stays."""
    lines = ["# Licences of this practice set", "", "| category | source | licence |", "|---|---|---|"]
    for category, product in chosen.items():
        if len(list((folder / "photos" / category).glob("*.jpg"))) < COUNT:
            _write(folder / "photos" / category, product.photos())
        lines.append(f"| {_class_name(category)} | {product.source} | {product.licence} |")
    lines += [
        "",
        "Damage, masks and varied copies were made by `promptad.data.damage`; each category keeps its licence. Pieces of "
        "one category lie in damaged photos of another, where they are foreign bodies.",
    ]
    write_atomic(folder / "LICENCES.md", "\n".join(lines) + "\n")
    if photos_only:
        return
    for index, category in enumerate(chosen):
        kinds = list(KINDS)[: painted.kinds]
        turn = index * painted.count % len(kinds) if painted.turning else 0
        write_damaged(
            sorted((folder / "photos" / category).glob("*.jpg")),
            folder,
            count=painted.count,
            kinds=kinds[turn:] + kinds[:turn],
            seed=SEED,
            class_name=_class_name(category),
            largest=painted.largest,
            light=painted.light,
            donors=_others(folder, chosen, category) if painted.foreign else (),
            failed=lambda line: print(line, file=sys.stderr),
        )
        print(category, flush=True)


def _others(folder: Path, chosen: dict[str, Product], category: str) -> list[Path]:
    """A good photo of every other category."""
    return [folder / "photos" / other / "000.jpg" for other in chosen if other != category]


def _class_name(category: str) -> str:
    return "cookie_damaged" if category == "cookie" else category


def _write(folder: Path, photos: Iterator[Photo]) -> None:
    for index, photo in enumerate(photos):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", quality=97, subsampling=0)
        write_atomic(folder / f"{index:03d}.jpg", buffer.getvalue())


def _generator(category: str, index: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{SEED}/{category}/{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _rendered(name: str, render: Callable[[np.random.Generator], Photo], file: str) -> Product:
    return Product(
        lambda: (render(_generator(name, index)) for index in range(COUNT)), f"rendered by `tools/{file}`", OURS
    )


def _material(folder: Path, name: str, source: Source) -> Product:
    def views() -> Iterator[Photo]:
        image = picture(folder / ".packages", source)
        for index in range(COUNT):
            draw = _generator(name, index)
            yield camera(_view(image, draw, source), draw)

    return Product(views, f"crops of `{Path(source.member).name}` in the package {source.package}", source.licence)


def _made(
    folder: Path,
    name: str,
    source: Source,
    make: Callable[[np.ndarray, np.random.Generator], Photo],  # type: ignore[type-arg]
    words: str,
) -> Product:
    def photos() -> Iterator[Photo]:
        image = picture(folder / ".packages", source)
        for index in range(COUNT):
            draw = _generator(name, index)
            yield make(_view(image, draw, source), draw)

    return Product(
        photos,
        f"{words} crops of `{Path(source.member).name}` in the package {source.package}",
        f"{source.licence}; form: {OURS}",
    )


def _view(image: Image.Image, draw: np.random.Generator, source: Source) -> np.ndarray:  # type: ignore[type-arg]
    """A place of one large photo, (SIDE, SIDE, 3) float32 0..255, mirrored or not, turned as the source may be."""
    width, height = image.size
    side = int(min(width, height) * draw.uniform(*source.share))
    left, top = draw.integers(0, width - side + 1), draw.integers(0, height - side + 1)
    if source.turn == "any":
        # A square that is turned fits where its diagonal does; the middle of that is the view.
        room = min(int(side * 1.42), width, height)
        left, top = min(left, width - room), min(top, height - room)
        whole = image.crop((left, top, left + room, top + room)).rotate(draw.uniform(0, 360), Image.Resampling.BICUBIC)
        start, side = (room - int(room / 1.42)) // 2, int(room / 1.42)
        crop = whole.crop((start, start, start + side, start + side))
    else:
        crop = image.crop((left, top, left + side, top + side))
    small = np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32)
    turned = np.rot90(small, draw.integers(4) if source.turn == "quarter" else 0)
    return turned[:, ::-1] if draw.random() < 0.5 else turned


def _cookies() -> Iterator[Photo]:
    for path in sorted(COOKIES.iterdir()):
        image = Image.open(path).convert("RGB")
        image.thumbnail((512, 512), Image.Resampling.LANCZOS)
        yield np.asarray(image)


if __name__ == "__main__":
    main()
