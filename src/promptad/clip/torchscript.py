"""Tensors of a TorchScript archive, such as OpenAI's original `ViT-B-16.pt`, without running any of its code.

The archive is a zip file: `data.pkl` pickles a tree of modules whose leaves name the files `data/0`, `data/1`, ... of raw
values, and `code/` holds the program. Only the tree and the values are read. The pickle may name tensors, the modules'
classes (which become plain records here) and TorchScript's lists, and nothing else.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from promptad.errors import WeightsError

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Deeper than any model's modules; a tree that contains itself would have no end.
_DEEPEST = 50


class _Record:
    """A module of the archive: its attributes, no behaviour."""


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: a zip with a pickle and a program."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # no zip file, or one so damaged that its list of names raises anything
        return False
    return any(n.endswith("/data.pkl") for n in names) and any(n.endswith("/constants.pkl") for n in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """All tensors of the archive by the names of a state dict ("visual.conv1.weight"), as stored.

    Raises:
        WeightsError: damaged, or a pickle that names more than tensors and modules.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            tree = _Reader(archive, root.removesuffix("data.pkl")).load()
        out: dict[str, Tensor] = {}
        _collect(tree, "", out)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: its pickle names more than tensors and modules ({error}); it is not read"
        ) from error
    except Exception as error:  # damaged archives raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise WeightsError(f"{path}: not a readable TorchScript archive ({reason}); fetch it again") from error
    return out


def _collect(node: Any, prefix: str, out: dict[str, Tensor]) -> None:
    if prefix.count(".") > _DEEPEST:
        raise ValueError("its modules are nested without end")
    for name, value in vars(node).items() if isinstance(node, _Record) else ():
        if isinstance(value, Tensor):
            out[prefix + name] = value
        elif isinstance(value, _Record):
            _collect(value, f"{prefix}{name}.", out)


class _Reader(pickle.Unpickler):
    """Builds nothing but records, tensors, lists and numbers."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global of the pickle; UnpicklingError for any that is not known."""
        if module.startswith("__torch__"):
            return _Record
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")):
            return _tensor if name == "_rebuild_tensor_v2" else _parameter
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _untagged
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """The values that ("storage", dtype, file, device, count) names, (count,)."""
        _, dtype, key, _, count = pid
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._root}data/{key}")
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its values are compressed, which TorchScript never does")
            content = bytearray(self._archive.read(entry))
            self._storages[key] = torch.frombuffer(content, dtype=cast(torch.dtype, dtype), count=count)
        return self._storages[key]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if math.prod(size) > storage.numel():  # strides of 0 would make terabytes of a few bytes
        raise ValueError("a tensor is larger than its values")
    return torch.as_strided(storage, size, stride, offset)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _untagged(value: Any, _: Any) -> Any:
    return value
