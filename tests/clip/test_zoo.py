"""The zoo table, names, and finding weights on this machine. No network anywhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promptad.clip import zoo
from promptad.clip.pins import Pin, file_sha256, pin_path, write_pin
from promptad.errors import WeightsError

E32 = "ViT-B-16-plus-240/laion400m_e32"
E32_FILE = "vit_b_16_plus_240-laion400m_e32-699c4b84.pt"
L14 = "ViT-L-14-336/openai"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own, empty cache."""
    monkeypatch.setenv("PROMPTAD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pinned(path: Path, checkpoint: str, sha256: str | None = None, size: int | None = None) -> Path:
    size = path.stat().st_size if size is None else size
    write_pin(path, Pin(checkpoint, sha256 or file_sha256(path), size, "https://x", "", "x", "2026-11-20"))
    return path


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# The table ----------------------------------------------------------------------------------------

# name, image size, patch, vision width/layers/heads, text width/layers/heads, joint width, activation
SIZES = [
    ("ViT-B-16-plus-240/laion400m_e31", 240, 16, (896, 12, 14), (640, 12, 10), 640, "gelu"),
    (E32, 240, 16, (896, 12, 14), (640, 12, 10), 640, "gelu"),
    (L14, 336, 14, (1024, 24, 16), (768, 12, 12), 768, "quick_gelu"),
    ("ViT-L-14/openai", 224, 14, (1024, 24, 16), (768, 12, 12), 768, "quick_gelu"),
    ("RN101/openai", 224, 32, (64, [3, 4, 23, 3], 32), (512, 12, 8), 512, "quick_gelu"),
    ("RN50/openai", 224, 32, (64, [3, 4, 6, 3], 32), (512, 12, 8), 1024, "quick_gelu"),
    ("ViT-B-16/openai", 224, 16, (768, 12, 12), (512, 12, 8), 512, "quick_gelu"),
    ("ViT-B-16/laion400m_e32", 224, 16, (768, 12, 12), (512, 12, 8), 512, "gelu"),
    ("ViT-B-32/laion2b_s34b_b79k", 224, 32, (768, 12, 12), (512, 12, 8), 512, "gelu"),
    ("starter", 240, 16, (768, 12, 12), (192, 6, 3), 512, "quick_gelu"),
]


@pytest.mark.parametrize("row", SIZES, ids=[row[0] for row in SIZES])
def test_sizes_are_those_of_the_specification(row: tuple) -> None:
    name, image, patch, vision, text, joint, activation = row
    c = zoo.find_checkpoint(name)
    assert (c.input_size, c.vision["patch_size"], c.embed_dim, c.activation) == (
        image,
        patch,
        joint,
        activation,
    )
    for tower, expected in ((c.vision, vision), (c.text, text)):
        assert (tower["width"], tower["layers"], tower["heads"]) == expected
        if isinstance(tower["layers"], list):  # a ResNet: its pooling is 32 stems wide
            assert "mlp_width" not in tower and 32 * tower["width"] == 64 * tower["heads"]
            continue
        assert tower["mlp_width"] == 4 * tower["width"]
        assert tower["width"] == 64 * tower["heads"]
    assert c.input_size % patch == 0
    assert c.text["context_length"] == 77
    assert c.text["vocab_size"] == (6000 if name == "starter" else 49408)


def test_all_checkpoints_are_listed_and_the_starter_is_first() -> None:
    names = [entry.name for entry in zoo.list_checkpoints()]
    assert names[0] == "starter"
    assert sorted(names) == sorted([*(row[0] for row in SIZES), *DINO])


def clips() -> list[zoo.Checkpoint]:
    return [c for c in zoo.list_checkpoints() if c.family == "clip"]


def test_sizes_fit_the_architecture_classes() -> None:
    from promptad.clip.architecture import ClipSizes, TextSizes, VisionSizes

    for c in clips():
        sizes = c.sizes()
        assert set(sizes) == {entry.name for entry in dataclasses.fields(ClipSizes)}
        resnet = isinstance(sizes["vision"]["layers"], list)
        vit = {entry.name for entry in dataclasses.fields(VisionSizes)}
        assert set(sizes["vision"]) == (vit - {"mlp_width"} if resnet else vit)
        assert set(sizes["text"]) == {entry.name for entry in dataclasses.fields(TextSizes)}


# name -> hub id, the authors' file, its parameters
DINO = {
    f"dinov2-vit{letter}14{'-reg' if registers else ''}": (
        f"facebook/dinov2-{'with-registers-' if registers else ''}{size}",
        f"dinov2_vit{letter}14{'_reg4' if registers else ''}_pretrain.pth",
        count[registers],
    )
    for letter, size, count in (
        ("s", "small", (22_056_576, 22_058_112)),
        ("b", "base", (86_580_480, 86_583_552)),
        ("l", "large", (304_368_640, 304_372_736)),
        ("g", "giant", (1_136_480_768, 1_136_486_912)),
    )
    for registers in (0, 1)
}


@pytest.mark.parametrize("name", DINO)
def test_rows_of_dinov2_are_those_of_the_specification(name: str) -> None:
    import torch

    from promptad.dino.tower import DinoSizes, DinoTower

    hub, official, parameters = DINO[name]
    c = zoo.find_checkpoint(name)
    assert zoo.find_checkpoint(hub) is c and c.hub_id == hub and c.licence == "Apache-2.0" and c.input_size == 448
    assert c.licence_url.startswith("https://") and c.parameters == parameters and c.source == "hub"
    assert [entry.name for entry in c.files] == ["model.safetensors", "pytorch_model.bin"]
    assert c.alternatives[0].endswith(f"/{official}") and not c.text
    assert (c.mean, c.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.device("meta"):
        tower = DinoTower(DinoSizes(**c.sizes()["vision"]))
    # The mask token, which training alone needs, is counted in what is published.
    assert sum(p.numel() for p in tower.parameters()) + c.vision["width"] == parameters


def test_every_row_says_licence_source_and_normalisation() -> None:
    for c in clips():
        assert c.licence and c.licence_url.startswith("https://"), c.name
        assert c.mean == (0.48145466, 0.4578275, 0.40821073)
        assert c.std == (0.26862954, 0.26130258, 0.27577711)
        assert bool(c.hub_id) == (c.source == "hub")
        assert bool(c.url) == (c.source == "release")
        for entry in (*c.files, *c.companions):
            assert set(entry.sha256) <= set("0123456789abcdef")
        if c.source == "release":  # the publisher's own digits stand in the file name
            assert c.url.endswith(f"/{c.files[0].name}")
            assert c.files[0].name.endswith(f"-{c.files[0].sha256}.pt")
        if c.source == "hub":  # no pickle where safetensors exist
            assert [entry.name for entry in c.files] == [
                "open_clip_model.safetensors",
                "open_clip_pytorch_model.bin",
            ]


def test_the_two_epochs_of_plus_240_come_from_different_places() -> None:
    e31, e32 = zoo.find_checkpoint(E32.replace("e32", "e31")), zoo.find_checkpoint(E32)
    assert "e31" in e31.origin and "e32" in e32.origin
    assert not e32.hub_id and all("e31" not in place for place in e32.alternatives)


def test_no_two_checkpoints_share_a_name() -> None:
    seen: dict[str, str] = {}
    for c in zoo.list_checkpoints():
        for name in {zoo._normal(entry) for entry in (c.name, *c.aliases)}:
            assert seen.setdefault(name, c.name) == c.name
            assert zoo.find_checkpoint(name) is c


def test_the_starter_row_agrees_with_its_config_file() -> None:
    c = zoo.find_checkpoint("starter")
    config = json.loads((zoo.STARTER_FOLDER / "config.json").read_text("utf-8"))
    assert (config["projection_dim"], config["hidden_act"]) == (c.embed_dim, c.activation)
    assert tuple(config["image_mean"]) == c.mean and tuple(config["image_std"]) == c.std
    for tower, other in ((c.vision, config["vision"]), (c.text, config["text"])):
        assert tower["width"] == other["hidden_size"] and tower["mlp_width"] == other["intermediate_size"]
        assert tower["layers"] == other["num_hidden_layers"] and tower["heads"] == other["num_attention_heads"]
    assert c.vision["patch_size"] == config["vision"]["patch_size"]
    assert c.vision["image_size"] == config["vision"]["image_size"]
    assert c.text["vocab_size"] == config["text"]["vocab_size"]
    assert c.text["context_length"] == config["text"]["max_position_embeddings"]


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("starter", "starter"),
        ("DEFAULT", "starter"),
        ("vit-b-16-plus-240:LAION400M_E32", E32),
        ("B16+240", E32),
        ("ViT-B-16-plus-240/laion400m-e31", E32.replace("e32", "e31")),
        ("ViT-L/14@336px", L14),
        (" vit_b_16/openai ", "ViT-B-16/openai"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
    ],
)
def test_names_are_forgiving(spelling: str, name: str) -> None:
    assert zoo.find_checkpoint(spelling).name == name


def test_an_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(WeightsError) as error:
        zoo.find_checkpoint("ViT-B-16-plus-240/laion400m_e23")
    assert "did you mean 'ViT-B-16-plus-240/laion400m_e3" in one_line(error)
    with pytest.raises(WeightsError, match="models list") as error:
        zoo.find_checkpoint("????")
    assert "did you mean" not in one_line(error)


# Places -------------------------------------------------------------------------------------------


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.cache_folder() == tmp_path / "home" / "models"
    monkeypatch.delenv("PROMPTAD_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert zoo.cache_folder() == tmp_path / "xdg" / "promptad" / "models"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/ignored")
    assert zoo.cache_folder() == tmp_path / ".cache" / "promptad" / "models"


def test_locate_finds_the_starter() -> None:
    checkpoint = zoo.locate()
    assert checkpoint.checkpoint is zoo.find_checkpoint("starter")
    assert checkpoint.weights == zoo.STARTER_FOLDER / "model.safetensors"
    assert checkpoint.folder == zoo.STARTER_FOLDER
    assert zoo.locate(zoo.STARTER_FOLDER).checkpoint is checkpoint.checkpoint  # the same by its path


@pytest.fixture
def starter_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "installed"
    shutil.copytree(zoo.STARTER_FOLDER, copy)
    monkeypatch.setattr(zoo, "STARTER_FOLDER", copy)
    return copy


def test_a_starter_with_a_missing_file_is_named(starter_copy: Path) -> None:
    (starter_copy / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="install promptad again") as error:
        zoo.locate("starter")
    assert str(starter_copy / "tokenizer.json") in one_line(error)


def test_a_truncated_starter_is_named(starter_copy: Path) -> None:
    weights = starter_copy / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(WeightsError, match="has 1000 bytes, expected 54897372") as error:
        zoo.locate("starter")
    assert str(weights) in one_line(error)


def test_a_starter_with_one_wrong_byte_is_noticed(starter_copy: Path) -> None:
    assert zoo.locate("starter").weights.parent == starter_copy
    weights = starter_copy / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(30_000_000)
        byte = stream.read(1)[0]
        stream.seek(30_000_000)
        stream.write(bytes([byte ^ 1]))
    with pytest.raises(WeightsError, match="another sha256"):
        zoo.locate("starter")
    verdicts = {entry.path.name: entry.status for entry in zoo.check("starter")}
    assert verdicts == {"model.safetensors": "differs", "config.json": "ok", "tokenizer.json": "ok"}


def test_a_name_that_is_not_pulled_says_what_where_and_how(home: Path) -> None:
    with pytest.raises(WeightsError) as error:
        zoo.locate(E32)
    text = one_line(error)
    assert E32_FILE in text and str(home / "models" / E32.replace("/", "--")) in text
    assert f"promptad models pull {E32}" in text and "backbone='/path/to/" in text
    assert zoo.status(zoo.find_checkpoint(E32)) == "not pulled"


def test_a_file_placed_in_the_cache_by_hand_is_found(home: Path) -> None:
    fallback = put(home / "models" / "ViT-L-14-336--openai" / "open_clip_pytorch_model.bin")
    assert zoo.locate(L14).weights == fallback
    preferred = put(fallback.with_name("open_clip_model.safetensors"))
    located = zoo.locate("vit-l-14-336:openai")
    assert located.weights == preferred and located.checkpoint.name == L14 and located.folder is None
    assert zoo.status(located.checkpoint) == "in cache"


def test_other_files_of_the_same_weights_are_known_by_their_checksum(tmp_path: Path, monkeypatch) -> None:
    """OpenAI's own .pt files have no row of files to pull, but their checksum is published."""
    known = {c.name: file.sha256 for c in zoo.list_checkpoints() for file in c.known}
    assert set(known) == {"ViT-B-16/openai", L14, "ViT-L-14/openai", "RN101/openai", "RN50/openai"} and all(
        len(sha256) == 64 for sha256 in known.values()
    )
    weights = put(tmp_path / "some name.pt")
    assert zoo.locate(weights).checkpoint is None
    monkeypatch.setattr(zoo, "weights_sha256", lambda path: known[L14])
    assert zoo.locate(weights).checkpoint.name == L14
    monkeypatch.setattr(zoo, "file_sha256", lambda path: known[L14])
    assert zoo.verify(weights, zoo.find_checkpoint(L14)).status == "ok"


def test_locate_takes_files_and_folders(tmp_path: Path) -> None:
    weights = put(tmp_path / "a" / "mine.pt")
    assert zoo.locate(weights) == zoo.locate(str(weights)) == zoo.Located(None, weights, None)
    assert zoo.locate(tmp_path / "a").weights == weights
    put(tmp_path / "a" / "other.bin")
    with pytest.raises(WeightsError, match=r"2 weights files .*mine\.pt, other\.bin"):
        zoo.locate(tmp_path / "a")
    for name in ("pytorch_model.bin", "open_clip_pytorch_model.bin", "open_clip_model.safetensors"):
        put(tmp_path / "a" / name)
        assert zoo.locate(tmp_path / "a").weights.name == name
    put(tmp_path / "a" / "config.json", b"{}")
    preferred = put(tmp_path / "a" / "model.safetensors")
    assert zoo.locate(tmp_path / "a") == zoo.Located(None, preferred, tmp_path / "a")


def test_paths_that_lead_nowhere_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in (tmp_path / "none.pt", "./nothing", "~/nothing-here", "weights.safetensors"):
        with pytest.raises(WeightsError, match="no weights at"):
            zoo.locate(wrong)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(WeightsError, match=r"no weights in .*hollow: expected model\.safetensors"):
        zoo.locate("hollow")
    put(tmp_path / "empty.pt", b"")
    with pytest.raises(WeightsError, match=r"empty\.pt is empty"):
        zoo.locate("empty.pt")
    with pytest.raises(WeightsError, match="no file or folder of that name: did you mean 'starter'"):
        zoo.locate("startr")


def test_a_zoo_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "starter" / "model.safetensors")
    assert zoo.locate("starter").weights.parent == zoo.STARTER_FOLDER
    local = zoo.locate("./starter")
    assert local.weights == Path("starter/model.safetensors")
    assert local.checkpoint is None  # another file: its name proves nothing


