"""Fetch a checkpoint once, in a way that survives bad networks and leaves a proof of what arrived.

Bytes go to a ``.part`` file that a later run resumes, are compared with the publisher's SHA-256, and only
then take the final name; a pin beside the file keeps the checksum. Since release 1.18 huggingface_hub starts
an interrupted download from zero, so it serves here for addresses, tokens and announced checksums, and the
bytes of hub files take the same path as those of release files.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO

from promptad import __version__
from promptad.clip import zoo
from promptad.clip.pins import Pin, file_sha256, read_pin, write_pin
from promptad.clip.zoo import Checkpoint
from promptad.errors import WeightsError
from promptad.inputs import argument

Progress = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all (None where the server does not say)."""

ATTEMPTS = 4
"""Consecutive failures without a new byte before giving up."""
BACKOFF_S = 1.0
"""Pause after the first failure; it doubles with each further one."""
TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Remote:
    """What the publisher says of a file before a byte is fetched.

    Attributes:
        sha256: full, only its leading digits, or "" when it is not said.
        authority: who says so, in words.
        size: bytes, or None.
        revision: commit on the hub, "" elsewhere.
        authorization: value of the HTTP header for the first host, or None.
    """

    name: str
    url: str
    sha256: str
    authority: str
    size: int | None = None
    revision: str = ""
    authorization: str | None = None


def offline_switch() -> str:
    """Which variable forbids the network, PROMPTAD_OFFLINE or HF_HUB_OFFLINE; "" when neither does."""
    for name in ("PROMPTAD_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").strip().lower() not in ("", "0", "false", "no", "off"):
            return name
    return ""


def pull(
    name: str,
    to: str | Path | None = None,
    *,
    progress: Progress | None = None,
    offline: bool | None = None,
) -> Path:
    """Make sure that the weights of a zoo checkpoint lie on this machine, verified and pinned.

    A file that is there and matches its checksum is not fetched again, nor one that lies in the cache of
    huggingface_hub. An interrupted pull continues where it stopped.

    Args:
        name: zoo name or alias.
        to: folder for the file, created if needed; default the checkpoint's folder in the cache.
        progress: called with bytes done and bytes in all (None when the server does not say).
        offline: True forbids the network; None asks the environment.

    Returns:
        Path of the weights file.

    Raises:
        WeightsError: unknown name, network or disk trouble, wrong checksum, or another file in the way.
    """
    checkpoint = zoo.find_checkpoint(name)
    if checkpoint.source == "bundled":
        return _copy_bundled(checkpoint, to)
    folder = zoo.folder_of(checkpoint) if to is None else Path(to).expanduser()
    there = zoo.weights_in(checkpoint, folder)
    if there is not None and _is_settled(there, checkpoint):
        return there
    with _disk_errors(folder):
        if there is None and (copied := _from_hub_cache(checkpoint, folder)):
            return copied
        if offline or (offline is None and offline_switch()):
            return _without_network(checkpoint, there, offline_switch())
        folder.mkdir(parents=True, exist_ok=True)
        return _from_publisher(checkpoint, folder, there, progress)


def _is_settled(there: Path, checkpoint: Checkpoint) -> bool:
    """Whether a file needs no fetch. A file that promptad did not pull is never overwritten."""
    pin = read_pin(there)
    if pin is not None and pin.checkpoint != checkpoint.name:
        raise WeightsError(f"{there} holds {pin.checkpoint!r}, not {checkpoint.name!r}: give another folder")
    verdict = zoo.verify(there, checkpoint)
    if verdict.status == "ok" and pin is None:
        _pin(there, checkpoint, Remote(there.name, checkpoint.origin, "", verdict.authority), verdict.sha256)
    if verdict.status == "differs" and pin is None:
        raise _foreign(there, verdict.sha256, verdict.expected)
    return verdict.status == "ok"


def _foreign(there: Path, sha256: str, expected: str) -> WeightsError:
    return WeightsError(
        f"{there} was not pulled by promptad and its sha256 begins {sha256[:8]}, "
        f"expected {expected[:8] or 'one that the publisher announces'}: move it away and pull again"
    )


def _without_network(checkpoint: Checkpoint, there: Path | None, switch: str) -> Path:
    because = f"{switch} is set" if switch else "offline"
    if there is None:
        raise zoo.missing(checkpoint, because)
    if read_pin(there) is None:
        return there  # placed by hand, and nothing on this machine says that it is wrong
    raise WeightsError(f"{because}: {there} differs from its pin, so the file is damaged; replace it by hand")


