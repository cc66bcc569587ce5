"""What the page's script knows of every photo: the rows as JSON, those without pictures on the page too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from promptad.data.files import shown
from promptad.prediction import AT_ODDS
from promptad.report.rows import TOP_DEFECTS, Row

Linked = Callable[[Path], str]
"""Gives the link from the page to a file."""


def page_data(
    rows: Sequence[Row],
    inside: Callable[[str], str],
    linked: Linked,
    base: Path,
    *,
    threshold: float | None,
    decimals: int,
    columns: Sequence[str],
    command: str,
) -> Markup:
    """The content of the page's ``<script type="application/json">``.

    Args:
        rows: scored ones, worst first. inside: a photo's path in the folder that all share. linked: see :data:`Linked`.
        base: folder of the page. threshold: None where photos are only ranked. decimals: of scores.
        columns: of the table, by the classes of their cells. command: that made the page.
    """
    values = {
        "rows": [_row(row, inside(row.photo), linked, base) for row in rows],
        "threshold": threshold,
        "decimals": decimals,
        "columns": columns,
        "command": command,
    }
    # Neither the end of the element nor a comment can stand in it.
    return Markup(json.dumps(values, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def other_remarks(row: Row) -> list[str]:
    """Remarks without the line on verdict and regions, which the page says anew with every threshold."""
    return [remark for remark in row.remarks if not remark.startswith(AT_ODDS)]


def region_lines(row: Row, most: int = 3) -> list[tuple[str, str]]:
    """The regions of a photo in words, short and in full, an entry each."""
    lines = []
    for number, region in enumerate((row.regions or ())[:most], start=1):
        left, top, width, height = region.box
        area = f"{region.area:,} px²".replace(",", " ")  # a narrow blank
        size = f"{width} × {height} px"
        if region.area_mm2 is not None and region.box_mm is not None:
            area = f"{region.area_mm2:.3g} mm²"
            size = f"{region.box_mm[0]:.3g} × {region.box_mm[1]:.3g} mm, {region.area} px²"
        words = f", {region.words}" if region.words else ""
        lines.append(
            (
                f"{number}: {area}{words}",
                f"{size}; box {left},{top},{width},{height}; peak {region.peak:.3g} at x {region.at[1]}, y {region.at[0]}",
            )
        )
    more = len(row.regions or ()) - most
    return [*lines, (f"and {more} more", "")] if more > 0 else lines


def _row(row: Row, inside: str, linked: Linked, base: Path) -> dict[str, Any]:
    return {
        "name": shown(os.path.basename(inside)),
        "folder": shown(os.path.dirname(inside)),
        "sha": row.sha256,
        "score": row.score,
        "label": row.label,
        "photo": linked(row.photo_file(base)) if row.photo else "",
        "heatmap": linked(base / row.heatmap) if row.heatmap else "",
        "size": row.size,
        "hottest": row.hottest,
        "words": [
            (word.words, round(word.image_probability, 4), _rounded(word.region_probability))
            for word in row.defects[:TOP_DEFECTS]
        ],
        "remarks": other_remarks(row),
        "regions": None if row.regions is None else [region.box for region in row.regions],
        "found": region_lines(row),
        "p": row.p_value,
        "chosen": row.discovery is not None and row.discovery.chosen,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
