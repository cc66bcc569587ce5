"""A person's own words: read whole or refused in one line, the same for every way an object's name is written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from promptad.errors import ConfigError
from promptad.notices import PromptadNotice, collected_notices
from promptad.prompts.word_file import as_state, lookup_key, read_words, words_from_dict, words_from_text
from promptad.prompts.words import anomaly_states, anomaly_types, object_words, own_words, resolved_words, words_in_use

CASES = Path(__file__).parents[3] / "shared" / "cases" / "hostile" / "words_toml"
# What a person may name an object, and lookups must not care about.
SPELLINGS = ("metal_nut", "Metal_Nut", "Metal Nut", "METAL-NUT", " metal__nut ", "metal - nut")


def write(folder: Path, text: str | bytes, name: str = "words.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.skipif(not CASES.is_dir(), reason="shared/cases is not beside the repository")
def test_every_hostile_word_file_is_read_or_refused_in_one_line():
    """The whole folder of shared cases: never another error, and a refusal names the file."""
    paths, read = sorted(CASES.glob("*.toml")), []
    assert len(paths) >= 26
    for path in paths:
        try:
            states = anomaly_states("cookie", source=str(path))
        except ConfigError as error:
            assert "\n" not in str(error) and path.name in str(error) and len(str(error)) < 500, path.name
        else:
            assert len(states) > 8 and words_from_text(resolved_words(str(path))).states("cookie") == states[8:]
            read.append(path.stem)
    assert read == ["10k", "bom", "html", "long"]


HOSTILE = {
    "deep arrays": "a = " + "[" * 3000,
    "deep tables": "a = " + "{a=" * 3000,
    "a number of 6,000 digits": "[classes]\nx=" + "9" * 6000,
    "a date": "[classes]\nx=[1979-05-27]",
    "a date and time": "[states]\nall=1979-05-27T00:32:00Z",
    "a NUL inside": '[classes]\nx=["a\\u0000b"]',
    "a NUL in the name": '[classes]\n"a\\u0000"=["b"]',
    "an escape sequence": '[classes]\nx=["a\\u001b[31mb"]',
    "a turned reading direction": '[classes]\nx=["a\\u202eb"]',
    "numbers": "[classes]\nx=[1, 2.5, inf, nan]",
    "nested words": '[classes]\nx=[["a"]]',
    "a table for words": '[classes.x]\na=["b"]',
    "an array of tables": '[[classes]]\nx=["b"]',
    "bare states": 'states=["a"]',
    "a key twice": '[classes]\nx=["a"]\nx=["b"]',
    "one object twice": '[classes]\n"metal nut"=["a"]\nmetal_nut=["b"]',
    "UTF-16": "[classes]\nx=['a']".encode("utf-16"),
    "bytes": bytes(range(256)),
    "nothing": "",
    "5 MB": "#" * (5 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_word_file_is_refused_in_one_line(tmp_path, name):
    path = write(tmp_path, HOSTILE[name])
    with pytest.raises(ConfigError) as caught:
        read_words(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "source", ["\0", "\0.toml", "x" * 5000 + ".toml", "../../clip/zoo", "banks/mvtec", "zoo", "", "."]
)
def test_a_source_that_is_neither_a_bank_nor_a_file_is_refused(source):
    """A bank is a name: a header that says "../../clip/zoo" reads no other file of the package (F9)."""
    with pytest.raises(ConfigError) as caught:
        anomaly_states("nut", source=source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["winclip", "definitions", "generic", "rwda"])
def test_a_bank_without_words_of_objects_is_not_taken_in_silence(source):
    with pytest.raises(ConfigError, match="has no defect words of objects; those that have are mvtec, visa"):
        anomaly_states("nut", source=source)


def test_a_folder_is_no_word_file(tmp_path):
    (tmp_path / "words.toml").mkdir()
    with pytest.raises(ConfigError, match="is no file"):
        read_words(tmp_path / "words.toml")


def test_words_travel_as_data_and_come_back_the_same(tmp_path):
    path = write(tmp_path, '[states]\nall=["dented [c]"]\n[classes]\n"zähler"=["rust"]\nnut=["With Burr"]\n')
    words = read_words(path)
    data = json.loads(json.dumps(words.to_dict()))
    assert data == {
        "classes": {"zähler": ["[c] with rust"], "nut": ["[c] with Burr"]},
        "states": {"all": ["dented [c]"]},
    }
    again = words_from_dict(data)
    assert again.digest == words.digest and len(words.digest) == 64
    text = resolved_words(str(path))
    path.unlink()
    assert anomaly_states("zähler", source=text, generic="none") == ["dented [c]", "[c] with rust"]
    assert anomaly_types("nut", source=text) == ["dented", "Burr"]
    assert resolved_words(text) == text and own_words(text).digest == words.digest
    assert [resolved_words(name) for name in ("auto", "none", "visa")] == ["auto", "none", "visa"]


def test_the_digest_is_of_the_words_not_of_the_file(tmp_path):
    plain = read_words(write(tmp_path, '[classes]\na=["b"]\nc=["d"]'))
    other = read_words(write(tmp_path, '# moved about\n[classes]\nc = ["with d"]\na = [ "b", ]', "other.toml"))
    changed = read_words(write(tmp_path, '[classes]\na=["b"]\nc=["e"]', "changed.toml"))
    assert plain.digest == other.digest != changed.digest


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"classes": 3}', '{"classes": ' + "[" * 5000, '{"a": ' + "9" * 6000, "{\0}"]
)
def test_words_that_travelled_and_were_damaged_are_refused_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        anomaly_states("nut", source=text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_an_entry_that_nobody_reads_and_words_for_other_objects_are_said(tmp_path):
    path = str(write(tmp_path, '[names]\na="b"\n[classes]\nwasher=["burr"]'))
    with warnings.catch_warnings(), collected_notices() as lines:
        warnings.simplefilter("ignore")
        assert len(anomaly_states("nut", source=path)) == 8
    assert len(lines) == 2 and "names is not used" in lines[0] and "no words for 'nut'" in lines[1]
    assert "washer" in lines[1]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_object_gets_the_same_words_however_it_is_written(spelling, tmp_path):
    path = str(write(tmp_path, '[classes]\n"Metal-nut"=["rust"]'))
    assert lookup_key(spelling) == "metal_nut" and object_words(spelling) == "metal nut"
    with pytest.warns(PromptadNotice, match=r"is an object of MVTec AD.*color stain.*state_bank='none'"):
        assert anomaly_states(spelling) == anomaly_states("metal_nut")
    with pytest.warns(PromptadNotice, match="is an object of a public data set.*flip"):
        assert anomaly_types(spelling) == ["bent", "color", "flip", "scratch"]
    assert anomaly_states(spelling, source=path, generic="none") == ["[c] with rust"]


def test_a_known_object_without_a_name_of_its_own_is_known_in_any_case():
    assert [object_words(name) for name in ("Bottle", "PCB4", "Pipe-Fryum")] == [
        "bottle",
        "printed circuit board",
        "pipe fryum",
    ]
    assert object_words("Gear-Box_2") == "Gear-Box 2"  # folded for lookup only


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("With scratch", "[c] with scratch"),
        ("WITH Deep scratch", "[c] with Deep scratch"),
        ("Without cap", "[c] without cap"),
        ("A scratch", "[c] with a scratch"),
        ("an edge", "[c] with an edge"),
        ("The wrong cap", "[c] with the wrong cap"),
        ("Bent [C]", "Bent [c]"),
        ("Scratch", "[c] with Scratch"),
        ("with", "[c] with with"),
        ("Within tolerance", "[c] with Within tolerance"),
    ],
)
def test_the_form_of_a_defect_is_known_in_any_case(said, state):
    assert as_state(said) == state


@pytest.mark.parametrize("text", ["a\0b", "a\x1bb", "a\x7fb", "a\u202eb", "a\u2066b"])
def test_characters_that_are_no_text_are_refused(text):
    for call in (as_state, object_words):
        with pytest.raises(ConfigError, match=r"holds the character U\+"):
            call(text)


def test_the_words_in_use_can_be_asked_for(tmp_path):
    path = str(write(tmp_path, '[states]\nall=["dirty [c]"]'))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no word comes from anywhere that was not named
        words = words_in_use("metal_nut", generic="five", source=path, extra=["With Flaw", "rust", "Rust"])
    assert words.groups[1:] == (("words.toml", ("dirty [c]",)), ("your own", ("[c] with rust",)))
    assert words.object == "metal nut" and words.states[-2:] == ["dirty [c]", "[c] with rust"]
    assert words.describe().endswith("words.toml: dirty; your own: with rust")
    assert json.loads(json.dumps(words.to_dict()))["words"][0]["from"] == "general"
    with pytest.warns(PromptadNotice):
        known = words_in_use("Metal Nut", extra=["rust"])
    assert [origin for origin, _ in known.groups] == ["general", "MVTec AD", "your own"]
    assert known.digest != words.digest == words_in_use("metal nut", generic="five", source=path, extra=["rust"]).digest


def test_no_word_of_a_data_set_is_added_without_a_line():
    """Every object of every bank, under "auto"; no line where the source was named or the words replaced."""
    from promptad.prompts.words import bank

    for dataset in ("mvtec", "visa"):
        for name in bank(dataset)["classes"]:
            for build in (anomaly_states, anomaly_types):
                with pytest.warns(PromptadNotice, match=f"'{name}' is an object of"):
                    build(name)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    build(name, source="none")
                    build(name, source=dataset)
                    build(name, extra=["rust"], replace=True)
