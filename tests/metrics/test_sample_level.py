from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from promptad.metrics.ranking import rank
from promptad.metrics.samples import sample_level


def test_sample_level_is_the_maximum_of_views() -> None:
    rng = np.random.default_rng(0)
    groups = [f"s{number // 5}" for number in range(100)]
    labels = (rng.random(100) < 0.1).astype(int)
    scores = rng.random(100)
    order = rng.permutation(100)  # views of a sample need not follow one another
    names, by_label, by_score = sample_level(
        [groups[i] for i in order], [int(labels[i]) for i in order], [float(scores[i]) for i in order]
    )
    expected = {f"s{n}": (labels[5 * n : 5 * n + 5].max(), scores[5 * n : 5 * n + 5].max()) for n in range(20)}
    assert {n: (la, s) for n, la, s in zip(names, by_label, by_score, strict=True)} == expected
    auroc = rank(np.array(by_label, np.uint8), np.array(by_score)).auroc()
    assert auroc == pytest.approx(roc_auc_score(by_label, by_score))


def test_views_without_a_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="no sample"):
        sample_level(["a", ""], [0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="2 groups, 1 labels"):
        sample_level(["a", "b"], [0], [0.1, 0.2])
