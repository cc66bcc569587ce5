"""What stands under the name of an output and was not written by promptad stays as it is: photos, weights, notes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from drawn_data import make_class
from promptad.data.datasets import load_dataset, meta_json
from promptad.data.files import refuse_foreign
from promptad.data.tensor_file import write_saved
from promptad.detector import Detector
from promptad.errors import DataError, PromptadError
from promptad.inputs import argument, named_as_options, named_by_place
from promptad.requests.datasets import WriteRequest
from promptad.requests.detecting import FitRequest
from promptad.training import train_prompts
from tiny import tiny_backbone

pytestmark = pytest.mark.filterwarnings("ignore::promptad.notices.PromptadNotice")
BACKBONE = tiny_backbone()


@pytest.fixture(scope="module")
def cup(tmp_path_factory) -> Path:
    return make_class(tmp_path_factory.mktemp("set"), "cup")


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(90, 130, (48, 48, 3), dtype=np.uint8)


def save_detector(output: Path, cup: Path) -> None:
    Detector("clip", object="cup", backbone=BACKBONE, input_size=48).fit([photo()]).save(output)


def fit(output: Path, cup: Path) -> None:
    FitRequest(good=(cup / "train/good",), object="cup", method="clip", output=output).run()


def train(output: Path, cup: Path) -> None:
    settings = {"epochs": 1, "pairs": 64, "hidden": [4, 4, 4]}
    train_prompts("rwda", [], BACKBONE, output, settings=settings, fresh=True)


def write_list(output: Path, cup: Path) -> None:
    WriteRequest(dataset=cup, output=output).run()


WRITERS: dict[str, Callable[[Path, Path], None]] = {"save": save_detector, "train": train, "data write": write_list}


def foreign(kind: str, path: Path, cup: Path) -> bytes:
    """Puts a file of a person under the name."""
    if kind == "weights":
        save_file({"visual.conv1.weight": torch.zeros(3)}, path)
    elif kind == "photo":
        shutil.copy(cup / "train/good/000.png", path)
    else:
        path.write_text({"notes": "do not lose\n", "json": '{"mine": 1}', "list": "[1]"}[kind])
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["weights", "photo", "notes", "json", "list"])
@pytest.mark.parametrize("writer", [*WRITERS, "fit"])
def test_what_is_not_ours_is_not_written_over(writer, kind, cup, tmp_path):
    output = tmp_path / "mine.safetensors"
    before = foreign(kind, output, cup)
    with pytest.raises(PromptadError, match="is there already and is no") as caught:
        (WRITERS | {"fit": fit})[writer](output, cup)
    assert output.read_bytes() == before and "\n" not in str(caught.value)


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_ours_is_written_anew_and_an_empty_file_filled(writer, cup, tmp_path):
    output = tmp_path / "ours.safetensors"
    output.touch()
    for _ in range(2):
        WRITERS[writer](output, cup)
        assert output.stat().st_size > 100


def test_the_check_reads_the_header_alone(tmp_path):
    path = tmp_path / "a.safetensors"
    refuse_foreign(path)
    write_saved(path, {"kind": "training"}, {"a": torch.zeros(2)})
    refuse_foreign(path)
    path.write_bytes(path.read_bytes()[:-4])  # damaged, but it was ours
    refuse_foreign(path)
    for content in (b"\xff" * 50, b"12", b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no file that promptad saved"):
            refuse_foreign(path)


def test_a_list_of_photos_is_written_over_by_another_one(cup, tmp_path):
    file = tmp_path / "meta.json"
    meta_json.write(load_dataset(cup), file)
    first = file.read_bytes()
    meta_json.write(load_dataset(cup), file)
    assert file.read_bytes() == first


def test_inputs_without_an_option_are_called_as_help_calls_them():
    assert argument("plan") == "plan"
    with named_as_options():
        assert argument("plan") == "--plan"
        with named_by_place(("plan", "photos")):
            assert (argument("plan"), argument("photos"), argument("good")) == ("PLAN", "PHOTOS", "--good")
        assert argument("plan") == "--plan"
