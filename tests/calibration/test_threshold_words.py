"""The words beside a threshold: what was measured is told where it was measured, and nowhere else."""

from __future__ import annotations

import re

import pytest

from promptad.calibration.measured import MEASURED, measured
from promptad.calibration.words import missed_words, threshold_words


def test_the_nearest_lower_measurement_is_told():
    assert "with 4 photos" in measured("distance", 0.1, 5) and "aim of 10%" in measured("distance", 0.3, 5)
    assert "with 1 photo," in measured("distance", 0.07, 1) and "aim of 5%" in measured("distance", 0.07, 1)
    row = MEASURED["distance", 0.1][4]
    for mean, low, high in (row.false_alarms, row.found):
        assert f"{mean:.0%} ({low:.0%} to {high:.0%})" in measured("distance", 0.1, 4)


def test_what_was_not_measured_is_not_told():
    assert measured("distance", 0.01, 4) == "" and measured("distance", 0.1, 500) == ""
    assert "measured" not in threshold_words(4, "held-out", 0.1, False, "distance")  # learned photos were measured
    assert "measured" in threshold_words(4, "leave-one-out", 0.1, False, "distance")
    assert "measured" in threshold_words(1, "altered copies", 0.1, False, "distance")


@pytest.mark.parametrize("rows", MEASURED.values())
def test_measurements_are_shares_in_order(rows):
    for row in rows.values():
        for mean, low, high in (row.false_alarms, row.found):
            assert 0 <= low <= mean <= high <= 1


def test_misses_are_counted_and_a_score_at_the_threshold_reads_normal():
    assert re.match(r" 2 of 3 known defective photos lie below", missed_words(0.5, [0.5, 0.4, 0.6]))
    assert re.match(r" 0 of 1 known defective photo lies below", missed_words(0.5, [0.6]))
    assert "nothing is known" in missed_words(0.5)
