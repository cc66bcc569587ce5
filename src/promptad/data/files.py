"""Files on disk: a path on one line, a content hash, a write that is never seen half done."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from promptad.data.parts import FileRef, FileView
from promptad.errors import DataError
from promptad.inputs import argument
from promptad.parsing import parsed_json

TEMPORARY = ".promptad-*.tmp"
"""Names of files that :func:`write_atomic` has not renamed yet; a killed process leaves them behind."""

_CHUNK = 1 << 20
SAVED_KEY = "promptad"
"""Entry in the metadata of the safetensors files that promptad saves."""
_LONGEST_HEADER = 100_000_000
"""Bytes that safetensors lets a header have."""


def shown(path: FileRef) -> str:
    """A path as one printable line, for messages and tables.

    A file name may hold line breaks, control characters or bytes that are not text; such a name is shown
    escaped (``'a\\nb.jpg'``), so that an error stays on its one line and printing it cannot fail.
    """
    text = str(path) if isinstance(path, FileView) else os.fspath(path)
    return text if text.isprintable() else repr(text)


def one_line(error: BaseException) -> str:
    """The reason that an exception gives, on one line and without the path that ``OSError`` repeats."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def sha256_file(path: FileRef) -> str:
    """SHA-256 of a file's content as 64 lower-case hexadecimal digits; of a view that of the content and its rule.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    if isinstance(path, FileView):
        content = "" if path.self_contained else sha256_file(path.path)
        return hashlib.sha256(f"{content} {path.rule}".encode()).hexdigest()
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)}: cannot be read ({one_line(error)}); check the path and its rights") from error
    return digest.hexdigest()


def sha256_files(paths: Sequence[FileRef]) -> str:
    """SHA-256 of several files in their order; of one file that of its content, of none "".

    Raises:
        DataError: a file is missing or cannot be read.
    """
    digests = [sha256_file(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file under a temporary name beside its target, then rename it: never seen half written.

    Missing parent folders are created. Text is written as UTF-8 with its line ends as they are. A symbolic
    link is followed, and a target that is no regular file (a pipe, ``/dev/null``) is written to directly,
    since a rename would replace it. The rename guards against a killed process; the content is not forced
    to disk (no fsync).

    Raises:
        DataError: the folder cannot be created or written, the disk is full, or the path is a folder.
    """
    content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise DataError(f"{shown(path)}: is a folder, a file was expected; give a file name inside it")
        if not stat.S_ISREG(mode):
            target.write_bytes(content)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        # Own short name instead of tempfile: the file gets the user's umask, and long target names still fit.
        temporary = target.parent / TEMPORARY.replace("*", secrets.token_hex(8))
        try:
            temporary.write_bytes(content)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        way_out = "choose another place" if isinstance(error, PermissionError) else "check the path and the disk"
        raise DataError(f"{shown(path)}: cannot be written ({one_line(error)}); {way_out}") from error


def prepare_folder(folder: Path) -> None:
    """Creates an output folder and shows at once, not after an hour, that it can be written.

    Raises:
        DataError: no permission, or a file stands there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{shown(folder)}: cannot be made a folder ({one_line(error)}); choose another ({argument('output')})"
        ) from error
    probe = folder / f".promptad-{os.getpid()}"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def refuse_foreign(path: Path) -> None:
    """Before a file is made: what stands under its name already must be one that promptad wrote, or empty.

    Raises:
        DataError: it is another one, such as the weights of a model, which would be lost.
    """
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = file.read(min(length, _LONGEST_HEADER))
        ours = not length or SAVED_KEY in (parsed_json(head).get("__metadata__") or {})
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({one_line(error)}); choose another name") from error
    except (ValueError, AttributeError, TypeError):
        ours = False
    if not ours:
        raise DataError(
            f"{shown(path)}: is there already and is no file that promptad saved; choose another name "
            f"({argument('output')}), or move it away"
        )
