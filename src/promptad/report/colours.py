"""The colours of the heat maps: one short ramp, yellow to orange to red to magenta.

Lightness (CIE L*) falls evenly from 93 to 37 along the ramp, so the order can be read without seeing hue: by
colour-blind persons and on a grey print. Blue marks outlines, because no colour of the ramp comes near it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STOPS: tuple[tuple[float, tuple[int, int, int]], ...] = (
    (0.0, (255, 236, 110)),
    (0.29, (255, 172, 48)),
    (0.63, (241, 88, 44)),
    (0.86, (208, 16, 92)),
    (1.0, (165, 0, 135)),
)
"""(position, RGB) of the ramp; the positions are set so that lightness is close to linear in position."""

OUTLINE: tuple[int, int, int] = (0, 110, 255)
"""RGB of the line around defects."""

_TABLE: NDArray[np.float32] = np.stack(
    [np.interp(np.linspace(0, 1, 256), [p for p, _ in STOPS], [rgb[i] for _, rgb in STOPS]) for i in range(3)],
    axis=1,
).astype(np.float32)


def ramp(position: NDArray[np.floating]) -> NDArray[np.float32]:
    """Colours for positions on the ramp.

    Args:
        position: any shape (...), 0 = the low end, 1 = the high end; values outside are clipped.

    Returns:
        (..., 3) float32 RGB, 0 to 255.
    """
    index = np.rint(np.clip(position, 0.0, 1.0) * 255).astype(np.intp)
    return np.asarray(_TABLE[index])


def css_gradient() -> str:
    """The ramp as a CSS ``linear-gradient`` from left (low) to right (high)."""
    stops = ", ".join(f"rgb({r} {g} {b}) {100 * p:g}%" for p, (r, g, b) in STOPS)
    return f"linear-gradient(90deg, {stops})"
