"""DINOv2 as a second image tower: finding, pulling and reading it, and what it gives."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from loopback import COMMIT, HUB_ID, Server, cache, isolate, offer, serving, use
from safetensors.torch import save, save_file

from promptad.clip import zoo
from promptad.clip.backbone import load_backbone, reopen
from promptad.clip.features import FeatureRequest, LocalStream, pooled_rows
from promptad.clip.memory_tower import DINO_MEAN, MemoryTower, load_memory_tower, reopen_memory, usual_layers
from promptad.clip.pins import read_pin
from promptad.clip.preprocess import Preprocess, View
from promptad.clip.pull import pull
from promptad.dino.tower import DinoSizes
from promptad.errors import ConfigError, WeightsError
from tiny import dino_official, dino_timm, dino_transformers, openclip, tiny_backbone, tiny_dino

CONFIG = {"model_type": "dinov2", "num_attention_heads": 2, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)


def memory(**other: object) -> MemoryTower:
    return MemoryTower("tiny", "0" * 64, tiny_dino(), **{"input_size": 84, **other})


def official(folder: Path, name: str = "dinov2_vits14_pretrain.pth", seed: int = 0) -> Path:
    torch.save(dino_official(tiny_dino(seed)), folder / name)
    return folder / name


# -- reading -----------------------------------------------------------------------------------------------------------


def test_files_of_the_authors_of_transformers_and_of_timm_are_read(tmp_path):
    tensors = dino_official(tiny_dino())
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(dino_transformers(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(dino_timm(tensors), tmp_path / "timm.safetensors")
    images = torch.randn(1, 3, 84, 84, generator=torch.Generator().manual_seed(0))
    expected = memory()(images, FeatureRequest(taps=(2, 4)))
    for path in (official(tmp_path), folder, tmp_path / "timm.safetensors"):
        loaded = load_memory_tower(path)
        features = loaded(images, FeatureRequest(taps=(2, 4)))
        assert torch.allclose(features.taps[2], expected.taps[2], atol=1e-5) and features.image.shape == (1, 0)
        assert loaded.input_size == 448 and loaded.mean == DINO_MEAN and loaded.name == str(path)
        assert loaded.sha256 == hashlib.sha256(loaded.path.read_bytes()).hexdigest()


def test_a_size_behind_the_name_is_that_of_the_photos(tmp_path):
    path = official(tmp_path)
    assert (
        load_memory_tower(f"{path}@126").input_size == 126 and load_memory_tower(path, input_size=126).input_size == 126
    )
    assert load_memory_tower(f"{path}@126").name == str(path)
    with pytest.raises(
        ConfigError, match="side of 125 pixels, which is no multiple of its patch of 14; take 112 or 126"
    ):
        load_memory_tower(f"{path}@125")
    with pytest.raises(ConfigError, match="leave one out"):
        load_memory_tower(f"{path}@126", input_size=112)
    path.rename(tmp_path / "odd@126")  # a file of that name is meant as it is called
    assert load_memory_tower(tmp_path / "odd@126").input_size == 448


def test_the_config_beside_the_file_tells_heads_and_is_held_to_what_is_run(tmp_path):
    path = official(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "num_attention_heads": 4}))
    assert load_memory_tower(path).sizes.heads == 4
    for wrong, words in (
        ("{", "is no config of a DINOv2"),
        (json.dumps({**CONFIG, "layer_norm_eps": 1e-5}), "layer_norm_eps=1e-05"),
        (json.dumps({**CONFIG, "hidden_act": "silu"}), "silu"),
        (json.dumps({**CONFIG, "num_attention_heads": "two"}), "is no number of heads"),
    ):
        config.write_text(wrong)
        with pytest.raises(WeightsError, match=words) as error:
            load_memory_tower(path)
        assert "\n" not in str(error.value)


def test_a_clip_is_no_memory_tower_and_a_dino_no_backbone(tmp_path):
    with pytest.raises(WeightsError, match=r"starter: is a CLIP and no DINOv2.*memory_backbone='dinov2-vits14'"):
        load_memory_tower("starter")
    with pytest.raises(WeightsError, match="not a DINOv2 image tower"):
        load_memory_tower(clip_file(tmp_path))
    home = cache("dinov2-vits14")
    home.mkdir(parents=True)
    official(home, "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"is an image tower without words.*memory_backbone='dinov2-vits14'"):
        load_backbone("dinov2-vits14")
    with pytest.raises(WeightsError, match="holds a DINOv2, an image tower without words"):
        load_backbone(official(tmp_path))


def clip_file(folder: Path) -> Path:
    """Weights of a tiny CLIP."""
    clip = tiny_backbone()
    torch.save(openclip(clip.vision, clip.text), folder / "clip.pt")
    return folder / "clip.pt"


def test_a_file_in_the_place_of_another_tower_is_refused():
    home = cache("dinov2-vits14")
    home.mkdir(parents=True)
    official(home, "pytorch_model.bin")
    with pytest.raises(
        WeightsError, match="is taken for dinov2-vits14 by its name and place, but its width is 128, expected 384"
    ):
        load_memory_tower("dinov2-vits14")


def test_pickles_with_more_than_tensors_are_never_run(tmp_path):
    torch.save({"model": Path("/"), "cls_token": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="more than tensors"):
        load_memory_tower(tmp_path / "x.pth")


def test_of_a_teacher_and_a_student_in_one_file_neither_is_guessed(tmp_path):
    models = {part: dino_official(tiny_dino(number)) for number, part in enumerate(("student", "teacher"))}
    torch.save(models, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"holds several models \(student, teacher\)"):
        load_memory_tower(tmp_path / "x.pth")


# -- pulling -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def start() -> Iterator[Callable[[], Server]]:
    with serving() as start_one:
        yield start_one


def test_a_row_is_pulled_from_the_hub_verified_and_loaded(start, monkeypatch):
    tower = tiny_dino()
    body = save(dino_transformers(dino_official(tower)))
    server, storage = start(), start()
    row = dataclasses.replace(zoo.find_checkpoint("dinov2-vits14"), hub_id=HUB_ID, vision=tower.sizes.to_dict())
    use(monkeypatch, row)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    offer(server, "model.safetensors", storage, hashlib.sha256(body).hexdigest())
    storage.files["/blob/model.safetensors"] = body
    for revision in ("main", COMMIT):
        server.headers[f"/{HUB_ID}/resolve/{revision}/model.safetensors"]["X-Linked-Size"] = str(len(body))
    with pytest.raises(
        WeightsError, match=r"promptad models pull dinov2-vits14.*memory_backbone='/path/to/model.safetensors'"
    ):
        load_memory_tower("dinov2-vits14")
    path = pull("facebook/dinov2-small")
    assert (
        path == cache("dinov2-vits14") / "model.safetensors"
        and read_pin(path).sha256 == hashlib.sha256(body).hexdigest()
    )
    loaded = load_memory_tower("dinov2-vits14@98")
    assert (loaded.name, loaded.input_size, loaded.path) == ("dinov2-vits14", 98, path)
    assert loaded.identity == f"dinov2-vits14 (sha256 {loaded.sha256[:8]}, 98 pixels)"


# -- what it gives -----------------------------------------------------------------------------------------------------


def test_taps_have_the_final_norm_and_the_grid_of_the_tower():
    tower, images = memory(), torch.randn(2, 3, 84, 56, generator=torch.Generator().manual_seed(0))
    plain = tower(images, FeatureRequest(taps=(4, 2)))
    direct = tower.tower(images, (2, 4), "final")
    assert plain.grid == (6, 4) and list(plain.taps) == [4, 2] and plain.patches is None
    assert torch.equal(plain.taps[2], direct[2].patches) and plain.image.shape == (2, 0)
    following = tower(images, FeatureRequest(taps=(2, 4), tap_point="next_norm")).taps
    raw = tower.tower(images, (2, 4), "none")
    assert torch.allclose(following[2], tower.tower.blocks[2].ln_1(raw[2].patches), atol=1e-6)
    assert torch.allclose(following[4], tower.tower.norm(raw[4].patches), atol=1e-6)
    pooled = tower(images, FeatureRequest(taps=(2,), tap_pool=3))
    assert torch.equal(pooled.taps[2], pooled_rows(direct[2].patches, (6, 4), 3))
    whole = tower(images, FeatureRequest(taps=(2,), tap_class=True))
    assert torch.equal(whole.taps[2][:, 0], direct[2].cls) and torch.equal(whole.taps[2][:, 1:], direct[2].patches)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (FeatureRequest(taps=(5,)), "must lie in 1..4"),
        (FeatureRequest(), "gives the tokens of tapped blocks"),
        (FeatureRequest(taps=(1,), local=LocalStream()), "gives the tokens of tapped blocks"),
        (FeatureRequest(taps=(1,), tap_point="after_next_attention"), "tap_point=after_next_attention is a slip"),
        (FeatureRequest(taps=(1,), tap_pool=2), "odd number"),
    ],
)
def test_what_it_cannot_give_is_refused(request_, words):
    with pytest.raises(ConfigError, match=words):
        memory().require(request_)


@pytest.mark.parametrize("fit", ["letterbox", "area", "squash", "crop", "tiles", "multicrop"])
@pytest.mark.parametrize("photo", [(300, 200), (200, 620), (64, 64)])
def test_both_towers_see_the_same_rectangle(fit, photo):
    tower = memory(input_size=112)
    for view in Preprocess(48, 8, fit).views(*photo):
        own = tower.view(view, 48)
        assert own.region == pytest.approx(view.region)
        assert all(side % 14 == 0 for side in own.size)
        # 112 / 48 times CLIP's resolution, to half a patch.
        assert all(abs(a - b * 112 / 48) <= 7 for a, b in zip(own.size, view.size, strict=True))


def test_a_view_never_has_no_patch():
    assert memory(input_size=14).view(View((0, 0, 90, 9), (8, 48), (0, 0, 8, 48)), 48).size == (14, 14)


@pytest.mark.parametrize(("layers", "usual"), [(12, (7, 8, 9)), (24, (14, 16, 18)), (40, (23, 27, 30)), (1, (1,))])
def test_usual_layers_are_shares_of_the_depth(layers, usual):
    assert usual_layers(DinoSizes(64, layers, 1, 64)) == usual


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_pickle_holds_where_the_weights_are_and_reads_them_again(tmp_path):
    loaded = load_memory_tower(f"{official(tmp_path)}@98", pos_interp="size")
    content = pickle.dumps(loaded)
    assert len(content) < 2000
    again = pickle.loads(content)
    assert again.decides() == loaded.decides() and again.tower.pos_interp == "size" and again.name == loaded.name
    inside = pickle.loads(pickle.dumps(memory()))  # in no file: copied
    assert torch.equal(inside.tower.norm.weight, memory().tower.norm.weight)


def test_other_weights_in_its_place_are_refused_when_it_is_opened_again(tmp_path):
    loaded = load_memory_tower(official(tmp_path))
    source = loaded.source
    assert json.loads(json.dumps(source)) == source
    (tmp_path / "b").mkdir()
    moved = tmp_path / "b" / "moved.pth"
    moved.write_bytes(loaded.path.read_bytes())
    assert reopen_memory(source, moved).name == loaded.name
    official(tmp_path, seed=1)
    with pytest.raises(WeightsError, match=r"is not the memory's image tower .* that it was \(sha256 differ"):
        reopen_memory(source)


def test_a_backbone_names_its_second_tower_in_all_that_identifies_it(tmp_path):
    alone = load_backbone("starter")
    both = load_backbone("starter", memory=official(tmp_path))
    other = load_backbone("starter", memory=f"{official(tmp_path)}@98")
    assert len({alone.fingerprint, both.fingerprint, other.fingerprint}) == 3
    assert "memory" not in alone.decides() and both.memory.sha256[:8] in both.identity
    assert both.tapped == both.memory.sizes and alone.tapped == alone.sizes.vision
    again = reopen(json.loads(json.dumps(both.source)))
    assert again.fingerprint == both.fingerprint and again.memory.path == both.memory.path
    assert pickle.loads(pickle.dumps(both)).fingerprint == both.fingerprint
    assert "memory" in both.read_otherwise({**both.decides(), "memory": other.memory.decides()})


def test_taps_are_asked_of_the_tower_that_they_come_from(tmp_path):
    asked = FeatureRequest(taps=(1, 2), tap_pool=3, local=LocalStream())
    alone = load_backbone("starter")
    assert alone.memory_request(asked) is asked
    both = dataclasses.replace(alone, memory=memory())
    split = both.memory_request(asked)
    assert (split.taps, split.tap_pool, split.local) == ((), 1, LocalStream())
    assert split.memory == FeatureRequest(taps=(1, 2), tap_pool=3)
    assert "memory" not in asked.decides() and split.decides()["memory"] == split.memory.decides()
