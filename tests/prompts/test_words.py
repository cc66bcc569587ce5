"""Word banks against the tables of the papers, a person's own words, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptad.errors import ConfigError
from promptad.prompts.word_file import read_words
from promptad.prompts.words import (
    anomaly_states,
    as_state,
    bank,
    defect_words,
    ensemble,
    fill,
    object_words,
)

# PromptAD (CVPR 2024), released code; "[c] with ..." unless a phrase has its own "[c]".
MVTEC = """
bottle: large breakage; small breakage; contamination
toothbrush: defect; anomaly
carpet: hole; color stain; metal contamination; thread residue; thread; cut
hazelnut: crack; cut; hole; print
leather: color stain; cut; fold; glue; poke
cable: bent wire; missing part; missing wire; cut; poke
capsule: crack; faulty imprint; poke; scratch; [c] squeezed with compression
grid: breakage; thread residue; thread; metal contamination; glue; a bent shape
pill: color stain; contamination; crack; faulty imprint; scratch; abnormal type
transistor: bent lead; cut lead; damage; misplaced transistor
metal_nut: a bent shape; color stain; a flipped orientation; scratch
screw: manipulated front; scratch neck; scratch head
zipper: broken teeth; fabric border; defect fabric; broken fabric; split teeth; squeezed teeth
tile: crack; glue strip; gray stroke; oil; rough surface
wood: color stain; hole; scratch; liquid
"""
VISA = """
candle: melded wax; foreign particals; extra wax; chunk of wax missing; weird candle wick; damaged corner of packaging; different colour spot
capsules: scratch; discolor; misshape; leak; bubble
cashew: breakage; small scratches; burnt; stuck together; spot
chewinggum: corner missing; scratches; chunk of gum missing; colour spot; cracks
fryum: breakage; scratches; burnt; colour spot; fryum stuck together; colour spot
macaroni1: color spot; small chip around edge; small scratches; breakage; cracks
macaroni2: color spot; small chip around edge; small scratches; breakage; cracks
pcb1: bent; scratch; missing; melt
pcb2: bent; scratch; missing; melt
pcb3: bent; scratch; missing; melt
pcb4: scratch; extra; missing; wrong place; damage; burnt; dirt
pipe_fryum: breakage; small scratches; burnt; stuck together; colour spot; cracks
"""
EIGHT = ["damaged [c]", "flawed [c]", "abnormal [c]", "imperfect [c]", "blemished [c]",
         "[c] with flaw", "[c] with defect", "[c] with damage"]  # fmt: skip
FIVE = ["damaged [c]", "broken [c]", "[c] with flaw", "[c] with defect", "[c] with damage"]


def table(text: str) -> dict[str, list[str]]:
    rows = (line.split(": ") for line in text.strip().splitlines())
    return {name: [word if "[c]" in word else f"[c] with {word}" for word in words.split("; ")] for name, words in rows}


@pytest.mark.parametrize(("name", "text"), [("mvtec", MVTEC), ("visa", VISA)])
def test_the_banks_hold_the_states_of_the_source_class_by_class(name, text):
    stripped = {key: [state.strip() for state in states] for key, states in bank(name)["classes"].items()}
    assert stripped == table(text)
    assert bank("mvtec")["classes"]["metal_nut"][0].endswith("shape ")  # the source's trailing space is kept


def test_generic_states_and_numbers_of_states_of_the_paper():
    assert anomaly_states("thing") == EIGHT and anomaly_states("thing", generic="five") == FIVE
    counts = {name: len(anomaly_states(name)) for name in ("cable", "bottle", "toothbrush", "fryum", "pcb4")}
    assert counts == {"cable": 13, "bottle": 11, "toothbrush": 10, "fryum": 14, "pcb4": 15}
    states = anomaly_states("toothbrush")
    assert states.count("[c] with defect") == 2  # the class's own and the generic one, as in the source


def test_names_of_the_data_sets_become_words():
    special = {
        "metal_nut": "metal nut",
        "macaroni2": "macaroni",
        "pcb3": "printed circuit board",
        "pipe_fryum": "pipe fryum",
        "chewinggum": "chewing gum",
        "capsules": "capsules",
        "my__own   thing": "my own thing",
    }
    assert {name: object_words(name) for name in special} == special
    for empty in ("", " ", "__"):
        with pytest.raises(ConfigError, match="no name"):
            object_words(empty)


def test_class_states_can_be_left_out_and_taken_from_a_bank():
    assert anomaly_states("cable", source="none") == EIGHT
    assert anomaly_states("cable", source="mvtec", generic="none") == table(MVTEC)["cable"]
    assert anomaly_states("cable", source="visa") == EIGHT
    assert anomaly_states("pipe fryum", generic="none") == table(VISA)["pipe_fryum"]  # spaces as underscores


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("scratch", "[c] with scratch"),
        ("with scratch", "[c] with scratch"),
        ("  with   a deep\nscratch ", "[c] with a deep scratch"),
        ("without cap", "[c] without cap"),
        ("bent [c]", "bent [c]"),
        ("[c] bent at the end", "[c] bent at the end"),
        ("withered", "[c] with withered"),
    ],
)
def test_a_persons_own_words_become_states(said, state):
    assert as_state(said) == state


def test_own_words_are_added_once_or_replace_everything():
    own = ["with scratch", "scratch", "bent [c]", "damaged [c]"]
    assert anomaly_states("cookie", extra=own) == [*EIGHT, "[c] with scratch", "bent [c]"]
    assert anomaly_states("cable", extra=own, replace=True) == ["[c] with scratch", "bent [c]", "damaged [c]"]


def test_words_are_filled_in_and_shown():
    assert fill("[c] with scratch on the [c]", "metal nut") == "metal nut with scratch on the metal nut"
    assert defect_words("[c] with scratch") == "with scratch" and defect_words("damaged [c]") == "damaged"
    assert defect_words("[c] squeezed with compression") == "squeezed with compression"


@pytest.mark.parametrize("empty", ["", "  ", "[c]", " [c] "])
def test_a_defect_without_words_is_an_error(empty):
    with pytest.raises(ConfigError, match="needs words"):
        as_state(empty)


def test_nothing_left_and_unknown_sources_are_errors():
    with pytest.raises(ConfigError, match="no defect words at all"):
        anomaly_states("thing", generic="none", source="none")
    with pytest.raises(ConfigError, match="no defect words at all"):
        anomaly_states("thing", replace=True)
    with pytest.raises(ConfigError, match="'eight', 'five' or 'none'"):
        anomaly_states("thing", generic="nine")
    with pytest.raises(ConfigError, match=r"no word bank 'mpdd'.*april_gan, clip_ac, definitions, generic, mvtec"):
        anomaly_states("thing", source="mpdd")


def words_file(folder: Path, text: str | bytes) -> str:
    path = folder / "words.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_persons_own_word_file(tmp_path):
    classes = '[classes]\n"metal nut" = ["rust"]\n"zähler" = ["with burn marks", "bent [c]"]\n'
    path = words_file(tmp_path, '[states]\nall = ["dented [c]"]\n' + classes)
    assert anomaly_states("metal nut", source=path, generic="none") == ["dented [c]", "[c] with rust"]
    assert anomaly_states("zähler", source=path, generic="none")[1:] == ["[c] with burn marks", "bent [c]"]
    assert anomaly_states("other", source=path) == [*EIGHT, "dented [c]"]


def test_a_word_file_with_the_byte_order_mark_of_a_windows_editor(tmp_path):
    path = words_file(tmp_path, b'\xef\xbb\xbf[classes]\r\nnut = ["rust"]\r\n')
    assert anomaly_states("nut", source=path, generic="none") == ["[c] with rust"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[classes\n", "TOML"),
        (b"\xff\xfe[classes]", "TOML"),
        ("", "neither"),
        ('title = "x"', "neither"),
        ('[classes]\nnut = "scratch"', "classes.nut"),
        ("[classes]\nnut = [1, 2]", "classes.nut"),
        ("[states]\nall = 3", "states.all"),
        ('states = "bent"', "states"),
        ('[classes]\nnut = [" "]', "needs words"),
    ],
)
def test_a_malformed_word_file_is_an_error_of_one_line_that_names_it(tmp_path, text, said):
    path = words_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        anomaly_states("nut", source=path)
    message = str(caught.value)
    assert path in message and said in message and "\n" not in message


def test_a_missing_word_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: no such word file"):
        read_words(tmp_path / "absent.toml")


def test_a_table_of_states_that_nobody_reads_is_an_error(tmp_path):
    """Only `all` is read: any other name would be dropped without a word."""
    path = words_file(tmp_path, '[states]\nevery = ["dented [c]"]\n')
    with pytest.raises(ConfigError, match="every"):
        anomaly_states("nut", source=path)


@pytest.mark.parametrize(
    ("name", "normal", "anomalous"),
    [("winclip", 154, 88), ("april_gan", 245, 175), ("clip_ac", 80, 80), ("two_prompt", 1, 1)],
)
def test_ensembles_have_the_numbers_of_sentences_of_their_papers(name, normal, anomalous):
    good, bad = ensemble(name, "metal nut")
    assert (len(good), len(bad)) == (normal, anomalous)
    assert len(set(good)) == normal and len(set(bad)) == anomalous and not set(good) & set(bad)
    for sentence in good + bad:
        assert "metal nut" in sentence and sentence.endswith(".")
        assert "X" not in sentence and "[c]" not in sentence and "  " not in sentence


def test_sentences_of_the_ensembles():
    good, bad = ensemble("winclip", "cable")
    assert "a cropped photo of the flawless cable." in good and "a photo of a cable for visual inspection." in good
    assert "a jpeg corrupted photo of a damaged cable." in bad and "a photo of the small cable with defect." in bad
    good, bad = ensemble("april_gan", "cable")
    assert "this is one cable in the scene." in good and "a black and white photo of the broken cable." in bad
    assert ensemble("two_prompt", "cable") == (
        ["A photo of a normal cable."],
        ["A photo of an anomalous cable."],
    )


def test_a_bank_without_templates_is_no_ensemble():
    with pytest.raises(ConfigError, match="mvtec"):
        ensemble("mvtec", "cable")