def test_local_files_are_recognised(tmp_path: Path) -> None:
    released = put(tmp_path / "usb" / E32_FILE)
    assert zoo.locate(released).checkpoint.name == E32
    carried = put(tmp_path / "usb" / "ViT-L-14-336--openai" / "open_clip_model.safetensors")
    assert zoo.locate(carried.parent).checkpoint.name == L14
    loose = put(tmp_path / "usb" / "open_clip_model.safetensors")
    assert zoo.locate(loose).checkpoint is None  # this name fits four checkpoints
    assert zoo.locate(pinned(loose, "ViT-B-16/openai")).checkpoint.name == "ViT-B-16/openai"


def test_a_file_that_shrank_since_it_was_pulled_is_refused(tmp_path: Path) -> None:
    weights = pinned(put(tmp_path / E32_FILE, b"whole file"), E32)
    assert zoo.locate(weights).checkpoint.name == E32
    weights.write_bytes(b"half")
    with pytest.raises(WeightsError, match="4 bytes, 10 when it was pulled") as error:
        zoo.locate(weights)
    assert f"models pull {E32}" in one_line(error)


# Checksums ----------------------------------------------------------------------------------------


def test_check_says_ok_for_the_bundled_starter() -> None:
    verdicts = zoo.check("starter")
    assert [(entry.path.name, entry.status, entry.authority) for entry in verdicts] == [
        ("model.safetensors", "ok", "zoo"),
        ("config.json", "ok", "zoo"),
        ("tokenizer.json", "ok", "zoo"),
    ]


