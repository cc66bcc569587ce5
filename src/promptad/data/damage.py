"""A labelled practice set from good photos: varied copies, and copies with painted damage and their masks.

Real defects are rare and their photos seldom free. This makes stand-ins from photos that one may use: the folder it
writes has the MVTec layout (:mod:`promptad.data.datasets.mvtec`), so everything that reads such a data set reads it.
What is painted is in :mod:`promptad.data.damage_kinds`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad import __version__
from promptad.data.damage_kinds import KINDS
from promptad.data.files import one_line, sha256_file, shown, write_atomic
from promptad.data.harmless import relit
from promptad.data.object_region import object_region
from promptad.data.photos import read_photo
from promptad.data.pixels import Mask, Rgb
from promptad.errors import ConfigError, DataError, PhotoError
from promptad.inputs import argument
from promptad.parsing import parsed_json
from promptad.steps import Progress, Steps

SMALLEST, LARGEST = 0.001, 0.1
"""Shares of the photo that damage covers; between them every order of magnitude is equally likely."""

MOST = 0.4
"""The most of a photo that damage can be asked to cover: of more, nobody could say what is damaged and what is good."""

MIN_SIDE = 48
"""Photos with a shorter side hold no damage that one could see, in pixels."""

_FORMAT = "promptad practice set 1"
_ATTEMPTS = 12
_MIN_PIXELS, _MIN_CHANGE = 12, 14.0  # a mask of fewer pixels, or a fainter change on average (levels), is drawn again
_QUALITY = 95


def check_kinds(kinds: Sequence[str]) -> list[str]:
    """The kinds, each once and in the given order; all that there are for an empty list.

    Raises:
        ConfigError: an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"kind {shown(kind)!r} is not known; expected some of {', '.join(KINDS)}")
    return list(dict.fromkeys(kinds)) or list(KINDS)


def varied(photo: Rgb, generator: np.random.Generator) -> Rgb:
    """A copy that a good part could also look like: mirrored or not, turned, cropped, brighter or darker a little.

    (H, W, 3) uint8 RGB -> the same. Good and damaged copies both go through it, so that neither a repeated view nor
    resampled pixels give the damaged ones away.
    """
    height, width = photo.shape[:2]
    image = Image.fromarray(photo if generator.random() < 0.5 else np.ascontiguousarray(photo[:, ::-1]))
    angle, zoom = np.deg2rad(generator.uniform(-3, 3)), generator.uniform(1.0, 1.08)
    # Zoom far enough that the turned photo still covers the frame: no corner is invented.
    zoom *= np.cos(angle) + abs(np.sin(angle)) * max(height / width, width / height)
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    spare_x = (width - abs(cos) * width - abs(sin) * height) / 2
    spare_y = (height - abs(cos) * height - abs(sin) * width) / 2
    x = width / 2 + generator.uniform(-1, 1) * max(0.0, spare_x)
    y = height / 2 + generator.uniform(-1, 1) * max(0.0, spare_y)
    back = (cos, sin, x - cos * width / 2 - sin * height / 2, -sin, cos, y + sin * width / 2 - cos * height / 2)
    image = image.transform((width, height), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC)
    values = (np.arange(256) / 255) ** generator.uniform(0.9, 1.1) * generator.uniform(0.92, 1.08)
    table = np.rint(np.clip(values * 255, 0, 255)).astype(np.uint8)
    return table[np.asarray(image)]


def damaged(
    photo: Rgb,
    kind: str,
    *,
    seed: int,
    name: str,
    donor: Rgb | None = None,
    area: float | None = None,
    largest: float = LARGEST,
) -> tuple[Rgb, Mask]:
    """A photo with one damage painted in, and its mask.

    The same (seed, name, kind) always gives the same damage.

    Args:
        photo: (H, W, 3) uint8 RGB, 0..255; not changed.
        kind: one of :data:`~promptad.data.damage_kinds.KINDS`.
        seed: 0 or larger.
        name: what the photo is called; only tells the photos of one seed apart.
        donor: another photo, from which foreign texture is taken; its own upside down if None.
        area: share of the photo that is damaged, about; drawn between SMALLEST and `largest` if None.
        largest: SMALLEST..0.4; on a small object it is at most about a third of the object.

    Returns:
        ``(damaged, mask)``: (H, W, 3) uint8 RGB and (H, W) bool; outside the mask both photos are equal.

    Raises:
        ConfigError: an unknown kind, a negative seed, or `largest` out of range.
        PhotoError: the photo is too small, or a damage of this kind cannot be seen on it.
    """
    check_kinds([kind])
    _require_seed(seed)
    _require_largest(largest)
    _require_side(photo, name)
    generator = _generator(seed, name, kind)
    region = object_region(photo)
    donor = np.ascontiguousarray(photo[::-1]) if donor is None else donor
    # On a small object the damage is small as well, or it would hide the object instead of damaging it.
    largest = max(SMALLEST, min(largest, 0.35 * float(region.mean())))
    for _ in range(_ATTEMPTS):
        share = float(np.exp(generator.uniform(np.log(SMALLEST), np.log(largest)))) if area is None else area
        result, mask = KINDS[kind](photo, generator, share, region, donor)
        change = np.abs(result[mask].astype(np.int16) - photo[mask]).max(1) if mask.any() else np.zeros(1)
        if mask.sum() >= _MIN_PIXELS and change.mean() >= _MIN_CHANGE and mask.mean() < 0.5:
            return result, mask
    raise PhotoError(
        f"{name}: a {kind} cannot be seen on it in {_ATTEMPTS} tries; leave this kind out of {argument('kinds')}"
    )


