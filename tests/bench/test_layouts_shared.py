"""How photos are encoded for several rows: once for all that read them alike, apart for what is expensive."""

from __future__ import annotations

import pytest

from promptad.bench.work import shared_layouts
from promptad.detector import Detector
from tiny import tiny_backbone


@pytest.mark.filterwarnings("ignore")
def test_taps_are_shared_and_windows_are_made_for_those_alone_that_ask_for_them():
    clip = tiny_backbone()

    def made(method: str, **settings: object) -> Detector:
        return Detector(method, object="nut", backbone=clip, **settings)

    memory = made("patchcore", layers=(1, 3), fit="squash")
    other = made("patchcore", layers=(2,), fit="squash")
    windows = made("winclip", fit="squash")
    alone = shared_layouts([memory, other])
    together = shared_layouts([memory, other, windows, made("winclip", fit="squash", windows=(2,))])
    assert alone[0] == alone[1] and alone[0][1].taps == (1, 2, 3)
    # A row with windows that is added later changes nothing for the others.
    assert together[:2] == alone and together[2][1].windows == (2, 3) and together[3][1].windows == (2,)
