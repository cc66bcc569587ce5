"""From scores of patches to an anomaly map in photo pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.preprocess import View


def upsample(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) -> `size`, bilinear, pixel centres aligned as in the papers (align_corners off)."""
    return F.interpolate(values[None, None].float(), size=size, mode="bilinear", align_corners=False)[0, 0]


def aligned_upsample(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, H, W) of `size`, bilinear with the corners aligned: the values of the corners lie in the corners, as in APRIL-GAN."""
    return F.interpolate(values.unsqueeze(1).float(), size=size, mode="bilinear", align_corners=True).squeeze(1)


def onto_grid(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w) -> (B, *grid), of the same views on the grid of another tower: bilinear, pixel centres aligned, with antialias where
    that grid is coarser; the same values where it is the same."""
    if tuple(values.shape[1:]) == grid:
        return values
    resized = F.interpolate(
        values.unsqueeze(1).float(), size=grid, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(1)


def smooth_map(values: Tensor, square: float, map_size: int, sigma: float) -> Tensor:
    """Patch map (h, w) -> a map on which the Gaussian is applied, at `map_size` pixels for a square of `square` patches.

    PromptAD (CVPR 2024): 15 x 15 -> 400 x 400, sigma 4. A grid that is not square keeps the same pixels per patch, so
    sigma means the same distance on the product.
    """
    large = upsample(values, _enlarged(values.shape, square, map_size))
    if sigma <= 0:
        return large
    return torch.from_numpy(gaussian_filter(large.cpu().numpy(), sigma=sigma))


def enlarged(values: Tensor, square: float, map_size: int) -> Tensor:
    """Patch maps (B, h, w) enlarged as for :func:`smooth_map`, without Gaussian: (B, H, W).

    Bilinear interpolation meets a patch's own value only where a pixel's centre falls on the patch's, so its maximum lies a
    little below the maximum of the grid, by a share that depends on the patches around it.
    """
    size = _enlarged(values.shape[1:], square, map_size)
    return F.interpolate(values.unsqueeze(1).float(), size=size, mode="bilinear", align_corners=False).squeeze(1)


def top_mean(maps: Tensor, share: float) -> Tensor:
    """Mean of the largest values of each map (B, h, w), a share of all of them and at least one; 0 takes the maximum: (B,).

    AnomalyDINO (WACV 2025) and SubspaceAD (CVPR 2026) take 1 %, rounded down.
    """
    flat = maps.flatten(1)
    count = max(1, int(share * flat.shape[1]))
    return flat.amax(1) if count == 1 else flat.topk(count, dim=1).values.mean(1)


def top_of_smoothed(values: Tensor, size: tuple[int, int], sigma: float, share: float) -> Tensor:
    """Mean of the highest pixels of each patch map (B, h, w) once it is enlarged to `size` and smoothed: (B,).

    Args:
        size: (H, W) in pixels. sigma: of the Gaussian, in those pixels; 0 leaves it out. share: of all pixels, rounded down, at least
            one.
    """
    large = F.interpolate(values.unsqueeze(1).float(), size=size, mode="bilinear", align_corners=False).squeeze(1)
    if sigma > 0:
        smooth = gaussian_filter(large.cpu().numpy(), sigma=(0, sigma, sigma))
        large = torch.from_numpy(smooth).to(large.device)
    return large.flatten(1).topk(max(1, int(share * size[0] * size[1])), dim=1).values.mean(1)


def _enlarged(grid: Sequence[int], square: float, map_size: int) -> tuple[int, int]:
    """(H, W) in pixels of a grid (h, w) at `map_size` pixels for a square of `square` patches."""
    height, width = (max(1, round(side * map_size / square)) for side in grid)
    return height, width


def values_a_patch(values: Tensor, grid: tuple[int, int]) -> float:
    """Values along the side of a patch in a map (h, w) of a view of `grid` patches: 1, more where a method says more, and any
    number where the map is that of a second tower with patches of another size. The longer side says it more exactly."""
    return max(values.shape[-2:]) / max(grid)


def photo_map(
    views: Sequence[View],
    maps: Sequence[Tensor],
    photo_size: tuple[int, int],
    *,
    square: float,
    map_size: int = 400,
    sigma: float = 4.0,
    out_size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """One map for the whole photo from the patch maps of its views.

    Args:
        views: where each map lies in the photo. maps: one (h, w) tensor a view.
        photo_size: (H, W) in pixels. out_size: size of the result, the photo's own by default.
        square: patches along the side of a square input, or a map's values where it has several a patch; map_size, sigma: see
            :func:`smooth_map`.

    Returns:
        (H, W) or `out_size`, float32. Where views overlap their mean; where none reaches (centre crop) the smallest
        value that was found anywhere.
    """
    target = out_size or photo_size
    total, cover = np.zeros(target, np.float32), np.zeros(target, np.float32)
    for view, values in zip(views, maps, strict=True):
        (y0, y1), (x0, x1) = _spans(view, photo_size, target)
        piece = upsample(smooth_map(values, square, map_size, sigma), (y1 - y0, x1 - x0)).cpu().numpy()
        if (y1 - y0, x1 - x0) == target and len(views) == 1:
            return np.ascontiguousarray(piece, dtype=np.float32)
        total[y0:y1, x0:x1] += piece
        cover[y0:y1, x0:x1] += 1
    seen = cover > 0
    np.divide(total, cover, out=total, where=seen)  # in place: copies of the maps of a large photo cost a GB
    total[~seen] = total.min(where=seen, initial=np.inf)
    return total


def inspected_pixels(
    views: Sequence[View], photo_size: tuple[int, int], out_size: tuple[int, int] | None = None
) -> NDArray[np.bool_] | None:
    """(H, W) or `out_size` bool, True where some view looked at the photo; None when that is everywhere.

    Args:
        views, photo_size, out_size: as for :func:`photo_map`, whose values outside are stand-ins.
    """
    target = out_size or photo_size
    spans = [_spans(view, photo_size, target) for view in views]
    if ((0, target[0]), (0, target[1])) in spans:  # the usual case, without a picture of it
        return None
    seen = np.zeros(target, np.bool_)
    for (y0, y1), (x0, x1) in spans:
        seen[y0:y1, x0:x1] = True
    return None if seen.all() else seen


def _spans(view: View, photo_size: tuple[int, int], target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of `target` that the view covers, each from and to."""
    left, top, right, bottom = view.region
    sy, sx = target[0] / photo_size[0], target[1] / photo_size[1]
    return _span(top * sy, bottom * sy, target[0]), _span(left * sx, right * sx, target[1])


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    """Whole pixels from `low` to `high`, inside 0..limit and never empty."""
    start = min(max(0, round(low)), limit - 1)
    return start, max(start + 1, min(limit, round(high)))