class _Source(NamedTuple):
    path: Path
    sha256: str
    input_range: float | None

    def read(self) -> NDArray[np.uint8]:
        """The photo, (H, W, 3) uint8 RGB."""
        return read_photo(self.path, input_range=self.input_range)


def write_damaged(
    good: Sequence[Path],
    out: Path,
    *,
    count: int,
    kinds: Sequence[str] = (),
    seed: int = 0,
    class_name: str,
    input_range: float | None = None,
    largest: float = LARGEST,
    light: bool = False,
    donors: Sequence[Path] = (),
    progress: Progress | None = None,
    failed: Callable[[str], None] | None = None,
) -> Path:
    """Writes a category in the MVTec layout, made from good photos, and gives its folder ``<out>/<class>``.

    ``train/good`` holds a varied copy of each photo for learning (four at least), ``test/good`` half as many as
    there are damaged ones, ``test/<kind>`` and ``ground_truth/<kind>`` the damaged ones and their masks. From four
    photos on, test photos come from other sources than ``train/good``. All are JPEG files of one quality. A second
    call with the same arguments goes on where the first one ended; with a larger count it adds to it.

    Args:
        good: photo files.
        out: the data set's folder; created if absent.
        count: how many damaged photos, 1 or more; the kinds take turns.
        kinds: names from :data:`~promptad.data.damage_kinds.KINDS`; all if empty.
        seed: 0 or larger; the same seed and photos give the same files.
        class_name: what the photos show; its spaces become underscores in the folder's name.
        input_range: the value that is white in photos of more than 8 bits; None as their files say.
        largest: share of the photo that the largest damage covers, SMALLEST..0.4.
        light: every copy, good or damaged, also gets other light (:func:`~promptad.data.harmless.relit`).
        donors: photos of other things, of which pieces and foreign bodies are taken; the good photos themselves if empty.
        progress: called with files done and files in all.
        failed: called with one line for each photo that cannot be used, and for each damage that cannot be made.

    Raises:
        ConfigError: count, seed, kinds, largest or class name are not valid.
        DataError: no photo can be used, the folder cannot be written or holds a set of another seed or photos.
    """
    kinds = check_kinds(kinds)
    if count < 1:
        raise ConfigError(f"count is {count}; expected 1 or more damaged photos")
    _require_seed(seed)
    _require_largest(largest)
    drawn = _Drawn(seed, largest, light)
    report = failed or (lambda _: None)
    folder = out / _folder_name(class_name)
    sources = _usable(good, report, input_range)
    foreign = _usable(donors, report, input_range) if donors else []
    for_both = len(sources) < 4
    test = sources if for_both else sources[::2]
    train = sources if for_both else sources[1::2]
    _claim(folder, class_name, count, kinds, drawn, test, train, foreign, input_range)
    plan = _Plan(folder, sources, test, train, foreign, kinds, count)
    _write_all(plan, drawn, report, progress)
    return folder


class _Drawn(NamedTuple):
    seed: int
    largest: float
    light: bool

    def copy(self, source: _Source, name: str) -> Rgb:
        """A good copy of a photo under this name."""
        photo = varied(source.read(), _generator(self.seed, name, "good"))
        return relit(photo, _generator(self.seed, name, "light")) if self.light else photo


class _Plan(NamedTuple):
    folder: Path
    sources: list[_Source]
    test: list[_Source]
    train: list[_Source]
    foreign: list[_Source]
    kinds: list[str]
    many: int


