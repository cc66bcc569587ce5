"""TorchScript archives: their values as torch reads them, and nothing of their code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from promptad.clip.torchscript import is_torchscript, read_torchscript
from promptad.errors import WeightsError


class Program(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))
        self.halves = nn.Parameter(torch.randn(3, 5).half())
        self.register_buffer("vocab_size", torch.tensor(49408))
        self.register_buffer("view", torch.arange(12.0).view(3, 4).T)
        self.register_buffer("shared", self.view[1:])
        self.numbers = [1, 2, 3]
        self.named: dict[str, int] = {"a": 1}

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x) * float(self.numbers[0])


@pytest.fixture
def archive(tmp_path) -> tuple[Path, Program]:
    torch.manual_seed(0)
    program, path = Program().eval(), tmp_path / "ViT-B-16.pt"
    with warnings.catch_warnings():  # torch calls its own format old
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(program), path)
    return path, program


def test_the_values_are_those_that_torch_itself_reads(archive):
    path, program = archive
    assert is_torchscript(path)
    tensors = read_torchscript(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.jit.load(path).state_dict()
    assert tensors.keys() == expected.keys() == program.state_dict().keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype, name


def test_state_dicts_are_no_archives(tmp_path):
    for zipped in (True, False):
        torch.save({"a": torch.zeros(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        assert not is_torchscript(tmp_path / "x.pt")
    assert not is_torchscript(tmp_path / "absent.pt") and not is_torchscript(tmp_path)


def rewritten(path: Path, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with one of its files replaced."""
    out = path.with_name("changed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry.endswith(name) else old.read(entry))
    return out


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.marker, "executed"))


def test_code_in_the_pickle_is_refused_and_does_not_run(archive, tmp_path):
    marker = tmp_path / "marker"
    for protocol in range(2, 6):
        path = rewritten(archive[0], "/data.pkl", pickle.dumps(Hostile(marker), protocol=protocol))
        with pytest.raises(WeightsError, match="names more than tensors and modules") as caught:
            read_torchscript(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value) and not marker.exists()
    for call in (
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"ctorch.hub\nload\n",
        b"ctorch\nload\n",
        b"ctorch\nFakeStorage\n",
    ):
        with pytest.raises(WeightsError, match="names more than"):
            read_torchscript(rewritten(archive[0], "/data.pkl", call + b"(S'true'\ntR."))


def test_a_tensor_larger_than_its_values_is_refused(archive):
    """Strides of 0 make terabytes of four bytes."""
    with zipfile.ZipFile(archive[0]) as old:
        content = old.read(next(name for name in old.namelist() if name.endswith("/data.pkl")))
    assert content.count(b"(K\x03K\x05t") == 1  # the size (3, 5) of the half-precision parameter
    with pytest.raises(WeightsError, match="larger than its values"):
        read_torchscript(rewritten(archive[0], "/data.pkl", content.replace(b"(K\x03K\x05t", b"(K\xffK\xfft")))


def test_compressed_values_are_refused(archive):
    with pytest.raises(WeightsError, match="compressed"):
        read_torchscript(rewritten(archive[0], "/version", b"3", zipfile.ZIP_DEFLATED))


def test_damaged_archives_are_refused_in_one_line(archive):
    path = archive[0]
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 255
        path.write_bytes(damaged)
        if not is_torchscript(path):
            continue
        try:
            read_torchscript(path)
        except WeightsError as error:
            assert str(path) in str(error) and "\n" not in str(error)
