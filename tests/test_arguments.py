"""What public functions are given is held to its type: one line that names the argument, never a bare TypeError."""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np
import pytest
from PIL import Image

import promptad
from promptad import Detector
from promptad.annotations import field_types
from promptad.detector import _ARGUMENTS
from promptad.errors import ConfigError, PromptadError
from promptad.methods.settings import ARGUMENTS
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector("clip", object="nut", backbone=tiny_backbone())


def test_what_may_be_mistyped_for_a_setting_is_what_a_detector_takes():
    assert set(ARGUMENTS) == set(_ARGUMENTS)


class Wrong:
    """Of no type that anything asks for. Its name is the same in every process, as those that run tests side by side need."""

    def __repr__(self) -> str:
        return "Wrong()"


WRONG = Wrong()


@pytest.mark.parametrize(
    "name", ["method", "object", "preset", "backbone", "precision", "device", "activation", "cache", "weights"]
)
@pytest.mark.parametrize("value", [5, 0.5, True, [], {}, b"nut", WRONG], ids=repr)
def test_every_argument_of_a_detector(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must be [^\n]+; got [^\n]+$"):
        Detector(**{name: value})


@pytest.mark.parametrize("value", ["with scratch", 5, [5], {"bent"}, WRONG], ids=repr)
def test_defects_are_a_list_of_texts(value):
    with pytest.raises(ConfigError, match=r"^defects must be [^\n]+$"):
        Detector("clip", defects=value)


CALLS = {
    "threshold": lambda d, value: d.set_threshold(value),
    "rate": lambda d, value: d.set_false_alarms(value),
    "false_alarms": lambda d, value: d.fit([np.zeros((9, 9, 3), np.uint8)], false_alarms=value),
    "path": lambda d, value: d.save(value),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("value", [True, [], WRONG, b"0.2", float("nan")], ids=repr)
def test_every_argument_of_its_methods(detector, name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must be [^\n]+; got [^\n]+$"):
        CALLS[name](detector, value)


@pytest.mark.parametrize("name", ["threshold", "rate", "false_alarms"])
def test_numbers_are_not_read_from_texts(detector, name):
    with pytest.raises(ConfigError, match=rf"^{name} must be a number"):
        CALLS[name](detector, "0.2")


@pytest.mark.parametrize(
    ("name", "value"), [("path", 5), ("path", None), ("device", 3), ("backbone", 3), ("cache", "folder")]
)
def test_load(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must be [^\n]+$"):
        promptad.load(**{"path": "nut.safetensors", name: value})


@pytest.mark.parametrize("photos", ["photo.jpg", 5, None], ids=repr)
def test_several_photos_are_no_text_and_no_number(detector, photos):
    """A text is a sequence of letters, each of which would be a photo that is not there."""
    with pytest.raises(ConfigError, match="put it in a list, or use predict"):
        detector.predict_each(photos)
    gone = list(detector.predict_each(["gone.jpg"]))
    assert len(gone) == 1 and isinstance(gone[0], PromptadError)


PHOTO = np.zeros((9, 9, 3), np.uint8)


@pytest.mark.parametrize("name", ["photos", "held_out", "defective"])
def test_photos_to_learn_from_are_one_or_several_in_any_form(detector, name, tmp_path):
    Image.fromarray(PHOTO + 40).save(tmp_path / "a.png")

    def fit(value):
        return detector.fit(**{"photos": [PHOTO], name: value})

    for value in (tmp_path, str(tmp_path), tmp_path / "a.png", PHOTO + 40, Image.fromarray(PHOTO + 40), [PHOTO + 40]):
        assert fit(value) is detector
    for value in (None, 5, WRONG, (photo for photo in [PHOTO]), {"a": PHOTO}, b"a.png"):
        with pytest.raises(PromptadError, match=r"expected a path, a Pillow image or a NumPy array; [^\n]+$"):
            fit(value)


REQUESTS = [name for name in promptad.__all__ if name.endswith("Request")]


@pytest.mark.parametrize("request_name", REQUESTS)
def test_every_field_of_every_request(request_name):
    kind = getattr(promptad, request_name)
    needed = {entry.name for entry in fields(kind) if entry.default is MISSING and entry.default_factory is MISSING}
    for name in field_types(kind):
        values = dict.fromkeys(needed, "x") | {name: WRONG}
        with pytest.raises(ConfigError, match=rf"^{name} must be [^\n]+$"):
            kind(**values)
