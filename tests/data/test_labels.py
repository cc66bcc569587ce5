"""Labels as the report page saves them: read, written, settled, and the photos that they are about."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from promptad.data.labels import COLUMNS, Box, Label, photos_of, read_labels, settle, write_labels
from promptad.errors import DataError
from promptad.notices import PromptadNotice

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def label(digest: str = A, verdict: str = "good", when: str = "", who: str = "Ada") -> Label:
    return Label(f"photos/{digest[0]}.jpg", digest, verdict, (), "", when, who)  # type: ignore[arg-type]


texts = (
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=20)
    .map(str.strip)
    .filter(lambda text: not text.startswith("'"))
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(texts, texts, texts, st.lists(st.tuples(*[st.integers(1, 9999)] * 4), max_size=3)), max_size=5)
)
def test_what_is_written_is_read(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    labels = [
        Label(photo, A, "defect", tuple(Box(*box) for box in boxes), words, "2026-03-02T14:05:00+01:00", who)
        for photo, words, who, boxes in entries
    ]
    write_labels(path, labels)
    assert read_labels(path) == labels


def test_a_written_file_is_what_other_readers_of_csv_read(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.csv", [Label("ä, b.jpg", A, "defect", (Box(1, 2, 3, 4), Box(5, 6, 7, 8)), '=x "y"')])
    with open(tmp_path / "l.csv", encoding="utf-8-sig", newline="") as file:
        [cells] = csv.DictReader(file)
    assert tuple(cells) == COLUMNS
    assert cells == {
        "photo": "ä, b.jpg",
        "sha256": A,
        "label": "defect",
        "box": "1,2,3,4; 5,6,7,8",
        "words": '\'=x "y"',
        "when": "",
        "who": "",
    }


def test_a_list_of_a_persons_own_needs_photo_and_label_alone(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    (tmp_path / "l.csv").write_text("Photo;Label;price\np.png;Good;3\n", "utf-8")
    with pytest.warns(PromptadNotice, match="column price of the labels are not used"):
        [read] = read_labels(tmp_path / "l.csv")
    assert read == Label("p.png", hashlib.sha256((tmp_path / "p.png").read_bytes()).hexdigest(), "good")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("photo,verdict\nx,good\n", "no column 'label'"),
        ("", "no column 'photo'"),
        ("photo,label\nx.jpg,fine\n", "line 2: the label is 'fine'; expected good, defect, unsure"),
        (f"photo,label,sha256\nx,good,{A}\nx,good,12\n", "line 3: sha256 is '12'"),
        ("photo,label\nx.jpg,good\n", "line 2: has no sha256, and no photo lies at"),
        (f"photo,label,sha256,box\nx,defect,{A},1 2 3\n", "line 2: the box is '1 2 3'"),
        (f'photo,label,sha256,box\nx,defect,{A},"1,2,0,4"\n', "line 2: the box is '1,2,0,4'"),
        (f'photo,label,sha256,box\nx,good,{A},"1,2,3,4"\n', "line 2: has a box, and the label is good"),
        (f"photo,label,sha256,when\nx,good,{A},Monday\n", "line 2: when is 'Monday'"),
        (f"photo,label,sha256\nx,good,{A},more\n", "line 2: has more cells"),
        (f'photo,label,sha256\n"x,good,{A}\n', "save it as CSV again"),
    ],
)
def test_a_list_that_cannot_be_read_names_the_line_and_the_way_out(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "l.csv").write_text(content, "utf-8")
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / "l.csv")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_and_another_encoding_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("photo,label\nKöln,good\n".encode("latin-1"))
    for path in (tmp_path / "none.csv", tmp_path / "l.csv"):
        with pytest.raises(DataError, match="save it on the report page, or as CSV in UTF-8"):
            read_labels(path)


def test_a_persons_last_word_counts_and_those_who_disagree_are_named() -> None:
    early, late = "2026-03-02T14:05:00+01:00", "2026-03-02T13:06:00+00:00"  # a minute later, in another zone
    settled = settle(
        [
            label(A, "defect", late),
            label(A, "good", early),
            label(B, "good", early, "Ada"),
            label(B, "defect", late, "Bob"),
            label(C, "unsure", late, "Ada"),
            label(C, "defect", early, "Bob"),
        ]
    )
    assert [(digest, entry.label) for digest, entry in settled.agreed.items()] == [(A, "defect"), (C, "defect")]
    assert [entry.who for entry in settled.disputed[B]] == ["Ada", "Bob"] and list(settled.disputed) == [B]
    assert [entry.sha256 for entry in settled.of("defect")] == [A, C] and settled.of("good") == []


def test_of_lines_without_a_time_the_later_counts() -> None:
    assert settle([label(A, "good"), label(A, "defect")]).agreed[A].label == "defect"


def test_photos_are_known_by_content_wherever_they_lie(tmp_path: Path) -> None:
    digests = []
    for number in range(3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
        digests.append(hashlib.sha256((tmp_path / f"{number}.png").read_bytes()).hexdigest())
    (tmp_path / "moved").mkdir()
    (tmp_path / "1.png").rename(tmp_path / "moved" / "new name.png")
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "1.png")  # another photo of the old name
    wanted = {digest: [tmp_path / f"{number}.png"] for number, digest in enumerate(digests)} | {A: []}
    there, missing = photos_of(wanted)
    assert there == {digests[0]: tmp_path / "0.png", digests[2]: tmp_path / "2.png"} and missing == [digests[1], A]
    there, missing = photos_of(wanted, [tmp_path / "moved"])
    assert there[digests[1]] == tmp_path / "moved" / "new name.png" and missing == [A]
