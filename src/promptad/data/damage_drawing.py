"""What every kind of damage is drawn with: mixing of layers, the object's edge, and the mask of what changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from promptad.data.damage_shapes import Plane
from promptad.data.pixels import Mask, Rgb

VISIBLE = 8
"""A pixel counts as changed from this difference on, in levels of its most changed channel."""


def finish(
    photo: Rgb, result: npt.NDArray[np.floating], fill: bool = False, keep: Plane | None = None
) -> tuple[Rgb, Mask]:
    """8-bit pixels and the mask of visible change; what is not in the mask is set back to the photo.

    Args:
        photo: (H, W, 3) uint8 RGB. result: (H, W, 3), 0..255 or beyond.
        fill: closes gaps and holes, for damage that is a place and not a line: a person would outline it whole.
        keep: (H, W) 0..1, how much of the change stays; all of it if None.
    """
    if keep is not None:
        result = mix(photo, result, keep)
    damaged = np.rint(np.clip(result, 0, 255)).astype(np.uint8)
    changed = np.abs(damaged.astype(np.int16) - photo).max(2) >= VISIBLE
    mask = ndimage.binary_closing(np.pad(changed, 3), iterations=3 if fill else 1)[3:-3, 3:-3] | changed
    if fill:
        mask = ndimage.binary_fill_holes(mask)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count > 1:  # single pixels that happen to differ are noise of the drawing, not damage
        sizes = np.bincount(labels.ravel())[1:]
        mask &= np.isin(labels, 1 + np.flatnonzero(sizes >= max(4, 0.03 * sizes.max())))
    damaged[~mask] = photo[~mask]
    return damaged, mask


def span_of(photo: Rgb, area: float) -> float:
    """The diameter in pixels of a disc that covers the share `area` of the photo."""
    return float(2 * np.sqrt(area * photo.shape[0] * photo.shape[1] / np.pi))


def mix(under: npt.NDArray[np.generic], over: npt.NDArray[np.generic], alpha: Plane) -> Plane:
    """(H, W, 3) float: `over` where `alpha` (H, W) is 1, `under` where it is 0."""
    return under + (over - under.astype(np.float32)) * alpha[..., None]  # type: ignore[operator, no-any-return]


def on_object(region: Mask, blur: float = 1.0) -> Plane:
    """The region with a soft edge; exactly 1 where there is no background."""
    return (
        np.ones(region.shape, np.float32) if region.all() else ndimage.gaussian_filter(region.astype(np.float32), blur)
    )


def paint(generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """A colour (3,), 5..250, mostly muted: few things that soil a product are neon."""
    grey, pure = generator.uniform(10, 240), generator.uniform(5, 250, 3)
    return np.asarray(pure + generator.uniform(0.3, 1) * (grey - pure))
