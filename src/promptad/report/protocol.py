"""The protocol of an acceptance test: one HTML page that stands alone, with everything in it from which another machine gets its numbers.

The page holds its data as JSON, the digest of these, and that of the page around them. Whoever changes a number, or what the page shows, and
does not compute all digests anew shows in them; whoever does shows in the counts, which follow from the scores, in the page, which follows from
the data, in the scores, which follow from photos and detector, and against a digest that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from promptad.annotations import checked_value
from promptad.calibration.acceptance import AREA_WORDS, Share, percent, proved_words
from promptad.data.files import one_line, shown, write_atomic
from promptad.errors import ConfigError, DataError
from promptad.parsing import parsed_json
from promptad.report.trade_off_plot import trade_off_svg

KIND, VERSION = "acceptance protocol", 1

_OPEN, _CLOSE = '<script type="application/json" id="acceptance-protocol">', "</script>"
_PICTURES = re.compile(r'<figure data-sha="([0-9a-f]{64})">\s*<img src="([^"]*)"[^>]*>\s*(?:<img src="([^"]*)")?')

_FIELDS: dict[str, Any] = {
    "made_with": str,
    "when": str,
    "who": str,
    "command": str,
    "detector": dict[str, Any],
    "notices": list[str],
    "photos": list[dict[str, Any]],
    "left_out": list[dict[str, Any]],
    "results": dict[str, Any],
    "permanent": str,
}
"""What the data of a protocol are, beside "promptad" (:data:`KIND`) and "version"."""

Pictures = Mapping[str, tuple[str, str]]
"""SHA-256 of a photo -> ``data:`` URIs of the small photo and of its heat map, "" without one."""


@dataclass(frozen=True)
class Protocol:
    """A protocol as its file holds it.

    Attributes:
        values: its data. digest: of these, as it says. data_hold, page_holds: whether data and page have the digests that it says. page: its
            text without the data. pictures: in it.
    """

    values: Mapping[str, Any]
    digest: str
    data_hold: bool
    page_holds: bool
    page: str
    pictures: Pictures


def canonical(values: Mapping[str, Any]) -> str:
    """The one text of data, of which the digest is."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def write_protocol(path: Path, values: Mapping[str, Any], pictures: Pictures) -> str:
    """Writes a protocol and gives the digest of its data.

    Args:
        values: fields of `_FIELDS`, plain values. pictures: of photos that were judged wrong.

    Raises:
        DataError: the file cannot be written.
    """
    values = {"promptad": KIND, "version": VERSION, **values}
    assert set(values) == {"promptad", "version", *_FIELDS}
    digest = digest_of(canonical(values))
    page = page_of(values, digest, pictures)
    holder = {"values": values, "digest": digest, "page": digest_of(page)}
    # Neither the end of the element nor a comment can stand in it.
    text = json.dumps(holder, sort_keys=True, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    write_atomic(path, page.replace(_OPEN, _OPEN + text).encode("utf-8", "backslashreplace"))
    return digest


def page_of(values: Mapping[str, Any], digest: str, pictures: Pictures) -> str:
    """The page without its data: the same for the same data, on every machine."""
    resources, results = files("promptad.report"), values["results"]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.joinpath("protocol.html.j2").read_text("utf-8"))
    style = resources.joinpath("page.css").read_text("utf-8") + resources.joinpath("protocol.css").read_text("utf-8")
    missed, alarmed = Share(**results["missed"]), Share(**results["alarmed"])
    threshold = results["threshold"]
    photos = sorted(values["photos"], key=lambda photo: (-photo["score"], photo["photo"]))
    return template.render(
        values=values,
        results=results,
        detector=values["detector"],
        digest=digest,
        photos=photos,
        wrong=[photo for photo in photos if photo["sha256"] in pictures and is_wrong(photo, threshold)],
        count_wrong=sum(is_wrong(photo, threshold) for photo in photos),
        is_wrong=lambda photo: is_wrong(photo, threshold),
        pictures=pictures,
        percent=percent,
        shown=shown,
        area_words=AREA_WORDS,
        proved=(
            proved_words(missed, results["confidence"], "miss"),
            proved_words(alarmed, results["confidence"], "false alarm"),
        ),
        curve=Markup(trade_off_svg(results)),
        style=Markup(style),
        opening=Markup(_OPEN),
        closing=Markup(_CLOSE),
    )


def is_wrong(photo: Mapping[str, Any], threshold: float) -> bool:
    """Whether a photo is missed or falsely alarmed."""
    return bool(photo["defective"]) != (photo["score"] > threshold)


def is_protocol(path: Path) -> bool:
    """Whether a file looks like a protocol."""
    with open(path, "rb") as file:
        return file.read(15).lower() == b"<!doctype html>" and _OPEN.encode() in file.read()


def read_protocol(path: Path) -> Protocol:
    """What :func:`write_protocol` wrote, and whether its digests hold.

    Raises:
        DataError: it cannot be read, or is no protocol of this version.
    """
    try:
        before, _, rest = path.read_bytes().decode("utf-8").partition(_OPEN)
        text, _, after = rest.partition(_CLOSE)
        holder = checked_value("the data", dict[str, Any], parsed_json(text.encode()))
        values = checked_value("values", dict[str, Any], holder.get("values"))
        if (values.get("promptad"), values.get("version")) != (KIND, VERSION):
            raise ValueError(f"{values.get('promptad')!r} of version {values.get('version')!r}")
        for name, kind in _FIELDS.items():
            checked_value(name, kind, values.get(name))
        digest, page_digest = (checked_value(name, str, holder.get(name)) for name in ("digest", "page"))
        holds = digest_of(canonical(values)) == digest
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(
            f"{shown(path)}: cannot be read as a protocol of this version of promptad ({one_line(error)[:200]}); its data were damaged"
        ) from error
    page = before + _OPEN + _CLOSE + after
    pictures = {sha: (photo, heatmap or "") for sha, photo, heatmap in _PICTURES.findall(page)}
    return Protocol(values, digest, holds, digest_of(page) == page_digest, page, pictures)
