"""From scores of views to scores of samples: Real-IAD photographs every sample from five sides."""

from __future__ import annotations

from collections.abc import Sequence


def sample_level(
    groups: Sequence[str], labels: Sequence[int], scores: Sequence[float]
) -> tuple[list[str], list[int], list[float]]:
    """Samples, their labels and scores, in the order in which samples first appear.

    A sample is anomalous if any of its views is, and its score is the largest of its views', as Real-IAD (CVPR 2024) is evaluated.

    Args:
        groups: the sample of each view, not empty. labels: 0 or 1 of each view. scores: of each view, larger is more anomalous.

    Raises:
        ValueError: the three differ in length, or a view has no sample.
    """
    if not len(groups) == len(labels) == len(scores):
        raise ValueError(
            f"{len(groups)} groups, {len(labels)} labels and {len(scores)} scores; expected one of each a view"
        )
    if not all(groups):
        raise ValueError("a view has no sample; sample level is for sets whose records have a group")
    samples: dict[str, tuple[int, float]] = {}
    for group, label, score in zip(groups, labels, scores, strict=True):
        before = samples.get(group, (0, float("-inf")))
        samples[group] = (max(before[0], label), max(before[1], score))
    return list(samples), [label for label, _ in samples.values()], [score for _, score in samples.values()]