def _from_publisher(checkpoint: Checkpoint, folder: Path, there: Path | None, progress: Progress | None) -> Path:
    if checkpoint.source == "hub":
        remote = _on_hub(checkpoint, [there.name] if there else [file.name for file in checkpoint.files])
    else:
        file = checkpoint.files[0]
        remote = Remote(file.name, checkpoint.url, file.sha256, "sha256 in the zoo", size=file.size)
    target = folder / remote.name
    if there is not None and read_pin(there) is None:
        sha256 = file_sha256(there)
        if not remote.sha256 or not sha256.startswith(remote.sha256):
            raise _foreign(there, sha256, remote.sha256)
    else:
        sha256 = fetch(remote, target, progress=progress, otherwise=_otherwise(checkpoint))
    _pin(target, checkpoint, remote, sha256)
    return target


def _pin(path: Path, checkpoint: Checkpoint, remote: Remote, sha256: str) -> None:
    size, today = path.stat().st_size, date.today().isoformat()
    write_pin(path, Pin(checkpoint.name, sha256, size, remote.url, remote.revision, remote.authority, today))


def _copy_bundled(checkpoint: Checkpoint, to: str | Path | None) -> Path:
    """The starter needs no network; with `to` its files are copied there and pinned."""
    source = zoo.locate(checkpoint.name).weights
    if to is None:
        return source
    folder = Path(to).expanduser()
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in (*checkpoint.companions, *checkpoint.files):
            target = folder / file.name
            if target.exists() and file_sha256(target) != file.sha256:
                raise WeightsError(f"{target} exists and is another file: give an empty folder ({argument('to')})")
            shutil.copyfile(source.parent / file.name, target)
            origin = Remote(file.name, "bundled with promptad", file.sha256, "sha256 in the zoo")
            _pin(target, checkpoint, origin, file.sha256)
    return folder / source.name


def _from_hub_cache(checkpoint: Checkpoint, folder: Path) -> Path | None:
    """Copy from huggingface_hub's own cache what another program pulled; it names a file by its SHA-256."""
    if checkpoint.source != "hub":
        return None
    from huggingface_hub import try_to_load_from_cache

    for file in checkpoint.files:
        cached = try_to_load_from_cache(checkpoint.hub_id, file.name)
        if not isinstance(cached, str):
            continue
        announced = Path(cached).resolve().name
        if not _SHA256.fullmatch(announced) or file_sha256(Path(cached)) != announced:
            continue  # damaged, or stored without its checksum: fetch it anew
        target = folder / file.name
        part = part_path(target, announced)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, part)
        os.replace(part, target)
        commit = Path(cached).parent.name
        told = Remote(file.name, checkpoint.origin, announced, "name in the cache of huggingface_hub", None, commit)
        _pin(target, checkpoint, told, announced)
        return target
    return None


