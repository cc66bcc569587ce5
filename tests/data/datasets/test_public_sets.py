"""Every public set is recognised by its miniature, read without losing a photo, and known by its facts."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from miniature_sets import SETS
from promptad.data.datasets import LAYOUTS, DataSet, open_dataset
from promptad.data.datasets.facts import all_facts, facts_table
from promptad.data.datasets.layout import held_out
from promptad.data.photos import photo_size, read_mask, read_photo
from promptad.notices import PromptadNotice, collected_notices


def opened(root: Path, layout: str = "auto") -> tuple[DataSet, list[str]]:
    with collected_notices() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptadNotice)
        return open_dataset(root, layout), lines


@pytest.mark.parametrize("name", SETS)
def test_a_miniature_is_recognised_and_every_record_can_be_read(name: str, tmp_path: Path) -> None:
    make, layout, key = SETS[name]
    data, _ = opened(make(tmp_path / "set"))
    assert (data.layout, data.facts.key if data.facts else None) == (layout, key)
    assert data.evidence
    assert len({(record.photo, record.split) for record in data.records}) == len(data.records)
    for record in data.records:
        size = photo_size(record.photo)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PromptadNotice)
            assert read_photo(record.photo).shape == (*size, 3)
            if record.masks:
                assert read_mask(record.masks, size).shape == size and record.label == 1
        assert record.class_name and (record.defect_type == "good") == (record.label == 0)
    facts = data.facts
    assert facts is not None and (
        not facts.classes(layout) or {r.class_name for r in data.records} <= set(facts.classes(layout))
    )


def test_the_numbers_of_drawn_splits_and_their_members_are_those_of_scikit_learn() -> None:
    for share, numbers in ((0.25, (1143, 1508, 2256, 3143, 5)), (0.2, (347, 11))):
        for number in numbers:
            items = [f"{i:05}" for i in range(number)]
            train, test = held_out(items, share)
            theirs = train_test_split(items, test_size=share, random_state=42)
            assert (train, test) == tuple(map(sorted, theirs))
    assert [len(held_out(range(n))[1]) for n in (1143, 1508, 2256, 3143)] == [286, 377, 564, 786]


# The totals that the specification prints: normal and anomalous test photos, and training photos where it gives them.
TOTALS = {
    "mvtec": ("mvtec", 467, 1258, 3629),
    "visa": ("visa", 962, 1200, 8659),
    "mpdd": ("mvtec", 176, 282, 888),
    "btad": ("mvtec", 451, 290, 1799),
    "sdd": ("kolektor", 286, 54, None),
    "sdd2": ("kolektor2", 894, 110, 2331),
    "dagm": ("dagm", 6996, 1054, 8050),
    "dtd_synthetic": ("mvtec", 357, 947, 1200),
    "aitex": ("aitex", 564, 183, None),
    "elpv": ("elpv", 377, 715, None),
    "magnetic_tile": ("magnetic-tile", 952, 392, None),
    "brainmri": ("brainmri", 98, 155, None),
    "headct": ("headct", 100, 100, None),
    "br35h": ("br35h", 1500, 1500, None),
    "lag": ("lag", 786, 1711, None),
    "colondb": ("colondb", 0, 380, None),
    "clinicdb": ("clinicdb", 0, 612, None),
    "kvasir": ("kvasir", 0, 1000, None),
    "endo": ("endo", 0, 200, None),
    "isic": ("isic", 0, 379, None),
    "tn3k": ("tn3k", 0, 614, 2879),
    "loco": ("loco", 575, 993, 1778),
    "ad2": ("ad2", 379, 705, 2528),
    "vad": ("vad", 1000, 1000, 3000),
}


@pytest.mark.parametrize("key", TOTALS)
def test_the_counts_of_a_set_add_up_to_its_printed_total(key: str) -> None:
    layout, normal, anomalous, training = TOTALS[key]
    total = all_facts()[key].total(layout)
    assert total["test"] == (normal, anomalous)
    assert training is None or sum(total["train"]) == training


def test_the_two_other_splits_of_visa_have_the_same_photos() -> None:
    counts = all_facts()["visa"].counts
    for name, splits in counts["visa"].items():
        photos = splits["train"][0] + splits["test"][0]
        for other in ("visa-2cls-fewshot", "visa-2cls-highshot"):
            row = counts[other][name]
            assert (row["train"][0] + row["test"][0], row["train"][1] + row["test"][1]) == (photos, 100), (other, name)


def test_the_sets_of_faprompts_means() -> None:
    """Section 8 of the method specification: eight industrial and four medical sets by image, seven and six by pixel."""
    sets = {
        (domain, kind): [facts.key for facts in all_facts().values() if facts.domain == domain and kind in facts.means]
        for domain in ("industrial", "medical")
        for kind in ("image", "pixel")
    }
    industrial = ["visa", "mpdd", "btad", "sdd", "aitex", "dagm", "dtd_synthetic", "elpv"]
    assert sets["industrial", "image"] == industrial and sets["industrial", "pixel"] == industrial[:-1]
    assert sets["medical", "image"] == ["brainmri", "headct", "br35h", "lag"]
    assert sets["medical", "pixel"] == ["clinicdb", "colondb", "kvasir", "endo", "isic", "tn3k"]


def test_every_layout_of_the_table_is_one_that_can_be_read() -> None:
    named = {layout for facts in all_facts().values() for layout in (*facts.layouts, *facts.counts)}
    assert named <= set(LAYOUTS)
    assert all(
        facts.licence and facts.where and facts.domain in ("industrial", "medical", "other")
        for facts in all_facts().values()
    )


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs/data.md").read_text("utf-8")
    assert facts_table() in page, (
        "write it anew: python -c 'from promptad.data.datasets.facts import *; print(facts_table())'"
    )


def test_a_set_that_is_not_whole_gets_one_line(tmp_path: Path) -> None:
    data, lines = opened(SETS["mpdd"][0](tmp_path / "set"))
    said = [line for line in lines if "whole MPDD" in line]
    assert len(said) == 1 and "bracket_black train: 2 normal of 289" in said[0] and "and 11 more" in said[0]
    assert len(data.differences) == 12


def test_a_class_of_a_public_name_alone_is_no_claim(tmp_path: Path) -> None:
    """A person's own bottle is not told that it is not MVTec AD; `data check` says what would be."""
    data, lines = opened(SETS["mvtec"][0](tmp_path / "set"))
    assert data.facts is not None and data.facts.key == "mvtec"
    assert not [line for line in lines if "MVTec AD" in line]
    assert data.differences[0].startswith("missing: carpet, grid")
    assert re.match(r"bottle train: 2 normal of 209", data.differences[1])
    counts = Counter(record.split for record in data.records)
    assert np.isclose(sum(counts.values()), len(data.records))
