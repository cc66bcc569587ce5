"""What photos prove: counts by kind and size, and the sentences about them."""

from __future__ import annotations

import pytest

from promptad.calibration.acceptance import Share, Trial, accept, percent, proved_words, size_class, size_words
from promptad.calibration.trade_off import Costs


def known(score: float, kind: str = "", area: int | None = None, source=None) -> Trial:
    return Trial(f"{kind}{score}", "0" * 64, bool(kind), kind, score, area, source)


PHOTOS = [
    *(known(score) for score in (0.1, 0.2, 0.6)),
    known(0.9, "hole", 50, "box"),
    known(0.4, "hole", 64, "box"),
    known(0.5, "crack", 5000, "mask"),  # on the threshold itself: read normal
    known(0.8, "crack", 0, "region"),
    known(0.7, "crack"),
]


def test_mistakes_are_counted_in_all_and_by_kind_and_size():
    result = accept(PHOTOS, 0.5)
    assert (result.missed.mistakes, result.missed.photos) == (2, 5)
    assert (result.alarmed.mistakes, result.alarmed.photos) == (1, 3)
    assert [(s.name, s.mistakes, s.photos) for s in result.kinds] == [("crack", 1, 3), ("hole", 1, 2)]
    sizes = {source: [(s.name, s.mistakes, s.photos) for s in shares] for source, shares in result.sizes.items()}
    assert sizes == {
        "box": [("up to 8 px", 1, 2)],
        "mask": [("64 to 128 px", 1, 1)],
        "region": [("no region found", 0, 1)],
    }
    assert (result.present.missed, result.present.alarmed) == (2, 1) and result.cheapest is None
    more = {promise.share: (promise.bad, promise.good) for promise in result.promises}
    assert more[0.05] == (124 - 5, 93 - 3)  # 124 with 2 misses, 93 with 1 alarm
    assert Share.of("good", 0, 59, 0.95).at_most == pytest.approx(0.0495, abs=1e-4)


def test_costs_choose_another_threshold():
    result = accept(PHOTOS, 0.5, costs=Costs(20, 1, 0.5))
    assert result.cheapest is not None and result.cheapest.missed == 0
    assert result.cheapest.threshold == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("area", "words"),
    [
        (0, "no region found"),
        (1, "up to 8 px"),
        (64, "up to 8 px"),
        (65, "8 to 16 px"),
        (256, "8 to 16 px"),
        (257, "16 to 32 px"),
    ],
)
def test_sizes_are_the_side_of_a_square(area, words):
    assert size_words(size_class(area)) == words


@pytest.mark.parametrize(
    ("mistakes", "photos", "sentence"),
    [
        (0, 59, "59 bad photos without a miss prove at most 4.95 % misses at 95 %."),
        (0, 1, "1 bad photo without a miss proves at most 95 % misses at 95 %."),
        (3, 60, "3 misses in 60 bad photos prove at most 12.4 % misses at 95 %."),
        (2, 2, "All of 2 bad photos were judged wrong: nothing is proved of misses."),
        (0, 0, "No bad photo was tested, so nothing is known of misses."),
    ],
)
def test_what_a_count_proves_is_a_sentence(mistakes, photos, sentence):
    assert proved_words(Share.of("defective", mistakes, photos, 0.95), 0.95, "miss") == sentence


def test_shares_have_three_figures():
    assert [percent(share) for share in (0, 0.00997, 0.0495, 0.124, 1.0)] == [
        "0 %",
        "0.997 %",
        "4.95 %",
        "12.4 %",
        "100 %",
    ]
