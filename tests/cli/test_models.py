"""``promptad models`` as a person runs it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptad.cli.models import app
from promptad.clip import zoo
from promptad.clip.pins import Pin, file_sha256, write_pin

RELEASE = "ViT-B-16/laion400m_e32"
BODY = bytes(range(256)) * 4000
run = functools.partial(CliRunner().invoke, app)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMPTAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("PROMPTAD_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "models"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder behind a server on loopback, from which the zoo row of RELEASE is fetched."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "x.pt").write_bytes(BODY)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        row = dataclasses.replace(
            zoo.find_checkpoint(RELEASE),
            url=f"http://127.0.0.1:{server.server_port}/x.pt",
            files=(zoo.ZooFile("x.pt", hashlib.sha256(BODY).hexdigest()[:8]),),
        )
        rows = tuple(row if checkpoint.name == RELEASE else checkpoint for checkpoint in zoo.list_checkpoints())
        monkeypatch.setattr(zoo, "list_checkpoints", lambda: rows)
        yield folder
        server.shutdown()


def place(home: Path, name: str = "ViT-B-16/openai") -> Path:
    path = home / name.replace("/", "--") / "open_clip_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"abc")
    return path


def test_models_alone_lists_all_checkpoints(home: Path) -> None:
    place(home)
    alone, listed = run([]), run(["list"])
    assert alone.exit_code == listed.exit_code == 0
    assert alone.stdout == listed.stdout
    lines = listed.stdout.splitlines()
    assert len(lines) == 1 + len(zoo.list_checkpoints())
    words = {line.split()[0]: line for line in lines}
    assert words["starter"].endswith("bundled") and "240" in words["starter"]
    assert words["ViT-B-16/openai"].endswith("in cache")
    assert words["ViT-L-14-336/openai"].endswith("not pulled") and " 336 " in words["ViT-L-14-336/openai"]


def test_list_as_json(home: Path) -> None:
    path = place(home)
    done = run(["list", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert list(rows) == [checkpoint.name for checkpoint in zoo.list_checkpoints()]
    assert rows["ViT-B-16/openai"]["path"] == str(path)
    assert rows["ViT-L-14-336/openai"]["path"] is None
    assert rows["ViT-L-14-336/openai"]["origin"] == "https://huggingface.co/timm/vit_large_patch14_clip_336.openai"
    assert rows["starter"]["sizes"]["text"]["width"] == 192
    assert rows["starter"]["licence"] == "MIT"


def test_check_says_ok_for_the_bundled_starter() -> None:
    for arguments in (["check"], ["check", "starter"], ["check", str(zoo.STARTER_FOLDER)]):
        done = run(arguments)
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        assert all(line.startswith("ok ") for line in done.stdout.splitlines()[1:])
        assert "model.safetensors" in done.stdout and "aec13fc70b85058c" in done.stdout


def test_check_tells_unknown_and_differing_files_apart(home: Path) -> None:
    path = place(home)
    unknown = run(["check", "ViT-B-16/openai"])
    assert unknown.exit_code == 0
    assert unknown.stdout.splitlines()[1].startswith("unknown ") and "nothing known" in unknown.stdout
    write_pin(path, Pin("ViT-B-16/openai", file_sha256(path), 3, "s", "r", "v", "2026-11-20"))
    assert "ok " in run(["check", str(path)]).stdout
    path.write_bytes(b"abd")
    for arguments in (["check"], ["check", "ViT-B-16/openai"], ["check", str(path.parent)]):
        differs = run(arguments)
        assert differs.exit_code == 1
        assert "differs" in differs.stdout
        assert str(path) in differs.stderr and "expected ba7816bf (pin of 2026-11-20)" in differs.stderr
        assert len(differs.stderr.splitlines()) == 1


def test_path_writes_the_path_alone(home: Path) -> None:
    assert run(["path", "starter"]).stdout == f"{zoo.STARTER_FOLDER / 'model.safetensors'}\n"
    path = place(home)
    assert run(["path", "vit-b-16:openai"]).stdout == f"{path}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["path", "ViT-L-14-336/openai"], "promptad models pull ViT-L-14-336/openai"),
        (["check", "ViT-L-14-336/openai"], "not on this machine"),
        (["check", "./nowhere"], "no weights at nowhere"),
        (["pull", "ViT-H-14/openai"], "did you mean"),
        (["path", "startre"], "did you mean 'starter'"),
    ],
)
def test_errors_are_one_line_on_stderr_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run(arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and words in line


def test_pull_reports_path_checksum_and_licence(home: Path, served: Path) -> None:
    done = run(["pull", RELEASE])
    assert done.exit_code == 0, done.output
    path, checksum, licence = done.stdout.splitlines()
    assert Path(path) == home / "ViT-B-16--laion400m_e32" / "x.pt"
    assert Path(path).read_bytes() == BODY
    assert checksum == f"sha256 {hashlib.sha256(BODY).hexdigest()}, verified against sha256 in the zoo"
    assert licence.startswith("licence MIT, https://")
    assert f"pulling {RELEASE}: 100 %" in done.stderr
    again = run(["pull", RELEASE])
    assert again.stdout == done.stdout and again.stderr == ""  # nothing was fetched
    assert run(["check", RELEASE]).exit_code == 0
    assert run(["path", RELEASE]).stdout.strip() == path


def test_pull_to_a_folder_gives_a_backbone_for_another_machine(served: Path, tmp_path: Path) -> None:
    done = run(["pull", RELEASE, "--to", str(tmp_path / "usb")])
    assert done.exit_code == 0, done.output
    located = zoo.locate(tmp_path / "usb")
    assert located.weights == tmp_path / "usb" / "x.pt" and located.checkpoint.name == RELEASE
    assert zoo.status(zoo.find_checkpoint(RELEASE)) == "not pulled"


def test_pull_obeys_the_offline_switch(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTAD_OFFLINE", "1")
    done = run(["pull", RELEASE])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: PROMPTAD_OFFLINE is set: ") and "x.pt" in done.stderr


def test_an_interrupted_pull_says_that_it_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from promptad.clip import pull

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(pull, "pull", interrupted)
    done = run(["pull", RELEASE])
    assert done.exit_code == 130
    assert "the same command continues" in done.stderr and "Traceback" not in done.output
