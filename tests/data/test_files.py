from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from promptad.data.files import one_line, sha256_file, shown, write_atomic
from promptad.errors import DataError


def test_shown_keeps_plain_and_unicode_names() -> None:
    assert shown(Path("a b") / "写真.png") == "a b/写真.png"


@pytest.mark.parametrize("name", ["two\nlines.jpg", "bell\x07.jpg", "bytes\udcff.jpg"])
def test_shown_is_one_printable_line(name: str) -> None:
    text = shown(name)
    assert text.isprintable()
    text.encode("utf-8")


def test_one_line_joins_lines_and_never_is_empty() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(FileNotFoundError(2, "No such file or directory", "x")) == "No such file or directory"


def test_sha256_of_more_than_one_chunk(tmp_path: Path) -> None:
    content = os.urandom(1 << 20) + b"tail"
    (tmp_path / "f").write_bytes(content)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_sha256_known_value(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == expected


def test_sha256_of_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.bin: cannot be read"):
        sha256_file(tmp_path / "gone.bin")


def test_write_creates_parents_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "out.txt"
    write_atomic(target, "größer\r\n")
    assert target.read_bytes() == "größer\r\n".encode()
    assert [path.name for path in target.parent.iterdir()] == ["out.txt"]


def test_write_replaces_and_respects_the_umask(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old content that is longer")
    previous = os.umask(0o027)
    try:
        write_atomic(target, b"new")
    finally:
        os.umask(previous)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_failed_write_keeps_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def full(source: object, destination: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_permission_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(DataError, match="Permission denied") as caught:
        write_atomic(tmp_path / "out.bin", b"new")
    assert str(caught.value).endswith("choose another place")
    assert "\n" not in str(caught.value)


def test_target_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        write_atomic(tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "out.txt", "x")


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_atomic(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, "x")
        assert os.read(reader, 10) == b"x"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
