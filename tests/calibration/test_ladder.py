"""Which photos set a threshold, with judges that note what they are asked."""

from __future__ import annotations

import pytest

from promptad.calibration.ladder import Judged, calibrate_by, choose_evidence

# The ladder hands photos on and looks at none, so any objects will do.
A, B, C, D = "A", "B", "C", "D"


@pytest.mark.parametrize("role", ["needed", "optional"])
@pytest.mark.parametrize(
    ("learned", "held_out", "copies", "how", "photos"),
    [
        ([A, B], [C], [], "held-out", [C]),
        ([A, B], [], [], "leave-one-out", [A, B]),
        ([A], [], [C, D], "altered copies", [C, D]),
        ([A], [B], [], "held-out", [B]),
        ([A], [], [], None, []),
    ],
)
def test_the_best_evidence_is_taken(role, learned, held_out, copies, how, photos):
    evidence = choose_evidence(learned, held_out, copies, role)
    assert (evidence.how if evidence else None) == how
    assert (list(evidence.photos) if evidence else []) == photos


def test_where_nothing_is_learned_every_good_photo_is_held_out_and_none_is_dropped():
    evidence = choose_evidence([A, B], [C], [], "unused")
    assert (evidence.how, evidence.photos, evidence.leave_out) == ("held-out", [A, B, C], False)
    assert choose_evidence([A], [], [B, C], "unused").photos == [A]
    assert choose_evidence([], [], [], "unused") is None


def test_photos_are_left_out_of_what_was_learned_only_where_they_were_learned_from():
    asked = []

    def judge(photo, leave_out):
        asked.append((photo, leave_out))
        return Judged(0.5)

    calibrate_by(judge, choose_evidence([A, B], [], [], "needed"), kind="distance", method="promptad", defective=[D])
    calibrate_by(judge, choose_evidence([A], [C], [], "needed"), kind="distance", method="promptad")
    assert asked == [(A, 0), (B, 1), (D, None), (C, None)]


def test_defective_photos_set_nothing_and_tell_of_misses():
    scores = {A: 0.1, B: 0.12, C: 0.05, D: 0.9}
    make = lambda bad: calibrate_by(  # noqa: E731
        lambda photo, _: Judged(scores[photo], 0.3, 0.2),
        choose_evidence([A, B], [], [], "needed"),
        kind="distance",
        method="promptad",
        defective=bad,
    )
    plain, told = make([]), make([C, D])
    assert told.threshold == plain.threshold and told.map_threshold == plain.map_threshold
    assert "Of misses nothing is known" in plain.note
    assert "1 of 2 known defective photos lie below" in told.note
    assert "0 of 2 known defective" in told.with_threshold(0.01).note