def _on_hub(checkpoint: Checkpoint, names: list[str]) -> Remote:
    """Ask the hub (or HF_ENDPOINT) for commit, size and SHA-256 of the first of `names` that it has."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    otherwise = _otherwise(checkpoint)
    for name in names:
        url = hf_hub_url(checkpoint.hub_id, name, endpoint=endpoint)
        told = None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                told = get_hf_file_metadata(url, timeout=TIMEOUT_S)
                break
            except EntryNotFoundError:
                break
            # The HTTP library below huggingface_hub was requests, httpx and httpx2: no common base class.
            except Exception as error:
                code = getattr(getattr(error, "response", None), "status_code", None)
                if attempt == ATTEMPTS or (code is not None and code not in _PASSING):
                    answer = f"answers HTTP {code}" if code else f"cannot be reached ({_reason(error)})"
                    raise WeightsError(f"{url} {answer}: {otherwise}") from error
                time.sleep(BACKOFF_S * 2 ** (attempt - 1))
        if told is None:
            continue
        if told.commit_hash is None or told.etag is None:
            raise WeightsError(f"{url} does not answer like a Hugging Face hub (a proxy page?): {otherwise}")
        # Large files announce their SHA-256 as etag. A git blob id has 40 digits and is no SHA-256.
        announced = told.etag if _SHA256.fullmatch(told.etag) else ""
        authority = "sha256 announced by the hub" if announced else "nothing: the hub announced no sha256"
        fixed = hf_hub_url(checkpoint.hub_id, name, revision=told.commit_hash, endpoint=endpoint)
        token = build_hf_headers().get("authorization")
        return Remote(name, fixed, announced, authority, told.size, told.commit_hash, token)
    raise WeightsError(f"{checkpoint.hub_id} on the hub has no {' or '.join(names)}: {otherwise}")


def _otherwise(checkpoint: Checkpoint) -> str:
    others = f" (also at {', '.join(checkpoint.alternatives)})" if checkpoint.alternatives else ""
    return f"try again later, or fetch the file elsewhere{others} and give it itself ({argument(checkpoint.argument, '/path/to/file')})"


def part_path(target: Path, sha256: str) -> Path:
    """Where an unfinished download lies; the checksum in the name keeps two versions of a file apart."""
    return target.with_name(f"{target.name}.{sha256[:8] or 'unknown'}.part")


def fetch(remote: Remote, target: Path, *, progress: Progress | None = None, otherwise: str = "try again") -> str:
    """Download one file to `target`, resuming what an earlier try left, and return its SHA-256.

    Raises:
        WeightsError: the server or the disk refuses, or the checksum is wrong (then the partial file goes).
    """
    part = part_path(target, remote.sha256)
    with _disk_errors(target.parent), part.open("ab") as out:
        _lock(out, part)
        _fill(out, remote, part, progress, otherwise)
        out.flush()
        os.fsync(out.fileno())
    sha256 = file_sha256(part)
    if not sha256.startswith(remote.sha256):
        part.unlink()
        raise WeightsError(
            f"{remote.url} arrived with a sha256 that begins {sha256[:8]}, expected {remote.sha256[:8]}: the "
            "partial file was deleted; pull again, and if it stays so, a proxy or mirror changes the file"
        )
    with _disk_errors(target.parent):
        os.replace(part, target)
    return sha256


def _fill(out: BinaryIO, remote: Remote, part: Path, progress: Progress | None, otherwise: str) -> None:
    best, failures = out.tell(), 0
    while remote.size is None or out.tell() != remote.size:
        try:
            return _stream(out, remote, part, progress)
        except urllib.error.HTTPError as error:
            reason = f"answers HTTP {error.code} {error.reason}"
            final = error.code not in _PASSING
        except (OSError, http.client.HTTPException) as error:
            reason = f"cannot be reached or broke off ({_reason(error)})"
            final = "CERTIFICATE_VERIFY_FAILED" in reason
        failures = 1 if out.tell() > best else failures + 1
        best = max(best, out.tell())
        if final or failures >= ATTEMPTS:
            kept = f"{out.tell()} bytes are kept in {part}; " if out.tell() else ""
            raise WeightsError(f"{remote.url} {reason}: {kept}{otherwise}")
        time.sleep(BACKOFF_S * 2 ** (failures - 1))


def _stream(out: BinaryIO, remote: Remote, part: Path, progress: Progress | None) -> None:
    """One request, from the end of the partial file to that of the remote one; OSError when it breaks off."""
    done = out.tell()
    request = urllib.request.Request(remote.url, headers={"User-Agent": f"promptad/{__version__}"})
    if remote.authorization:  # not repeated after a redirect: the storage behind the hub must not see it
        request.add_unredirected_header("Authorization", remote.authorization)
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{done}":
            return
        _restart(out)  # the partial file is longer than the remote one
        raise ConnectionError("the server refused to continue") from error
    with response:
        if done and response.status != 206:
            done = _restart(out)  # this server cannot continue; it sends the file from its start
        elif done and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            _restart(out)
            raise ConnectionError("the server continued at another place")
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else remote.size
        if total is not None:
            _require_space(part.parent, total - done)
        while piece := response.read1(_CHUNK):
            with _disk_errors(part.parent):
                out.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"closed after {done} of {total} bytes")


def _restart(out: BinaryIO) -> int:
    out.seek(0)
    out.truncate()
    return 0


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise WeightsError(
            f"{folder} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB more are needed: "
            f"free some space or give another folder ({argument('to')})"
        )


def _lock(out: BinaryIO, part: Path) -> None:
    """Two writers would mix their bytes; on systems without these locks the checksum still finds that out."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise WeightsError(f"another process is fetching {part}: wait until it has finished") from error
    except OSError:
        return


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn a refusal by the disk into one line. Network errors are handled before they get here."""
    try:
        yield
    except OSError as error:
        what = "disk full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        where = error.filename or folder
        raise WeightsError(f"cannot write to {where}: {what}; make room or name another folder") from error


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split())
    return text or type(error).__name__
