"""Ground-truth masks as an evaluation compares them with maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptad.bench.conventions import Conventions, MaskRule
from promptad.clip.preprocess import Box, View
from promptad.data.parts import PhotoRef
from promptad.data.photos import MaskFiles, read_mask
from promptad.errors import PhotoError

Mask = NDArray[np.bool_]
MaskKey = tuple[PhotoRef, object, str, Box | None]
Masks = dict[MaskKey, Mask | PhotoError]
"""Masks of a class by photo, size, rule and crop, shared by all its test sets; the error where one is unusable."""
OPENCV_SIDE = 1024


def evaluated_box(views: Sequence[View], photo_size: tuple[int, int], conventions: Conventions) -> Box | None:
    """(left, top, right, bottom) in photo pixels of what counts, or None for the whole photo.

    Only a single view can leave a part of the photo out, the centre crop.
    """
    if conventions.pixels == "photo" or len(views) != 1:
        return None
    return seen_box(views[0], photo_size)


def seen_box(view: View, photo_size: tuple[int, int]) -> Box | None:
    """The part of the photo that a view covers, None where that is all of it (to half a pixel)."""
    left, top, right, bottom = view.region
    whole = max(left, top) < 0.5 and photo_size[1] - right < 0.5 and photo_size[0] - bottom < 0.5
    return None if whole else view.region


def evaluated_mask(
    path: MaskFiles, photo_size: tuple[int, int], conventions: Conventions, box: Box | None = None
) -> Mask | PhotoError:
    """The mask at evaluation size, (S, S) bool, or why it cannot be used.

    Args:
        photo_size: (H, W). box: what counts of the photo, see :func:`evaluated_box`.
    """
    try:
        mask = read_mask(path, photo_size)
    except PhotoError as error:
        return error
    if conventions.eval_size != "photo":
        return resized_mask(mask, conventions.eval_size, conventions.masks, box)
    if box is None:
        return mask
    (top, bottom), (left, right) = pixel_spans(box)
    return np.ascontiguousarray(mask[top:bottom, left:right])


def pixel_spans(box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of a box in whole pixels, each from and to."""
    left, top, right, bottom = (round(edge) for edge in box)
    return (top, bottom), (left, right)


def resized_mask(mask: Mask, size: int, rule: MaskRule, box: Box | None = None) -> Mask:
    """A mask (H, W), or the `box` of it, as (size, size); see `Conventions.masks` for the rules."""
    if rule == "bilinear":
        image = Image.fromarray(mask.astype(np.uint8) * 255)
        scaled: Mask = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box)) > 127
        return scaled
    numbers = np.arange(size)
    # OpenCV's nearest neighbour takes the pixel under the new one's corner, first at 1024 and then at `size`.
    steps = (2 * numbers + 1, 2 * size) if rule == "nearest" else (numbers * OPENCV_SIDE // size, OPENCV_SIDE)
    left, top, right, bottom = box or (0, 0, mask.shape[1], mask.shape[0])
    rows = _pixels(steps, top, bottom, mask.shape[0])
    columns = _pixels(steps, left, right, mask.shape[1])
    nearest: Mask = mask[np.ix_(rows, columns)]
    return nearest


def _pixels(steps: tuple[NDArray[np.int_], int], low: float, high: float, limit: int) -> NDArray[np.intp]:
    """The pixels at these steps, numerators over one denominator, of the way from `low` to `high`."""
    numerators, denominator = steps
    if low == 0 and high == limit:  # in whole numbers, so that no rounding decides on a tie
        return (numerators * limit // denominator).astype(np.intp)
    return np.clip(np.floor(low + numerators * (high - low) / denominator), 0, limit - 1).astype(np.intp)
