"""The audit log: what its chain shows, against a check written from its description alone."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from promptad.errors import DataError
from promptad.report.audit import AuditLog, audit_lines

PHOTO = {"detector": "d" * 64, "threshold": 0.5, "verdict": "normal", "error": "", "camera": {}}


def filled(path: Path, count: int = 6) -> list[bytes]:
    log = AuditLog(path)
    for number in range(count):
        log.add("photo", photo=f"{number}.png", sha256=f"{number:064x}", score=0.1 * number, **PHOTO)
    log.close()
    return path.read_bytes().splitlines(keepends=True)


def faults(path: Path) -> dict[int, str]:
    return {line.number: line.fault for line in audit_lines(path) if line.fault}


def chain_holds(path: Path) -> bool:
    """As the documentation says it, with nothing of promptad's."""
    header, *lines = path.read_text().splitlines()
    previous = hashlib.sha256(header.encode()).hexdigest()
    for text in lines:
        body, digest = text.rsplit(', "digest": "', 1)
        if hashlib.sha256((body + "}").encode()).hexdigest() != digest.removesuffix('"}'):
            return False
        if json.loads(text)["previous"] != previous:
            return False
        previous = json.loads(text)["digest"]
    return True


def test_a_whole_log_has_no_fault_and_goes_on_after_a_kill(tmp_path):
    path = tmp_path / "audit.jsonl"
    lines = filled(path)
    assert len(lines) == 7 and faults(path) == {} and chain_holds(path)
    with path.open("ab") as file:
        file.write(lines[-1][:40])  # killed while it wrote
    log = AuditLog(path)
    assert log.entries == 6
    log.add("photo", photo="7.png", sha256="7" * 64, score=None, **PHOTO)
    assert faults(path) == {} and chain_holds(path)
    assert [line.values["entry"] for line in audit_lines(path)] == list(range(1, 8))


@pytest.mark.parametrize(
    ("harm", "at", "words"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b"normal", b"anomalous"), *lines[4:]], [4], "altered"),
        (lambda lines: [*lines[:3], lines[3].replace(b'"score": 0.2', b'"score": 0.3'), *lines[4:]], [4], "altered"),
        (lambda lines: lines[:3] + lines[4:], [4], "taken out"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], [4], "put in"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], [3, 4, 5], "moved"),
        (lambda lines: [lines[0], *lines[2:]], [2], "taken out"),
        (lambda lines: [*lines[:3], b"{}\n", *lines[4:]], [4, 5], "no digest|follow"),
        (
            lambda lines: [*lines[:3], b'{"a": 1, "digest": "' + b"0" * 64 + b'"}\n', *lines[4:]],
            [4, 5],
            "no entry|follow",
        ),
    ],
)
def test_every_change_inside_shows_where_it_is(harm, at, words, tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(harm(filled(path))))
    assert list(faults(path)) == at, faults(path)
    assert all(re.search(words, fault) for fault in faults(path).values()), faults(path)
    assert words.startswith("no") or not chain_holds(path)


def test_a_line_that_was_altered_with_its_digest_breaks_the_next(tmp_path):
    path = tmp_path / "audit.jsonl"
    lines = filled(path)
    body = lines[3].replace(b"normal", b"anomalous").rsplit(b', "digest"', 1)[0] + b"}"
    lines[3] = body[:-1] + f', "digest": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()
    path.write_bytes(b"".join(lines))
    assert list(faults(path)) == [5]


def test_a_log_whose_end_is_damaged_is_not_gone_on_with(tmp_path):
    path = tmp_path / "audit.jsonl"
    lines = filled(path)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].replace(b"normal", b"anomal"))
    with pytest.raises(DataError, match=r"last line is damaged.*promptad verify"):
        AuditLog(path)