def _write_all(plan: _Plan, drawn: _Drawn, report: Callable[[str], None], progress: Progress | None) -> None:
    folder, sources, test, train, foreign, kinds, count = plan
    copies = [("train", train, max(len(train), 4)), ("test", test, max(len(test), count // 2))]
    steps = Steps(progress, sum(number for *_, number in copies) + count)
    for split, photos, number in copies:
        for index in range(number):
            _write_good(folder, split, photos[index % len(photos)], index, drawn)
            steps.tick()
    for index in range(count):
        # The extra turn keeps kinds and photos from meeting in the same pairs when their numbers share a factor.
        source = test[(index + index // len(test)) % len(test)]
        donor = sources[(sources.index(source) + 1 + index) % len(sources)]
        if foreign:
            donor = foreign[_generator(drawn.seed, f"{folder.name}/{index}", "donor").integers(len(foreign))]
        _write_one(folder, source, donor, kinds[index % len(kinds)], index, drawn, report)
        steps.tick()


def _write_good(folder: Path, split: str, source: _Source, index: int, drawn: _Drawn) -> None:
    target = folder / split / "good" / f"{index:03d}.jpg"
    if not target.exists():
        write_atomic(target, _jpeg(drawn.copy(source, f"{folder.name}/{split}/{index}")))


def _write_one(
    folder: Path, source: _Source, donor: _Source, kind: str, index: int, drawn: _Drawn, report: Callable[[str], None]
) -> None:
    target = folder / "test" / kind / f"{index:03d}.jpg"
    mask_path = folder / "ground_truth" / kind / f"{index:03d}_mask.png"
    if target.exists() and mask_path.exists():
        return
    # With the object's name, or the data sets of one seed would show the same damages in the same places.
    name = f"{folder.name}/test/{kind}/{index}"
    photo = drawn.copy(source, name)
    try:
        result, mask = damaged(photo, kind, seed=drawn.seed, name=name, donor=donor.read(), largest=drawn.largest)
    except PhotoError as error:
        report(f"{shown(source.path)}: {error}")
        return
    write_atomic(mask_path, _png(mask))  # before its photo: a photo without mask would read as one not outlined
    write_atomic(target, _jpeg(result))


def _usable(good: Sequence[Path], report: Callable[[str], None], input_range: float | None) -> list[_Source]:
    """The photos that can be used, by name; each of the others is reported in one line.

    Raises:
        DataError: none is left.
    """
    sources = []
    for path in sorted(good, key=lambda path: (path.name, path.as_posix())):
        try:
            source = _Source(path, sha256_file(path), input_range)
            _require_side(source.read(), shown(path))
            sources.append(source)
        except (PhotoError, DataError) as error:
            report(str(error))
    if not sources:
        raise DataError("none of the good photos can be used; give at least one")
    return sources


def _claim(
    folder: Path,
    class_name: str,
    count: int,
    kinds: Sequence[str],
    drawn: _Drawn,
    test: Sequence[_Source],
    train: Sequence[_Source],
    foreign: Sequence[_Source],
    input_range: float | None,
) -> None:
    """Writes ``source.json``, or checks that the one there tells of the same set, so that files are never mixed."""
    made: dict[str, Any] = {
        "format": _FORMAT,
        "promptad": __version__,
        "class": class_name,
        "seed": drawn.seed,
        "kinds": list(kinds),
        "count": count,
        "good photos for train": [{"name": source.path.name, "sha256": source.sha256} for source in train],
        "good photos for test": [{"name": source.path.name, "sha256": source.sha256} for source in test],
    }
    donors = sorted(source.sha256 for source in foreign)
    later = {"input_range": input_range, "largest": drawn.largest, "light": drawn.light, "donors": donors}
    usual: dict[str, Any] = {"input_range": None, "largest": LARGEST, "light": False, "donors": []}
    made |= {key: value for key, value in later.items() if value != usual[key]}  # as sets were written before these
    path = folder / "source.json"
    if path.exists():
        try:
            before = parsed_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{shown(path)}: cannot be read ({one_line(error)}); choose another folder") from error
        same = isinstance(before, dict)
        keys = (*later, *(key for key in made if key not in ("count", *later)))
        other = [key for key in keys if not same or before.get(key) != made.get(key)]
        if other:
            raise DataError(
                f"{shown(folder)}: holds a practice set with another {' and '.join(other)}; "
                "choose another folder or remove this one"
            )
        made["count"] = max(count, before["count"]) if isinstance(before.get("count"), int) else count
    elif folder.exists() and any(folder.iterdir()):
        raise DataError(f"{shown(folder)}: is not empty and not a practice set; choose another folder")
    write_atomic(path, json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def _folder_name(class_name: str) -> str:
    name = "_".join(class_name.split())
    if not name or name.startswith(".") or not name.isprintable() or any(sign in name for sign in "/\\:" + os.sep):
        raise ConfigError(f"object {class_name!r} makes no folder name; expected words such as 'metal nut'")
    return name


def _generator(seed: int, name: str, kind: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\n{kind}\n{name}".encode("utf-8", "surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _require_seed(seed: int) -> None:
    if seed < 0:
        raise ConfigError(f"seed is {seed}; expected 0 or larger; choose another")


def _require_largest(largest: float) -> None:
    if not SMALLEST <= largest <= MOST:
        raise ConfigError(f"largest is {largest}; expected {SMALLEST} to {MOST}, a share of the photo; choose another")


def _require_side(photo: Rgb, name: str) -> None:
    height, width = photo.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise PhotoError(f"{name}: is {width}x{height}; expected {MIN_SIDE} pixels a side or more; leave it out")


def _jpeg(photo: Rgb) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _png(mask: Mask) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()
