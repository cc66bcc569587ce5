"""Conformal p-values: how rare a score as high as a photo's is among good photos.

The p-value of a photo is the share of good photos, itself among them, that score as high as it does: (1 + #{good >= score}) / (n + 1)
(Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 2.3). A good photo that is drawn like those has one of at
most t with probability at most t. No p-value is below 1 / (n + 1). Against photos that were each scored without themselves, by a detector
that learned from the others, that holds approximately.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def p_values(scores: ArrayLike, good: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-values, small where a score is high.

    Args:
        scores: (m,) of photos, larger = more anomalous. good: (n,) of good photos that the detector did not learn from, n >= 1.

    Returns:
        (m,) float64, from 1 / (n + 1) to 1.
    """
    ordered = np.sort(np.asarray(good, np.float64))
    as_high = len(ordered) - np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
    return (1 + as_high) / (len(ordered) + 1)