def test_check_compares_with_zoo_and_pin(home: Path, tmp_path: Path) -> None:
    plain = put(tmp_path / "mine.pt", b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, the example "abc"
    assert zoo.check(plain) == [zoo.Verdict(plain, "unknown", abc)]
    pinned(plain, "ViT-B-16/openai")
    assert zoo.check(plain) == [zoo.Verdict(plain, "ok", abc, abc, "pin of 2026-11-20")]
    plain.write_bytes(b"abd")
    assert [entry.status for entry in zoo.check(plain)] == ["differs"]

    released = put(home / "models" / E32.replace("/", "--") / E32_FILE)
    [verdict] = zoo.check(E32)
    assert (verdict.status, verdict.expected, verdict.authority) == ("differs", "699c4b84", "zoo")
    pinned(released, E32)  # a pin that agrees does not overrule the zoo
    assert zoo.check(E32)[0].status == "differs"
    with pytest.raises(WeightsError, match="not on this machine"):
        zoo.check(L14)


def test_check_also_tells_of_a_changed_size(tmp_path: Path) -> None:
    weights = pinned(put(tmp_path / "x.pt", b"abc"), E32)
    weights.write_bytes(b"abcd")
    assert zoo.check(weights)[0].status == "differs"


def test_the_leading_digits_of_the_publisher_suffice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = put(tmp_path / "x.pt", b"abc")
    file = zoo.ZooFile("x.pt", "ba7816bf")
    row = dataclasses.replace(zoo.find_checkpoint(E32), files=(file,))
    assert zoo.verify(weights, row).authority == "zoo, first 8 digits"
    assert zoo.verify(weights, row).status == "ok"


@pytest.mark.parametrize("content", ["{", '{"sha256": 1}', "[]"])
def test_an_unreadable_pin_is_named(tmp_path: Path, content: str) -> None:
    weights = put(tmp_path / "x.pt")
    pin_path(weights).write_text(content)
    with pytest.raises(WeightsError, match=r"x\.pt\.sha256\.json: delete it"):
        zoo.check(weights)


def test_none_of_these_modules_imports_torch() -> None:
    code = (
        "import sys, promptad.clip.zoo, promptad.clip.pull, promptad.clip.pins, promptad.cli.models;"
        "promptad.clip.zoo.list_checkpoints(); promptad.clip.zoo.locate('starter');"
        "sys.exit(','.join({'torch', 'numpy', 'huggingface_hub', 'rich.console'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
