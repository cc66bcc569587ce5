"""Regions as files for other programs: mask images, COCO, Label Studio, a table.

All come from the rows of a run, so a run that goes on writes what it would have written in one piece. Each file is written whole or not at
all. Photos that could not be judged are in none of them, photos without a region in all but the table.
"""

from __future__ import annotations

import csv
import io
import json
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from promptad import __version__
from promptad.data.files import shown, write_atomic
from promptad.data.outlines import signed_area, simplified
from promptad.report.rows import Row
from promptad.report.table import safe_cell
from promptad.scoring.regions import Region, joined_mask

RegionFormat = Literal["mask", "coco", "labelstudio", "csv"]

PLAIN = "defect"
"""Category of regions without words."""

COLUMNS = (
    *("photo", "verdict", "score", "region", "left", "top", "width", "height", "area", "peak", "at_x", "at_y"),
    *("words", "probability", "width_mm", "height_mm", "area_mm2", "map_threshold"),
)
"""Columns of ``regions.csv``: one line a region, sizes in photo pixels, and in mm with a scale."""


def write_region_files(
    folder: Path, formats: Iterable[RegionFormat], rows: Sequence[Row], names: Callable[[Row], str]
) -> None:
    """Writes ``masks/*.png``, ``coco.json``, ``label-studio.json`` (with ``label-studio.xml``) and ``regions.csv``.

    Args:
        rows: of a run; only those whose regions are known count. names: the name of a photo's mask, without its ending.

    Raises:
        DataError: a file cannot be written.
    """
    known = sorted((row for row in rows if row.regions is not None and row.size is not None), key=lambda row: row.photo)
    kinds = list(dict.fromkeys(formats))
    if "mask" in kinds:
        for row in known:
            write_atomic(folder / "masks" / f"{names(row)}.png", mask_png(row))
    if "coco" in kinds:
        write_atomic(folder / "coco.json", _json(coco(known)))
    if "labelstudio" in kinds:
        write_atomic(folder / "label-studio.json", _json(label_studio(known)))
        write_atomic(folder / "label-studio.xml", label_studio_config(known))
    if "csv" in kinds:
        write_atomic(folder / "regions.csv", region_table(known))


def mask_png(row: Row) -> bytes:
    """8-bit grey PNG of the photo's size: 255 in a region, 0 elsewhere, also where the photo was not looked at."""
    assert row.regions is not None and row.size is not None
    buffer = io.BytesIO()
    Image.fromarray(joined_mask(row.regions, row.size).astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def coco(rows: Sequence[Row]) -> dict[str, Any]:
    """The regions as COCO's instances: compressed run lengths, ``score`` is the peak, categories are words."""
    numbers = {name: number for number, name in enumerate(_categories(rows), start=1)}
    annotations = list[dict[str, Any]]()
    for image, row in enumerate(rows, start=1):
        assert row.size is not None
        for region in row.regions or ():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": numbers[region.words or PLAIN],
                    "segmentation": {"size": list(row.size), "counts": region.counts},
                    "area": region.area,
                    "bbox": list(region.box),
                    "iscrowd": 0,
                    "score": region.peak,
                }
            )
    images = [
        {"id": number, "file_name": shown(row.photo), "width": row.size[1], "height": row.size[0]}
        | {"sha256": row.sha256, "verdict": row.verdict, "anomaly_score": row.score}
        for number, row in enumerate(rows, start=1)
        if row.size is not None
    ]
    return {
        "info": {"description": "promptad regions", "version": __version__},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": PLAIN} for name, number in numbers.items()],
    }


def label_studio(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The regions as tasks with predictions of Label Studio: polygons in hundredths of width and height.

    A polygon is a region's outer border to within a pixel; it has no holes, and pieces that touch at a corner alone are polygons of their
    own. Photos are called by their path in Label Studio's local storage.
    """
    return [
        {
            "data": {"image": "/data/local-files/?d=" + urllib.parse.quote(row.photo)},
            "meta": {"sha256": row.sha256, "verdict": row.verdict},
            "predictions": [
                {
                    "model_version": f"promptad {__version__}",
                    "score": row.score,
                    "result": [
                        result
                        for number, region in enumerate(row.regions or (), start=1)
                        for result in _polygons(region, number, row.size)
                    ],
                }
            ],
        }
        for row in rows
        if row.size is not None
    ]


def label_studio_config(rows: Sequence[Row]) -> str:
    """The labelling interface that :func:`label_studio` belongs to, to be pasted into a project."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in _categories(rows) or [PLAIN])
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <PolygonLabels name="defect" toName="image" strokeWidth="2">\n{labels}\n  </PolygonLabels>\n</View>\n'
    )


def region_table(rows: Sequence[Row]) -> bytes:
    """The table, as spreadsheets read it: UTF-8 with a byte order mark, no text that they would run."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        for number, region in enumerate(row.regions or (), start=1):
            cells = _cells(row, number, region)
            writer.writerow([safe_cell(cells[column]) for column in COLUMNS])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8", "backslashreplace")


def _cells(row: Row, number: int, region: Region) -> Mapping[str, Any]:
    left, top, width, height = region.box
    millimetres = region.box_mm or (None, None)
    return {
        **{"photo": shown(row.photo), "verdict": row.verdict, "score": row.score, "region": number},
        **{"left": left, "top": top, "width": width, "height": height, "area": region.area, "peak": region.peak},
        **{"at_x": region.at[1], "at_y": region.at[0], "words": region.words, "probability": region.probability},
        **{"width_mm": millimetres[0], "height_mm": millimetres[1], "area_mm2": region.area_mm2},
        "map_threshold": row.map_threshold,
    }


def _polygons(region: Region, number: int, size: tuple[int, int]) -> list[dict[str, Any]]:
    """A result for each outer ring of a region."""
    height, width = size
    rings = [simplified(ring) for ring in region.outline(size) if signed_area(ring) > 0]
    return [
        {
            "id": f"region-{number}" + (f"-{piece}" if piece else ""),
            "type": "polygonlabels",
            "from_name": "defect",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": region.peak,
            "value": {
                "points": [[round(100 * x / width, 4), round(100 * y / height, 4)] for x, y in ring.tolist()],
                "closed": True,
                "polygonlabels": [region.words or PLAIN],
            },
        }
        for piece, ring in enumerate(rings)
    ]


def _categories(rows: Sequence[Row]) -> list[str]:
    return sorted({region.words or PLAIN for row in rows for region in row.regions or ()})


def _json(values: Any) -> str:
    return json.dumps(values, allow_nan=False, indent=1) + "\n"
